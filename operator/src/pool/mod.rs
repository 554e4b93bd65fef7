//! What every pool needs, whoever made it: its identity filled in, the subnet with its network as its owner, its counts and
//! conditions right, and its finalizer taken off when it goes and is empty.
//!
//! Agents write the status of a busy pool all the time. So nothing is written here unless a value of ours is wrong, and
//! a lost race is no trouble: the change that won it brings us back.

pub mod admit;
pub mod adopt;
pub mod board;
pub mod foreign;
pub mod holders;
pub mod index;
pub mod restore;
pub mod shrink;
pub mod status;
pub mod used;

use std::time::Duration;

use jiff::Timestamp;
use kube::Resource;
use spiderpool_crds::admission::complete::{self, Tie};
use spiderpool_crds::conditions::{READY, find, newly_invalid};
use spiderpool_crds::{IPPoolStatus, SpiderIPPool};
use spiderpool_ipam::RangeSet;
use spiderpool_kit::queue::Outcome;

use crate::context::Context;
use crate::events::{Reason, tell};
use crate::subnet::room::reserved;
use crate::write;
use admit::Admission;
use status::Around;

/// Pause after which a pool whose status we lost the race for is looked at again. Long, since whoever won is busy with it.
const AFTER_CONFLICT: Duration = Duration::from_millis(250);

/// Works on one pool.
pub async fn reconcile(context: &Context, name: &str) -> Outcome {
    let Some(pool) = context.caches.pools.get("", name) else {
        context.pauses.forget(name);
        return Outcome::Done;
    };
    match pass(context, &pool).await {
        Ok(wait) => {
            let looks = [wait, foreign::next_look(&pool, Timestamp::now())];
            looks.into_iter().flatten().min().map_or(Outcome::Done, Outcome::After)
        }
        Err(write::Error::NotLeader) => Outcome::Done,
        Err(write::Error::Stale(conflict)) => {
            tracing::debug!(pool = name, error = %conflict, "changed meanwhile, looking again");
            Outcome::After(AFTER_CONFLICT)
        }
        Err(error) => Outcome::retry(error),
    }
}

/// Says after which time the pool is to be looked at again in any case.
async fn pass(context: &Context, pool: &SpiderIPPool) -> Result<Option<Duration>, write::Error> {
    if pool.is_terminating() {
        return release(context, pool).await;
    }
    let tie = adopt::confirmed(context, adopt::tie(context, pool), pool).await?;
    let refused = match described(pool, &tie) {
        None => Ok(()),
        Some(described) => match context.pools.replace(&described).await {
            // The change brings us back: nothing is said of a version that the watch has not told of.
            Ok(_) => return Ok(None),
            Err(error) => Err(error),
        },
    };
    let (mut pool, refused) = match refused {
        Ok(()) => (pool.clone(), None),
        // What the pool is not allowed to be called does not make its counts wrong.
        Err(error @ write::Error::Refused(_)) => {
            let why = error.refusal().unwrap_or_default();
            let note = format!("the API server refused the finalizer, labels or owner of the pool: {why}");
            tell(&context.recorder, pool.object_ref(&()), Reason::PoolRefused, &note);
            (pool.clone(), Some(error))
        }
        Err(error) => return Err(error),
    };
    let old = pool.status.clone().unwrap_or_default();
    let admission = admit::admission(context, &pool).await?;
    if let Admission::Waits(wait) = admission {
        // All of the status is one write when that is known.
        return refused.map_or(Ok(Some(wait)), Err);
    }
    let around = Around {
        reserved: pool
            .family()
            .map_or_else(|_| RangeSet::new(), |family| reserved(context, family)),
        tie: &tie,
        admission: &admission,
        shrink: context.shrinking.get(pool.metadata.name.as_deref().unwrap_or_default()),
    };
    let now = Timestamp::now();
    let mut new = status::next(&pool, &around, now);
    let foreign = foreign::tell(&pool, &mut new, now);
    let (look, restored) = restore::update(context, &pool, &mut new, now);
    let ready = |status: &IPPoolStatus| find(status.conditions.as_deref(), READY).cloned();
    let news = ready(&new) != ready(&old);
    let fault = newly_invalid(old.conditions.as_deref(), new.conditions.as_deref()).map(str::to_owned);
    if new != old {
        pool.status = Some(new);
        context.pools.replace_status(&pool).await?;
    }
    if let Admission::Refused(admit::OVERLAP, note) = &admission
        && news
    {
        tell(&context.recorder, pool.object_ref(&()), Reason::Overlap, note);
    }
    if let Some(fault) = fault {
        let note = format!("no address of this pool is given out; pods keep what they have: {fault}");
        tell(&context.recorder, pool.object_ref(&()), Reason::PoolInvalid, &note);
    }
    if let Some(note) = foreign {
        tell(&context.recorder, pool.object_ref(&()), Reason::ForeignHosts, &note);
    }
    restore::report(context, &pool, restored);
    refused.map_or(Ok(look), Err)
}

