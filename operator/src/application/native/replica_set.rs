//! ReplicaSets that nobody controls: `spec.replicas` pods.

use k8s_openapi::api::apps::v1::ReplicaSet;

use super::{Native, replicas, templated, trim_template};
use crate::application::request::Workload;

impl Native for ReplicaSet {
    fn workload(&self) -> Workload {
        let Some(spec) = &self.spec else {
            return Workload::default();
        };
        match &spec.template {
            Some(template) => templated(template, replicas(spec.replicas)),
            None => Workload::default(),
        }
    }

    fn trim(&mut self) {
        self.status = None;
        let Some(spec) = &mut self.spec else { return };
        spec.selector = Default::default();
        if let Some(template) = &mut spec.template {
            trim_template(template);
        }
    }
}
