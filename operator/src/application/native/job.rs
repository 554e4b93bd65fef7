//! Jobs: as many pods as are to complete, else as many as run side by side.

use k8s_openapi::api::batch::v1::{Job, JobSpec};

use super::{Native, trim_template};

impl Native for Job {
    fn trim(&mut self) {
        self.status = None;
        if let Some(spec) = &mut self.spec {
            trim_spec(spec);
        }
    }
}

/// Takes out of a Job's spec what nobody here reads.
pub(super) fn trim_spec(spec: &mut JobSpec) {
    spec.selector = None;
    trim_template(&mut spec.template);
}
