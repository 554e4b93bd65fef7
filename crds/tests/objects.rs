//! Stored objects survive being read and written back.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests may fail the test")]

use proptest::prelude::*;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use spiderpool_crds::{SpiderEndpoint, SpiderIPPool, SpiderReservedIP, SpiderSubnet};
use spiderpool_ipam::{Family, text};

const SUBNET: &str = include_str!("objects/subnet.yaml");
const AUTOMATIC_POOL: &str = include_str!("objects/automatic-pool.yaml");
const MANUAL_POOL: &str = include_str!("objects/manual-pool.yaml");
const RESERVATION: &str = include_str!("objects/reservation.yaml");
const ENDPOINT: &str = include_str!("objects/endpoint.yaml");

fn round_trip<K: DeserializeOwned + Serialize>(object: &Value) -> Value {
    let typed: K = serde_json::from_value(object.clone()).unwrap();
    serde_json::to_value(typed).unwrap()
}

fn yaml(text: &str) -> Value {
    serde_saphyr::from_str(text).unwrap()
}

#[test]
fn objects_round_trip() {
    assert_eq!(round_trip::<SpiderSubnet>(&yaml(SUBNET)), yaml(SUBNET));
    assert_eq!(round_trip::<SpiderIPPool>(&yaml(AUTOMATIC_POOL)), yaml(AUTOMATIC_POOL));
    assert_eq!(round_trip::<SpiderIPPool>(&yaml(MANUAL_POOL)), yaml(MANUAL_POOL));
    assert_eq!(round_trip::<SpiderReservedIP>(&yaml(RESERVATION)), yaml(RESERVATION));
    assert_eq!(round_trip::<SpiderEndpoint>(&yaml(ENDPOINT)), yaml(ENDPOINT));
}

#[test]
fn status_strings_round_trip_byte_for_byte() {
    let subnet: SpiderSubnet = serde_saphyr::from_str(SUBNET).unwrap();
    assert_eq!(
        subnet.controlled().unwrap().to_status(),
        subnet.status.unwrap().controlled_ippools
    );
    let pool: SpiderIPPool = serde_saphyr::from_str(AUTOMATIC_POOL).unwrap();
    assert_eq!(pool.records().unwrap().len(), 2);
    assert_eq!(pool.records().unwrap().to_status(), pool.status.unwrap().allocated_ips);
}

#[test]
fn counts_of_the_objects_are_what_their_text_says() {
    let subnet: SpiderSubnet = serde_saphyr::from_str(SUBNET).unwrap();
    assert_eq!(subnet.total().unwrap().count(), 30);
    let entries = subnet.controlled().unwrap().entries(subnet.family().unwrap()).unwrap();
    assert_eq!(spiderpool_ipam::accounting::allocated(&entries), 5);
    let pool: SpiderIPPool = serde_saphyr::from_str(AUTOMATIC_POOL).unwrap();
    assert_eq!(pool.total().unwrap().count(), 3);
    assert!(pool.is_automatic());
    assert_eq!(pool.app_key().unwrap().to_string(), "apps_v1_Deployment_retail_shop");
    assert!(
        pool.app_key()
            .unwrap()
            .matches_selector(pool.spec.pod_affinity.as_ref().unwrap())
    );
    let manual: SpiderIPPool = serde_saphyr::from_str(MANUAL_POOL).unwrap();
    assert!(!manual.is_automatic());
}

/// Adds a member to every object below the given one, except where all keys belong to Kubernetes or to users.
fn add_unknown(value: &mut Value, extra: &Value) {
    match value {
        Value::Object(members) => {
            let foreign = ["podAffinity", "nodeAffinity", "namespaceAffinity", "conditions"];
            for (name, member) in members.iter_mut() {
                if !foreign.contains(&name.as_str()) {
                    add_unknown(member, extra);
                }
            }
            members.insert("fromTheFuture".to_owned(), extra.clone());
        }
        Value::Array(items) => items.iter_mut().for_each(|item| add_unknown(item, extra)),
        _ => {}
    }
}

fn unknown_survives<K: DeserializeOwned + Serialize>(text: &str, extra: &Value) {
    let mut object = yaml(text);
    for part in ["spec", "status"] {
        if let Some(part) = object.get_mut(part) {
            add_unknown(part, extra);
        }
    }
    assert_eq!(round_trip::<K>(&object), object);
}

