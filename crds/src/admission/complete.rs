//! What is filled into an object that its author left out, so that all objects look alike whoever made them.
//!
//! The webhook does this before an object is judged; it refuses nothing, and leaves alone what it cannot read. What an object
//! must have, the operator fills in later where no webhook ran: its identity and its subnet. Lists of addresses are put in order by
//! the webhook only: whoever keeps them in another order may.

mod adopt;
mod identity;
mod order;

pub use adopt::{Tie, home, tie};
pub use identity::{Identified, filled, released};

use super::Settings;
use crate::types::{SpiderIPPool, SpiderReservedIP, SpiderSubnet};
use spiderpool_ipam::Cidr;

/// Completes a subnet: finalizer, `ipVersion`, label of the network, lists of addresses in order. Gives what its author should
/// look at because of that.
pub fn subnet(subnet: &mut SpiderSubnet) -> Vec<String> {
    if subnet.is_terminating() {
        return Vec::new();
    }
    identify(subnet, subnet.cidr().ok());
    let spec = &mut subnet.spec;
    order::network(&spec.subnet, &mut spec.ips, &mut spec.exclude_ips)
}

/// Completes a pool: as a subnet, and makes it a part of the subnet that has its network. `subnets` are those that do, as they are
/// now: a pool goes with its owner. Whatever controls the pool already goes on to; that it is gone is for the operator to find out.
pub fn pool(pool: &mut SpiderIPPool, subnets: &[&SpiderSubnet], settings: Settings) -> Vec<String> {
    if pool.is_terminating() {
        return Vec::new();
    }
    let cidr = pool.cidr().ok();
    identify(pool, cidr);
    if settings.subnets
        && cidr.is_some()
        && let Some(subnet) = home(subnets.iter().copied(), pool)
        && adopt::may_control(subnet, pool)
        && let Tie::Adopt(adopted) = tie(pool, subnet)
    {
        *pool = *adopted;
    }
    let spec = &mut pool.spec;
    order::network(&spec.subnet, &mut spec.ips, &mut spec.exclude_ips)
}

/// Completes a reservation: `ipVersion`, and its addresses in order.
pub fn reserved(reserved: &mut SpiderReservedIP) -> Vec<String> {
    if reserved.metadata.deletion_timestamp.is_some() {
        return Vec::new();
    }
    let Ok(family) = reserved.family() else {
        return Vec::new();
    };
    let spec = &mut reserved.spec;
    if spec.ips.as_ref().is_some_and(|ips| !ips.is_empty()) {
        spec.ip_version.get_or_insert(family.number());
    }
    order::ranges(family, "ips", &mut spec.ips)
}

