//! ReplicaSets that nobody controls: `spec.replicas` pods.

use k8s_openapi::api::apps::v1::ReplicaSet;

use super::{Native, trim_template};

impl Native for ReplicaSet {
    fn trim(&mut self) {
        self.status = None;
        let Some(spec) = &mut self.spec else { return };
        spec.selector = Default::default();
        if let Some(template) = &mut spec.template {
            trim_template(template);
        }
    }
}
