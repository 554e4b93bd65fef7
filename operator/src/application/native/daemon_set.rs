//! DaemonSets: a pod on every node that matches, which their controller counts.

use k8s_openapi::api::apps::v1::{DaemonSet, DaemonSetStatus};
use spiderpool_ipam::rollout::{Amount, Rolling};

use super::{Native, amount, templated, trim_template};
use crate::application::request::Workload;

impl Native for DaemonSet {
    fn workload(&self) -> Workload {
        let Some(spec) = &self.spec else {
            return Workload::default();
        };
        let nodes = self.status.as_ref().map_or(0, |status| status.desired_number_scheduled);
        Workload {
            rolling: rolling(self),
            ..templated(&spec.template, u128::try_from(nodes).unwrap_or(0))
        }
    }

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

/// Without a word about it, a DaemonSet's update deletes a pod first and does not surge.
fn rolling(set: &DaemonSet) -> Option<Rolling> {
    let rolling = set.spec.as_ref()?.update_strategy.as_ref()?.rolling_update.as_ref()?;
    Some(Rolling {
        max_surge: rolling.max_surge.as_ref().map_or(Some(Amount::Count(0)), amount)?,
        max_unavailable: rolling
            .max_unavailable
            .as_ref()
            .map_or(Some(Amount::Count(1)), amount)?,
    })
}
