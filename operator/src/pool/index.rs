//! How pools and subnets are found without walking over all of them: by what they are for, and by their network.
//!
//! The keys are those of the cache's own index, which has a pool the moment that a write of ours made it.

use std::collections::BTreeSet;
use std::sync::Arc;

use spiderpool_crds::{SpiderIPPool, SpiderSubnet};
use spiderpool_ipam::Cidr;
use spiderpool_kit::cache::{Cache, Object, Store};

use crate::application::{AppId, SlotId};

/// What a network is indexed under, for pools and subnets alike: its text as written, since that is what makes a pool one
/// of a subnet.
pub fn network(text: &str) -> String {
    format!("{NETWORK}{text}")
}

/// Where the keys of networks begin.
pub const NETWORK: &str = "cidr:";

/// Objects of another network that overlaps this one. Networks are few, however many pools there are.
pub fn overlapping<'a, K: Object>(store: &'a Store<K>, text: &'a str, cidr: Cidr) -> impl Iterator<Item = &'a Arc<K>> {
    let others = store.index_keys_from(NETWORK).filter(move |key| {
        let other = key.strip_prefix(NETWORK).unwrap_or_default();
        other != text && Cidr::parse(other).is_ok_and(|other| other.overlaps(&cidr))
    });
    others.flat_map(|key| store.indexed(key))
}

/// The names of the subnets with a network, or with another that overlaps it.
pub fn subnets_around(subnets: &Cache<SpiderSubnet>, text: &str) -> BTreeSet<String> {
    let key = network(text);
    subnets.read(|store| {
        let cidr = Cidr::parse(text).ok().into_iter();
        let overlapping = cidr.flat_map(|cidr| overlapping(store, text, cidr));
        let name = |subnet: &Arc<SpiderSubnet>| subnet.metadata.name.clone();
        store.indexed(&key).chain(overlapping).filter_map(name).collect()
    })
}

/// What the pools of one part of an application are indexed under. Neither the API version nor a name of the pool is part
/// of it: both may change while the pool stays.
pub fn slot(slot: &SlotId) -> String {
    let AppId {
        group,
        kind,
        namespace,
        name,
    } = &slot.app;
    format!("slot:{group}/{kind}/{namespace}/{name}/{}/{}", slot.nic, slot.family)
}

/// What an automatic pool is for; none for a pool that a user made, or one whose network does not parse.
pub fn slot_of(pool: &SpiderIPPool) -> Option<SlotId> {
    let key = pool.app_key()?;
    Some(SlotId {
        app: AppId::from(&key),
        nic: pool.interface().to_owned(),
        family: pool.family().ok()?,
    })
}

/// Under which key the pools of an application are.
pub fn application(app: &AppId) -> String {
    format!("app:{}/{}/{}/{}", app.group, app.kind, app.namespace, app.name)
}

/// Under which key pools are that pause after a restore of the API server's storage.
pub const PAUSED: &str = "paused";

/// Everything that a pool is indexed under.
pub fn keys(pool: &SpiderIPPool) -> Vec<String> {
    let of = slot_of(pool);
    let of = of.iter().flat_map(|of| [slot(of), application(&of.app)]);
    let paused = pool.is_restoring().then(|| PAUSED.to_owned());
    of.chain([network(&pool.spec.subnet)]).chain(paused).collect()
}

/// Everything that a subnet is indexed under.
pub fn keys_of_subnet(subnet: &SpiderSubnet) -> Vec<String> {
    vec![network(&subnet.spec.subnet)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pool(gv: &str, nic: Option<&str>, subnet: &str) -> SpiderIPPool {
        let mut labels = json!({
            "ipam.spidernet.io/owner-application-gv": gv,
            "ipam.spidernet.io/owner-application-kind": "CloneSet",
            "ipam.spidernet.io/owner-application-namespace": "retail",
            "ipam.spidernet.io/owner-application-name": "shop",
        });
        if let Some(nic) = nic {
            labels["ipam.spidernet.io/interface"] = json!(nic);
        }
        serde_json::from_value(json!({
            "apiVersion": "spiderpool.spidernet.io/v2beta1", "kind": "SpiderIPPool",
            "metadata": {"name": "p", "labels": labels}, "spec": {"subnet": subnet},
        }))
        .unwrap()
    }

    #[test]
    fn an_automatic_pool_is_found_by_its_slot_whatever_the_version() {
        let expected = [
            "slot:apps.kruise.io/CloneSet/retail/shop/net1/IPv4",
            "app:apps.kruise.io/CloneSet/retail/shop",
            "cidr:10.77.0.0/20",
        ];
        for gv in ["apps.kruise.io_v1alpha1", "apps.kruise.io_v1beta1"] {
            assert_eq!(keys(&pool(gv, Some("net1"), "10.77.0.0/20")), expected);
        }
        let default = keys(&pool("apps.kruise.io_v1alpha1", None, "fd00::/64"));
        assert_eq!(
            default,
            [
                "slot:apps.kruise.io/CloneSet/retail/shop/eth0/IPv6",
                "app:apps.kruise.io/CloneSet/retail/shop",
                "cidr:fd00::/64"
            ]
        );
    }

    #[test]
    fn other_pools_are_found_by_their_network() {
        let mut manual = pool("apps_v1", None, "10.77.0.0/20");
        manual.metadata.labels = None;
        assert_eq!(keys(&manual), ["cidr:10.77.0.0/20"]);
        assert_eq!(keys(&pool("apps_v1", None, "oops")), ["cidr:oops"]);
    }
}
