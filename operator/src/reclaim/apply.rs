//! Frees: records first, then the endpoint that named them. An address that no endpoint names would be looked for by nobody.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use kube::api::{DeleteParams, PostParams, Preconditions};
use kube::{Api, ResourceExt};
use spiderpool_crds::records::HeldRecords;
use spiderpool_crds::{SpiderEndpoint, SpiderIPPool, names};
use spiderpool_ipam::reclaim::Reason;
use spiderpool_ipam::{Owner, addr};
use spiderpool_kit::cache::Key;
use spiderpool_kit::clock;
use spiderpool_kit::deadline::within;

use super::case::Recorded;
use crate::context::Context;
use crate::write::{self, DEADLINE};

/// What goes together.
#[derive(Clone, Debug)]
pub(super) struct Freed {
    pub(super) records: Vec<Recorded>,
    /// As it was read live.
    pub(super) endpoint: Option<Arc<SpiderEndpoint>>,
}

/// Frees what was decided about, with one write for each pool. What fails is told and left for the next look: under which names.
pub(super) async fn free(context: &Context, freeing: Vec<(Key, Freed, Reason)>) -> BTreeSet<Key> {
    let mut left = BTreeSet::new();
    let mut pools: BTreeMap<&str, Vec<(&Recorded, Reason)>> = BTreeMap::new();
    for (_, freed, reason) in &freeing {
        for record in &freed.records {
            pools.entry(&record.pool).or_default().push((record, *reason));
        }
    }
    let mut failed = BTreeSet::new();
    for (pool, records) in pools {
        if let Err(error) = of_pool(context, pool, &records).await {
            context.tally.failed();
            tracing::info!(pool, %error, "nothing reclaimed, trying again");
            failed.insert(pool.to_owned());
        }
    }
    for (key, freed, reason) in freeing {
        if freed.records.iter().any(|record| failed.contains(&record.pool)) {
            left.insert(key);
            continue;
        }
        let Some(endpoint) = &freed.endpoint else { continue };
        match delete(context, endpoint).await {
            Ok(()) => {
                tracing::info!(endpoint = %key, reason = reason.word(), "removed the endpoint of a pod that has ended")
            }
            Err(error) => {
                context.tally.failed();
                tracing::info!(endpoint = %key, %error, "endpoint not removed, trying again");
                left.insert(key);
            }
        }
    }
    left
}

/// Takes records out of a pool, each only if it still has the owner that was looked at.
async fn of_pool(context: &Context, pool: &str, records: &[(&Recorded, Reason)]) -> Result<(), write::Error> {
    let Some(live) = context.pools.read(pool).await? else {
        return Ok(());
    };
    let Some((freed, taken)) = without(&live, records, clock::now()) else {
        return Ok(());
    };
    context.pools.replace_status(&freed).await?;
    for (record, reason) in taken {
        context.tally.freed(reason);
        tracing::warn!(
            pool,
            address = %record.address,
            pod = record.owner.pod,
            uid = record.owner.uid,
            reason = reason.word(),
            "freed an address that nobody has and that no agent gave back"
        );
    }
    Ok(())
}

