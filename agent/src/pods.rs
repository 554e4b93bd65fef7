//! The pod of a request, by its UID.
//!
//! Names are reused, UIDs are not: a request acts on the pod object of its own UID or on none. For a static pod that is its mirror
//! ([`runtime_uid`]).

use crate::context::Context;
use crate::error::RequestError;
use crate::tries;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use spiderpool_crds::pod::{is_from_api_server, runtime_uid, seen};
use spiderpool_kit::cache::Key;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How long a request waits for a pod that a live read did not show. The kubelet has the object already, so another
/// replica of the API server may be behind by this much.
const APPEARANCE: Duration = Duration::from_secs(3);

/// How long a request waits for the mirror of a static pod. The kubelet makes it beside the pod's start, and later when the API
/// server is away meanwhile. The rest of an ADD's budget is for its writes.
const MIRROR: Duration = Duration::from_secs(20);

/// How long a DEL reads its pod. Past that it fails, and the plugin notes it in its journal: the kubelet should not wait for long.
const READ_TIMEOUT: Duration = Duration::from_secs(5);

/// What is known of a request's pod.
#[derive(Clone, Debug)]
pub enum PodState {
    /// It exists and may use addresses.
    Alive(Arc<Pod>),
    /// It is being deleted, or was called finished by somebody who has not seen it, and its containers may run on.
    Terminating(Arc<Pod>),
    /// It has finished for good, and nothing of it runs any more.
    Finished(Arc<Pod>),
    /// No pod of that name exists, or one with another UID.
    Gone {
        /// What the live read showed, for messages.
        seen: String,
    },
}

/// Whether a pod has finished for good, and nothing of it runs: its kubelet said so. Who called it finished without having looked
/// says only that it gets no address any more.
pub fn has_stopped(pod: &Pod) -> bool {
    seen(pod).has_stopped()
}

/// Whether a pod may get addresses: it is not being deleted and has not finished for good.
pub fn is_alive(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_none() && !seen(pod).is_finished()
}

/// Whether an object is the pod of a request's UID.
pub fn has_uid(pod: &Pod, uid: &str) -> bool {
    runtime_uid(&pod.metadata) == Some(uid)
}

fn state(pod: Arc<Pod>) -> PodState {
    if has_stopped(&pod) {
        PodState::Finished(pod)
    } else if is_alive(&pod) {
        PodState::Alive(pod)
    } else {
        PodState::Terminating(pod)
    }
}

/// Finds the pod of an ADD: in the cache, else by one live read, else by waiting for it to appear.
pub async fn of_add(
    context: &Context,
    namespace: &str,
    name: &str,
    uid: &str,
    deadline: Instant,
) -> Result<Arc<Pod>, RequestError> {
    let full = format!("{namespace}/{name}");
    let cached = context.pods.get(namespace, name).filter(|pod| has_uid(pod, uid));
    let found = match cached {
        Some(pod) => state(pod),
        None => match live(context, namespace, name, uid, deadline).await? {
            PodState::Gone { seen } => {
                let wait = if is_from_api_server(uid) { APPEARANCE } else { MIRROR };
                let until = deadline.min(Instant::now() + wait);
                let key = Key::new(namespace, name);
                let appeared = context
                    .pods
                    .wait(until, |store| store.get(&key).filter(|pod| has_uid(pod, uid)).cloned())
                    .await;
                appeared.map_or(PodState::Gone { seen }, state)
            }
            other => other,
        },
    };
    serving(context, full, uid, found)
}

/// Reads the pod of an ADD again, live, once addresses are on record for it. What was on record before may have been found to be
/// nobody's by then, by somebody who did not find the pod; who finds it after that was not in time.
pub async fn still_alive(
    context: &Context,
    namespace: &str,
    name: &str,
    uid: &str,
    deadline: Instant,
) -> Result<(), RequestError> {
    let found = live(context, namespace, name, uid, deadline).await?;
    serving(context, format!("{namespace}/{name}"), uid, found).map(drop)
}

/// The pod of an ADD, if it may have addresses here.
fn serving(context: &Context, full: String, uid: &str, found: PodState) -> Result<Arc<Pod>, RequestError> {
    match found {
        PodState::Alive(pod) => {
            let node = pod
                .spec
                .as_ref()
                .and_then(|spec| spec.node_name.clone())
                .unwrap_or_default();
            if node == context.node {
                Ok(pod)
            } else {
                Err(RequestError::OtherNode {
                    pod: full,
                    node,
                    own: context.node.clone(),
                })
            }
        }
        PodState::Terminating(_) | PodState::Finished(_) => Err(RequestError::DeadPod {
            pod: full,
            uid: uid.to_owned(),
        }),
        PodState::Gone { seen } => Err(RequestError::UnknownPod {
            pod: full,
            uid: uid.to_owned(),
            seen,
        }),
    }
}

