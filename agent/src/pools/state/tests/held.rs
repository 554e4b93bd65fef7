//! Addresses that cool down or are in quarantine.

use super::*;
use crate::pools::size::LARGEST_WRITE;
use spiderpool_crds::records::HeldReason;

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
        state.quarantine(ip, &owner("net1"), "02:09", 25),
        None,
        "another NIC has it"
    );
    assert_eq!(
        state.quarantine(ip, &owner("eth0"), "02:09", 25),
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
        .map(|n| state.quarantine(format!("10.77.1.{n}").parse().unwrap(), &owner("eth0"), "02:09", 25))
        .collect();
    let expected = [
        HeldReason::Quarantined,
        HeldReason::Quarantined,
        HeldReason::Cooling,
        HeldReason::Cooling,
    ];
    assert_eq!(reasons, expected.map(Some));
    assert_eq!([0, 25, 100].map(|percent| hold::share(9, percent)), [0, 2, 9]);
    assert_eq!(hold::share(u128::MAX, 100), u128::MAX);
    let none = RangeSet::new();
    let taken: Vec<String> = (0..9)
        .filter_map(|n| state.claim(&another(n), None, &none).ok())
        .map(|taken| taken.ip.to_string())
        .collect();
    assert_eq!(taken.len(), 7);
    assert_eq!(taken[5..], ["10.77.1.12", "10.77.1.13"]);
}

#[test]
fn in_a_full_object_a_quarantine_is_noted_as_long_as_notes_of_cooling_can_give_way() {
    let held = |n: u32, reason: &str| {
        let ip = std::net::Ipv4Addr::from(0x0a4d_0000 + n).to_string();
        (
            ip,
            json!({"reason": reason, "until": "1970-01-01T01:00:00Z", "by": "retail/a"}),
        )
    };
    let notes: serde_json::Map<String, serde_json::Value> = (0..3_u32)
        .map(|n| held(n, "Cooling"))
        .chain([held(3, "Quarantined")])
        .collect();
    let with_filling = |length: usize| {
        let mut object = pool("10.77.0.0-10.77.15.255", None);
        object.status.get_or_insert_default().held_ips = Some(serde_json::to_string(&notes).unwrap());
        object.metadata.annotations = Some([("note".to_owned(), "x".repeat(length))].into());
        object
    };
    let rest = LARGEST_WRITE - serde_json::to_vec(&with_filling(0)).unwrap().len();
    let mut state = PoolState::read_at(Arc::new(with_filling(rest - 200)), at(100)).unwrap();
    let quarantined = (10..20_u32)
        .map_while(|n| {
            let ip = std::net::Ipv4Addr::from(0x0a4d_0000 + n).into();
            state.quarantine(ip, &owner("eth0"), "02:00:00:00:00:09", 25)
        })
        .count();
    let size = serde_json::to_vec(&state.to_write()).unwrap().len();
    assert!((3..=6).contains(&quarantined), "{quarantined}");
    assert!((LARGEST_WRITE - 300..=LARGEST_WRITE).contains(&size), "{size}");
    assert!(state.held().iter().all(|(_, held)| held.blocks()));
    assert_eq!(state.held().len(), 1 + quarantined);
    // A write that frees an address fits as well, with or without a note.
    let before = state.ledger().len();
    assert_eq!(
        state
            .claim(&owner("eth0"), None, &RangeSet::new())
            .map_err(|rejection| rejection.word())
            .err(),
        Some("RecordLimit")
    );
    assert_eq!(state.ledger().len(), before);
}

/// A pool with a cool-down of an hour, of which one pod has all addresses.
fn resting(when: Option<&str>) -> (SpiderIPPool, RangeSet) {
    let (mut object, none) = (pool("10.77.1.10-10.77.1.12", None), RangeSet::new());
    object.spec.reuse_cooldown = Some(3600);
    object.spec.reuse_when_cooling = when.map(str::to_owned);
    let mut state = PoolState::read_at(Arc::new(object), at(0)).unwrap();
    for n in 0..3 {
        state.claim(&another(n), None, &none).unwrap();
    }
    (state.to_write(), none)
}

fn release(object: SpiderIPPool, n: usize, second: i64) -> SpiderIPPool {
    let mut state = PoolState::read_at(Arc::new(object), at(second)).unwrap();
    let pod = another(n);
    assert_eq!(state.release(&pod.pod, &pod.uid, "eth0").len(), 1);
    state.to_write()
}

