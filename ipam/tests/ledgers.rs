//! The ledger against a naive model: a map of owners over a set of numbers.

use proptest::prelude::*;
use spiderpool_ipam::{Ledger, Owner, Range, RangeSet};
use std::collections::{BTreeMap, BTreeSet};

const SIZE: u128 = 16;

#[derive(Clone, Debug)]
enum Step {
    Take(Owner, RangeSet),
    TakeExact(u128, Owner),
    GiveBack(u128, Owner),
    GiveBackOwn(usize),
    NameNic(u128, String, String),
    Resize(RangeSet),
}

fn owner() -> impl Strategy<Value = Owner> {
    let nic = prop_oneof![Just(None), Just(Some("eth0")), Just(Some("net1"))];
    (0..3u8, 0..3u8, nic).prop_map(|(pod, uid, nic)| Owner {
        pod: format!("ns/p{pod}"),
        uid: format!("u{uid}"),
        nic: nic.map(str::to_owned),
    })
}

fn set(base: u128) -> impl Strategy<Value = RangeSet> {
    prop::collection::vec((0..SIZE, 0..5u128), 0..4).prop_map(move |pieces| {
        pieces
            .iter()
            .filter_map(|(at, len)| Range::new(base + at, base + (at + len).min(SIZE - 1)))
            .collect()
    })
}

fn step(base: u128) -> impl Strategy<Value = Step> {
    let addr = move || (0..SIZE).prop_map(move |at| base + at);
    prop_oneof![
        4 => (owner(), set(base)).prop_map(|(owner, blocked)| Step::Take(owner, blocked)),
        4 => owner().prop_map(|owner| Step::Take(owner, RangeSet::new())),
        2 => (addr(), owner()).prop_map(|(addr, owner)| Step::TakeExact(addr, owner)),
        2 => (addr(), owner()).prop_map(|(addr, owner)| Step::GiveBack(addr, owner)),
        4 => any::<prop::sample::Index>().prop_map(|at| Step::GiveBackOwn(at.index(64))),
        1 => (addr(), "u[0-2]", "eth0|net1").prop_map(|(addr, uid, nic)| Step::NameNic(addr, uid, nic)),
        1 => set(base).prop_map(Step::Resize),
    ]
}

/// A pool at either end of the number space, and what happens to it.
fn history() -> impl Strategy<Value = (RangeSet, Vec<Step>)> {
    prop_oneof![Just(0), Just(u128::MAX - (SIZE - 1))]
        .prop_flat_map(|base| (set(base), prop::collection::vec(step(base), 0..60)))
}

#[derive(Default)]
struct Model {
    total: BTreeSet<u128>,
    records: BTreeMap<u128, Owner>,
}

fn members(set: &RangeSet) -> BTreeSet<u128> {
    set.ranges().iter().flat_map(|r| r.first()..=r.last()).collect()
}

impl Model {
    fn free(&self) -> BTreeSet<u128> {
        let taken = |addr: &&u128| !self.records.contains_key(*addr);
        self.total.iter().filter(taken).copied().collect()
    }

    fn owned_by(&self, uid: &str, nic: &str) -> Option<u128> {
        let with = |own: Option<&str>| {
            let same =
                |(addr, owner): (&u128, &Owner)| (owner.uid == uid && owner.nic.as_deref() == own).then_some(*addr);
            self.records.iter().find_map(same)
        };
        with(Some(nic)).or_else(|| with(None))
    }
}

