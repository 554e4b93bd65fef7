//! Deployments: `spec.replicas` pods, and more while a rolling update surges.

use k8s_openapi::api::apps::v1::Deployment;
use spiderpool_ipam::rollout::{Amount, Rolling};

use super::{Native, amount, replicas, templated, trim_template};
use crate::application::request::Workload;

impl Native for Deployment {
    fn workload(&self) -> Workload {
        let Some(spec) = &self.spec else {
            return Workload::default();
        };
        Workload {
            rolling: rolling(self),
            ..templated(&spec.template, replicas(spec.replicas))
        }
    }

    fn trim(&mut self) {
        self.status = None;
        let Some(spec) = &mut self.spec else { return };
        spec.selector = Default::default();
        trim_template(&mut spec.template);
    }
}

fn rolling(deployment: &Deployment) -> Option<Rolling> {
    let strategy = deployment.spec.as_ref()?.strategy.as_ref();
    let kind = strategy.and_then(|strategy| strategy.type_.as_deref());
    if kind.is_some_and(|kind| kind != "RollingUpdate") {
        return None;
    }
    let rolling = strategy.and_then(|strategy| strategy.rolling_update.as_ref());
    let or_usual = |value| match value {
        Some(value) => amount(value),
        None => Some(Amount::DEFAULT),
    };
    Some(Rolling {
        max_surge: or_usual(rolling.and_then(|rolling| rolling.max_surge.as_ref()))?,
        max_unavailable: or_usual(rolling.and_then(|rolling| rolling.max_unavailable.as_ref()))?,
    })
}