/// The pool with its identity filled in and its owner set; none if it is so.
fn described(pool: &SpiderIPPool, tie: &Tie) -> Option<SpiderIPPool> {
    let adopted = match tie {
        Tie::Adopt(adopted) => Some(&**adopted),
        Tie::Settled | Tie::Foreign { .. } => None,
    };
    let cidr = pool.cidr().ok();
    let filled = cidr.and_then(|cidr| complete::filled(adopted.unwrap_or(pool), Some(cidr)));
    filled.or_else(|| adopted.cloned())
}

/// Takes the finalizer off a pool that goes and of which no address is recorded, or tells who has one. An address taken meanwhile
/// makes the write fail, since it is based on the state that was looked at.
async fn release(context: &Context, pool: &SpiderIPPool) -> Result<Option<Duration>, write::Error> {
    // What its pods use may be on record nowhere yet.
    if !used::is_unused(pool) || pool.is_restoring() {
        let now = Timestamp::now();
        let mut told = holders::tell(pool, now);
        let (look, restored) = restore::update(context, pool, &mut told, now);
        if pool.status.as_ref() != Some(&told) {
            let mut pool = pool.clone();
            pool.status = Some(told);
            context.pools.replace_status(&pool).await?;
        }
        restore::report(context, pool, restored);
        return Ok(look);
    }
    if let Some(released) = complete::released(pool) {
        context.pools.replace(&released).await?;
        tracing::info!(
            pool = pool.metadata.name.as_deref().unwrap_or_default(),
            "released: no address is in use"
        );
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use spiderpool_crds::IPPoolSpec;
    use spiderpool_crds::names::{FINALIZER, LABEL_OWNER_SUBNET};

    fn pool() -> SpiderIPPool {
        let spec = IPPoolSpec {
            subnet: "10.0.0.0/24".to_owned(),
            ..IPPoolSpec::default()
        };
        SpiderIPPool::new("p", spec)
    }

    #[test]
    fn identity_and_owner_are_one_write() {
        let mut adopted = pool();
        let label = (LABEL_OWNER_SUBNET.to_owned(), "rack7".to_owned());
        adopted.metadata.labels = Some([label].into());
        let written = described(&pool(), &Tie::Adopt(Box::new(adopted.clone()))).unwrap();
        assert_eq!(
            written.metadata.finalizers.as_deref(),
            Some(&[FINALIZER.to_owned()][..])
        );
        assert_eq!(
            (written.label(LABEL_OWNER_SUBNET), written.spec.ip_version),
            (Some("rack7"), Some(4))
        );

        let identified = described(&pool(), &Tie::Settled).unwrap();
        assert_eq!(described(&identified, &Tie::Settled), None);
        adopted.clone_from(&identified);
        adopted.metadata.annotations = Some([("a".to_owned(), "b".to_owned())].into());
        let tie = Tie::Adopt(Box::new(adopted.clone()));
        assert_eq!(described(&identified, &tie), Some(adopted));
    }
}
