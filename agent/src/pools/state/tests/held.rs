//! Addresses that cool down or are in quarantine.

use super::*;

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
        state.claim(&owner(nic), None, &none).unwrap();
        object = state.to_write();
    }
    for (second, nic) in [(103, "net1"), (104, "eth0")] {
        let mut state = PoolState::read_at(Arc::new(object), at(second)).unwrap();
        assert_eq!(state.release("retail/shop", UID, nic).len(), 1);
        object = state.to_write();
    }
    let mut soon = PoolState::read_at(Arc::new(object.clone()), at(105)).unwrap();
    assert!(soon.has_free(&none));
    let taken = |state: &mut PoolState, n| {
        state
            .claim(&another(n), None, &none)
            .ok()
            .map(|taken| taken.ip.to_string())
    };
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
        .filter_map(|n| state.claim(&another(n), None, &none).ok())
        .map(|taken| taken.ip.to_string())
        .collect();
    assert_eq!(taken.len(), 7);
    assert_eq!(taken[5..], ["10.77.1.12", "10.77.1.13"]);
}
