//! Frees the addresses of pods that ended after their sandbox was gone.
//!
//! The DEL of a pod's last sandbox may come while the pod still counts as alive: the kubelet reports a finished job's pod
//! only after it tore the sandbox down, and sends no further DEL. Such a DEL only notes in the endpoint that the sandbox is
//! gone. When the pod has then finished or is gone, nothing uses the addresses any more, and they are freed here. A pod that is
//! being deleted is left alone: its containers may run on for its grace period, and its own DEL frees what it has.

use crate::context::Context;
use crate::del;
use crate::endpoints;
use crate::error::RequestError;
use crate::orphan;
use crate::pods::{self, PodState};
use crate::sticky;
use kube::ResourceExt;
use spiderpool_crds::SpiderEndpoint;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How long freeing one pod's addresses may take.
const BUDGET: Duration = Duration::from_secs(15);

/// Pause after a failure, before everything is looked at again.
const RETRY: Duration = Duration::from_secs(5);

/// Runs until the process stops.
pub async fn run(context: Arc<Context>) {
    let mut pods = context.pods.subscribe();
    let mut endpoints = context.endpoints.subscribe();
    loop {
        let failed = !pass(&context).await;
        let more = async {
            tokio::select! {
                change = pods.next() => change.is_some(),
                change = endpoints.next() => change.is_some(),
            }
        };
        let limit = if failed { RETRY } else { Duration::MAX };
        match tokio::time::timeout(limit, more).await {
            Ok(true) | Err(_) => {}
            Ok(false) => return,
        }
    }
}

/// Looks at every endpoint once. Says whether all was done that there was to do.
pub async fn pass(context: &Context) -> bool {
    // The cache that fills last need not be one that wakes the sweep.
    if context.ready().is_err() {
        return false;
    }
    let mut done = true;
    for endpoint in context.endpoints.list() {
        if let Err(error) = visit(context, &endpoint).await {
            let (namespace, name) = (endpoint.namespace().unwrap_or_default(), endpoint.name_any());
            tracing::warn!(namespace, pod = name, %error, "addresses of an ended pod not freed yet");
            done = false;
        }
    }
    done
}

/// Whether the pod's addresses outlive it. Then the operator frees them when their time has come, which this node need not see.
fn is_kept(context: &Context, endpoint: &SpiderEndpoint) -> bool {
    sticky::keeper(&context.config, endpoint).is_some()
}

/// Whether nothing is set up with the endpoint's addresses, and its pod may not come back for them.
fn may_have_ended(context: &Context, endpoint: &SpiderEndpoint) -> bool {
    let current = &endpoint.status.current;
    if current.node != context.node || current.ips.iter().any(|item| item.container_id.is_some()) {
        return false;
    }
    let pod = context.pods.get(
        &endpoint.namespace().unwrap_or_default(),
        &sticky::pod_name(context, endpoint),
    );
    pod.is_none_or(|pod| !pods::has_uid(&pod, &current.uid) || pods::has_stopped(&pod))
}

async fn visit(context: &Context, seen: &SpiderEndpoint) -> Result<(), RequestError> {
    if is_kept(context, seen) {
        return Ok(());
    }
    if orphan::is_suspect(context, seen) {
        return orphan::remove(context, seen).await;
    }
    if !may_have_ended(context, seen) {
        return Ok(());
    }
    let deadline = Instant::now() + BUDGET;
    let uid = &seen.status.current.uid;
    let (namespace, name) = (seen.namespace().unwrap_or_default(), seen.name_any());
    let _turn = context.turns.take(uid).await;
    let pod = sticky::pod_name(context, seen);
    // An address is freed for what this shows, so the cache's word is not enough.
    match pods::live(context, &namespace, &pod, uid, deadline).await? {
        PodState::Alive(_) | PodState::Terminating(_) => return Ok(()),
        PodState::Finished(_) | PodState::Gone { .. } => {}
    }
    let Some(endpoint) = endpoints::read(context, &namespace, &name, deadline).await? else {
        return Ok(());
    };
    if endpoint.status.current.uid != *uid || !may_have_ended(context, &endpoint) {
        return Ok(());
    }
    let nics: Vec<String> = endpoint
        .status
        .current
        .ips
        .iter()
        .map(|item| item.interface.clone())
        .collect();
    let pod = format!("{namespace}/{name}");
    tracing::info!(
        pod,
        uid,
        ?nics,
        "freeing the addresses of a pod that ended after its sandbox"
    );
    del::free(context, &pod, uid, &nics, Some(endpoint), deadline).await
}
