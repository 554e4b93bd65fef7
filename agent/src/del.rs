//! DEL: a NIC of a pod's sandbox is gone.
//!
//! A pod may have several sandboxes in its life, and the kubelet sends the DEL of old ones again. An address is freed only
//! for the sandbox of the last ADD, and only when the pod itself is gone, finished or terminating; a sandbox that is
//! replaced while its pod lives keeps the addresses for the next one. A pod that keeps its addresses ([`crate::sticky`]) leaves them
//! to the next one of its identity, as long as there may be one.

use crate::context::Context;
use crate::endpoints;
use crate::error::RequestError;
use crate::kill::{self, Point};
use crate::pods::{self, PodState};
use crate::sticky::{self, Identity};
use crate::unnamed;
use spiderpool_crds::sticky::Keeper;
use spiderpool_crds::{NicDetail, SpiderEndpoint};
use spiderpool_wire::IpamDelArgs;
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::time::Instant;

/// How long a DEL may take. The kubelet sends a failed one again.
pub const BUDGET: Duration = Duration::from_secs(30);

/// What a DEL did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Released {
    /// The addresses of the NIC were freed, or there were none.
    Freed,
    /// The pod lives on, and keeps them.
    PodAlive,
    /// The pod may come again, and then has them.
    Kept,
    /// The request is for an older sandbox than the one that has the addresses.
    OlderSandbox,
    /// The addresses of the NIC belong to another network.
    OtherNetwork,
    /// The request names no pod.
    NoPod,
}

/// Serves a DEL.
pub async fn del(context: &Context, args: &IpamDelArgs) -> Result<Released, RequestError> {
    if args.pod_uid.is_empty() || args.pod_name.is_empty() {
        return Ok(Released::NoPod);
    }
    // The ADD of this attachment may wait for its pool for long, and nobody waits for it any more.
    context.turns.adds().cancel(args);
    context.wait_ready(Instant::now() + BUDGET).await?;
    let _turn = context.turns.take(&args.pod_uid).await;
    // An ADD of the same pod may have run until now; that is no time of this request.
    let deadline = Instant::now() + BUDGET;
    let (namespace, name, uid, nic) = (&args.pod_namespace, &args.pod_name, &args.pod_uid, &args.if_name);
    kill::point(Point::DelAccepted);
    context.sandboxes.ended(&args.container_id, nic);
    let pod = pods::of_del(context, namespace, name, uid, deadline).await?;
    kill::point(Point::DelPodFound);
    let identity = match &pod {
        PodState::Alive(pod) | PodState::Terminating(pod) | PodState::Finished(pod) => {
            Identity::of(&context.config, pod)
        }
        PodState::Gone { .. } => Identity::of_gone(context, namespace, name, uid),
    };
    let found = endpoints::read(context, namespace, &identity.name, deadline).await?;
    // Whichever pod of an identity an endpoint is about, it tells who keeps its addresses. A pod that is there tells itself: it may
    // have the name of a virtual machine, and be none of its pods.
    let of_endpoint = found
        .as_ref()
        .filter(|found| found.status.current.uid == *uid || matches!(pod, PodState::Gone { .. }))
        .and_then(|found| sticky::keeper(&context.config, found));
    let keeper = identity.keeper.clone().or(of_endpoint);
    let endpoint = found.filter(|endpoint| endpoint.status.current.uid == *uid);
    let item = endpoint
        .as_ref()
        .and_then(|endpoint| endpoint.status.current.ips.iter().find(|item| item.interface == *nic));
    let sandbox = item.and_then(|item| item.container_id.as_deref());
    if sandbox.is_some_and(|sandbox| sandbox != args.container_id) {
        return Ok(Released::OlderSandbox);
    }
    // Where the sandbox is the same, so is the attachment, whatever its network is called by now: an administrator may have given
    // the network another name while the pod ran.
    let network = item
        .and_then(|item| item.network_name.as_deref())
        .filter(|_| sandbox.is_none());
    if network.is_some_and(|network| !args.network_name.is_empty() && network != args.network_name) {
        return Ok(Released::OtherNetwork);
    }
    if let PodState::Alive(_) = pod {
        if let (Some(sandbox), Some(endpoint)) = (sandbox.map(str::to_owned), endpoint.clone()) {
            Box::pin(endpoints::clear_sandbox(context, endpoint, nic, &sandbox, deadline)).await?;
        }
        return Ok(Released::PodAlive);
    }
    let mut nics = vec![nic.clone()];
    if let Some(keeper) = &keeper {
        if sticky::stays(context, keeper, deadline).await? || is_shared(context, keeper, uid, deadline).await? {
            if let (Some(sandbox), Some(endpoint)) = (sandbox.map(str::to_owned), endpoint.clone()) {
                Box::pin(endpoints::clear_sandbox(context, endpoint, nic, &sandbox, deadline)).await?;
            }
            return Ok(Released::Kept);
        }
        // What the pod took over and never set up has no DEL.
        let current = endpoint.iter().flat_map(|endpoint| &endpoint.status.current.ips);
        let never = current.filter(|item| item.container_id.is_none() && item.interface != *nic);
        nics.extend(never.map(|item| item.interface.clone()));
    }
    free(context, &identity.key(), uid, &nics, endpoint, deadline).await?;
    kill::point(Point::DelAnswered);
    Ok(Released::Freed)
}