/// The pool without these records, and those that were taken out; none if it has none of them any more. What is freed cools down as
/// it does when an agent frees it.
fn without<'a>(
    pool: &SpiderIPPool,
    guilty: &[(&'a Recorded, Reason)],
    now: Timestamp,
) -> Option<(SpiderIPPool, Vec<(&'a Recorded, Reason)>)> {
    let mut records = pool.records().ok()?;
    let mut own = |recorded: &Recorded| {
        let found = records.get(recorded.address).map(Owner::from);
        let own = found.as_ref() == Some(&recorded.owner);
        if own {
            records.remove(recorded.address);
        }
        own
    };
    let taken: Vec<(&Recorded, Reason)> = guilty.iter().copied().filter(|(recorded, _)| own(recorded)).collect();
    if taken.is_empty() {
        return None;
    }
    let held = cooling_down(pool, taken.iter().map(|(recorded, _)| *recorded), now);
    let mut pool = pool.clone();
    let status = pool.status.get_or_insert_default();
    // Whoever broke the text repairs it; until then nobody is given an address.
    if let Some(held) = held {
        status.held_ips = held.to_status();
    }
    status.allocated_ips = records.to_status();
    status.allocated_ip_count = i64::try_from(records.len()).ok();
    Some((pool, taken))
}

/// What is held once these are freed; none if the text of now cannot be read. How long an address rested is for agents to say.
fn cooling_down<'a>(
    pool: &SpiderIPPool,
    freed: impl Iterator<Item = &'a Recorded>,
    now: Timestamp,
) -> Option<HeldRecords> {
    let mut held = pool.held().ok()?;
    let (total, reuse) = (pool.total().unwrap_or_default(), pool.reuse());
    if !reuse.is_set() {
        held.expire(now);
    }
    let (mut cooling, family) = (held.cooling(), pool.family().ok());
    for recorded in freed {
        let (of, bits) = addr::to_bits(recorded.address);
        let own = Some(of) == family && total.contains(bits);
        let note = held.freed(recorded.address, &recorded.owner.pod, reuse, cooling, now);
        if let Some(note) = note.filter(|_| own) {
            held.insert(recorded.address, note);
            cooling += 1;
        }
    }
    Some(held)
}

/// Deletes this very endpoint, and only if it is still as it was looked at.
pub(super) async fn delete(context: &Context, endpoint: &SpiderEndpoint) -> Result<(), write::Error> {
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
mod tests {
    use super::*;
    use crate::reclaim::case::tests::recorded;
    use spiderpool_crds::{IPPoolSpec, IPPoolStatus};

    #[test]
    fn only_the_whole_owner_is_freed() {
        let mut pool = SpiderIPPool::new("p", IPPoolSpec::default());
        let text = r#"{"10.0.0.1":{"pod":"ns/pod","podUid":"u"},"10.0.0.2":{"pod":"ns/pod","podUid":"other"}}"#;
        pool.status = Some(IPPoolStatus {
            allocated_ips: Some(text.to_owned()),
            allocated_ip_count: Some(2),
            ..IPPoolStatus::default()
        });
        let guilty = [recorded("10.0.0.1", "u"), recorded("10.0.0.2", "u")];
        let guilty: Vec<(&Recorded, Reason)> = guilty.iter().map(|record| (record, Reason::PodGone)).collect();
        let (freed, taken) = without(&pool, &guilty, Timestamp::UNIX_EPOCH).unwrap();
        let status = freed.status.unwrap();
        assert_eq!(
            status.allocated_ips.as_deref(),
            Some(r#"{"10.0.0.2":{"pod":"ns/pod","podUid":"other"}}"#)
        );
        assert_eq!(status.allocated_ip_count, Some(1));
        assert_eq!(taken, guilty[..1]);
        let unknown = recorded("10.0.0.9", "u");
        assert_eq!(
            without(&pool, &[(&unknown, Reason::PodGone)], Timestamp::UNIX_EPOCH),
            None
        );
    }

    #[test]
    fn what_is_freed_cools_down_as_long_as_its_pool_says() {
        let spec = IPPoolSpec {
            subnet: "10.0.0.0/24".to_owned(),
            ips: Some(vec!["10.0.0.1-10.0.0.4".to_owned()]),
            reuse_cooldown: Some(3600),
            ..IPPoolSpec::default()
        };
        let mut pool = SpiderIPPool::new("p", spec);
        // One is not an address of the pool any more, and of another is known why it is held.
        let text = r#"{"10.0.0.1":{"pod":"ns/pod","podUid":"u"},"10.0.0.9":{"pod":"ns/pod","podUid":"u"},"10.0.0.3":{"pod":"ns/pod","podUid":"u"}}"#;
        let held = r#"{"10.0.0.2":{"reason":"Cooling","until":"1970-01-01T00:00:00Z","by":"ns/b"},"10.0.0.3":{"reason":"Quarantined","by":"02:09"}}"#;
        pool.status = Some(IPPoolStatus {
            allocated_ips: Some(text.to_owned()),
            held_ips: Some(held.to_owned()),
            ..IPPoolStatus::default()
        });
        let guilty = ["10.0.0.1", "10.0.0.3", "10.0.0.9"].map(|address| recorded(address, "u"));
        let guilty: Vec<(&Recorded, Reason)> = guilty.iter().map(|record| (record, Reason::PodGone)).collect();
        let held = |pool: &SpiderIPPool| {
            without(pool, &guilty, Timestamp::UNIX_EPOCH)
                .unwrap()
                .0
                .status
                .unwrap()
                .held_ips
        };
        let expected = r#"{"10.0.0.1":{"reason":"Cooling","until":"1970-01-01T01:00:00Z","by":"ns/pod"},"10.0.0.2":{"reason":"Cooling","until":"1970-01-01T00:00:00Z","by":"ns/b"},"10.0.0.3":{"reason":"Quarantined","by":"02:09"}}"#;
        assert_eq!(held(&pool).as_deref(), Some(expected));
        pool.status.get_or_insert_default().held_ips = Some("?".to_owned());
        assert_eq!(held(&pool).as_deref(), Some("?"));
    }
}
