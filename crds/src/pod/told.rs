//! What a pod's object says of its end: the facts about it that the rule of reclaim wants.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use spiderpool_ipam::reclaim::{Moment, Phase, Pod as Seen, Report, Restart};

/// Grace of a pod that does not say.
const GRACE: u64 = 30;
/// Reasons of the status of a pod that was stopped because its node is shut down, by newer and older kubelets.
const SHUT_DOWN: [&str; 3] = ["Terminated", "NodeShutdown", "Shutdown"];
/// Reason of the condition of a pod that the control plane, which cannot see it, has called failed.
const COLLECTED: &str = "DeletionByPodGC";

/// The part of a pod's object that tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told<'a> {
    /// Its phase.
    pub phase: &'a str,
    /// Why it is in it.
    pub reason: Option<&'a str>,
    /// Its restartPolicy.
    pub restart: Option<&'a str>,
    /// Its terminationGracePeriodSeconds.
    pub grace: Option<i64>,
    /// Its creationTimestamp.
    pub created: Option<Timestamp>,
    /// Its deletionTimestamp.
    pub deletion: Option<Timestamp>,
    /// Whether its status has an address.
    pub has_addresses: bool,
    /// Reasons of its conditions, and when these changed last.
    pub conditions: Vec<(Option<&'a str>, Option<Timestamp>)>,
    /// Containers of all sorts: whether they run, and when they ended.
    pub containers: Vec<Container>,
}

/// What a pod's status says of a container.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Container {
    /// Whether it runs.
    pub runs: bool,
    /// When it ended, if it did.
    pub ended: Option<Timestamp>,
}

impl Told<'_> {
    /// What the pod is to the rule of reclaim.
    pub fn seen(&self) -> Seen {
        let ended = self.ended().or(self.deletion).or(self.created);
        Seen {
            phase: match self.phase {
                "Pending" => Phase::Pending,
                "Running" => Phase::Running,
                "Succeeded" => Phase::Succeeded,
                "Failed" => Phase::Failed,
                _ => Phase::Unknown,
            },
            restart: match self.restart {
                None | Some("Always") => Restart::Always,
                Some(_) => Restart::Ends,
            },
            deletion: self.deletion.map(moment),
            report: self.report(),
            ended: moment(ended.unwrap_or(Timestamp::UNIX_EPOCH)),
            grace: Duration::from_secs(self.grace.map_or(GRACE, |seconds| u64::try_from(seconds).unwrap_or(0))),
            has_addresses: self.has_addresses,
        }
    }

    /// Whose word it is that the pod finished. The kubelet says so when nothing runs any more; who calls a pod finished whose
    /// containers run has not looked.
    fn report(&self) -> Report {
        let collected = self.conditions.iter().any(|(reason, _)| *reason == Some(COLLECTED));
        let runs = self.containers.iter().any(|container| container.runs);
        match self.reason {
            _ if collected || runs => Report::Other,
            Some(reason) if SHUT_DOWN.contains(&reason) => Report::Shutdown,
            _ => Report::Kubelet,
        }
    }

    /// When the last container ended. A pod that was evicted before one began has conditions at least.
    fn ended(&self) -> Option<Timestamp> {
        let ended = self.containers.iter().filter_map(|container| container.ended);
        // A container that never ran ended at the beginning of time.
        let ended = ended.filter(|at| *at > Timestamp::UNIX_EPOCH).max();
        ended.or_else(|| self.conditions.iter().filter_map(|(_, changed)| *changed).max())
    }
}

fn moment(time: Timestamp) -> Moment {
    Moment(time.as_second())
}

/// What a pod is to the rule of reclaim.
pub fn seen(pod: &Pod) -> Seen {
    let (spec, status) = (pod.spec.as_ref(), pod.status.as_ref());
    let conditions = status.and_then(|status| status.conditions.as_ref());
    let containers = status.into_iter().flat_map(|status| {
        let all = [
            &status.init_container_statuses,
            &status.container_statuses,
            &status.ephemeral_container_statuses,
        ];
        all.into_iter().flatten().flatten()
    });
    let told = Told {
        phase: status.and_then(|status| status.phase.as_deref()).unwrap_or_default(),
        reason: status.and_then(|status| status.reason.as_deref()),
        restart: spec.and_then(|spec| spec.restart_policy.as_deref()),
        grace: spec.and_then(|spec| spec.termination_grace_period_seconds),
        created: pod.metadata.creation_timestamp.as_ref().map(|time| time.0),
        deletion: pod.metadata.deletion_timestamp.as_ref().map(|time| time.0),
        has_addresses: status
            .and_then(|status| status.pod_ip.as_ref())
            .is_some_and(|ip| !ip.is_empty()),
        conditions: conditions
            .into_iter()
            .flatten()
            .map(|condition| {
                let changed = condition.last_transition_time.as_ref().map(|time| time.0);
                (condition.reason.as_deref(), changed)
            })
            .collect(),
        containers: containers.map(container).collect(),
    };
    told.seen()
}

fn container(status: &ContainerStatus) -> Container {
    let state = status.state.as_ref();
    let terminated = state.and_then(|state| state.terminated.as_ref());
    Container {
        runs: state.is_some_and(|state| state.running.is_some()),
        ended: terminated.and_then(|terminated| terminated.finished_at.as_ref().map(|time| time.0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn of(status: &Value) -> Seen {
        let pod = json!({"metadata": {"creationTimestamp": "1970-01-01T00:00:01Z"}, "status": status,
            "spec": {"containers": [], "restartPolicy": "Never", "terminationGracePeriodSeconds": 7}});
        let pod: Pod = serde_json::from_value(pod).unwrap();
        seen(&pod)
    }

    fn container(state: &Value) -> Value {
        json!({"name": "c", "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": state})
    }

    #[test]
    fn a_job_s_pod_ended_with_its_last_container() {
        let ended = |second: u8| {
            let at = format!("1970-01-01T00:00:{second:02}Z");
            container(&json!({"terminated": {"exitCode": 0, "finishedAt": at}}))
        };
        let status = json!({"phase": "Succeeded", "podIP": "10.0.0.1", "containerStatuses": [ended(20), ended(40)],
            "initContainerStatuses": [ended(10)]});
        let expected = Seen {
            phase: Phase::Succeeded,
            restart: Restart::Ends,
            deletion: None,
            report: Report::Kubelet,
            ended: Moment(40),
            grace: Duration::from_secs(7),
            has_addresses: true,
        };
        assert_eq!(of(&status), expected);
    }

    #[test]
    fn an_evicted_pod_without_containers_ended_at_its_last_change() {
        let conditions = json!([{"type": "Ready", "status": "False", "lastTransitionTime": "1970-01-01T00:00:09Z"}]);
        let pod = of(&json!({"phase": "Failed", "reason": "Evicted", "conditions": conditions}));
        assert_eq!((pod.report, pod.ended), (Report::Kubelet, Moment(9)));
        assert_eq!(of(&json!({"phase": "Failed", "reason": "Evicted"})).ended, Moment(1));
    }

    #[test]
    fn who_calls_a_pod_failed_is_told_by_what_it_left_as_it_was() {
        let runs = json!([container(&json!({"running": {"startedAt": "1970-01-01T00:00:01Z"}}))]);
        let waits = json!([container(&json!({"waiting": {"reason": "ContainerCreating"}}))]);
        let collected = json!([{"type": "DisruptionTarget", "status": "True", "reason": COLLECTED}]);
        let none = Value::Null;
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
            assert_eq!(of(&status).report, expected, "{status}");
        }
    }
}
