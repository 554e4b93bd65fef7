//! Looks at a finding again, live: what the caches show was not read at one moment.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use kube::{Api, ResourceExt};
use spiderpool_crds::{SpiderEndpoint, SpiderIPPool, SpiderSubnet};
use spiderpool_ipam::Owner;
use spiderpool_ipam::check::{Fault, Seen, User, faults};
use spiderpool_ipam::reclaim::{Decision, Policy, decide};
use spiderpool_kit::cache::Key;

use super::super::case::{self, Case, Subject};
use super::super::{facts, live};
use super::observe;
use crate::context::Context;
use crate::kinds::pod::PodSketch;
use crate::write;

/// What a finding is by now; none if there is nothing to it (any more).
pub(super) async fn confirm(context: &Context, fault: &Fault) -> Result<Option<Fault>, write::Error> {
    let id = fault.id();
    let same = |seen: &Seen| faults(seen).into_iter().find(|fault| fault.id() == id);
    match fault {
        Fault::Leak { .. } | Fault::StrayEndpoint { .. } => {
            let found = look(context, fault, None).await?;
            let decision = found.map(|(.., decision)| decision);
            let guilty = matches!(decision, Some(Decision::Suspect { .. } | Decision::Free(_)));
            Ok(guilty.then(|| fault.clone()))
        }
        Fault::MissingRecord {
            pool, owner, address, ..
        } => {
            let Some(endpoint) = endpoint(context, &owner.pod).await? else {
                return Ok(None);
            };
            let mut seen = Seen::default();
            note_pool(context, &mut seen, pool).await?;
            note_recorded(context, &mut seen, pool, *address).await?;
            note_pod(context, &mut seen, &endpoint).await?;
            // Should an agent be at work, its write of the endpoint goes with that of the record.
            let after = self::endpoint(context, &owner.pod).await?;
            let unchanged = after.is_some_and(|after| after.resource_version() == endpoint.resource_version());
            seen.endpoints.push(observe::endpoint(&endpoint));
            Ok(same(&seen).filter(|_| unchanged))
        }
        Fault::Duplicate { address, users } => {
            let mut left = BTreeSet::new();
            for user in users {
                if uses(context, user, fault).await? {
                    left.insert(user.clone());
                }
            }
            let identities: BTreeSet<&str> = left.iter().map(|user| user.owner.pod.as_str()).collect();
            Ok((identities.len() > 1).then_some(Fault::Duplicate {
                address: *address,
                users: left,
            }))
        }
        Fault::WrongCount { pool, .. } => {
            let mut seen = Seen::default();
            note_pool(context, &mut seen, pool).await?;
            Ok(same(&seen))
        }
        Fault::Accounting { subnet, pool, .. } => {
            let mut seen = Seen::default();
            let before = note_pool(context, &mut seen, pool).await?;
            note_subnet(context, &mut seen, subnet).await?;
            // Addresses leave a pool before they leave the accounting.
            let after = context.pools.read(pool).await?;
            let version = |pool: &Option<SpiderIPPool>| pool.as_ref().and_then(ResourceExt::resource_version);
            Ok(same(&seen).filter(|_| version(&before) == version(&after)))
        }
        Fault::Unreadable { object, .. } => {
            let mut seen = Seen::default();
            match object.split_once(' ') {
                Some(("SpiderIPPool", name)) => drop(note_pool(context, &mut seen, name).await?),
                Some(("SpiderSubnet", name)) => note_subnet(context, &mut seen, name).await?,
                _ => {}
            }
            Ok(same(&seen))
        }
    }
}

/// Asks the rule of reclaim about a record or endpoint, which is looked at as if reclaim were switched on: a person asks. None if it
/// is not there.
pub(super) async fn look(
    context: &Context,
    fault: &Fault,
    waited: Option<Duration>,
) -> Result<Option<(Case, Subject, Decision)>, write::Error> {
    let name = match fault {
        Fault::Leak { owner, .. } => &owner.pod,
        Fault::StrayEndpoint { endpoint, .. } => endpoint,
        _ => return Ok(None),
    };
    let Some(key) = key(name) else { return Ok(None) };
    let Some(case) = case::gather(context, std::iter::once(&key)).pop() else {
        return Ok(None);
    };
    let case = live::endpoint(context, &case).await?;
    let meant = |subject: &Subject| match (subject, fault) {
        (Subject::Record(record), Fault::Leak { pool, address, owner }) => {
            (&record.pool, &record.address, &record.owner) == (pool, address, owner)
        }
        (Subject::Endpoint(found), Fault::StrayEndpoint { uid, .. }) => found == uid,
        _ => false,
    };
    let Some(subject) = case.subjects().into_iter().find(meant) else {
        return Ok(None);
    };
    let known = live::facts(context, &case, &subject).await?;
    let policy = Policy {
        enabled: !is_restoring(context),
        ..case.policy(context, &subject)
    };
    let decision = decide(&known, &policy, facts::now(), waited);
    Ok(Some((case, subject, decision)))
}

