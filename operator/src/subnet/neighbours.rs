//! Subnets that share addresses with another: those of the same network, and of one that overlaps it.
//!
//! Nobody keeps users from making such. Each has an accounting of its own, so no write of one finds out what another gives.
//! Still no address gets into automatic pools of two subnets:
//!
//! - what the accounting of the others has is taken ([`booked`]);
//! - passes over such subnets take turns until their accounting is written ([`turn`]), so that each knows of the last one;
//! - after a pass has written its accounting, and before any pool gets an address of it, the accounting of the others is read
//!   live ([`is_clear`]): a replica that led before may have written more than was watched yet. Of two that give the same
//!   address the one that reads last finds what the other has written.

use std::collections::BTreeSet;

use spiderpool_crds::{SpiderIPPool, SpiderSubnet};
use spiderpool_ipam::RangeSet;
use spiderpool_ipam::accounting::Entries;
use spiderpool_ipam::autopool::{Plan, Verdict};
use tokio::sync::MutexGuard;

use super::observe::Seen;
use crate::context::Context;
use crate::pool::index;
use crate::write;

/// The other subnets that have addresses of this one.
fn names(context: &Context, subnet: &SpiderSubnet) -> BTreeSet<String> {
    let mut names = index::subnets_around(&context.caches.subnets, &subnet.spec.subnet);
    if let Some(own) = &subnet.metadata.name {
        names.remove(own);
    }
    names
}

/// Waits for its turn to write an accounting; a subnet that shares addresses with none has it at once.
pub async fn turn<'a>(context: &'a Context, subnet: &SpiderSubnet) -> Option<MutexGuard<'a, ()>> {
    match names(context, subnet).is_empty() {
        true => None,
        false => Some(context.neighbours.lock().await),
    }
}

/// What the others have given to pools, without what pools have that are looked at themselves. An accounting that cannot be read
/// is rebuilt from the pools, and until then [`is_clear`] holds everybody up.
pub fn booked<'a>(
    context: &Context,
    subnet: &SpiderSubnet,
    own_pool: impl Fn(&str) -> Option<&'a SpiderIPPool>,
) -> RangeSet {
    let mut booked = RangeSet::new();
    for other in names(context, subnet) {
        let other = context.caches.subnets.get("", &other);
        for (pool, entry) in other.and_then(|other| entries(&other)).unwrap_or_default() {
            let own = own_pool(&pool).and_then(|own| own.total().ok()).unwrap_or_default();
            booked = booked.union(&entry.ranges.difference(&own));
        }
    }
    booked
}

/// Whether no other subnet has given to another pool what this plan is about to give. To be asked when the accounting is
/// written.
pub async fn is_clear(context: &Context, seen: &Seen, plan: &Plan) -> Result<bool, write::Error> {
    let given = given(seen, plan);
    if given.is_empty() {
        return Ok(true);
    }
    for name in names(context, &seen.subnet) {
        let Some(other) = context.subnets.read(&name).await? else {
            continue;
        };
        let shares = |entries: Entries| {
            let meets = |(pool, ranges): &(&str, RangeSet)| {
                let mut others = entries.iter().filter(|(other, _)| other.as_str() != *pool);
                others.any(|(_, entry)| entry.ranges.intersects(ranges))
            };
            given.iter().any(meets)
        };
        if entries(&other).is_none_or(shares) {
            // It may have reserved addresses that it has no use for any more, or an accounting to mend.
            context.queues.subnets.add(name);
            return Ok(false);
        }
    }
    Ok(true)
}

/// What a plan is about to give to pools that they do not have, by pool name.
pub fn given<'a>(seen: &Seen, plan: &'a Plan) -> Vec<(&'a str, RangeSet)> {
    let verdicts = plan.verdicts.iter();
    let given = verdicts.filter_map(|(name, verdict)| {
        let (Verdict::Create(ranges) | Verdict::Grow { ranges, .. }) = verdict else {
            return None;
        };
        let has = seen.pools.get(name).and_then(|pool| pool.total().ok());
        Some((name.as_str(), ranges.difference(&has.unwrap_or_default())))
    });
    given.collect()
}

/// The accounting of a subnet; none if it cannot be read.
fn entries(subnet: &SpiderSubnet) -> Option<Entries> {
    // A subnet whose network does not parse shares nothing.
    let Ok(family) = subnet.cidr().map(|cidr| cidr.family()) else {
        return Some(Entries::new());
    };
    subnet.controlled().and_then(|pools| pools.entries(family)).ok()
}
