//! The text of `status.heldIPs`.

#![expect(clippy::unwrap_used, reason = "helpers of tests, outside of #[test] functions")]

use std::net::IpAddr;
use std::time::Duration;

use jiff::Timestamp;
use spiderpool_crds::records::{Held, HeldReason, HeldRecords};
use spiderpool_ipam::hold::{Note, Reuse};

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

#[test]
fn what_a_pod_had_is_told_from_what_a_host_answers_for() {
    let note = |text: &str| serde_json::from_str::<Held>(text).unwrap();
    let freed = note(r#"{"reason":"Cooling","by":"retail/shop"}"#);
    assert_eq!(freed.note(), Note::Freed("retail/shop"));
    let doubtful = note(r#"{"reason":"Cooling","by":"02:00:00:00:00:09"}"#);
    assert_eq!(doubtful.note(), Note::Doubtful);
    assert_eq!(note(r#"{"reason":"Cooling"}"#).note(), Note::Doubtful);
    assert_eq!(
        note(r#"{"reason":"Quarantined","by":"retail/shop"}"#).note(),
        Note::Blocked
    );
    assert_eq!(note("{}").note(), Note::Blocked);
}

#[test]
fn a_freed_address_is_noted_for_as_long_as_its_pool_says() {
    let (mut held, ip) = (HeldRecords::new(), "10.0.0.9".parse().unwrap());
    let freed = |held: &HeldRecords, seconds, cooling| {
        let reuse = Reuse {
            cooldown: Duration::from_secs(seconds),
            ..Reuse::default()
        };
        let note = held.freed(ip, "retail/shop", reuse, cooling, at(1_800_000_000));
        note.map(|note| serde_json::to_string(&note).unwrap())
    };
    let text = |until: &str| {
        Some(format!(
            r#"{{"reason":"Cooling","until":"{until}","by":"retail/shop"}}"#
        ))
    };
    assert_eq!(freed(&held, 0, 0), text("2027-01-15T08:00:05Z"));
    assert_eq!(freed(&held, 3600, 10_000), text("2027-01-15T09:00:00Z"));
    // Without a cool-down nobody depends on the note.
    assert_eq!(freed(&held, 0, 256), None);
    held.insert(ip, serde_json::from_str(r#"{"reason":"Quarantined"}"#).unwrap());
    assert_eq!(freed(&held, 3600, 0), None);
}
