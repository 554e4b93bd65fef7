//! When a pool becomes a part of a subnet: when the pool is looked at, and when a subnet with its network comes. What that means
//! for the pool is said by [`complete`].

use std::sync::Arc;

use spiderpool_crds::admission::complete::{self, Tie};
use spiderpool_crds::{SpiderIPPool, SpiderSubnet};

use crate::context::Context;

/// How a pool stands to the subnet with its network.
pub fn tie(context: &Context, pool: &SpiderIPPool) -> Tie {
    if !context.config.subnets || pool.cidr().is_err() {
        return Tie::Settled;
    }
    let subnets = context.caches.subnets_with(&pool.spec.subnet);
    match complete::home(subnets.iter().map(|subnet| &**subnet), pool) {
        Some(subnet) => complete::tie(pool, subnet),
        None => Tie::Settled,
    }
}

/// Looks again at pools that a subnet with their network is to adopt: those that were there before the subnet was, too.
pub fn wake<'a>(context: &Context, subnet: &SpiderSubnet, pools: impl Iterator<Item = &'a Arc<SpiderIPPool>>) {
    if !context.config.subnets || subnet.is_terminating() {
        return;
    }
    for pool in pools {
        if complete::tie(pool, subnet) != Tie::Settled {
            context.queues.pools.add(pool.metadata.name.clone().unwrap_or_default());
        }
    }
}
