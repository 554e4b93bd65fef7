//! Frees kept addresses when no pod may have them again: the set was scaled down or deleted, or the virtual machine was deleted,
//! while the pod was gone already. Where the pod is there until then, its node's agent does it.
//!
//! StatefulSets are watched, so it is their changes that lead here. Objects of the other kinds are read, rarer and rarer while
//! nothing changes: most of what has addresses and no pod is a virtual machine that somebody has switched off.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use kube::api::{DeleteParams, PostParams, Preconditions};
use kube::{Api, ResourceExt};
use spiderpool_crds::sticky::{Keeper, StickyKind};
use spiderpool_crds::{SpiderEndpoint, SpiderIPPool, names};
use spiderpool_ipam::Owner;
use spiderpool_ipam::reclaim::{PodSeen, Standing, may_end};
use spiderpool_kit::deadline::within;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::live::{self, ALL, Keepers, MachinePods};
use super::{Suspect, free};
use crate::context::Context;
use crate::write::{self, DEADLINE};

/// How long a pod must be missing before its workload is looked at, and first pause between two looks.
const FIRST: Duration = Duration::from_secs(5);
/// Longest pause between two looks.
const LONGEST: Duration = Duration::from_secs(600);
/// How long changes gather before everything is looked at.
const CALM: Duration = Duration::from_secs(1);
/// Longest time without a look at the caches: that a pod goes is no change that is waited for here.
const EVERY: Duration = Duration::from_secs(15);

/// An endpoint without a pod.
#[derive(Clone, Copy, Debug)]
struct Orphan {
    next: Instant,
    pause: Duration,
    /// Whether only a change of its set can make a difference.
    settled: bool,
}

/// Which endpoint of which pod.
type Key = (String, String, String);

/// Looks for ever, while this replica leads.
pub async fn run(context: Arc<Context>) {
    let mut orphans: HashMap<Key, Orphan> = HashMap::new();
    let mut sets = context.caches.stateful_sets.subscribe();
    let mut endpoints = context.caches.endpoints.subscribe();
    loop {
        if context.leadership.is_leader() {
            look(&context, &mut orphans).await;
        } else {
            orphans.clear();
        }
        let now = Instant::now();
        let limit = next_look(&orphans, now);
        let change = async {
            tokio::select! {
                change = sets.next() => change.is_some(),
                change = endpoints.next() => change.is_some(),
            }
        };
        match timeout_at(limit, change).await {
            Ok(true) => sleep_until(now + CALM).await,
            Ok(false) => return,
            Err(_) => {}
        }
        // A set that changed is worth a look at once, whoever waits.
        while let Ok(Some(_)) = timeout_at(Instant::now(), sets.next()).await {}
        while let Ok(Some(_)) = timeout_at(Instant::now(), endpoints.next()).await {}
    }
}

/// When to look again, if nothing changes until then.
fn next_look(orphans: &HashMap<Key, Orphan>, now: Instant) -> Instant {
    let waiting = orphans.values().filter(|orphan| !orphan.settled);
    let due = waiting.map(|orphan| orphan.next).min();
    due.unwrap_or(now + EVERY).clamp(now + CALM, now + EVERY)
}

async fn look(context: &Context, orphans: &mut HashMap<Key, Orphan>) {
    let now = Instant::now();
    let before = std::mem::take(orphans);
    for endpoint in context.caches.endpoints.list() {
        let Some(keeper) = orphaned(context, &endpoint) else {
            continue;
        };
        let key = (
            endpoint.namespace().unwrap_or_default(),
            endpoint.name_any(),
            endpoint.status.current.uid.clone(),
        );
        let mut orphan = before.get(&key).copied().unwrap_or(Orphan {
            next: now + FIRST,
            pause: FIRST,
            settled: false,
        });
        orphan.settled = is_settled(context, &keeper);
        if orphan.next <= now && !orphan.settled {
            if let Err(error) = end(context, &endpoint, &keeper).await {
                tracing::info!(endpoint = keeper.key(), %error, "kept addresses not looked at, trying again");
            }
            orphan.pause = (orphan.pause * 2).min(LONGEST);
            orphan.next = now + orphan.pause;
        }
        orphans.insert(key, orphan);
    }
}

/// What keeps the addresses of an endpoint whose pod is missing, as the caches have it.
fn orphaned(context: &Context, endpoint: &SpiderEndpoint) -> Option<Keeper> {
    // Also of kinds that were switched off: nobody else frees what their pods left.
    let keeper = Keeper::of_endpoint(endpoint, ALL)?;
    // Kubernetes deletes an endpoint that a pod owns, and its node's agent frees what it has, unless pods of its kind keep their
    // addresses by now.
    let of_pod = endpoint.owner_references().iter().any(|owner| owner.kind == "Pod");
    if of_pod && Keeper::of_endpoint(endpoint, context.config.sticky).is_none() {
        return None;
    }
    let current = &endpoint.status.current;
    let name = current.pod_name.clone().unwrap_or_else(|| endpoint.name_any());
    context
        .caches
        .pods
        .get(&keeper.namespace, &name)
        .is_none()
        .then_some(keeper)
}