fn agree(ledger: &Ledger, model: &Model) -> Result<(), TestCaseError> {
    let records: BTreeMap<u128, Owner> = ledger.records().map(|(addr, owner)| (addr, owner.clone())).collect();
    prop_assert_eq!(&records, &model.records);
    prop_assert!(ledger.records().map(|(addr, _)| addr).is_sorted());
    prop_assert_eq!(ledger.len(), model.records.len());
    prop_assert_eq!(ledger.is_empty(), model.records.is_empty());
    prop_assert_eq!(
        members(&ledger.used()),
        model.records.keys().copied().collect::<BTreeSet<_>>()
    );
    prop_assert_eq!(ledger.free_count(), model.free().len() as u128);
    prop_assert_eq!(ledger.has_free(&RangeSet::new()), !model.free().is_empty());
    for uid in ["u0", "u1", "u2"] {
        let own: Vec<u128> = ledger.of_pod(uid).map(|(addr, _)| addr).collect();
        let mine = |(addr, owner): (&u128, &Owner)| (owner.uid == uid).then_some(*addr);
        prop_assert_eq!(own, model.records.iter().filter_map(mine).collect::<Vec<_>>());
        for nic in ["eth0", "net1"] {
            prop_assert_eq!(ledger.owned_by(uid, nic), model.owned_by(uid, nic));
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn any_history_agrees_with_the_model((total, steps) in history()) {
        let mut model = Model { total: members(&total), ..Model::default() };
        let mut ledger = Ledger::new(total);
        for step in steps {
            match step {
                Step::Take(owner, blocked) => {
                    let lowest = model.free().into_iter().find(|addr| !blocked.contains(*addr));
                    prop_assert_eq!(ledger.has_free(&blocked), lowest.is_some());
                    prop_assert_eq!(ledger.take(owner.clone(), &blocked), lowest);
                    model.records.extend(lowest.map(|addr| (addr, owner)));
                }
                Step::TakeExact(addr, owner) => {
                    let free = model.free().contains(&addr);
                    prop_assert_eq!(ledger.take_exact(addr, owner.clone()), free);
                    model.records.extend(free.then_some((addr, owner)));
                }
                Step::GiveBack(addr, owner) => {
                    let right = model.records.get(&addr) == Some(&owner);
                    prop_assert_eq!(ledger.give_back(addr, &owner), right);
                    if right {
                        model.records.remove(&addr);
                    }
                }
                Step::GiveBackOwn(at) => {
                    let held = model.records.iter().nth(at % model.records.len().max(1));
                    if let Some((addr, owner)) = held.map(|(addr, owner)| (*addr, owner.clone())) {
                        prop_assert!(ledger.give_back(addr, &owner));
                        model.records.remove(&addr);
                    }
                }
                Step::NameNic(addr, uid, nic) => {
                    let unnamed = |owner: &&mut Owner| owner.uid == uid && owner.nic.is_none();
                    let owner = model.records.get_mut(&addr).filter(unnamed);
                    prop_assert_eq!(ledger.name_nic(addr, &uid, &nic), owner.is_some());
                    if let Some(owner) = owner {
                        owner.nic = Some(nic);
                    }
                }
                Step::Resize(total) => {
                    model.total = members(&total);
                    ledger.resize(total);
                }
            }
            agree(&ledger, &model)?;
            // What is built from the records is the same ledger.
            let records: Vec<(u128, Owner)> = ledger.records().map(|(addr, owner)| (addr, owner.clone())).collect();
            agree(&Ledger::with_records(ledger.total().clone(), records), &model)?;
        }
    }
}

#[test]
fn a_record_that_names_the_nic_comes_before_one_that_does_not() {
    let owner = |nic: Option<&str>| Owner {
        pod: "ns/p".into(),
        uid: "u".into(),
        nic: nic.map(str::to_owned),
    };
    let total = RangeSet::from(Range::new(1, 9).unwrap());
    let mut ledger = Ledger::with_records(total, [(1, owner(None)), (2, owner(Some("net1")))]);
    assert_eq!(ledger.owned_by("u", "net1"), Some(2));
    assert_eq!(ledger.owned_by("u", "eth0"), Some(1));
    assert_eq!(ledger.owned_by("u", "net2"), Some(1));
    assert!(ledger.name_nic(1, "u", "eth0"));
    assert_eq!(ledger.owned_by("u", "net2"), None);
    assert!(!ledger.give_back(1, &owner(None)));
    assert!(ledger.give_back(1, &owner(Some("eth0"))));
}

#[test]
fn the_size_of_a_pool_costs_nothing() {
    let mut ledger = Ledger::new(RangeSet::from(Range::new(0, u128::MAX).unwrap()));
    let owner = Owner {
        pod: "ns/p".into(),
        uid: "u".into(),
        nic: None,
    };
    assert!(ledger.take_exact(u128::MAX, owner.clone()));
    assert_eq!(ledger.take(owner.clone(), &RangeSet::new()), Some(0));
    assert!(ledger.give_back(u128::MAX, &owner));
    let low = RangeSet::from(Range::new(0, u128::MAX - 1).unwrap());
    assert_eq!(ledger.take(owner, &low), Some(u128::MAX));
}
