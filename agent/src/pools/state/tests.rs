use super::*;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::json;
use spiderpool_crds::{IPPoolSpec, IPPoolStatus, conditions};

mod held;
mod node;
mod succession;

const UID: &str = "0d3f0f5e-5f0e-4a4b-9a36-0f5d6f4e2a10";

/// A pool that the operator has checked.
fn pool(ips: &str, records: Option<&str>) -> SpiderIPPool {
    let spec = IPPoolSpec {
        subnet: "10.77.0.0/20".to_owned(),
        ips: Some(vec![ips.to_owned()]),
        ..IPPoolSpec::default()
    };
    let mut pool = SpiderIPPool::new("p", spec);
    let mut status = IPPoolStatus {
        allocated_ips: records.map(str::to_owned),
        ..IPPoolStatus::default()
    };
    pool.metadata.generation = Some(1);
    let now = k8s_openapi::jiff::Timestamp::UNIX_EPOCH;
    conditions::set(
        &mut status.conditions,
        conditions::READY,
        true,
        "Accepted",
        "",
        Some(1),
        now,
    );
    pool.status = Some(status);
    pool
}

fn read(pool: SpiderIPPool) -> PoolState {
    PoolState::read(Arc::new(pool)).unwrap()
}

fn owner(nic: &str) -> Owner {
    Owner {
        pod: "retail/shop".to_owned(),
        uid: UID.to_owned(),
        nic: Some(nic.to_owned()),
    }
}

fn written(state: &PoolState) -> Option<String> {
    state.to_write().status.and_then(|status| status.allocated_ips)
}

fn claim(state: &mut PoolState, nic: &str) -> Option<(String, bool)> {
    let taken = state.claim(&owner(nic), None, &RangeSet::new()).ok()?;
    Some((taken.ip.to_string(), taken.new))
}

#[test]
fn what_was_written_is_carried_over_only_to_an_object_that_says_the_same() {
    let mut state = read(pool("10.77.1.10-10.77.1.12", None));
    assert_eq!(claim(&mut state, "eth0"), Some(("10.77.1.10".to_owned(), true)));
    let mut answered = state.to_write();
    answered.metadata.resource_version = Some("2".to_owned());
    let (state, rests) = (state.written_as(Arc::new(answered.clone())), Rests::default());
    // Counts and conditions are the operator's, and change nothing about addresses.
    let mut later = answered.clone();
    later.metadata.resource_version = Some("3".to_owned());
    later.status.get_or_insert_default().total_ip_count = Some(3);
    let mut carried = state.clone().carry_over(&Arc::new(later.clone()), &rests).unwrap();
    assert_eq!(carried.object().metadata.resource_version.as_deref(), Some("3"));
    assert_eq!(claim(&mut carried, "eth0"), Some(("10.77.1.10".to_owned(), false)));
    assert_eq!(claim(&mut carried, "net1"), Some(("10.77.1.11".to_owned(), true)));
    assert_eq!(
        carried.to_write().status.and_then(|status| status.total_ip_count),
        Some(3)
    );
    let mut others = later.clone();
    others.status.get_or_insert_default().allocated_ips = None;
    assert!(state.clone().carry_over(&Arc::new(others), &rests).is_none());
    let mut held = later.clone();
    held.status.get_or_insert_default().held_ips = Some("{}".to_owned());
    assert!(state.clone().carry_over(&Arc::new(held), &rests).is_none());
    let mut smaller = later;
    smaller.spec.ips = Some(vec!["10.77.1.10".to_owned()]);
    assert!(state.carry_over(&Arc::new(smaller), &rests).is_none());
}

#[test]
fn a_repeated_claim_gives_the_same_address_and_another_nic_another_one() {
    let mut state = read(pool("10.77.1.10-10.77.1.12", None));
    assert_eq!(claim(&mut state, "eth0"), Some(("10.77.1.10".to_owned(), true)));
    assert_eq!(claim(&mut state, "eth0"), Some(("10.77.1.10".to_owned(), false)));
    assert_eq!(claim(&mut state, "net1"), Some(("10.77.1.11".to_owned(), true)));
    let text = written(&state).unwrap();
    let expected = format!(
        r#"{{"10.77.1.10":{{"pod":"retail/shop","podUid":"{UID}","nic":"eth0"}},"10.77.1.11":{{"pod":"retail/shop","podUid":"{UID}","nic":"net1"}}}}"#
    );
    assert_eq!(text, expected);
    assert_eq!(state.to_write().status.unwrap().allocated_ip_count, Some(2));
}

