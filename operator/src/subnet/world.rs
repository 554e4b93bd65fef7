//! The pools that matter to one subnet.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use spiderpool_crds::names::{LABEL_OWNER_APP_UID, LABEL_RECLAIM};
use spiderpool_crds::{SpiderIPPool, SpiderSubnet};
use spiderpool_ipam::{Cidr, RangeSet};

use super::fate::PoolView;
use crate::application::{AppId, SlotId};
use crate::context::Context;

/// All pools of the cluster as a pass needs them, looked at once.
pub struct World {
    /// Pools of applications, by what they are for.
    pub by_slot: HashMap<SlotId, Vec<PoolView>>,
    /// The pools of the subnet, by name.
    pub mine: BTreeMap<String, Arc<SpiderIPPool>>,
    /// Addresses of pools with another network that overlaps this one.
    pub overlapping: RangeSet,
}

/// Looks at the pools around a subnet.
pub fn world(context: &Context, subnet: &SpiderSubnet, cidr: Cidr) -> World {
    let by_cidr: HashMap<String, String> = context.caches.subnets.read(|store| {
        store
            .iter()
            .filter_map(|subnet| Some((subnet.spec.subnet.clone(), subnet.metadata.name.clone()?)))
            .collect()
    });
    let pools = context.caches.pools.list();
    let mut world = World {
        by_slot: HashMap::new(),
        mine: BTreeMap::new(),
        overlapping: RangeSet::new(),
    };
    for pool in pools {
        let name = pool.metadata.name.clone().unwrap_or_default();
        let Ok(network) = pool.cidr() else { continue };
        if let Some(key) = pool.app_key() {
            let slot = SlotId {
                app: AppId::from(&key),
                nic: pool.interface().to_owned(),
                family: network.family(),
            };
            world
                .by_slot
                .entry(slot)
                .or_default()
                .push(view(&pool, &name, &by_cidr));
        }
        if pool.spec.subnet == subnet.spec.subnet {
            world.mine.insert(name, pool);
        } else if network.overlaps(&cidr)
            && let Ok(total) = pool.total()
        {
            world.overlapping = world.overlapping.union(&total);
        }
    }
    world
}

fn view(pool: &SpiderIPPool, name: &str, by_cidr: &HashMap<String, String>) -> PoolView {
    let subnet = by_cidr.get(&pool.spec.subnet).map(String::as_str);
    PoolView {
        name: name.to_owned(),
        subnet: subnet.or(pool.owner_subnet()).unwrap_or_default().to_owned(),
        uid: pool.label(LABEL_OWNER_APP_UID).unwrap_or_default().to_owned(),
        // A pool without the label was not made to outlive its application.
        reclaim: pool.label(LABEL_RECLAIM) != Some("false"),
        terminating: pool.is_terminating(),
    }
}