/// Whether another pod of the same virtual machine may still run. After a migration that failed, the machine has the addresses of
/// the pod that it did not move to. The operator frees them when the last one is gone.
async fn is_shared(context: &Context, keeper: &Keeper, uid: &str, deadline: Instant) -> Result<bool, RequestError> {
    if !keeper.is_machine() {
        return Ok(false);
    }
    let running = Box::pin(sticky::running(context, keeper, uid, deadline)).await?;
    Ok(running.is_some())
}

/// Frees what NICs of a pod have in any pool, and then removes them from the endpoint. The pools come first: an address
/// that the endpoint does not name any more would be looked for by nobody.
///
/// Where the endpoint names no other NIC, or there is none, everything else that is on record for the pod goes too: an ADD
/// claimed it for other NICs and never came to its end.
pub async fn free(
    context: &Context,
    pod: &str,
    uid: &str,
    nics: &[String],
    endpoint: Option<SpiderEndpoint>,
    deadline: Instant,
) -> Result<(), RequestError> {
    let own = |item: &NicDetail| nics.contains(&item.interface);
    let all = endpoint
        .as_ref()
        .map_or(&[][..], |endpoint| &endpoint.status.current.ips);
    let items = || all.iter();
    let named = items().filter(|item| own(item));
    let named = named.flat_map(|item| [item.ipv4_pool.clone(), item.ipv6_pool.clone()]);
    let named: BTreeSet<String> = named.flatten().collect();
    // An agent that dies in here must not find a sandbox whose address was lost.
    note_ended(context, items().filter(|item| own(item)));
    let last = items().all(own);
    let mut freed: BTreeSet<String> = nics.iter().cloned().collect();
    loop {
        if last {
            freed.extend(context.pools.nics(uid));
        }
        let mut pools: BTreeSet<String> = context.pools.holding(uid).union(&named).cloned().collect();
        // A record of the peer names no NIC, and the pool would take it for one of these.
        pools.retain(|pool| {
            let cached = context.pools.cache().get("", pool);
            cached.is_none_or(|pool| !unnamed::has_of_others(&pool, uid, all, nics))
        });
        let releases = pools.iter().flat_map(|pool| {
            let nics = freed.iter();
            nics.map(move |nic| context.pools.release(pool, pod, uid, nic, deadline))
        });
        for released in futures::future::join_all(releases).await {
            released?;
        }
        // A pool in doubt was settled by this, and may turn out to have more on record.
        if !last || context.pools.nics(uid).is_subset(&freed) {
            break;
        }
    }
    kill::point(Point::DelReleased);
    match endpoint {
        Some(endpoint) => Box::pin(endpoints::remove_nics(context, endpoint, uid, own, deadline)).await,
        None => Ok(()),
    }
}

/// Notes that the sandboxes of these NICs lose their addresses.
pub fn note_ended<'a>(context: &Context, items: impl Iterator<Item = &'a NicDetail>) {
    for item in items {
        if let Some(container) = &item.container_id {
            context.sandboxes.ended(container, &item.interface);
        }
    }
}