#[test]
fn a_record_of_the_peer_becomes_the_asking_nics_and_keeps_what_else_it_says() {
    let text = format!(r#"{{"10.77.1.11":{{"pod":"retail/shop","podUid":"{UID}","later":7}}}}"#);
    let mut state = read(pool("10.77.1.10-10.77.1.12", Some(&text)));
    let taken = state.claim(&owner("eth0"), None, &RangeSet::new()).unwrap();
    assert_eq!(
        (taken.ip.to_string().as_str(), taken.new, taken.written),
        ("10.77.1.11", false, true)
    );
    let text = written(&state).unwrap();
    assert!(text.contains(r#""nic":"eth0","later":7"#), "{text}");
    assert_eq!(claim(&mut state, "net1"), Some(("10.77.1.10".to_owned(), true)));
}

#[test]
fn reserved_and_held_addresses_are_not_given_out() {
    let mut object = pool("10.77.1.10-10.77.1.12", None);
    object.status.get_or_insert_default().held_ips = Some(r#"{"10.77.1.11":{"reason":"Conflict"}}"#.to_owned());
    let mut state = read(object);
    let reserved = RangeSet::from(spiderpool_ipam::text::parse_range(Family::V4, "10.77.1.10").unwrap());
    let taken = state.claim(&owner("eth0"), None, &reserved).unwrap();
    assert_eq!(taken.ip.to_string(), "10.77.1.12");
    let rejection = state.claim(&owner("net1"), None, &reserved).unwrap_err();
    assert_eq!(
        rejection.line("p"),
        "PoolExhausted 1/3: all IP addresses used out in IPPool p: 1 of 3 in use, 2 reserved or held back"
    );
}

#[test]
fn nobody_gets_the_gateway_though_it_is_among_the_addresses() {
    let mut wrong = pool("10.77.1.1-10.77.1.2", None);
    wrong.spec.gateway = Some("10.77.1.1".to_owned());
    let mut state = read(wrong);
    assert_eq!(claim(&mut state, "eth0"), Some(("10.77.1.2".to_owned(), true)));
    assert_eq!(claim(&mut state, "net1"), None);
    let gateway = "10.77.1.1".parse().unwrap();
    let refused = state.claim(&owner("net1"), Some(gateway), &RangeSet::new());
    assert_eq!(refused.unwrap_err(), Rejection::AddressOutside(gateway));
    let mut unreadable = pool("10.77.1.1", None);
    unreadable.spec.gateway = Some("router".to_owned());
    assert!(claim(&mut read(unreadable), "eth0").is_some());
}

#[test]
fn a_closed_pool_takes_no_new_owner_but_knows_its_old_ones() {
    let text = format!(r#"{{"10.77.1.10":{{"pod":"retail/shop","podUid":"{UID}","nic":"eth0"}}}}"#);
    let mut object = pool("10.77.1.10-10.77.1.12", Some(&text));
    object.spec.disable = Some(true);
    let mut state = read(object);
    assert_eq!(claim(&mut state, "eth0"), Some(("10.77.1.10".to_owned(), false)));
    let refused = |change: fn(&mut SpiderIPPool)| {
        let mut object = pool("10.77.1.10-10.77.1.12", Some(&text));
        change(&mut object);
        let claimed = read(object).claim(&owner("net1"), None, &RangeSet::new());
        claimed.unwrap_err().word()
    };
    assert_eq!(refused(|pool| pool.spec.disable = Some(true)), "Disabled");
    assert_eq!(refused(|pool| pool.metadata.generation = Some(2)), "NotReady");
    assert_eq!(
        refused(|pool| pool.metadata.deletion_timestamp = Some(Time(k8s_openapi::jiff::Timestamp::UNIX_EPOCH))),
        "Terminating"
    );
}

#[test]
fn an_exact_address_is_given_or_refused_with_the_reason() {
    let text = r#"{"10.77.1.11":{"pod":"retail/other","podUid":"u","nic":"eth0"}}"#;
    let mut state = read(pool("10.77.1.10-10.77.1.13", Some(text)));
    let reserved = RangeSet::from(spiderpool_ipam::text::parse_range(Family::V4, "10.77.1.10").unwrap());
    let mut claim = |address: &str, nic: &str| {
        let claimed = state.claim(&owner(nic), Some(address.parse().unwrap()), &reserved);
        claimed
            .map(|taken| taken.ip.to_string())
            .map_err(|rejection| rejection.line("p"))
    };
    for (address, line) in [
        (
            "10.77.1.10",
            "AddressHeld: 10.77.1.10 of IPPool p is reserved by a SpiderReservedIP",
        ),
        (
            "10.77.1.11",
            "AddressTaken: 10.77.1.11 of IPPool p is in use by Pod retail/other",
        ),
        (
            "10.77.1.14",
            "AddressOutside: 10.77.1.14 is none of the addresses of IPPool p",
        ),
        (
            "fd77::1",
            "AddressOutside: fd77::1 is none of the addresses of IPPool p",
        ),
    ] {
        assert_eq!(claim(address, "eth0"), Err(line.to_owned()));
    }
    assert_eq!(claim("10.77.1.13", "eth0"), Ok("10.77.1.13".to_owned()));
    // What a NIC has it keeps, whatever is asked for by now.
    assert_eq!(claim("10.77.1.12", "eth0"), Ok("10.77.1.13".to_owned()));
}

#[test]
fn a_pool_whose_object_is_as_large_as_can_be_written_counts_as_full_until_records_go() {
    let uid = |n: u32| format!("{n:08x}-5f0e-4a4b-9a36-0f5d6f4e2a10");
    let pod = "x".repeat(400);
    let records: serde_json::Map<String, serde_json::Value> = (0..2200_u32)
        .map(|n| {
            let ip = std::net::Ipv4Addr::from(0x0a4d_0000 + n).to_string();
            (
                ip,
                json!({"pod": format!("retail/{pod}"), "podUid": uid(n), "nic": "eth0"}),
            )
        })
        .collect();
    let text = serde_json::to_string(&records).unwrap();
    let mut state = read(pool("10.77.0.0-10.77.15.255", Some(&text)));
    let mut claimed = 0_u32;
    let limit = loop {
        let owner = Owner {
            pod: format!("retail/{pod}"),
            uid: uid(10_000 + claimed),
            nic: Some("eth0".to_owned()),
        };
        match state.claim(&owner, None, &RangeSet::new()) {
            Ok(_) => claimed += 1,
            Err(rejection) => break rejection,
        }
    };
    assert_eq!(
        limit,
        Rejection::RecordLimit {
            records: 2200 + claimed as usize
        }
    );
    let size = serde_json::to_vec(&state.to_write()).unwrap().len();
    assert!((1_199_000..=1_200_000).contains(&size), "{size}");
    // What could not be recorded is not taken.
    assert_eq!(state.ledger().len(), 2200 + claimed as usize);
    assert_eq!(state.release(&format!("retail/{pod}"), &uid(7), "eth0").len(), 1);
    // The note that the address cools down gives way to the record.
    assert!(claim(&mut state, "eth0").is_some());
    let size = serde_json::to_vec(&state.to_write()).unwrap().len();
    assert!((1_199_000..=1_200_000).contains(&size), "{size}");
}

#[test]
fn a_release_compares_the_whole_owner() {
    let text = format!(r#"{{"10.77.1.10":{{"pod":"retail/shop","podUid":"{UID}","nic":"eth0"}}}}"#);
    let mut state = read(pool("10.77.1.10-10.77.1.12", Some(&text)));
    assert!(state.release("retail/other", UID, "eth0").is_empty());
    assert!(state.release("retail/shop", "another-uid", "eth0").is_empty());
    assert!(state.release("retail/shop", UID, "net1").is_empty());
    assert_eq!(state.release("retail/shop", UID, "eth0").len(), 1);
    assert_eq!(written(&state), None);
    assert_eq!(state.to_write().status.unwrap().allocated_ip_count, Some(0));
}

#[test]
fn broken_records_make_a_pool_unusable_instead_of_empty() {
    for text in [
        "{",
        r#"{"10.77.1.300":{}}"#,
        r#"{"fd00::1":{"pod":"a/b","podUid":"c"}}"#,
    ] {
        let error = PoolState::read(Arc::new(pool("10.77.1.10", Some(text))))
            .unwrap_err()
            .to_string();
        assert!(error.contains("IPPool p"), "{error}");
    }
}