#[test]
fn what_rests_waits_for_its_own_identity_for_as_long_as_the_pool_says() {
    let (object, none) = resting(Some("Wait"));
    let object = release(release(object, 1, 100), 0, 101);
    let claim = |object: &SpiderIPPool, n, second, exact: Option<&str>| {
        let mut state = PoolState::read_at(Arc::new(object.clone()), at(second)).unwrap();
        let exact = exact.map(|text| text.parse().unwrap());
        let owner = Owner {
            uid: "successor".to_owned(),
            ..another(n)
        };
        let taken = state.claim(&owner, exact, &none);
        taken
            .map(|taken| taken.ip.to_string())
            .map_err(|rejection| rejection.line("p"))
    };
    let expected = "PoolCooling 1/3: all IP addresses used out in IPPool p: 1 of 3 in use, 2 cool down (spec.reuseCooldown), the \
                    first of them until 1970-01-01T01:01:40Z";
    assert_eq!(claim(&object, 7, 3699, None), Err(expected.to_owned()));
    assert_eq!(
        claim(&object, 7, 3699, Some("10.77.1.11")),
        Err(
            "AddressHeld: 10.77.1.11 of IPPool p is kept for retail/other-1, which had it, until 1970-01-01T01:01:40Z \
             (spec.reuseCooldown)"
                .to_owned()
        )
    );
    // The same identity has its own again at once, and others when the time is over.
    assert_eq!(claim(&object, 1, 102, None).as_deref(), Ok("10.77.1.11"));
    assert_eq!(claim(&object, 1, 102, Some("10.77.1.11")).as_deref(), Ok("10.77.1.11"));
    assert_eq!(claim(&object, 0, 102, None).as_deref(), Ok("10.77.1.10"));
    assert_eq!(claim(&object, 7, 3700, None).as_deref(), Ok("10.77.1.11"));
    let mut ended = object;
    ended.spec.reuse_cooldown = Some(0);
    assert_eq!(claim(&ended, 7, 102, None).as_deref(), Ok("10.77.1.11"));
}

#[test]
fn without_a_word_the_first_that_was_freed_is_given_out_when_nothing_else_is_left() {
    let (object, none) = resting(None);
    let object = release(release(object, 1, 100), 0, 101);
    let mut state = PoolState::read_at(Arc::new(object.clone()), at(102)).unwrap();
    let mut taken = |n| {
        state
            .claim(&another(n), None, &none)
            .ok()
            .map(|taken| taken.ip.to_string())
    };
    assert_eq!(taken(7).as_deref(), Some("10.77.1.11"));
    assert_eq!(taken(8).as_deref(), Some("10.77.1.10"));
    assert_eq!(taken(9), None);
}

#[test]
fn a_quarantine_does_not_end_a_rest_sooner() {
    let (object, none) = resting(Some("Wait"));
    let object = release(object, 1, 100);
    let mut state = PoolState::read_at(Arc::new(object), at(200)).unwrap();
    let ip = "10.77.1.11".parse().unwrap();
    assert_eq!(
        state.quarantine(ip, &another(1), "02:09", 100),
        Some(HeldReason::Quarantined)
    );
    assert_eq!(state.held().get(ip).unwrap().until, Some(at(3700)));
    // There is no room for another quarantine, and the address rests from now on.
    let ip = "10.77.1.10".parse().unwrap();
    assert_eq!(
        state.quarantine(ip, &another(0), "02:09", 34),
        Some(HeldReason::Cooling)
    );
    assert_eq!(state.held().get(ip).unwrap().until, Some(at(3800)));
    assert!(state.claim(&another(7), None, &none).is_err());
    assert!(state.claim(&another(0), None, &none).is_ok());
}

#[test]
fn more_addresses_than_a_list_has_room_for_rest_and_claims_of_a_batch_stay_quick() {
    let mut object = pool("10.77.0.0-10.77.15.255", None);
    object.spec.reuse_cooldown = Some(3600);
    let another = |n: usize| Owner {
        uid: format!("{n:08x}-5f0e-4a4b-9a36-0f5d6f4e2a10"),
        ..another(n)
    };
    let (mut state, none) = (PoolState::read_at(Arc::new(object), at(0)).unwrap(), RangeSet::new());
    for n in 0..1000 {
        state.claim(&another(n), None, &none).unwrap();
    }
    for n in 0..1000 {
        let pod = another(n);
        assert_eq!(state.release(&pod.pod, &pod.uid, "eth0").len(), 1);
    }
    assert_eq!(state.held().len(), 1000);
    let size = |state: &PoolState| serde_json::to_vec(&state.to_write()).unwrap().len();
    let rested = size(&state);
    // Each finds its own, from the first to the last.
    for n in (0..1000).rev() {
        let taken = state.claim(&another(n), None, &none).unwrap();
        assert_eq!(
            taken.ip,
            std::net::Ipv4Addr::from(0x0a4d_0000 + u32::try_from(n).unwrap())
        );
    }
    assert!(state.held().is_empty());
    assert!(size(&state) > rested, "a note is no longer than a record");
}