#[test]
fn unknown_members_survive_in_every_kind() {
    for extra in [json!("text"), json!(null), json!(7), json!({"deep": [1, {"er": true}]})] {
        unknown_survives::<SpiderSubnet>(SUBNET, &extra);
        unknown_survives::<SpiderIPPool>(AUTOMATIC_POOL, &extra);
        unknown_survives::<SpiderReservedIP>(RESERVATION, &extra);
        unknown_survives::<SpiderEndpoint>(ENDPOINT, &extra);
    }
}

#[test]
fn an_object_that_lacks_required_members_can_still_be_read() {
    let pool: SpiderIPPool = serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": {}})).unwrap();
    assert!(pool.total().unwrap_err().to_string().starts_with("spec.subnet: "));
    let endpoint: SpiderEndpoint = serde_json::from_value(json!({"metadata": {"name": "e"}})).unwrap();
    assert!(endpoint.status.current.ips.is_empty());
}

#[test]
fn the_family_comes_from_the_subnet() {
    let pool = |spec: Value| -> SpiderIPPool { serde_json::from_value(json!({"metadata": {}, "spec": spec})).unwrap() };
    let total = |spec: Value| pool(spec).total().map_err(|error| error.to_string());
    assert_eq!(
        total(json!({"subnet": "fd00::/64", "ips": ["fd00::1-fd00::9"]}))
            .unwrap()
            .count(),
        9
    );
    let contradiction = total(json!({"subnet": "fd00::/64", "ipVersion": 4})).unwrap_err();
    assert!(contradiction.contains("write 6"), "{contradiction}");
    let outside = total(json!({"subnet": "10.6.0.0/24", "ips": ["10.6.0.9-10.6.1.3"]})).unwrap_err();
    assert_eq!(
        outside,
        "spec.ips: 10.6.1.0 is not inside spec.subnet 10.6.0.0/24; write addresses of that subnet"
    );
    let wrong = total(json!({"subnet": "10.6.0.0/24", "ips": ["10.6.0.9", "10.6.0.x"]})).unwrap_err();
    assert!(
        wrong.starts_with("spec.ips[1]: ") && wrong.contains("10.6.0.x"),
        "{wrong}"
    );
}

#[test]
fn reservations_tell_their_family_from_the_first_address() {
    let family = |spec: Value| reservation(&spec).family();
    assert_eq!(family(json!({"ips": ["fd00::1-fd00::2"]})).unwrap().number(), 6);
    assert_eq!(family(json!({"ips": ["10.0.0.1"]})).unwrap().number(), 4);
    assert!(family(json!({})).is_err());
    assert!(family(json!({"ips": ["x"]})).unwrap_err().to_string().contains("\"x\""));
}

#[test]
fn what_can_be_read_of_a_reservation_is_kept_back() {
    let spec = json!({"ipVersion": 4, "ips": ["x", "10.0.0.1", "fd00::9-fd00::1", "10.0.0.7-10.0.0.5", "fd00::/64"]});
    let kept = reservation(&spec);
    assert_eq!(
        text::print_ranges(Family::V4, &kept.kept_back(Family::V4)),
        ["10.0.0.1", "10.0.0.5-10.0.0.7"]
    );
    assert_eq!(
        text::print_ranges(Family::V6, &kept.kept_back(Family::V6)),
        ["fd00::1-fd00::9"]
    );
}

fn reservation(spec: &Value) -> SpiderReservedIP {
    serde_json::from_value(json!({"metadata": {}, "spec": spec})).unwrap()
}

proptest! {
    #[test]
    fn reading_specs_never_panics(subnet in ".{0,24}", ips in prop::collection::vec("[0-9a-f.:/-]{0,20}", 0..4), version in any::<i64>()) {
        let spec = json!({"subnet": subnet, "ips": ips, "excludeIPs": ips, "ipVersion": version});
        let pool: SpiderIPPool = serde_json::from_value(json!({"metadata": {}, "spec": spec})).unwrap();
        let _ = (pool.total(), pool.gateway());
        let reservation: SpiderReservedIP = serde_json::from_value(json!({"metadata": {}, "spec": spec})).unwrap();
        let _ = (reservation.family(), reservation.kept_back(Family::V6));
    }
}
