//! Pods, as far as the operator looks at them.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::core::ObjectMeta;
use serde::Deserialize;
use spiderpool_crds::annotations;
use spiderpool_crds::names::{ANNOTATION_SUBNET, ANNOTATION_SUBNETS};
use spiderpool_crds::pod::{Container as Stopped, Told, runtime_uid, tells_runtime_uid};
use spiderpool_ipam::reclaim::Pod as Seen;

use crate::application::native::{controller, is_ours, trim_meta};

/// The part of a pod that matters here.
#[derive(Clone, Debug, Deserialize, kube::Resource)]
#[resource(inherit = Pod)]
pub struct PodSketch {
    /// Its metadata.
    pub metadata: ObjectMeta,
    #[serde(default)]
    spec: Spec,
    #[serde(default)]
    status: Status,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    #[serde(default)]
    host_network: bool,
    #[serde(default)]
    node_name: Option<String>,
    #[serde(default)]
    restart_policy: Option<String>,
    #[serde(default)]
    termination_grace_period_seconds: Option<i64>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    #[serde(default)]
    phase: String,
    #[serde(default)]
    reason: Option<String>,
    #[serde(default, rename = "podIP")]
    pod_ip: Option<String>,
    #[serde(default)]
    conditions: Option<Vec<Condition>>,
    #[serde(default)]
    container_statuses: Option<Vec<Container>>,
    #[serde(default)]
    init_container_statuses: Option<Vec<Container>>,
    #[serde(default)]
    ephemeral_container_statuses: Option<Vec<Container>>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Condition {
    #[serde(default)]
    reason: Option<String>,
    #[serde(default)]
    last_transition_time: Option<Timestamp>,
}

#[derive(Clone, Debug, Deserialize)]
struct Container {
    #[serde(default)]
    state: State,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct State {
    #[serde(default)]
    running: Option<Empty>,
    #[serde(default)]
    terminated: Option<Terminated>,
}

/// What of is only said that it is there.
#[derive(Clone, Debug, Deserialize)]
struct Empty {}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Terminated {
    #[serde(default)]
    finished_at: Option<Timestamp>,
}

impl Status {
    fn containers(&self) -> impl Iterator<Item = &State> {
        let all = [
            &self.init_container_statuses,
            &self.container_statuses,
            &self.ephemeral_container_statuses,
        ];
        all.into_iter().flatten().flatten().map(|container| &container.state)
    }
}

impl PodSketch {
    /// Takes out what nobody here reads.
    pub fn trim(&mut self) {
        let mut annotations = self.metadata.annotations.take().unwrap_or_default();
        annotations.retain(|key, _| is_ours(key) || tells_runtime_uid(key));
        trim_meta(&mut self.metadata);
        if !self.is_terminal() {
            // What they say matters when the pod has finished, and then it is told again.
            self.status.conditions = None;
            self.status.container_statuses = None;
            self.status.init_container_statuses = None;
            self.status.ephemeral_container_statuses = None;
        }
        self.metadata.annotations = Some(annotations).filter(|kept| !kept.is_empty());
    }

    /// Under which key it is found: the UID of its controller.
    pub fn index(&self) -> Vec<String> {
        controller(&self.metadata)
            .map(|owner| owner.uid.clone())
            .into_iter()
            .collect()
    }

    /// Whether the records of pools call it by this UID.
    pub fn is(&self, uid: &str) -> bool {
        runtime_uid(&self.metadata) == Some(uid)
    }

    /// Whether it asks for a pool of its application.
    pub fn asks(&self) -> bool {
        let annotations = self.metadata.annotations.as_ref();
        let has = |key| annotations.is_some_and(|annotations: &BTreeMap<String, String>| annotations.contains_key(key));
        !self.spec.host_network && (has(ANNOTATION_SUBNET) || has(ANNOTATION_SUBNETS))
    }

    /// The subnets it names.
    pub fn subnets(&self) -> BTreeSet<String> {
        let annotations = self.metadata.annotations.clone().unwrap_or_default();
        let request = annotations::subnet_request(&annotations).ok().flatten();
        let items = request.map(|request| request.items).unwrap_or_default();
        items
            .into_iter()
            .flat_map(|item| item.ipv4.into_iter().chain(item.ipv6))
            .collect()
    }

    /// Whether it uses the network of its node.
    pub const fn host_network(&self) -> bool {
        self.spec.host_network
    }