/// The finalizer is an object's own whatever its network is.
fn identify<K: Identified>(object: &mut K, cidr: Option<Cidr>) {
    if let Some(whole) = filled(object, cidr) {
        *object = whole;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::{API_VERSION, FINALIZER, LABEL_IPPOOL_CIDR, LABEL_OWNER_SUBNET, LABEL_SUBNET_CIDR};
    use serde::Serialize;
    use serde::de::DeserializeOwned;
    use serde_json::{Value, json};

    const ALL: Settings = Settings {
        ipv4: true,
        ipv6: true,
        subnets: true,
        protect_used: false,
    };

    fn object<K: DeserializeOwned>(kind: &str, metadata: Value, spec: &Value) -> K {
        let mut object = json!({"apiVersion": API_VERSION, "kind": kind, "metadata": {"name": "o"}, "spec": spec});
        if let (Some(own), Value::Object(more)) = (object["metadata"].as_object_mut(), metadata) {
            own.extend(more);
        }
        serde_json::from_value(object).unwrap()
    }

    fn json<K: Serialize>(object: &K) -> Value {
        serde_json::to_value(object).unwrap()
    }

    fn rack7() -> SpiderSubnet {
        let spec = json!({"subnet": "10.77.0.0/20", "ips": ["10.77.1.10-10.77.1.40"], "gateway": "10.77.0.1"});
        object("SpiderSubnet", json!({"name": "rack7", "uid": "s-1"}), &spec)
    }

    #[test]
    fn a_subnet_gets_its_identity_and_ordered_lists() {
        let spec = json!({"subnet": "10.77.0.0/20", "ips": ["10.77.0.7", "10.77.0.1-10.77.0.3", "10.77.0.3-10.77.0.5"],
            "excludeIPs": ["10.77.0.5", "10.77.0.4"]});
        let mut made: SpiderSubnet = object("SpiderSubnet", json!({}), &spec);
        let warnings = subnet(&mut made);
        let whole = json(&made);
        assert_eq!(whole["metadata"]["finalizers"], json!([FINALIZER]));
        assert_eq!(whole["metadata"]["labels"], json!({LABEL_SUBNET_CIDR: "10-77-0-0-20"}));
        assert_eq!(whole["spec"]["ipVersion"], 4);
        assert_eq!(whole["spec"]["ips"], json!(["10.77.0.1-10.77.0.5", "10.77.0.7"]));
        assert_eq!(whole["spec"]["excludeIPs"], json!(["10.77.0.4-10.77.0.5"]));
        assert_eq!(
            warnings,
            ["spec.ips[2]: 10.77.0.3 stands in ips more than once; it counts once"]
        );
        assert!(subnet(&mut made).is_empty());
        assert_eq!(json(&made), whole, "once is enough");
    }

    #[test]
    fn what_cannot_be_read_is_left_to_those_who_refuse_it() {
        for (spec, version) in [
            (json!({"subnet": "10.77.0.0"}), Value::Null),
            (json!({"subnet": "10.77.0.0/20", "ipVersion": 6}), json!(6)),
            (
                json!({"subnet": "10.77.0.0/20", "ips": ["10.77.0.9-10.77.0.1", "10.77.0.1"]}),
                json!(4),
            ),
            (
                json!({"subnet": "fd77::/64", "ips": ["::ffff:1.2.3.4", "fd77::1"]}),
                json!(6),
            ),
        ] {
            let mut made: SpiderIPPool = object("SpiderIPPool", json!({}), &spec);
            assert!(pool(&mut made, &[], ALL).is_empty());
            assert!(made.has_finalizer(), "{spec}");
            assert_eq!(json(&made.spec.ips), spec["ips"]);
            assert_eq!(json(&made.spec.ip_version), version, "{spec}");
            assert_eq!(made.metadata.labels.is_some(), version != spec["ipVersion"], "{spec}");
        }
    }

    #[test]
    fn a_list_of_one_stays_as_it_is_written() {
        let spec = json!({"subnet": "10.77.0.0/20", "ips": ["10.77.0.5-10.77.0.5"]});
        let mut made: SpiderIPPool = object("SpiderIPPool", json!({}), &spec);
        pool(&mut made, &[], ALL);
        assert_eq!(json(&made.spec.ips), json!(["10.77.0.5-10.77.0.5"]));
    }

    #[test]
    fn a_label_that_says_another_network_is_corrected_and_others_stay() {
        let labels = json!({"labels": {LABEL_IPPOOL_CIDR: "x", "team": "a"}, "finalizers": ["other"]});
        let mut made: SpiderIPPool = object("SpiderIPPool", labels, &json!({"subnet": "fd77::/64"}));
        pool(&mut made, &[], ALL);
        assert_eq!(
            json(&made.metadata.labels),
            json!({LABEL_IPPOOL_CIDR: "fd77---64", "team": "a"})
        );
        assert_eq!(json(&made.metadata.finalizers), json!(["other", FINALIZER]));
        // Kubernetes takes no label that begins with a dash.
        let mut all: SpiderIPPool = object("SpiderIPPool", json!({}), &json!({"subnet": "::/0"}));
        pool(&mut all, &[], ALL);
        assert_eq!((all.metadata.labels, all.spec.ip_version), (None, Some(6)));
    }

    #[test]
    fn a_pool_becomes_a_part_of_its_subnet_where_there_are_subnets() {
        let subnet = rack7();
        let spec = json!({"subnet": "10.77.0.0/20", "ips": ["10.77.1.12", "10.77.1.11"]});
        let mut made: SpiderIPPool = object("SpiderIPPool", json!({}), &spec);
        pool(&mut made, &[&subnet], ALL);
        assert_eq!(made.label(LABEL_OWNER_SUBNET), Some("rack7"));
        assert_eq!(made.spec.gateway.as_deref(), Some("10.77.0.1"));
        assert_eq!(json(&made.spec.ips), json!(["10.77.1.11-10.77.1.12"]));
        let mut alone: SpiderIPPool = object("SpiderIPPool", json!({}), &spec);
        pool(&mut alone, &[&subnet], Settings { subnets: false, ..ALL });
        assert_eq!(alone.label(LABEL_OWNER_SUBNET), None);
        assert!(alone.has_finalizer());
    }

    #[test]
    fn a_pool_that_is_controlled_keeps_its_controller() {
        let owner = json!({"ownerReferences": [{"apiVersion": API_VERSION, "kind": "SpiderSubnet", "name": "rack7", "uid": "s-0",
            "controller": true}]});
        let spec = json!({"subnet": "10.77.0.0/20", "ips": ["10.77.1.12"]});
        let mut made: SpiderIPPool = object("SpiderIPPool", owner, &spec);
        pool(&mut made, &[&rack7()], ALL);
        assert_eq!(json(&made.metadata.owner_references)[0]["uid"], "s-0");
        assert_eq!((made.label(LABEL_OWNER_SUBNET), &made.spec.gateway), (None, &None));
    }

    #[test]
    fn a_reservation_gets_its_version_from_its_addresses() {
        for (spec, whole) in [
            (
                json!({"ips": ["fd77::2", "fd77::1"]}),
                json!({"ips": ["fd77::1-fd77::2"], "ipVersion": 6}),
            ),
            (
                json!({"ips": ["10.0.0.1"]}),
                json!({"ips": ["10.0.0.1"], "ipVersion": 4}),
            ),
            (json!({"ips": [], "ipVersion": 4}), json!({"ips": [], "ipVersion": 4})),
            (
                json!({"ips": ["10.0.0.1", "fd77::1"]}),
                json!({"ips": ["10.0.0.1", "fd77::1"], "ipVersion": 4}),
            ),
            (json!({"ips": ["x"]}), json!({"ips": ["x"]})),
            (json!({}), json!({})),
        ] {
            let mut made: SpiderReservedIP = object("SpiderReservedIP", json!({}), &spec);
            reserved(&mut made);
            assert_eq!(json(&made.spec), whole);
            assert_eq!(made.metadata.finalizers, None);
        }
    }

    #[test]
    fn what_goes_is_left_alone() {
        let gone = || json!({"deletionTimestamp": "2026-01-01T00:00:00Z"});
        let spec = json!({"subnet": "10.77.0.0/20", "ips": ["10.77.1.12", "10.77.1.11"]});
        let (mut a, mut b): (SpiderSubnet, SpiderIPPool) = (
            object("SpiderSubnet", gone(), &spec),
            object("SpiderIPPool", gone(), &spec),
        );
        let mut c: SpiderReservedIP = object("SpiderReservedIP", gone(), &json!({"ips": ["10.0.0.2", "10.0.0.1"]}));
        let before = (a.clone(), b.clone(), c.clone());
        subnet(&mut a);
        pool(&mut b, &[&rack7()], ALL);
        reserved(&mut c);
        assert_eq!((a, b, c), before);
    }
}
