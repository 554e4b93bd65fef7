//! What every pool needs, whoever made it: its identity filled in, its counts and conditions right, and its finalizer taken
//! off when it goes and is empty.
//!
//! Agents write the status of a busy pool all the time. So nothing is written here unless a value of ours is wrong, and
//! a lost race is no trouble: the change that won it brings us back.

pub mod status;
pub mod used;

use std::time::Duration;

use jiff::Timestamp;
use spiderpool_crds::SpiderIPPool;
use spiderpool_kit::queue::Outcome;

use crate::context::Context;
use crate::identity;
use crate::write;

/// Pause after which a pool whose status we lost the race for is looked at again. Long, since whoever won is busy with it.
const AFTER_CONFLICT: Duration = Duration::from_millis(250);

/// Works on one pool.
pub async fn reconcile(context: &Context, name: &str) -> Outcome {
    let Some(pool) = context.caches.pools.get("", name) else {
        return Outcome::Done;
    };
    match pass(context, &pool).await {
        Ok(()) | Err(write::Error::NotLeader) => Outcome::Done,
        Err(write::Error::Stale(conflict)) => {
            tracing::debug!(pool = name, error = %conflict, "changed meanwhile, looking again");
            Outcome::After(AFTER_CONFLICT)
        }
        Err(error) => Outcome::retry(error),
    }
}

async fn pass(context: &Context, pool: &SpiderIPPool) -> Result<(), write::Error> {
    if pool.is_terminating() {
        return release(context, pool).await;
    }
    let identified = match pool.cidr().ok().and_then(|cidr| identity::filled(pool, cidr)) {
        Some(filled) => Some(context.pools.replace(&filled).await?),
        None => None,
    };
    let mut pool = identified.unwrap_or_else(|| pool.clone());
    let old = pool.status.clone().unwrap_or_default();
    let new = status::next(&pool, Timestamp::now());
    if new != old {
        pool.status = Some(new);
        context.pools.replace_status(&pool).await?;
    }
    Ok(())
}

/// Takes the finalizer off a pool that goes and of which no address is recorded. An address taken meanwhile makes the write
/// fail, since it is based on the state that was looked at.
async fn release(context: &Context, pool: &SpiderIPPool) -> Result<(), write::Error> {
    if !used::is_unused(pool) {
        return Ok(());
    }
    if let Some(released) = identity::released(pool) {
        context.pools.replace(&released).await?;
        tracing::info!(
            pool = pool.metadata.name.as_deref().unwrap_or_default(),
            "released: no address is in use"
        );
    }
    Ok(())
}
