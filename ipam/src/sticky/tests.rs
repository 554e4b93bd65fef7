use super::*;
use crate::candidates::Level;
use crate::cidr::Cidr;
use proptest::prelude::*;
use std::collections::BTreeSet;

fn ordinals(start: u64, replicas: u64, reserved: &[u64]) -> Ordinals {
    Ordinals {
        start,
        replicas,
        reserved: reserved.iter().map(|ordinal| u128::from(*ordinal)).collect(),
    }
}

fn members(set: &Ordinals) -> Vec<u64> {
    (0..40).filter(|ordinal| set.contains(*ordinal)).collect()
}

#[test]
fn a_set_has_as_many_ordinals_as_replicas() {
    for (set, expected) in [
        (ordinals(0, 0, &[]), vec![]),
        (ordinals(0, 3, &[]), vec![0, 1, 2]),
        (ordinals(5, 2, &[]), vec![5, 6]),
        (ordinals(0, 3, &[1]), vec![0, 2, 3]),
        (ordinals(0, 3, &[0, 2, 3, 9]), vec![1, 4, 5]),
        (ordinals(4, 3, &[1, 5]), vec![4, 6, 7]),
        (ordinals(0, 0, &[0]), vec![]),
    ] {
        assert_eq!(members(&set), expected, "{set:?}");
    }
    let all = ordinals(u64::MAX - 1, 9, &[]);
    assert!(all.contains(u64::MAX) && !all.contains(3));
}

#[test]
fn names_that_a_set_does_not_write_have_no_ordinal() {
    for (set, pod, expected) in [
        ("web", "web-0", Some(0)),
        ("web", "web-12", Some(12)),
        ("web-1", "web-1-0", Some(0)),
        ("web", "web-1-0", None),
        ("web", "web-01", None),
        ("web", "web-", None),
        ("web", "web-+1", None),
        ("web", "web-x", None),
        ("web", "other-1", None),
        ("web", "web", None),
        ("web", "web-99999999999999999999999", None),
    ] {
        assert_eq!(ordinal(set, pod), expected, "{set} {pod}");
    }
}

proptest! {
    #[test]
    fn ordinals_are_those_that_counting_finds(
        start in 0u64..9, replicas in 0u64..12, reserved in prop::collection::btree_set(0u64..30, 0..12)
    ) {
        let set = ordinals(start, replicas, &reserved.iter().copied().collect::<Vec<_>>());
        let counted: BTreeSet<u64> = (start..)
            .filter(|ordinal| !reserved.contains(ordinal))
            .take(usize::try_from(replicas).unwrap())
            .collect();
        for ordinal in 0..60 {
            prop_assert_eq!(set.contains(ordinal), counted.contains(&ordinal), "{}", ordinal);
        }
    }

    #[test]
    fn growing_a_set_takes_no_ordinal_away(
        start in 0u64..9, replicas in 0u64..12, more in 0u64..12, reserved in prop::collection::vec(0u64..30, 0..12),
        ordinal in 0u64..60
    ) {
        let small = ordinals(start, replicas, &reserved);
        let large = ordinals(start, replicas + more, &reserved);
        prop_assert!(!small.contains(ordinal) || large.contains(ordinal));
    }
}

#[test]
fn a_machine_stays_while_it_or_its_instance_may_run_again() {
    let instance = |terminating, of_machine| {
        Some(Instance {
            terminating,
            of_machine,
        })
    };
    for (seen, machine, stays) in [
        (instance(false, false), None, true),
        (instance(false, true), Some(Terminating::Yes), true),
        (instance(true, false), Some(Terminating::No), false),
        (instance(true, true), Some(Terminating::No), true),
        (instance(true, true), Some(Terminating::Yes), false),
        (instance(true, true), None, false),
        (None, Some(Terminating::No), true),
        (None, Some(Terminating::Yes), false),
        (None, None, false),
    ] {
        assert_eq!(machine_stays(seen, machine), stays, "{seen:?} {machine:?}");
    }
}

/// An address of pool `p`, for a pod that asks for `p` and `q`.
struct Case {
    asked: Asked,
    pool: PoolFacts,
    pod: PodFacts,
    place: Place,
    address: &'static str,
    reserved: RangeSet,
}

impl Case {
    fn new() -> Self {
        let names = ["p", "q"].map(str::to_owned).to_vec();
        Self {
            asked: Asked::new(Level::IPPool, names, Vec::new(), false),
            pool: PoolFacts {
                name: "p".to_owned(),
                subnet: Some(Cidr::parse("10.0.0.0/24").unwrap()),
                ready: true,
                ..PoolFacts::default()
            },
            pod: PodFacts::default(),
            place: Place::Asked,
            address: "10.0.0.5",
            reserved: RangeSet::new(),
        }
    }

    fn with(change: impl FnOnce(&mut Self)) -> Fate {
        let mut case = Self::new();
        change(&mut case);
        let first = u128::from(u32::from_be_bytes([10, 0, 0, 1]));
        let total: RangeSet = Range::new(first, first + 9).into_iter().collect();
        let recorded = Recorded {
            address: case.address.parse().unwrap(),
            pool: &case.pool,
            place: case.place,
            total: &total,
            reserved: &case.reserved,
        };
        fate(&case.asked, &case.pod, &recorded)
    }
}

#[test]
fn an_address_is_kept_while_its_pool_is_asked_for_and_fits() {
    assert_eq!(Case::with(|_| {}), Fate::Keep);
    assert_eq!(Case::with(|case| case.pool.disabled = true), Fate::Keep);
    assert_eq!(Case::with(|case| case.pool.ready = false), Fate::Keep);
    let exact = |address: &str| {
        let address = address.parse().unwrap();
        move |case: &mut Case| {
            case.pod.exact.insert(Family::V4, address);
        }
    };
    assert_eq!(Case::with(exact("10.0.0.5")), Fate::Keep);
    assert_eq!(
        Case::with(exact("10.0.0.6")),
        Fate::Leave(Rejection::AddressOutside("10.0.0.6".parse().unwrap()))
    );
}

#[test]
fn an_address_of_a_pool_on_its_way_out_is_the_last_resort() {
    assert_eq!(Case::with(|case| case.pool.terminating = true), Fate::LastResort);
    assert_eq!(Case::with(|case| case.place = Place::Elsewhere), Fate::LastResort);
}

#[test]
fn an_address_that_may_not_serve_any_more_is_left() {
    let left = |change: fn(&mut Case)| match Case::with(change) {
        Fate::Leave(rejection) => rejection,
        other => panic!("{other:?}"),
    };
    assert_eq!(left(|case| case.pool.name = "r".to_owned()), Rejection::NoMatch);
    assert_eq!(left(|case| case.place = Place::Foreign), Rejection::NoMatch);
    assert_eq!(left(|case| case.asked.names.clear()), Rejection::NoMatch);
    assert!(matches!(
        left(|case| case.pool.node_names = vec!["n9".to_owned()]),
        Rejection::Affinity(_)
    ));
    assert!(matches!(
        left(|case| (case.pool.terminating, case.pool.node_names) = (true, vec!["n9".to_owned()])),
        Rejection::Affinity(_)
    ));
    assert_eq!(
        left(|case| case.address = "10.0.0.77"),
        Rejection::AddressOutside("10.0.0.77".parse().unwrap())
    );
    assert!(matches!(
        left(|case| case.reserved = [u128::from(u32::from_be_bytes([10, 0, 0, 5]))].into_iter().collect()),
        Rejection::AddressHeld { .. }
    ));
}
