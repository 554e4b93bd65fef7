//! The pools that matter to one subnet, found by the index: what a pass costs depends on this subnet, not on the others.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use spiderpool_crds::names::{LABEL_OWNER_APP_UID, LABEL_RECLAIM};
use spiderpool_crds::{SpiderIPPool, SpiderSubnet};
use spiderpool_ipam::{Cidr, RangeSet};
use spiderpool_kit::cache::{Cache, Store};

use super::fate::PoolView;
use crate::application::{Application, SlotId};
use crate::context::Context;
use crate::pool::index;

/// The pools that a pass over a subnet needs, looked at at one moment.
pub struct World {
    /// The pools of every part of an application that has a pool in the subnet or asks for one, by that part.
    pub by_slot: HashMap<SlotId, Vec<PoolView>>,
    /// The pools of the subnet, by name.
    pub mine: BTreeMap<String, Arc<SpiderIPPool>>,
    /// Addresses of pools with another network that overlaps this one.
    pub overlapping: RangeSet,
}

/// Looks at the pools around a subnet.
pub fn world(context: &Context, subnet: &SpiderSubnet, cidr: Cidr) -> World {
    let here = subnet.metadata.name.as_deref().unwrap_or_default();
    let wanted = context.applications.naming(here);
    let wanted = wanted.iter().flat_map(|app| slots_at(app, here)).collect();
    gather(
        &context.caches.pools,
        &context.caches.subnets,
        wanted,
        &subnet.spec.subnet,
        cidr,
    )
}

/// The parts of an application that may be served by a subnet.
fn slots_at<'a>(app: &'a Application, subnet: &'a str) -> impl Iterator<Item = SlotId> + 'a {
    let slots = app.asked.request().map(|request| request.slots.as_slice());
    let here = move |name: &String| name == subnet;
    let slots = slots.unwrap_or_default().iter();
    slots
        .filter(move |slot| slot.subnets.iter().any(here))
        .map(|slot| app.slot_id(slot))
}

/// What was found, before it is looked into: the cache is not held up meanwhile.
struct Found {
    mine: Vec<Arc<SpiderIPPool>>,
    by_slot: Vec<(SlotId, Vec<Arc<SpiderIPPool>>)>,
    overlapping: Vec<Arc<SpiderIPPool>>,
}

fn gather(
    pools: &Cache<SpiderIPPool>,
    subnets: &Cache<SpiderSubnet>,
    wanted: HashSet<SlotId>,
    network: &str,
    cidr: Cidr,
) -> World {
    let found = pools.read(|store| find(store, wanted, network, cidr));
    let name_of = |pool: &SpiderIPPool| pool.metadata.name.clone().unwrap_or_default();
    let readable = found.mine.into_iter().filter(|pool| pool.cidr().is_ok());
    // Siblings are few, and most of them are in this subnet.
    let mut subnets_by_network: HashMap<String, Option<String>> = HashMap::new();
    let mut views = |pools: &[Arc<SpiderIPPool>]| -> Vec<PoolView> {
        let view = |pool: &Arc<SpiderIPPool>| {
            let network = &pool.spec.subnet;
            let subnet = subnets_by_network
                .entry(network.clone())
                .or_insert_with(|| subnet_with(subnets, network));
            view(pool, name_of(pool), subnet.as_deref())
        };
        pools.iter().map(view).collect()
    };
    let by_slot = found.by_slot.into_iter();
    World {
        by_slot: by_slot.map(|(slot, pools)| (slot, views(&pools))).collect(),
        mine: readable.map(|pool| (name_of(&pool), pool)).collect(),
        overlapping: addresses(&found.overlapping),
    }
}

fn find(store: &Store<SpiderIPPool>, wanted: HashSet<SlotId>, network: &str, cidr: Cidr) -> Found {
    let mine: Vec<_> = store.indexed(&index::network(network)).cloned().collect();
    let mut slots = wanted;
    slots.extend(mine.iter().filter_map(|pool| index::slot_of(pool)));
    let by_slot = slots.into_iter().map(|slot| {
        let siblings = store.indexed(&index::slot(&slot)).cloned().collect();
        (slot, siblings)
    });
    Found {
        by_slot: by_slot.collect(),
        overlapping: index::overlapping(store, network, cidr).cloned().collect(),
        mine,
    }
}

/// Addresses of pools with another network that overlaps this one.
pub fn overlapping(pools: &Cache<SpiderIPPool>, network: &str, cidr: Cidr) -> RangeSet {
    let found: Vec<_> = pools.read(|store| index::overlapping(store, network, cidr).cloned().collect());
    addresses(&found)
}

fn addresses(pools: &[Arc<SpiderIPPool>]) -> RangeSet {
    let totals = pools.iter().filter_map(|pool| pool.total().ok());
    totals.flat_map(|total| total.ranges().to_vec()).collect()
}

/// The pools of one part of an application.
pub fn siblings(context: &Context, slot: &SlotId) -> Vec<PoolView> {
    let pools = context.caches.pools.indexed(&index::slot(slot));
    let view = |pool: &Arc<SpiderIPPool>| {
        let subnet = subnet_with(&context.caches.subnets, &pool.spec.subnet);
        view(pool, pool.metadata.name.clone().unwrap_or_default(), subnet.as_deref())
    };
    pools.iter().map(view).collect()
}

