//! The status strings: exact text, tolerance for what others write, and no guessing about what is broken.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests may fail the test")]

use std::net::IpAddr;

use proptest::prelude::*;
use serde_json::json;
use spiderpool_crds::records::{ACCOUNTING_BYTES, ControlledPools, PoolRecords, Problem, Record};
use spiderpool_ipam::accounting::{Entries, Entry, text_bytes};
use spiderpool_ipam::{Family, Owner, Range, RangeSet, text};

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn problem(text: &str) -> Problem {
    PoolRecords::parse(text).unwrap_err().problem
}

#[test]
fn members_have_a_fixed_order_and_keys_are_ordered_as_text() {
    let mut records = PoolRecords::new();
    for address in ["10.0.0.9", "10.0.0.10"] {
        let owner = Owner {
            pod: "ns/p".to_owned(),
            uid: "u".to_owned(),
            nic: (address == "10.0.0.9").then(|| "eth0".to_owned()),
        };
        records.insert(ip(address), owner.into());
    }
    assert_eq!(
        records.to_status().unwrap(),
        r#"{"10.0.0.10":{"pod":"ns/p","podUid":"u"},"10.0.0.9":{"pod":"ns/p","podUid":"u","nic":"eth0"}}"#
    );
}

#[test]
fn no_records_are_no_text() {
    assert_eq!(PoolRecords::new().to_status(), None);
    assert_eq!(ControlledPools::new().to_status(), None);
    for empty in ["", " ", "{}", "null"] {
        assert!(PoolRecords::parse(empty).unwrap().is_empty(), "{empty:?}");
        assert!(ControlledPools::parse(empty).unwrap().is_empty(), "{empty:?}");
    }
    assert!(PoolRecords::parse_opt(None).unwrap().is_empty());
}

#[test]
fn member_names_are_read_in_any_case_and_unknown_ones_stay() {
    let text = r#"{"10.0.0.1":{"POD":"ns/p","poduid":"u","Nic":"net1","zone":{"a":[1]},"since":5}}"#;
    let records = PoolRecords::parse(text).unwrap();
    let record = records.get(ip("10.0.0.1")).unwrap();
    assert_eq!(
        Owner::from(record),
        Owner {
            pod: "ns/p".to_owned(),
            uid: "u".to_owned(),
            nic: Some("net1".to_owned())
        }
    );
    assert_eq!(
        records.to_status().unwrap(),
        r#"{"10.0.0.1":{"pod":"ns/p","podUid":"u","nic":"net1","since":5,"zone":{"a":[1]}}}"#
    );
}

