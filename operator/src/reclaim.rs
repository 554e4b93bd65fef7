//! Frees addresses that nobody is left to give back: the pod is gone, and no endpoint tells its node's agent to do it.
//!
//! That happens when an agent dies between its two writes and the pod is deleted before the agent is back. The caches only
//! raise a suspicion. An address is freed when the suspicion has lasted for [`GRACE`] and live reads confirm it, by a write
//! that compares the whole owner and fails if anything changed meanwhile.
//!
//! The addresses of pods that keep them outlive the pod: [`kept`] frees those when no pod may have them again.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use kube::Api;
use spiderpool_crds::records::Record;
use spiderpool_crds::{SpiderEndpoint, SpiderIPPool};
use spiderpool_ipam::Owner;
use spiderpool_ipam::reclaim::{Decision, EndpointSeen, PodSeen, Standing, decide};
use tokio::time::{Instant, MissedTickBehavior};

use crate::context::Context;
use crate::write;
use live::{ALL, Keepers, MachinePods};

pub mod kept;
mod live;

/// How long nobody must be found to own an address.
pub const GRACE: Duration = Duration::from_secs(30);
/// How often the caches are searched.
const EVERY: Duration = Duration::from_secs(15);

/// An address whose owner was not found.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Suspect {
    pool: String,
    address: IpAddr,
    owner: Owner,
}

/// Searches for ever, while this replica leads.
pub async fn run(context: Arc<Context>) {
    let mut since: HashMap<Suspect, Instant> = HashMap::new();
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if !context.leadership.is_leader() {
            since.clear();
            continue;
        }
        for (pool, suspects) in ripe(&mut since, suspects(&context), Instant::now()) {
            if let Err(error) = reclaim(&context, &pool, suspects).await {
                tracing::info!(pool, %error, "nothing reclaimed, trying again");
            }
        }
    }
}

/// Keeps count of how long each suspicion has lasted, and gives out those that have lasted long enough, by pool.
fn ripe(since: &mut HashMap<Suspect, Instant>, found: Vec<Suspect>, now: Instant) -> BTreeMap<String, Vec<Suspect>> {
    let before = std::mem::take(since);
    let mut ripe: BTreeMap<String, Vec<Suspect>> = BTreeMap::new();
    for suspect in found {
        let first = before.get(&suspect).copied().unwrap_or(now);
        if now - first >= GRACE {
            ripe.entry(suspect.pool.clone()).or_default().push(suspect.clone());
        }
        since.insert(suspect, first);
    }
    ripe
}

fn suspects(context: &Context) -> Vec<Suspect> {
    let pools = context.caches.pools.list();
    pools.iter().flat_map(|pool| suspects_of(context, pool)).collect()
}

fn suspects_of(context: &Context, pool: &SpiderIPPool) -> Vec<Suspect> {
    // Records that cannot be read belong to somebody we do not know.
    let records = pool.records().unwrap_or_default();
    let unowned = |record: &Record| {
        record.pod.split_once('/').is_some_and(|(namespace, name)| {
            let pod = context.caches.pods.get(namespace, name);
            let endpoint = context.caches.endpoints.get(namespace, name);
            pod.is_none_or(|pod| !pod.is(&record.pod_uid))
                && endpoint.is_none_or(|endpoint| endpoint.status.current.uid != record.pod_uid)
        })
    };
    records
        .iter()
        .filter(|(_, record)| unowned(record))
        .map(|(address, record)| Suspect {
            pool: pool.metadata.name.clone().unwrap_or_default(),
            address,
            owner: Owner::from(record),
        })
        .collect()
}

async fn reclaim(context: &Context, pool: &str, suspects: Vec<Suspect>) -> Result<(), write::Error> {
    let mut guilty = Vec::new();
    for suspect in suspects {
        if is_free(context, &suspect).await? {
            guilty.push(suspect);
        }
    }
    free(context, pool, guilty).await
}