/// The name of the subnet with a network.
fn subnet_with(subnets: &Cache<SpiderSubnet>, network: &str) -> Option<String> {
    let subnets = subnets.indexed(&index::network(network));
    subnets.iter().filter_map(|subnet| subnet.metadata.name.clone()).min()
}

fn view(pool: &SpiderIPPool, name: String, subnet: Option<&str>) -> PoolView {
    PoolView {
        name,
        subnet: subnet.or(pool.owner_subnet()).unwrap_or_default().to_owned(),
        uid: pool.label(LABEL_OWNER_APP_UID).unwrap_or_default().to_owned(),
        // A pool without the label was not made to outlive its application.
        reclaim: pool.label(LABEL_RECLAIM) != Some("false"),
        terminating: pool.is_terminating(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::application::AppId;
    use serde_json::json;
    use spiderpool_ipam::{Family, text};
    use spiderpool_kit::cache::Options;

    const HERE: &str = "10.77.0.0/20";

    fn pool(name: &str, network: &str, ips: &str, app: Option<&str>) -> SpiderIPPool {
        let labels = app.map(|app| {
            json!({
                "ipam.spidernet.io/owner-application-gv": "apps_v1",
                "ipam.spidernet.io/owner-application-kind": "Deployment",
                "ipam.spidernet.io/owner-application-namespace": "retail",
                "ipam.spidernet.io/owner-application-name": app,
                "ipam.spidernet.io/owner-spider-subnet": "gone",
            })
        });
        serde_json::from_value(json!({
            "apiVersion": "spiderpool.spidernet.io/v2beta1", "kind": "SpiderIPPool",
            "metadata": {"name": name, "uid": name, "resourceVersion": "1", "labels": labels},
            "spec": {"subnet": network, "ips": [ips]},
        }))
        .unwrap()
    }

    fn slot(app: &str) -> SlotId {
        SlotId {
            app: AppId {
                group: "apps".to_owned(),
                kind: "Deployment".to_owned(),
                namespace: "retail".to_owned(),
                name: app.to_owned(),
            },
            nic: "eth0".to_owned(),
            family: Family::V4,
        }
    }

    fn around(pools: &[SpiderIPPool], wanted: &[&str]) -> World {
        let cache = Cache::detached(Options::default().index(index::keys));
        for pool in pools {
            cache.learn(pool.clone());
        }
        let subnets = Cache::detached(Options::default().index(index::keys_of_subnet));
        for (name, network) in [("rack7", HERE), ("rack8", "10.78.0.0/20")] {
            let subnet = json!({
                "apiVersion": "spiderpool.spidernet.io/v2beta1", "kind": "SpiderSubnet",
                "metadata": {"name": name, "uid": name, "resourceVersion": "1"}, "spec": {"subnet": network},
            });
            subnets.learn(serde_json::from_value(subnet).unwrap());
        }
        let wanted = wanted.iter().map(|app| slot(app)).collect();
        gather(&cache, &subnets, wanted, HERE, Cidr::parse(HERE).unwrap())
    }

    fn siblings<'a>(world: &'a World, app: &str) -> Vec<(&'a str, &'a str)> {
        let views = world.by_slot.get(&slot(app)).map(Vec::as_slice).unwrap_or_default();
        let mut names: Vec<_> = views
            .iter()
            .map(|view| (view.name.as_str(), view.subnet.as_str()))
            .collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn pools_of_the_subnet_come_with_their_siblings_elsewhere() {
        let world = around(
            &[
                pool("a", HERE, "10.77.0.1", Some("shop")),
                pool("b", "10.78.0.0/20", "10.78.0.1", Some("shop")),
                pool("c", "10.79.0.0/20", "10.79.0.1", Some("shop")),
                pool("m", HERE, "10.77.0.9", None),
            ],
            &[],
        );
        assert_eq!(world.mine.keys().collect::<Vec<_>>(), ["a", "m"]);
        assert_eq!(
            siblings(&world, "shop"),
            [("a", "rack7"), ("b", "rack8"), ("c", "gone")]
        );
    }

    #[test]
    fn who_asks_here_is_known_by_its_pool_elsewhere() {
        let elsewhere = |app| pool(app, "10.78.0.0/20", "10.78.0.1", Some(app));
        let world = around(&[elsewhere("asks"), elsewhere("foreign")], &["asks", "new"]);
        assert_eq!(siblings(&world, "asks"), [("asks", "rack8")]);
        assert!(siblings(&world, "new").is_empty());
        assert!(!world.by_slot.contains_key(&slot("foreign")));
        assert!(world.mine.is_empty());
    }

    #[test]
    fn addresses_of_overlapping_networks_are_seen() {
        let world = around(
            &[
                pool("wide", "10.77.0.0/16", "10.77.5.0-10.77.5.3", None),
                pool("narrow", "10.77.2.0/24", "10.77.2.7", None),
                pool("apart", "10.78.0.0/20", "10.78.0.1", None),
                pool("broken", "oops", "10.77.0.1", None),
                pool("mine", HERE, "10.77.0.1", None),
            ],
            &[],
        );
        let expected = text::parse_ranges(Family::V4, &["10.77.2.7", "10.77.5.0-10.77.5.3"]).unwrap();
        assert_eq!(world.overlapping, expected);
    }
}