#[test]
fn a_record_without_members_still_keeps_its_address() {
    let records = PoolRecords::parse(r#"{"10.0.0.1":null,"10.0.0.2":{}}"#).unwrap();
    assert_eq!(records.len(), 2);
}

#[test]
fn broken_text_is_refused_with_its_place() {
    assert_eq!(
        problem(r#"{"10.0.0.300":{}}"#),
        Problem::Address("10.0.0.300".to_owned())
    );
    assert_eq!(
        problem(r#"{"FD00::1":{}}"#),
        Problem::NotCanonical {
            key: "FD00::1".to_owned(),
            canonical: ip("fd00::1")
        }
    );
    assert_eq!(
        problem(r#"{"::ffff:10.0.0.1":{}}"#),
        Problem::NotCanonical {
            key: "::ffff:10.0.0.1".to_owned(),
            canonical: ip("10.0.0.1")
        }
    );
    assert_eq!(
        problem(r#"{"10.0.0.1":{"pod":"a"},"10.0.0.1":{"pod":"b"}}"#),
        Problem::Duplicate("10.0.0.1".to_owned())
    );
    for text in [
        "[]",
        "7",
        r#"{"10.0.0.1":"#,
        r#"{"10.0.0.1":[]}"#,
        r#"{"10.0.0.1":{"pod":7}}"#,
    ] {
        assert!(matches!(problem(text), Problem::Json(_)), "{text}");
    }
    let message = PoolRecords::parse("{").unwrap_err().to_string();
    assert!(message.starts_with("status.allocatedIPs is corrupted: "), "{message}");
    assert!(message.contains("repair that field"), "{message}");
}

#[test]
fn a_record_of_the_other_family_is_an_error() {
    let records = PoolRecords::parse(r#"{"fd00::1":{"pod":"a/b","podUid":"u"}}"#).unwrap();
    assert_eq!(records.owners(Family::V6).unwrap().len(), 1);
    assert!(records.owners(Family::V4).unwrap_err().to_string().contains("fd00::1"));
}

#[test]
fn controlled_pools_keep_what_did_not_change() {
    let text = r#"{"a":{"ips":["10.0.0.1","10.0.0.2"],"application":"apps_v1_Deployment_n_a","x":1},"b":{"ips":null},"c":{"ips":[]}}"#;
    let mut pools = ControlledPools::parse(text).unwrap();
    assert_eq!(pools.to_status().unwrap(), text);
    let mut entries = pools.entries(Family::V4).unwrap();
    pools.set_entries(Family::V4, &entries);
    assert_eq!(pools.to_status().unwrap(), text);

    entries.remove("b");
    entries.insert("d".to_owned(), Entry::default());
    let grown = text::parse_ranges(Family::V4, &["10.0.0.1-10.0.0.3"]).unwrap();
    entries.get_mut("a").unwrap().ranges = grown;
    pools.set_entries(Family::V4, &entries);
    assert_eq!(
        pools.to_status().unwrap(),
        r#"{"a":{"ips":["10.0.0.1-10.0.0.3"],"application":"apps_v1_Deployment_n_a","x":1},"c":{"ips":[]},"d":{"ips":null}}"#
    );
}

#[test]
fn controlled_pools_are_read_in_any_case_and_errors_name_the_pool() {
    let pools = ControlledPools::parse(r#"{"a":{"IPs":["10.0.0.9-10.0.0.1"],"Application":"x"}}"#).unwrap();
    assert_eq!(pools.get("a").unwrap().application.as_deref(), Some("x"));
    let message = pools.entries(Family::V4).unwrap_err().to_string();
    assert!(
        message.contains("\"a\"") && message.contains("10.0.0.9-10.0.0.1"),
        "{message}"
    );
    assert!(ControlledPools::parse(r#"{"a":{},"a":{}}"#).is_err());
}

fn record() -> impl Strategy<Value = Record> {
    let other = prop::collection::btree_map("x[a-z]{0,4}", any::<i32>().prop_map(|n| json!(n)), 0..3);
    let optional = || prop::option::of(".{0,6}");
    (".{0,12}", ".{0,12}", optional(), optional(), other).prop_map(|(pod, pod_uid, nic, node, other)| Record {
        pod,
        pod_uid,
        nic,
        node,
        other,
    })
}

#[test]
fn what_others_wrote_at_length_counts() {
    let text = r#"{"a":{"ips":["10.0.0.1","10.0.0.2"],"application":"apps_v1_Deployment_n_a","note":"a long one"}}"#;
    let long = ControlledPools::parse(text).unwrap();
    let entries = long.entries(Family::V4).unwrap();
    let beyond = text.len() - text_bytes(&entries);
    assert_eq!(long.accounting_limit(&entries), ACCOUNTING_BYTES - beyond);
    let mut own = ControlledPools::new();
    own.set_entries(Family::V4, &entries);
    assert_eq!(own.accounting_limit(&entries), ACCOUNTING_BYTES);
}

fn ranges(family: Family) -> impl Strategy<Value = RangeSet> {
    let top = match family {
        Family::V4 => u128::from(u32::MAX),
        Family::V6 => u128::MAX,
    };
    let range = (any::<u128>(), prop_oneof![Just(0u128), any::<u128>()], 0..128u32);
    let range = range.prop_map(move |(first, len, small)| {
        let first = first & top;
        let last = first.saturating_add((len & top) >> small).min(top);
        Range::new(first, last)
    });
    prop::collection::vec(range, 0..6).prop_map(|all| all.into_iter().flatten().collect())
}

fn any_entries(family: Family) -> impl Strategy<Value = Entries> {
    let entry = (ranges(family), prop::option::of(".{0,12}|[a-zA-Z0-9_.-]{1,80}"))
        .prop_map(|(ranges, application)| Entry { ranges, application });
    prop::collection::btree_map(".{0,12}|[a-z0-9.-]{1,80}", entry, 0..6)
}

proptest! {
    #[test]
    fn the_measure_of_the_accounting_is_never_too_low(
        (family, entries) in prop_oneof![Just(Family::V4), Just(Family::V6)]
            .prop_flat_map(|family| (Just(family), any_entries(family)))
    ) {
        let mut pools = ControlledPools::new();
        pools.set_entries(family, &entries);
        let text = pools.to_status().unwrap_or_default();
        let measure = text_bytes(&entries);
        prop_assert!(text.len() <= measure, "{} > {}: {}", text.len(), measure, text);
        let plain = |text: &str| text.chars().all(|char| !char.is_control());
        if entries.iter().all(|(name, entry)| plain(name) && entry.application.as_deref().is_none_or(plain)) {
            let ends: usize = entries.values().map(|entry| entry.ranges.ranges().len() * 2).sum();
            prop_assert!(measure <= text.len() + 2 + 25 * entries.len() + 4 * ends, "{} of {}", measure, text);
        }
    }

    #[test]
    fn pool_records_round_trip(entries in prop::collection::btree_map(any::<IpAddr>(), record(), 0..20)) {
        let mut records = PoolRecords::new();
        for (address, record) in entries {
            records.insert(address.to_canonical(), record);
        }
        let text = records.to_status();
        let parsed = PoolRecords::parse_opt(text.as_deref()).unwrap();
        prop_assert_eq!(&parsed, &records);
        prop_assert_eq!(parsed.to_status(), text);
    }

    #[test]
    fn arbitrary_text_never_panics(text in ".{0,60}", json in r#"[{}\[\]",:0-9a-z. ]{0,40}"#) {
        for text in [text, json] {
            let _ = PoolRecords::parse(&text);
            let _ = ControlledPools::parse(&text);
        }
    }
}
