use super::*;
use spiderpool_crds::{IPPoolSpec, IPPoolStatus};

const UID: &str = "0d3f0f5e-5f0e-4a4b-9a36-0f5d6f4e2a10";

fn pool(ips: &str, records: Option<&str>) -> SpiderIPPool {
    let spec = IPPoolSpec {
        subnet: "10.77.0.0/20".to_owned(),
        ips: Some(vec![ips.to_owned()]),
        ..IPPoolSpec::default()
    };
    let mut pool = SpiderIPPool::new("p", spec);
    pool.status = Some(IPPoolStatus {
        allocated_ips: records.map(str::to_owned),
        ..IPPoolStatus::default()
    });
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
    let taken = state.claim(&owner(nic), &RangeSet::new())?;
    Some((taken.ip.to_string(), taken.new))
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
    let taken = state.claim(&owner("eth0"), &RangeSet::new()).unwrap();
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
    let taken = state.claim(&owner("eth0"), &reserved).unwrap();
    assert_eq!(taken.ip.to_string(), "10.77.1.12");
    assert_eq!(state.claim(&owner("net1"), &reserved), None);
}

#[test]
fn a_closed_pool_takes_no_new_owner_but_knows_its_old_ones() {
    let text = format!(r#"{{"10.77.1.10":{{"pod":"retail/shop","podUid":"{UID}","nic":"eth0"}}}}"#);
    let mut object = pool("10.77.1.10-10.77.1.12", Some(&text));
    object.spec.disable = Some(true);
    let mut state = read(object);
    assert_eq!(claim(&mut state, "eth0"), Some(("10.77.1.10".to_owned(), false)));
    assert_eq!(claim(&mut state, "net1"), None);
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

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn another(n: usize) -> Owner {
    Owner {
        pod: format!("retail/other-{n}"),
        uid: format!("other-{n}"),
        nic: Some("eth0".to_owned()),
    }
}

#[test]
fn an_address_that_was_just_freed_is_chosen_last_and_the_longest_free_first() {
    let (mut object, none) = (pool("10.77.1.10-10.77.1.12", None), RangeSet::new());
    for (second, nic) in [(100, "eth0"), (101, "net1"), (102, "net2")] {
        let mut state = PoolState::read_at(Arc::new(object), at(second)).unwrap();
        state.claim(&owner(nic), &none).unwrap();
        object = state.to_write();
    }
    for (second, nic) in [(103, "net1"), (104, "eth0")] {
        let mut state = PoolState::read_at(Arc::new(object), at(second)).unwrap();
        assert_eq!(state.release("retail/shop", UID, nic).len(), 1);
        object = state.to_write();
    }
    let mut soon = PoolState::read_at(Arc::new(object.clone()), at(105)).unwrap();
    assert!(soon.has_free(&none));
    let taken = |state: &mut PoolState, n| state.claim(&another(n), &none).map(|taken| taken.ip.to_string());
    assert_eq!(taken(&mut soon, 1).as_deref(), Some("10.77.1.11"));
    assert_eq!(taken(&mut soon, 2).as_deref(), Some("10.77.1.10"));
    assert_eq!(soon.to_write().status.unwrap().held_ips, None);
    let mut later = PoolState::read_at(Arc::new(object), at(109)).unwrap();
    assert_eq!(taken(&mut later, 1).as_deref(), Some("10.77.1.10"));
}

#[test]
fn an_address_of_a_foreign_host_is_nobodys_until_it_is_over() {
    let text = format!(r#"{{"10.77.1.10":{{"pod":"retail/shop","podUid":"{UID}","nic":"eth0"}}}}"#);
    let mut state = PoolState::read_at(Arc::new(pool("10.77.1.10-10.77.1.13", Some(&text))), at(100)).unwrap();
    let ip = "10.77.1.10".parse().unwrap();
    assert_eq!(
        state.quarantine(ip, &owner("net1"), "02:09"),
        None,
        "another NIC has it"
    );
    assert_eq!(
        state.quarantine(ip, &owner("eth0"), "02:09"),
        Some(HeldReason::Quarantined)
    );
    let object = state.to_write();
    let status = object.status.clone().unwrap();
    assert_eq!((status.allocated_ips, status.allocated_ip_count), (None, Some(0)));
    let held = r#"{"10.77.1.10":{"reason":"Quarantined","until":"1970-01-01T00:11:40Z","by":"02:09"}}"#;
    assert_eq!(status.held_ips.as_deref(), Some(held));
    let lowest = |second| {
        let mut state = PoolState::read_at(Arc::new(object.clone()), at(second)).unwrap();
        claim(&mut state, "eth0").unwrap().0
    };
    assert_eq!(lowest(699), "10.77.1.11");
    assert_eq!(lowest(700), "10.77.1.10");
}

#[test]
fn at_most_a_quarter_of_a_pool_is_in_quarantine_and_the_rest_comes_last() {
    let mut state = PoolState::read_at(Arc::new(pool("10.77.1.10-10.77.1.18", None)), at(100)).unwrap();
    let reasons: Vec<_> = (10..14)
        .map(|n| state.quarantine(format!("10.77.1.{n}").parse().unwrap(), &owner("eth0"), "02:09"))
        .collect();
    let expected = [
        HeldReason::Quarantined,
        HeldReason::Quarantined,
        HeldReason::Cooling,
        HeldReason::Cooling,
    ];
    assert_eq!(reasons, expected.map(Some));
    let none = RangeSet::new();
    let taken: Vec<String> = (0..9)
        .filter_map(|n| state.claim(&another(n), &none))
        .map(|taken| taken.ip.to_string())
        .collect();
    assert_eq!(taken.len(), 7);
    assert_eq!(taken[5..], ["10.77.1.12", "10.77.1.13"]);
}
