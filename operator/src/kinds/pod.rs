//! Pods, as far as the operator looks at them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::core::ObjectMeta;
use serde::Deserialize;
use spiderpool_crds::annotations;
use spiderpool_crds::names::{ANNOTATION_SUBNET, ANNOTATION_SUBNETS};
use spiderpool_crds::pod::{runtime_uid, tells_runtime_uid};
use spiderpool_ipam::reclaim::{Phase, Pod as Seen, Report, Restart};

use super::node::moment;
use crate::application::native::{controller, is_ours, trim_meta};

/// Grace of a pod that does not say.
const GRACE: u64 = 30;
/// Reasons of the status of a pod that was stopped because its node is shut down, by newer and older kubelets.
const SHUT_DOWN: [&str; 3] = ["Terminated", "NodeShutdown", "Shutdown"];
/// Reason of the condition of a pod that the control plane, which cannot see it, has called failed.
const COLLECTED: &str = "DeletionByPodGC";

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

    /// Whose word it is that the pod finished. The kubelet says so when nothing runs any more; who calls a pod finished whose
    /// containers run has not looked.
    fn report(&self) -> Report {
        let conditions = || self.conditions.iter().flatten();
        let collected = conditions().any(|condition| condition.reason.as_deref() == Some(COLLECTED));
        let runs = self.containers().any(|state| state.running.is_some());
        match &self.reason {
            _ if collected || runs => Report::Other,
            Some(reason) if SHUT_DOWN.contains(&reason.as_str()) => Report::Shutdown,
            _ => Report::Kubelet,
        }
    }

    /// When the last container ended. A pod that was evicted before one began has conditions at least.
    fn ended(&self) -> Option<Timestamp> {
        let terminated = self
            .containers()
            .filter_map(|state| state.terminated.as_ref()?.finished_at);
        let changed = self.conditions.iter().flatten();
        let changed = changed.filter_map(|condition| condition.last_transition_time);
        // A container that never ran ended at the beginning of time.
        terminated
            .filter(|at| *at > Timestamp::UNIX_EPOCH)
            .max()
            .or_else(|| changed.max())
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

    fn is_terminal(&self) -> bool {
        matches!(&*self.status.phase, "Succeeded" | "Failed")
    }

    /// The node that it runs on, if it was given one.
    pub fn node(&self) -> Option<&str> {
        self.spec.node_name.as_deref().filter(|node| !node.is_empty())
    }

    /// What it is to the rule of reclaim.
    pub fn seen(&self) -> Seen {
        let deletion = self.metadata.deletion_timestamp.as_ref().map(|time| time.0);
        let created = || self.metadata.creation_timestamp.as_ref().map(|time| time.0);
        let ended = self.status.ended().or(deletion).or_else(created);
        let grace = self.spec.termination_grace_period_seconds;
        Seen {
            phase: match &*self.status.phase {
                "Pending" => Phase::Pending,
                "Running" => Phase::Running,
                "Succeeded" => Phase::Succeeded,
                "Failed" => Phase::Failed,
                _ => Phase::Unknown,
            },
            restart: match self.spec.restart_policy.as_deref() {
                None | Some("Always") => Restart::Always,
                Some(_) => Restart::Ends,
            },
            deletion: deletion.map(moment),
            report: self.status.report(),
            ended: moment(ended.unwrap_or(Timestamp::UNIX_EPOCH)),
            grace: Duration::from_secs(grace.map_or(GRACE, |seconds| u64::try_from(seconds).unwrap_or(0))),
            has_addresses: self.status.pod_ip.as_ref().is_some_and(|ip| !ip.is_empty()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

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

    fn seen(metadata: &serde_json::Value, status: &serde_json::Value) -> Seen {
        let pod = json!({"metadata": metadata, "spec": {"restartPolicy": "Never", "terminationGracePeriodSeconds": 7},
            "status": status});
        let mut pod: PodSketch = serde_json::from_value(pod).unwrap();
        pod.trim();
        pod.seen()
    }

    #[test]
    fn a_job_s_pod_ended_with_its_last_container() {
        let ended =
            |second: u8| json!({"state": {"terminated": {"finishedAt": format!("1970-01-01T00:00:{second:02}Z")}}});
        let pod = seen(
            &json!({}),
            &json!({"phase": "Succeeded", "podIP": "10.0.0.1", "containerStatuses": [ended(20), ended(40)],
                "initContainerStatuses": [ended(10)]}),
        );
        let expected = Seen {
            phase: Phase::Succeeded,
            restart: Restart::Ends,
            deletion: None,
            report: Report::Kubelet,
            ended: moment(Timestamp::from_second(40).unwrap()),
            grace: Duration::from_secs(7),
            has_addresses: true,
        };
        assert_eq!(pod, expected);
    }

    #[test]
    fn an_evicted_pod_without_containers_ended_at_its_last_change() {
        let status = json!({"phase": "Failed", "reason": "Evicted",
            "conditions": [{"type": "Ready", "status": "False", "lastTransitionTime": "1970-01-01T00:00:09Z"}]});
        let pod = seen(&json!({"creationTimestamp": "1970-01-01T00:00:01Z"}), &status);
        assert_eq!((pod.report, pod.ended.0), (Report::Kubelet, 9));
        let nothing = json!({"phase": "Failed", "reason": "Evicted"});
        assert_eq!(
            seen(&json!({"creationTimestamp": "1970-01-01T00:00:01Z"}), &nothing)
                .ended
                .0,
            1
        );
    }

    #[test]
    fn who_calls_a_pod_failed_is_told_by_what_it_left_as_it_was() {
        let runs = json!([{"state": {"running": {"startedAt": "1970-01-01T00:00:01Z"}}}]);
        let waits = json!([{"state": {"waiting": {"reason": "ContainerCreating"}}}]);
        let collected = json!([{"type": "DisruptionTarget", "status": "True", "reason": COLLECTED}]);
        let none = json!(null);
        for (reason, containers, conditions, expected) in [
            ("", &none, &none, Report::Kubelet),
            ("Evicted", &waits, &none, Report::Kubelet),
            ("Terminated", &none, &none, Report::Shutdown),
            ("", &runs, &none, Report::Other),
            ("Terminated", &runs, &none, Report::Other),
            ("", &waits, &collected, Report::Other),
        ] {
            let status =
                json!({"phase": "Failed", "reason": reason, "containerStatuses": containers, "conditions": conditions});
            assert_eq!(seen(&json!({}), &status).report, expected, "{status}");
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
