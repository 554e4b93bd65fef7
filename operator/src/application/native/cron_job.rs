//! CronJobs: each of their Jobs in turn.

use k8s_openapi::api::batch::v1::CronJob;

use super::Native;
use super::job::trim_spec;

impl Native for CronJob {
    fn trim(&mut self) {
        self.status = None;
        let Some(spec) = &mut self.spec else { return };
        spec.job_template.metadata = None;
        if let Some(job) = &mut spec.job_template.spec {
            trim_spec(job);
        }
    }
}
