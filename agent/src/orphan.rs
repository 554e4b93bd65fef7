//! Finds endpoints that nobody will come for.
//!
//! A write of which an ADD did not learn what became of it may be served after the ADD has given its addresses back, even after the
//! DEL of the sandbox found nothing to free. The endpoint that appears then names the sandbox of a pod that is gone, and no
//! further DEL will come for it. It is told from that of a pod whose DEL is still to come by what the pools have on record: an ADD
//! records its addresses before it writes the endpoint, and a DEL frees them before it removes it. So there is no address to
//! free here, and whoever comes late to an endpoint that was removed loses nothing.

use crate::context::Context;
use crate::endpoints;
use crate::error::RequestError;
use crate::pods::{self, PodState};
use crate::tries;
use kube::{Api, ResourceExt};
use spiderpool_crds::{NicDetail, SpiderEndpoint, SpiderIPPool};
use std::net::IpAddr;
use std::time::Duration;
use tokio::time::Instant;

/// How long a look at one endpoint may take.
const BUDGET: Duration = Duration::from_secs(15);

/// Whether, as far as the caches know, an endpoint of this node names a pod that is gone, and the pools have nothing of it.
pub fn is_suspect(context: &Context, endpoint: &SpiderEndpoint) -> bool {
    let current = &endpoint.status.current;
    if current.node != context.node || current.ips.iter().all(|item| item.container_id.is_none()) {
        return false;
    }
    let (namespace, name) = (endpoint.namespace().unwrap_or_default(), endpoint.name_any());
    let pod = context.pods.get(&namespace, &name);
    if pod.is_some_and(|pod| pods::has_uid(&pod, &current.uid)) {
        return false;
    }
    let pool = |name: &str| context.pools.cache().get("", name);
    let records = |pool: &SpiderIPPool| pool.status.as_ref().and_then(|status| status.allocated_ips.clone());
    addresses(&current.ips)
        .filter_map(|(name, _)| pool(name).as_deref().and_then(records))
        .all(|text| !text.contains(&current.uid))
}

/// Removes an endpoint if live reads confirm the suspicion.
pub async fn remove(context: &Context, suspect: &SpiderEndpoint) -> Result<(), RequestError> {
    let deadline = Instant::now() + BUDGET;
    let uid = &suspect.status.current.uid;
    let (namespace, name) = (suspect.namespace().unwrap_or_default(), suspect.name_any());
    let _turn = context.turns.take(uid).await;
    let PodState::Gone { .. } = pods::live(context, &namespace, &name, uid, deadline).await? else {
        return Ok(());
    };
    let Some(endpoint) = endpoints::read(context, &namespace, &name, deadline).await? else {
        return Ok(());
    };
    if endpoint.status.current.uid != *uid || !is_suspect(context, &endpoint) {
        return Ok(());
    }
    let pod = format!("{namespace}/{name}");
    for (pool, ip) in addresses(&endpoint.status.current.ips) {
        if is_recorded(context, pool, ip, &pod, uid, deadline).await? {
            return Ok(());
        }
    }
    tracing::warn!(
        pod,
        uid,
        "removing an endpoint that was written late: its pod is gone, and no pool has its addresses on record"
    );
    endpoints::remove_nics(context, endpoint, uid, |_| true, deadline).await
}

/// Whether a pool has an address on record for a pod, or for another one of its name, to which its endpoint then passes.
async fn is_recorded(
    context: &Context,
    pool: &str,
    ip: IpAddr,
    pod: &str,
    uid: &str,
    deadline: Instant,
) -> Result<bool, RequestError> {
    let api: Api<SpiderIPPool> = Api::all(context.client.clone());
    let read = tries::read(format!("read IPPool {pool}"), deadline, || api.get_opt(pool));
    let Some(found) = read.await? else { return Ok(false) };
    // Records that cannot be read may be anybody's.
    Ok(found.records().map_or(true, |records| {
        records
            .get(ip)
            .is_some_and(|record| record.pod_uid == uid || record.pod == pod)
    }))
}

/// What an endpoint says that its NICs have, with the pools.
fn addresses(items: &[NicDetail]) -> impl Iterator<Item = (&str, IpAddr)> {
    let all = items.iter().flat_map(NicDetail::addresses);
    all.filter_map(|(ip, pool)| Some((pool?, ip)))
}