/// Whether the cache of StatefulSets says that the pod may come again, which is how it is for almost all. A set that changes
/// is looked at anew.
fn is_settled(context: &Context, keeper: &Keeper) -> bool {
    let set = || context.caches.stateful_sets.get(&keeper.namespace, &keeper.owner);
    keeper.kinds.contains(&StickyKind::StatefulSet)
        && context.config.sticky.sets
        && set().is_some_and(|set| keeper.is_member(&set))
}

/// Frees what an identity has, if no pod of it lives or may come.
async fn end(context: &Context, endpoint: &SpiderEndpoint, keeper: &Keeper) -> Result<(), write::Error> {
    // What is freed is what was on record before everything else was looked at.
    let records = recorded(context, &keeper.key());
    let pod = match is_gone(context, endpoint, keeper, &records).await? {
        true => PodSeen::Gone,
        false => PodSeen::Alive,
    };
    let counting = Keepers::of(context, Some(endpoint), &keeper.key(), context.config.sticky);
    let standing = match live::stays(context, &counting.own).await? || live::stays(context, &counting.alike).await? {
        true => Standing::Stays,
        false => Standing::Ends,
    };
    if !may_end(pod, standing) {
        return Ok(());
    }
    let mut pools: HashMap<String, Vec<Suspect>> = HashMap::new();
    for record in records {
        pools.entry(record.pool.clone()).or_default().push(record);
    }
    for (pool, records) in pools {
        free(context, &pool, records).await?;
    }
    delete(context, endpoint).await?;
    tracing::info!(
        endpoint = keeper.key(),
        owner = keeper.owner,
        "freed the kept addresses of a pod that does not come again"
    );
    Ok(())
}

/// Whether no pod of the identity exists, nor any other that has addresses on record under its name. A set's pods have its name;
/// those of a virtual machine are told by what controls them.
async fn is_gone(
    context: &Context,
    endpoint: &SpiderEndpoint,
    keeper: &Keeper,
    records: &[Suspect],
) -> Result<bool, write::Error> {
    if !keeper.is_machine() && live::pod(context, &keeper.namespace, &keeper.name).await?.is_some() {
        return Ok(false);
    }
    let keepers = Keepers::of(context, Some(endpoint), &keeper.key(), ALL);
    let Some(pods) = MachinePods::read(context, &keepers).await? else {
        return Ok(true);
    };
    let uids = records.iter().map(|record| &record.owner.uid);
    let in_use = uids.chain([&endpoint.status.current.uid]).any(|uid| pods.has(uid));
    Ok(!pods.is_running && !in_use)
}

/// Every record of an identity, as the caches have them.
fn recorded(context: &Context, key: &str) -> Vec<Suspect> {
    let needle = format!("\"{key}\"");
    let holds = |pool: &Arc<SpiderIPPool>| {
        let records = pool.status.as_ref().and_then(|status| status.allocated_ips.as_deref());
        records.is_some_and(|text| text.contains(&needle))
    };
    let pools = context.caches.pools.list().into_iter().filter(holds);
    pools
        .flat_map(|pool| {
            // Records that cannot be read belong to somebody we do not know.
            let records = pool.records().unwrap_or_default();
            let own = records.iter().filter(|(_, record)| record.pod == key);
            own.map(|(address, record)| Suspect {
                pool: pool.name_any(),
                address,
                owner: Owner::from(record),
            })
            .collect::<Vec<_>>()
        })
        .collect()
}

/// Deletes this very endpoint, and only if it is still as it was looked at.
async fn delete(context: &Context, endpoint: &SpiderEndpoint) -> Result<(), write::Error> {
    let (namespace, name) = (endpoint.namespace().unwrap_or_default(), endpoint.name_any());
    let api: Api<SpiderEndpoint> = Api::namespaced(context.client.clone(), &namespace);
    let _permit = context.leadership.write_permit().ok_or(write::Error::NotLeader)?;
    let mut freed = endpoint.clone();
    freed.status.current.ips.clear();
    freed.finalizers_mut().retain(|finalizer| finalizer != names::FINALIZER);
    let what = format!("taking the finalizer off SpiderEndpoint {namespace}/{name}");
    let params = PostParams::default();
    let freed = within(DEADLINE, what, api.replace(&name, &params, &freed)).await?;
    let params = DeleteParams {
        preconditions: Some(Preconditions {
            uid: freed.uid(),
            resource_version: freed.resource_version(),
        }),
        ..DeleteParams::default()
    };
    let what = format!("deleting SpiderEndpoint {namespace}/{name}");
    match within(DEADLINE, what, api.delete(&name, &params)).await {
        Ok(_) => Ok(()),
        // It was on its way out already.
        Err(failure) if failure.is_not_found() => Ok(()),
        Err(failure) => Err(failure.into()),
    }
}

#[cfg(test)]
mod tests;
