//! What Kubernetes' own kinds of workload say about the pods that they make: how many, what their template asks for, and how they
//! are replaced. The operator makes pools by it, and the webhook warns by it.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::batch::v1::{CronJob, Job, JobSpec};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use spiderpool_ipam::rollout::{Amount, Rolling, Stuck};

use crate::names::ANNOTATION_IP_NUMBER;

/// What matters of a workload of any kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Workload {
    /// Annotations of its pod template.
    pub annotations: BTreeMap<String, String>,
    /// How many pods it is to have.
    pub replicas: u128,
    /// Whether its pods use the network of their node and so need no address.
    pub host_network: bool,
    /// How it replaces its pods, where it may start a new one before an old one is gone.
    pub rolling: Option<Rolling>,
}

/// A kind of workload that Kubernetes itself has.
pub trait MakesPods {
    /// What matters of this object for pools.
    fn workload(&self) -> Workload;
}

impl MakesPods for Deployment {
    fn workload(&self) -> Workload {
        let Some(spec) = &self.spec else {
            return Workload::default();
        };
        Workload {
            rolling: deployment_rolling(self),
            ..templated(&spec.template, replicas(spec.replicas))
        }
    }
}

impl MakesPods for ReplicaSet {
    fn workload(&self) -> Workload {
        let Some(spec) = &self.spec else {
            return Workload::default();
        };
        let template = spec.template.as_ref();
        template.map_or_else(Workload::default, |template| {
            templated(template, replicas(spec.replicas))
        })
    }
}

impl MakesPods for StatefulSet {
    fn workload(&self) -> Workload {
        match &self.spec {
            Some(spec) => templated(&spec.template, replicas(spec.replicas)),
            None => Workload::default(),
        }
    }
}

/// A pod on every node that matches, which the DaemonSet's controller counts.
impl MakesPods for DaemonSet {
    fn workload(&self) -> Workload {
        let Some(spec) = &self.spec else {
            return Workload::default();
        };
        let nodes = self.status.as_ref().map_or(0, |status| status.desired_number_scheduled);
        Workload {
            rolling: daemon_set_rolling(self),
            ..templated(&spec.template, u128::try_from(nodes).unwrap_or(0))
        }
    }
}

/// As many pods as are to complete, else as many as run side by side.
impl MakesPods for Job {
    fn workload(&self) -> Workload {
        self.spec.as_ref().map(of_job).unwrap_or_default()
    }
}

/// Each of its Jobs in turn.
impl MakesPods for CronJob {
    fn workload(&self) -> Workload {
        let job = self.spec.as_ref().and_then(|spec| spec.job_template.spec.as_ref());
        job.map(of_job).unwrap_or_default()
    }
}

fn of_job(spec: &JobSpec) -> Workload {
    let count = spec.completions.or(spec.parallelism).unwrap_or(1);
    templated(&spec.template, u128::try_from(count.max(1)).unwrap_or(1))
}

fn deployment_rolling(deployment: &Deployment) -> Option<Rolling> {
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

/// Without a word about it, a DaemonSet's update deletes a pod first and does not surge.
fn daemon_set_rolling(set: &DaemonSet) -> Option<Rolling> {
    let rolling = set.spec.as_ref()?.update_strategy.as_ref()?.rolling_update.as_ref()?;
    Some(Rolling {
        max_surge: rolling.max_surge.as_ref().map_or(Some(Amount::Count(0)), amount)?,
        max_unavailable: rolling
            .max_unavailable
            .as_ref()
            .map_or(Some(Amount::Count(1)), amount)?,
    })
}

/// What to tell of a rolling update that would not go on in pools of so many addresses.
pub fn about_stuck(count: u128, stuck: Stuck) -> String {
    format!(
        "a rolling update would not go on: it starts a new pod before an old one goes, and the pools have {}, none to spare; write \
         {ANNOTATION_IP_NUMBER}: \"+{}\" into the pod template, or allow a pod to be unavailable",
        addresses(count),
        stuck.write
    )
}

/// A number of addresses, in words.
pub fn addresses(count: u128) -> String {
    if count == 1 {
        "1 address".to_owned()
    } else {
        format!("{count} addresses")
    }
}

/// What a pod template and a number of pods say.
fn templated(template: &PodTemplateSpec, replicas: u128) -> Workload {
    let annotations = template.metadata.as_ref().and_then(|meta| meta.annotations.clone());
    Workload {
        annotations: annotations.unwrap_or_default(),
        replicas,
        host_network: template.spec.as_ref().and_then(|pod| pod.host_network).unwrap_or(false),
        rolling: None,
    }
}

/// `spec.replicas`; without it, one.
fn replicas(count: Option<i32>) -> u128 {
    count.map_or(1, |count| u128::try_from(count).unwrap_or(0))
}

fn amount(value: &IntOrString) -> Option<Amount> {
    match value {
        IntOrString::Int(count) => u32::try_from(*count).ok().map(Amount::Count),
        IntOrString::String(text) => Amount::parse(text).ok(),
    }
}
