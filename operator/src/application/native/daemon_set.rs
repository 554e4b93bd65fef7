//! DaemonSets: a pod on every node that matches, which their controller counts.

use k8s_openapi::api::apps::v1::{DaemonSet, DaemonSetStatus};

use super::{Native, trim_template};

impl Native for DaemonSet {
    fn trim(&mut self) {
        self.status = self.status.take().map(|status| DaemonSetStatus {
            desired_number_scheduled: status.desired_number_scheduled,
            ..DaemonSetStatus::default()
        });
        let Some(spec) = &mut self.spec else { return };
        spec.selector = Default::default();
        trim_template(&mut spec.template);
    }
}
