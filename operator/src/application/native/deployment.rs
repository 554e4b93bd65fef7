//! Deployments: `spec.replicas` pods, and more while a rolling update surges.

use k8s_openapi::api::apps::v1::Deployment;

use super::{Native, trim_template};

impl Native for Deployment {
    fn trim(&mut self) {
        self.status = None;
        let Some(spec) = &mut self.spec else { return };
        spec.selector = Default::default();
        trim_template(&mut spec.template);
    }
}