    /// Whether it runs or will run: neither finished nor on its way out.
    pub fn stays(&self) -> bool {
        self.metadata.deletion_timestamp.is_none() && !self.is_terminal()
    }

    /// Whether its object says that it finished.
    pub fn is_terminal(&self) -> bool {
        matches!(&*self.status.phase, "Succeeded" | "Failed")
    }

    /// The node that it runs on, if it was given one.
    pub fn node(&self) -> Option<&str> {
        self.spec.node_name.as_deref().filter(|node| !node.is_empty())
    }

    /// What it is to the rule of reclaim.
    pub fn seen(&self) -> Seen {
        let status = &self.status;
        let conditions = status.conditions.iter().flatten();
        let told = Told {
            phase: &status.phase,
            reason: status.reason.as_deref(),
            restart: self.spec.restart_policy.as_deref(),
            grace: self.spec.termination_grace_period_seconds,
            created: self.metadata.creation_timestamp.as_ref().map(|time| time.0),
            deletion: self.metadata.deletion_timestamp.as_ref().map(|time| time.0),
            has_addresses: status.pod_ip.as_ref().is_some_and(|ip| !ip.is_empty()),
            conditions: conditions
                .map(|condition| (condition.reason.as_deref(), condition.last_transition_time))
                .collect(),
            containers: status
                .containers()
                .map(|state| Stopped {
                    runs: state.running.is_some(),
                    ended: state.terminated.as_ref().and_then(|terminated| terminated.finished_at),
                })
                .collect(),
        };
        told.seen()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use spiderpool_ipam::reclaim::Report;

    #[test]
    fn trimming_leaves_what_is_asked_for() {
        let mut pod: PodSketch = serde_json::from_value(json!({
            "metadata": {
                "name": "p", "namespace": "n", "uid": "u",
                "annotations": {"ipam.spidernet.io/subnet": "{}", "big": "x"},
                "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "r", "uid": "r-1", "controller": true}],
            },
            "spec": {"containers": []},
            "status": {"phase": "Running"},
        }))
        .unwrap();
        pod.trim();
        assert!(pod.asks() && pod.stays());
        assert_eq!(pod.index(), ["r-1"]);
        assert_eq!(pod.metadata.annotations.as_ref().unwrap().len(), 1);
    }

    #[test]
    fn the_mirror_of_a_static_pod_is_called_as_the_runtime_calls_the_pod() {
        let mut pod: PodSketch = serde_json::from_value(json!({"metadata": {"uid": "u", "annotations":
            {"kubernetes.io/config.mirror": "h", "kubernetes.io/config.hash": "h", "kubernetes.io/config.seen": "now"}}}))
        .unwrap();
        pod.trim();
        assert!(pod.is("h") && !pod.is("u"));
        assert_eq!(pod.metadata.annotations.as_ref().unwrap().len(), 2);
    }

    #[test]
    fn trimming_a_finished_pod_leaves_what_tells_of_its_end() {
        let runs = json!([{"state": {"running": {"startedAt": "1970-01-01T00:00:01Z"}}}]);
        let ended = json!([{"state": {"terminated": {"finishedAt": "1970-01-01T00:00:40Z"}}}]);
        let collected = json!([{"type": "DisruptionTarget", "status": "True", "reason": "DeletionByPodGC",
            "lastTransitionTime": "1970-01-01T00:00:09Z"}]);
        let none = json!(null);
        for (containers, conditions, expected) in [
            (&ended, &none, (Report::Kubelet, 40)),
            (&runs, &none, (Report::Other, 1)),
            (&none, &collected, (Report::Other, 9)),
        ] {
            let status = json!({"phase": "Failed", "containerStatuses": containers, "conditions": conditions});
            let metadata = json!({"creationTimestamp": "1970-01-01T00:00:01Z"});
            let mut pod: PodSketch = serde_json::from_value(json!({"metadata": metadata, "status": status})).unwrap();
            pod.trim();
            let seen = pod.seen();
            assert_eq!((seen.report, seen.ended.0), expected, "{status}");
        }
    }

    #[test]
    fn finished_pods_do_not_stay() {
        for phase in ["Succeeded", "Failed"] {
            let pod: PodSketch = serde_json::from_value(json!({"metadata": {}, "status": {"phase": phase}})).unwrap();
            assert!(!pod.stays() && !pod.asks());
        }
    }
}
