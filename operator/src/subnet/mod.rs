//! The one writer of a subnet, its accounting, and the automatic pools made from it.
//!
//! A pass looks at everything there is to know about one subnet, plans for all its applications at once, and acts:
//!
//! 1. [`observe`]: what there is, from caches, and [`judge`]: who is to have which pool
//! 2. [`spiderpool_ipam::autopool::plan`]: what is to be done
//! 3. [`confirm`]: whoever is to lose addresses in the accounting is looked at live
//! 4. [`status`]: the accounting is written, before any pool gets an address of it, and [`neighbours`]: what other subnets
//!    with the same addresses have given is not given again
//! 5. [`apply`]: pools are made, resized, deleted
//! 6. [`tell`]: users learn what happened, and what did not and why
//!
//! A pass that finds nothing to do writes nothing, so passes may run as often as anything changes. A crash between two
//! steps leaves a state that the next pass continues from.

pub mod apply;
pub mod confirm;
pub mod elsewhere;
pub mod fate;
pub mod hold;
pub mod judge;
pub mod neighbours;
pub mod object;
pub mod observe;
pub mod pace;
pub mod placement;
pub mod refused;
pub mod room;
pub mod status;
pub mod tell;
pub mod world;

use std::sync::Arc;
use std::time::Duration;

use spiderpool_crds::SpiderSubnet;
use spiderpool_crds::admission::complete;
use spiderpool_ipam::{Cidr, autopool};
use spiderpool_kit::queue::Outcome;

use crate::context::Context;
use crate::events::REPEAT;
use crate::pool::{admit, adopt};
use crate::write;

/// How often a pass starts over when what it looked at turns out to be old.
const ATTEMPTS: usize = 5;
/// Pause before a pass that met a conflict is repeated. The object was read afresh meanwhile.
const AFTER_CONFLICT: Duration = Duration::from_millis(10);

/// Works on one subnet.
pub async fn reconcile(context: &Context, name: &str) -> Outcome {
    if let Some(pause) = context.pace.pause(name) {
        return Outcome::After(pause);
    }
    match pass(context, name).await {
        Ok(outcome) => outcome,
        // Who leads now looks at everything anew.
        Err(write::Error::NotLeader) => Outcome::Done,
        Err(write::Error::Stale(conflict)) => {
            tracing::debug!(subnet = name, error = %conflict, "changed meanwhile, looking again");
            Outcome::After(AFTER_CONFLICT)
        }
        Err(error) => Outcome::retry(error),
    }
}

async fn pass(context: &Context, name: &str) -> Result<Outcome, write::Error> {
    for _ in 0..ATTEMPTS {
        let Some(subnet) = context.caches.subnets.get("", name) else {
            return Ok(lasting(tell::unusable_subnet(context, name)));
        };
        let cidr = match subnet.cidr() {
            Ok(cidr) => cidr,
            Err(error) => {
                status::give_up(context, &subnet, &error.to_string()).await?;
                return Ok(lasting(tell::unusable_subnet(context, name)));
            }
        };
        let subnet = identify(context, subnet, cidr).await?;
        let turn = neighbours::turn(context, &subnet).await;
        let seen = observe::look(context, subnet, cidr);
        adopt::wake(context, &seen.subnet, seen.pools.values());
        let plan = autopool::plan(&seen.facts);
        let Some(confirmed) = confirm::losses(context, &seen, &plan).await? else {
            continue;
        };
        let Some(recorded) = status::publish(context, &seen, &plan, confirmed).await? else {
            continue;
        };
        if !admit::is_clear(context, &seen, &plan) || !neighbours::is_clear(context, &seen, &plan).await? {
            continue;
        }
        drop(turn);
        let done = apply::run(context, &seen, &plan, &recorded).await;
        context.pace.written(name, done.written.len());
        let waiting = tell::outcome(context, &seen, &plan, &done);
        elsewhere::look(context, &seen, &plan);
        status::release(context, &seen, recorded).await?;
        return match done.failure {
            Some(failure) => Err(failure),
            None => Ok(waiting.map_or(Outcome::Done, Outcome::After)),
        };
    }
    Ok(Outcome::After(AFTER_CONFLICT))
}

/// Whether somebody waits for something. What they wait for wakes us; the date only makes sure that they are told again.
fn lasting(waiting: bool) -> Outcome {
    if waiting { Outcome::After(REPEAT) } else { Outcome::Done }
}

async fn identify(context: &Context, subnet: Arc<SpiderSubnet>, cidr: Cidr) -> Result<Arc<SpiderSubnet>, write::Error> {
    match complete::filled(&*subnet, Some(cidr)) {
        Some(filled) => Ok(Arc::new(context.subnets.replace(&filled).await?)),
        None => Ok(subnet),
    }
}

#[cfg(test)]
mod tests;
