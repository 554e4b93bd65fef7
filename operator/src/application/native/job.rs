//! Jobs: as many pods as are to complete, else as many as run side by side.

use k8s_openapi::api::batch::v1::{Job, JobSpec};

use super::{Native, templated, trim_template};
use crate::application::request::Workload;

impl Native for Job {
    fn workload(&self) -> Workload {
        self.spec.as_ref().map(workload).unwrap_or_default()
    }

    fn trim(&mut self) {
        self.status = None;
        if let Some(spec) = &mut self.spec {
            trim_spec(spec);
        }
    }
}

/// What matters of a Job's spec.
pub(super) fn workload(spec: &JobSpec) -> Workload {
    let count = spec.completions.or(spec.parallelism).unwrap_or(1);
    templated(&spec.template, u128::try_from(count.max(1)).unwrap_or(1))
}

/// Takes out what [`workload`] does not read.
pub(super) fn trim_spec(spec: &mut JobSpec) {
    spec.selector = None;
    trim_template(&mut spec.template);
}