/// Whether a pool waits for agents to tell what is in use: what is on record is not all then.
pub(super) fn is_restoring(context: &Context) -> bool {
    context.caches.pools.list().iter().any(|pool| pool.is_restoring())
}

pub(super) fn key(name: &str) -> Option<Key> {
    name.split_once('/').map(|(namespace, name)| Key::new(namespace, name))
}

pub(super) async fn endpoint(context: &Context, name: &str) -> Result<Option<Arc<SpiderEndpoint>>, write::Error> {
    let Some(key) = key(name) else { return Ok(None) };
    let endpoints: Api<SpiderEndpoint> = Api::namespaced(context.client.clone(), &key.namespace);
    Ok(write::look(&endpoints, &key.name).await?.map(Arc::new))
}

/// The pod of an endpoint as it is now.
pub(super) async fn pod_of(context: &Context, endpoint: &SpiderEndpoint) -> Result<Option<PodSketch>, write::Error> {
    let current = &endpoint.status.current;
    let name = current.pod_name.clone().unwrap_or_else(|| endpoint.name_any());
    let found = pod(context, &endpoint.namespace().unwrap_or_default(), &name).await?;
    Ok(found.filter(|pod| pod.is(&current.uid)))
}

async fn pod(context: &Context, namespace: &str, name: &str) -> Result<Option<PodSketch>, write::Error> {
    let pods: Api<PodSketch> = Api::namespaced(context.client.clone(), namespace);
    write::look(&pods, name).await
}

async fn note_pod(context: &Context, seen: &mut Seen, endpoint: &SpiderEndpoint) -> Result<(), write::Error> {
    if let Some(pod) = pod_of(context, endpoint).await? {
        observe::note_pod(seen, &pod);
    }
    Ok(())
}

/// The pod that a pool has on record for an address.
async fn note_recorded(context: &Context, seen: &mut Seen, pool: &str, address: IpAddr) -> Result<(), write::Error> {
    let recorded = seen.pools.get(pool).and_then(|pool| pool.records.as_ref().ok());
    if let Some(owner) = recorded.and_then(|records| records.get(&address)).cloned()
        && let Some(pod) = owned_by(context, &owner).await?
    {
        observe::note_pod(seen, &pod);
    }
    Ok(())
}

/// The pod of an owner, by the name on record or that of its endpoint.
async fn owned_by(context: &Context, owner: &Owner) -> Result<Option<PodSketch>, write::Error> {
    let Some(key) = key(&owner.pod) else { return Ok(None) };
    let found = pod(context, &key.namespace, &key.name).await?;
    if let Some(found) = found.filter(|pod| pod.is(&owner.uid)) {
        return Ok(Some(found));
    }
    match endpoint(context, &owner.pod).await? {
        Some(endpoint) if endpoint.status.current.uid == owner.uid => pod_of(context, &endpoint).await,
        _ => Ok(None),
    }
}

async fn note_pool(context: &Context, seen: &mut Seen, name: &str) -> Result<Option<SpiderIPPool>, write::Error> {
    let found = context.pools.read(name).await?;
    if let Some(object) = &found {
        seen.pools.insert(name.to_owned(), observe::pool(context, object));
    }
    Ok(found)
}

async fn note_subnet(context: &Context, seen: &mut Seen, name: &str) -> Result<(), write::Error> {
    let subnets: Api<SpiderSubnet> = Api::all(context.client.clone());
    if let Some(object) = write::look(&subnets, name).await? {
        seen.subnets.insert(name.to_owned(), observe::subnet(&object));
    }
    Ok(())
}

/// Whether a pod that may run has an address, by record or by endpoint.
async fn uses(context: &Context, user: &User, fault: &Fault) -> Result<bool, write::Error> {
    let User { pool, owner } = user;
    let Some(address) = fault.address() else {
        return Ok(false);
    };
    let live = context.pools.read(pool).await?;
    let records = live.and_then(|pool| pool.records().ok()).unwrap_or_default();
    let recorded = records.get(address).is_some_and(|record| record.pod_uid == owner.uid);
    let endpoint = endpoint(context, &owner.pod).await?.filter(|_| !recorded);
    let named = endpoint.is_some_and(|endpoint| {
        let items = observe::endpoint(&endpoint);
        let mut items = items.items.iter();
        endpoint.status.current.uid == owner.uid && items.any(|item| item.address == address)
    });
    if !recorded && !named {
        return Ok(false);
    }
    Ok(owned_by(context, owner).await?.is_some_and(|pod| !pod.is_terminal()))
}