/// Takes records out of a pool, each only if it still has the owner that was looked at.
async fn free(context: &Context, pool: &str, guilty: Vec<Suspect>) -> Result<(), write::Error> {
    if guilty.is_empty() {
        return Ok(());
    }
    let Some(live) = context.pools.read(pool).await? else {
        return Ok(());
    };
    if let Some(freed) = without(&live, &guilty) {
        context.pools.replace_status(&freed).await?;
        let addresses: Vec<IpAddr> = guilty.iter().map(|suspect| suspect.address).collect();
        tracing::warn!(
            pool,
            ?addresses,
            "freed addresses whose pods are gone and do not come again, and that no agent gave back"
        );
    }
    Ok(())
}

async fn is_free(context: &Context, suspect: &Suspect) -> Result<bool, write::Error> {
    let owner = &suspect.owner;
    let Some((namespace, name)) = owner.pod.split_once('/') else {
        return Ok(false);
    };
    let endpoints: Api<SpiderEndpoint> = Api::namespaced(context.client.clone(), namespace);
    let endpoint = write::look(&endpoints, name).await?;
    let pod = match is_alive(context, namespace, name, &owner.uid, endpoint.as_ref()).await? {
        true => PodSeen::Alive,
        false => PodSeen::Gone,
    };
    let counting = Keepers::of(context, endpoint.as_ref(), &owner.pod, context.config.sticky);
    // The address may be that of the machine, and what the endpoint names is not instead of it.
    if live::stays(context, &counting.alike).await? {
        return Ok(false);
    }
    let standing = match live::stays(context, &counting.own).await? {
        true => Standing::Stays,
        false => Standing::Ends,
    };
    Ok(decide(pod, seen(endpoint.as_ref(), suspect), standing, true) == Decision::Free)
}

/// Whether a pod exists that may use what is on record for a UID.
async fn is_alive(
    context: &Context,
    namespace: &str,
    name: &str,
    uid: &str,
    endpoint: Option<&SpiderEndpoint>,
) -> Result<bool, write::Error> {
    if live::pod(context, namespace, name).await?.as_deref() == Some(uid) {
        return Ok(true);
    }
    let keepers = Keepers::of(context, endpoint, &format!("{namespace}/{name}"), ALL);
    let Some(pods) = MachinePods::read(context, &keepers).await? else {
        return Ok(false);
    };
    // An endpoint of the machine says what its pods use, whichever of them the record names.
    let told = endpoint.is_some() && keepers.alike.is_empty();
    Ok(pods.has(uid) || pods.is_running && !told)
}

/// What an endpoint says of a record.
fn seen(endpoint: Option<&SpiderEndpoint>, suspect: &Suspect) -> EndpointSeen {
    let Some(endpoint) = endpoint else {
        return EndpointSeen::Absent;
    };
    let current = &endpoint.status.current;
    let address = |text: &String| text.split('/').next().and_then(|host| host.parse().ok()) == Some(suspect.address);
    let named = current.ips.iter().any(|item| {
        let both = [(&item.ipv4, &item.ipv4_pool), (&item.ipv6, &item.ipv6_pool)];
        both.into_iter()
            .any(|(ip, pool)| ip.as_ref().is_some_and(address) && pool.as_ref() == Some(&suspect.pool))
    });
    match named {
        _ if current.uid == suspect.owner.uid => EndpointSeen::NamesPod,
        true => EndpointSeen::NamesAddress,
        false => EndpointSeen::NamesOthers,
    }
}

/// The pool without these records; none if it has none of them any more.
fn without(pool: &SpiderIPPool, guilty: &[Suspect]) -> Option<SpiderIPPool> {
    let mut records = pool.records().ok()?;
    let before = records.len();
    for suspect in guilty {
        if records
            .get(suspect.address)
            .is_some_and(|record| Owner::from(record) == suspect.owner)
        {
            records.remove(suspect.address);
        }
    }
    if records.len() == before {
        return None;
    }
    let mut pool = pool.clone();
    let status = pool.status.get_or_insert_default();
    status.allocated_ips = records.to_status();
    status.allocated_ip_count = i64::try_from(records.len()).ok();
    Some(pool)
}

#[cfg(test)]
mod tests;
