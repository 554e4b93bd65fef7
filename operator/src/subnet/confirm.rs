//! Before addresses leave the accounting, their pool is looked at live.
//!
//! A cache may be behind: right after a change of leaders, the predecessor may have made or grown a pool of which only the
//! accounting tells so far. Addresses that left the accounting while a pool had them would be given to two pools.

use std::collections::BTreeSet;

use futures::stream::{self, StreamExt, TryStreamExt};
use spiderpool_ipam::autopool::{Plan, Verdict};

use super::observe::Seen;
use crate::context::Context;
use crate::write;

/// How many pools are read at once.
const AT_ONCE: usize = 8;

/// Proof that no pool has an address that is to leave the accounting.
pub struct Confirmed(());

/// Looks at the pools that lose addresses in the accounting. None if one of them is not as it was seen: look again.
pub async fn losses(context: &Context, seen: &Seen, plan: &Plan) -> Result<Option<Confirmed>, write::Error> {
    let mut looks: Vec<_> = Vec::new();
    for name in losing(plan) {
        looks.push(Box::pin(as_seen(context, seen, name)));
    }
    let same: Vec<bool> = stream::iter(looks).buffer_unordered(AT_ONCE).try_collect().await?;
    Ok(same.into_iter().all(|same| same).then_some(Confirmed(())))
}

/// Whether the accounting still stands as it was seen, where pools get addresses that it shows already as theirs: then no
/// write of the accounting finds out that somebody else changed it.
pub async fn unchanged(context: &Context, seen: &Seen, plan: &Plan) -> Result<bool, write::Error> {
    let gives = |verdict: &Verdict| matches!(verdict, Verdict::Create(_) | Verdict::Grow { .. });
    if !plan.verdicts.values().any(gives) {
        return Ok(true);
    }
    let live = context.subnets.read(seen.name()).await?;
    Ok(live.is_some_and(|live| live.metadata.resource_version == seen.subnet.metadata.resource_version))
}

/// The pools that have fewer addresses in the new accounting.
fn losing(plan: &Plan) -> BTreeSet<&str> {
    plan.released.keys().chain(&plan.dropped).map(String::as_str).collect()
}

async fn as_seen(context: &Context, seen: &Seen, name: &str) -> Result<bool, write::Error> {
    let live = context.pools.read(name).await?;
    let known = seen.pools.get(name);
    Ok(match (live, known) {
        (None, None) => true,
        // Its name says nothing; only a pool of this network could have the addresses.
        (Some(live), None) => live.spec.subnet != seen.subnet.spec.subnet,
        (None, Some(_)) => false,
        // Agents change the status all the time; what a pool offers stands in its spec.
        (Some(live), Some(known)) => live.metadata.uid == known.metadata.uid && live.spec == known.spec,
    })
}
