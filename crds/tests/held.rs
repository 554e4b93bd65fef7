//! The text of `status.heldIPs`.

#![expect(clippy::unwrap_used, reason = "helpers of tests, outside of #[test] functions")]

use std::net::IpAddr;

use jiff::Timestamp;
use spiderpool_crds::records::{Held, HeldReason, HeldRecords};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

#[test]
fn the_text_is_compact_with_members_in_a_fixed_order() {
    let mut records = HeldRecords::new();
    assert_eq!(records.to_status(), None);
    let held = |reason, by: &str| Held {
        reason,
        until: Some(at(1_800_000_000)),
        by: Some(by.to_owned()),
        other: Default::default(),
    };
    let [nine, ten]: [IpAddr; 2] = ["10.0.0.9", "10.0.0.10"].map(|text| text.parse().unwrap());
    records.insert(nine, held(HeldReason::Quarantined, "02:00:00:00:00:09"));
    records.insert(ten, held(HeldReason::Cooling, "retail/shop"));
    let text = r#"{"10.0.0.10":{"reason":"Cooling","until":"2027-01-15T08:00:00Z","by":"retail/shop"},"10.0.0.9":{"reason":"Quarantined","until":"2027-01-15T08:00:00Z","by":"02:00:00:00:00:09"}}"#;
    assert_eq!(records.to_status().as_deref(), Some(text));
    assert_eq!(HeldRecords::parse(text).unwrap(), records);
    records.expire(at(1_799_999_999));
    assert_eq!(records.len(), 2);
    records.expire(at(1_800_000_000));
    assert!(records.is_empty());
}

#[test]
fn reasons_and_members_of_a_later_version_stay_and_block() {
    let text = r#"{"10.0.0.9":{"reason":"Haunted","since":7},"fd00::9":{"reason":""}}"#;
    let mut records = HeldRecords::parse(text).unwrap();
    records.expire(Timestamp::MAX);
    assert_eq!(records.to_status().as_deref(), Some(text));
    assert!(records.iter().all(|(_, held)| held.blocks()));
}

#[test]
fn what_does_not_parse_is_named_and_not_guessed() {
    for text in [
        "{",
        "[]",
        r#"{"10.0.0.9":"Cooling"}"#,
        r#"{"10.0.0.09":{}}"#,
        r#"{"10.0.0.9":{"until":"soon"}}"#,
        r#"{"10.0.0.9":{},"10.0.0.9":{}}"#,
    ] {
        let error = HeldRecords::parse(text).unwrap_err().to_string();
        assert!(error.starts_with("status.heldIPs is corrupted"), "{error}");
    }
}
