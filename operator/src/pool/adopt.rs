//! When a pool becomes a part of a subnet: when the pool is looked at, and when a subnet with its network comes. What that means
//! for the pool is said by [`complete`].

use std::sync::Arc;

use spiderpool_crds::admission::complete::{self, Tie};
use spiderpool_crds::{SpiderIPPool, SpiderSubnet};

use crate::context::Context;
use crate::write;

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

/// The tie of a pool that is to be adopted, by a look at the subnet as it is now: with an owner that is gone the pool would go, too.
pub async fn confirmed(context: &Context, tie: Tie, pool: &SpiderIPPool) -> Result<Tie, write::Error> {
    let Tie::Adopt(adopted) = &tie else { return Ok(tie) };
    let Some(name) = adopted.owner_subnet() else {
        return Ok(tie);
    };
    let live = context.subnets.read(name).await?;
    let live = live.filter(|subnet| !subnet.is_terminating() && subnet.spec.subnet == pool.spec.subnet);
    Ok(live.map_or(Tie::Settled, |subnet| complete::tie(pool, &subnet)))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Cluster;
    use serde_json::{Value, json};

    const PATH: &str = "/apis/spiderpool.spidernet.io/v2beta1/spidersubnets/rack7";

    fn subnet(uid: &str) -> Value {
        json!({"apiVersion": "spiderpool.spidernet.io/v2beta1", "kind": "SpiderSubnet",
            "metadata": {"name": "rack7", "uid": uid, "resourceVersion": "1"}, "spec": {"subnet": "10.0.0.0/24"}})
    }

    #[tokio::test]
    async fn a_pool_is_adopted_by_the_subnet_that_is_there_now() {
        let cluster = Cluster::default();
        let context = Context::of(cluster.client());
        let learnt = serde_json::from_value(subnet("old")).unwrap();
        context.caches.subnets.learn(learnt);
        let pool: SpiderIPPool = serde_json::from_value(json!({
            "apiVersion": "spiderpool.spidernet.io/v2beta1", "kind": "SpiderIPPool",
            "metadata": {"name": "p", "uid": "p", "resourceVersion": "2"}, "spec": {"subnet": "10.0.0.0/24"},
        }))
        .unwrap();
        let seen = tie(&context, &pool);
        assert!(matches!(seen, Tie::Adopt(_)));
        cluster.put(PATH, subnet("new"));
        let Tie::Adopt(adopted) = confirmed(&context, seen.clone(), &pool).await.unwrap() else {
            panic!("not adopted")
        };
        let owners = adopted.metadata.owner_references.as_deref().unwrap();
        assert_eq!((owners.len(), owners[0].uid.as_str()), (1, "new"));
        cluster.remove(PATH);
        assert_eq!(confirmed(&context, seen, &pool).await.unwrap(), Tie::Settled);
    }
}