/// Finds the pod of a DEL. Being on the way out is for ever, so the cache may say it; that a pod is alive or gone is read live,
/// because an address is freed or kept for it.
pub async fn of_del(
    context: &Context,
    namespace: &str,
    name: &str,
    uid: &str,
    deadline: Instant,
) -> Result<PodState, RequestError> {
    if let Some(pod) = context
        .pods
        .get(namespace, name)
        .filter(|pod| has_uid(pod, uid) && !is_alive(pod))
    {
        return Ok(state(pod));
    }
    let limit = deadline.min(Instant::now() + READ_TIMEOUT);
    live(context, namespace, name, uid, limit).await
}

/// Reads the pod of a UID live.
pub async fn live(
    context: &Context,
    namespace: &str,
    name: &str,
    uid: &str,
    deadline: Instant,
) -> Result<PodState, RequestError> {
    let api: Api<Pod> = Api::namespaced(context.client.clone(), namespace);
    let what = format!("read Pod {namespace}/{name}");
    // What the cache learns while the answer is on its way is newer than the answer.
    let before = context.pods.get(namespace, name);
    let found = tries::read(what, deadline, || api.get_opt(name)).await?;
    learn(context, before, found.as_ref());
    Ok(match found {
        None => PodState::Gone {
            seen: "the API server has no Pod of that name".to_owned(),
        },
        Some(pod) if has_uid(&pod, uid) => state(Arc::new(pod)),
        Some(pod) => PodState::Gone {
            seen: format!(
                "the Pod of that name has UID {}",
                runtime_uid(&pod.metadata).unwrap_or("none")
            ),
        },
    })
}

/// Takes a live read into the cache, which may be behind: an ADD that is on its way must not find a pod alive whose DEL was served.
fn learn(context: &Context, before: Option<Arc<Pod>>, found: Option<&Pod>) {
    if let Some(old) = before.filter(|old| found.is_none_or(|pod| pod.metadata.uid != old.metadata.uid)) {
        context.pods.forget(&old);
    }
    let node = |pod: &&Pod| pod.spec.as_ref().and_then(|spec| spec.node_name.as_ref()) == Some(&context.node);
    if let Some(pod) = found.filter(node) {
        context.pods.learn(pod.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn name(state: &PodState) -> &'static str {
        match state {
            PodState::Alive(_) => "alive",
            PodState::Terminating(_) => "terminating",
            PodState::Finished(_) => "finished",
            PodState::Gone { .. } => "gone",
        }
    }

    #[test]
    fn who_has_not_seen_a_pod_does_not_end_it() {
        let running = json!([{"name": "c", "image": "", "imageID": "", "ready": false, "restartCount": 0,
            "state": {"running": {}}}]);
        let collected = json!([{"type": "DisruptionTarget", "status": "True", "reason": "DeletionByPodGC"}]);
        for status in [
            json!({"phase": "Failed", "containerStatuses": running}),
            json!({"phase": "Failed", "conditions": collected}),
        ] {
            let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "p"}, "status": status})).unwrap();
            assert!(!is_alive(&pod));
            assert_eq!(name(&state(Arc::new(pod))), "terminating", "{status}");
        }
    }

    #[test]
    fn a_pod_that_failed_is_finished_whatever_its_restart_policy() {
        let state = |deleted: bool, restart: &str, phase: &str| {
            let mut value = json!({"metadata": {"name": "p"}, "spec": {"containers": [], "restartPolicy": restart},
                "status": {"phase": phase}});
            if deleted {
                value["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
            }
            let pod: Pod = serde_json::from_value(value).unwrap();
            name(&state(Arc::new(pod)))
        };
        for (restart, phase, seen, deleted) in [
            ("Always", "Pending", "alive", "terminating"),
            ("Always", "Running", "alive", "terminating"),
            ("Never", "Running", "alive", "terminating"),
            // The kubelet starts the containers of such a pod again.
            ("Always", "Succeeded", "alive", "terminating"),
            ("OnFailure", "Succeeded", "finished", "finished"),
            ("Never", "Succeeded", "finished", "finished"),
            // Of a Deployment's pod: evicted, preempted, or its node was shut down.
            ("Always", "Failed", "finished", "finished"),
            // Of a Job's pod: activeDeadlineSeconds.
            ("OnFailure", "Failed", "finished", "finished"),
            ("Never", "Failed", "finished", "finished"),
        ] {
            assert_eq!(state(false, restart, phase), seen, "{restart} {phase}");
            assert_eq!(state(true, restart, phase), deleted, "{restart} {phase}");
        }
    }
}
