//! StatefulSets: `spec.replicas` pods.

use k8s_openapi::api::apps::v1::{StatefulSet, StatefulSetSpec};

use super::{Native, replicas, templated, trim_template};
use crate::application::request::Workload;

impl Native for StatefulSet {
    fn workload(&self) -> Workload {
        match &self.spec {
            Some(spec) => templated(&spec.template, replicas(spec.replicas)),
            None => Workload::default(),
        }
    }

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
