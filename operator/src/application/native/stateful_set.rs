//! StatefulSets: `spec.replicas` pods.

use k8s_openapi::api::apps::v1::{StatefulSet, StatefulSetSpec};

use super::{Native, trim_template};

impl Native for StatefulSet {
    fn trim(&mut self) {
        self.status = None;
        if let Some(spec) = &mut self.spec {
            trim_template(&mut spec.template);
            *spec = StatefulSetSpec {
                replicas: spec.replicas,
                ordinals: spec.ordinals.take(),
                template: std::mem::take(&mut spec.template),
                ..StatefulSetSpec::default()
            };
        }
    }
}
