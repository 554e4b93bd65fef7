//! What was freed, against a naive model: a list of notes.

use proptest::prelude::*;
use spiderpool_ipam::hold::{Note, Reuse, Shelf, WhenCooling};
use spiderpool_ipam::{Ledger, Owner, Range, RangeSet};
use std::collections::BTreeMap;
use std::time::Duration;

const SIZE: u128 = 6;

#[derive(Clone, Debug)]
enum Step {
    /// A pod of this identity wants an address.
    Claim(u8),
    /// One of those that have an address ends.
    Release(prop::sample::Index),
    /// Somebody notes something else of an address.
    Put(u128, bool),
    /// Time goes by, and notes that are over go.
    Pass(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => (0..5u8).prop_map(Step::Claim),
        4 => any::<prop::sample::Index>().prop_map(Step::Release),
        1 => (0..SIZE, any::<bool>()).prop_map(|(addr, blocks)| Step::Put(addr, blocks)),
        2 => (1..8u64).prop_map(Step::Pass),
    ]
}

fn reuse() -> impl Strategy<Value = Reuse> {
    let when = prop_oneof![Just(WhenCooling::Wait), Just(WhenCooling::Oldest)];
    (0..20u64, when).prop_map(|(seconds, when_cooling)| Reuse {
        cooldown: Duration::from_secs(seconds),
        when_cooling,
    })
}

#[derive(Clone, Debug, PartialEq)]
enum Noted {
    Freed(String),
    Doubtful,
    Blocked,
}

proptest! {
    #[test]
    fn nobody_is_given_what_waits_for_another_and_nothing_is_kept_back_that_need_not_be(
        reuse in reuse(),
        reserved in 0..SIZE,
        steps in prop::collection::vec(step(), 0..80),
    ) {
        let reserved = RangeSet::from(Range::single(reserved));
        let mut ledger = Ledger::new(Range::new(0, SIZE - 1).into_iter().collect());
        let (mut shelf, mut model) = (Shelf::new(reuse), BTreeMap::<u128, (u64, Noted)>::new());
        let (mut now, mut uid) = (0_u64, 0);
        for step in steps {
            match step {
                Step::Claim(identity) => {
                    uid += 1;
                    let owner = Owner { pod: format!("ns/p{identity}"), uid: format!("u{uid}"), nic: None };
                    let free = |addr: &u128| ledger.is_free(*addr) && !reserved.contains(*addr);
                    let waits = reuse.cooldown > Duration::ZERO && reuse.when_cooling == WhenCooling::Wait;
                    let best = (0..SIZE).filter(free).filter_map(|addr| {
                        let rank = match model.get(&addr) {
                            None => (1, 0, addr),
                            Some((until, Noted::Freed(by))) if *by == owner.pod && !reuse.cooldown.is_zero() => {
                                // Of its own the one that it had last.
                                (0, u64::MAX - until, SIZE - addr)
                            }
                            Some((_, Noted::Freed(by))) if *by != owner.pod && waits => return None,
                            Some((until, Noted::Freed(_) | Noted::Doubtful)) => (2, *until, addr),
                            Some((_, Noted::Blocked)) => return None,
                        };
                        Some((rank, addr))
                    });
                    let best = best.min().map(|(_, addr)| addr);
                    for addr in (0..SIZE).filter(free) {
                        let kept = match model.get(&addr) {
                            Some((_, Noted::Blocked)) => true,
                            Some((_, Noted::Freed(by))) => waits && *by != owner.pod,
                            Some((_, Noted::Doubtful)) | None => false,
                        };
                        prop_assert_eq!(shelf.keeps(addr, &owner.pod), kept);
                    }
                    if best.is_none() {
                        let resting = (0..SIZE).filter(free);
                        let resting = resting.filter_map(|addr| match model.get(&addr) {
                            Some((until, Noted::Freed(_))) if waits => Some(*until),
                            _ => None,
                        });
                        let resting: Vec<u64> = resting.collect();
                        let expected = resting.iter().min().map(|first| (resting.len(), Some(*first)));
                        prop_assert_eq!(shelf.awaited(&ledger, &reserved), expected);
                    }
                    let taken = shelf.take(&mut ledger, &owner, &reserved);
                    prop_assert_eq!(taken, best);
                    if let Some(addr) = taken {
                        shelf.remove(addr);
                        model.remove(&addr);
                    }
                }
                Step::Release(which) => {
                    let owned: Vec<(u128, Owner)> = ledger.records().map(|(addr, owner)| (addr, owner.clone())).collect();
                    if !owned.is_empty() {
                        let (addr, owner) = which.get(&owned);
                        prop_assert!(ledger.give_back(*addr, owner));
                        // What a foreign host answers for stays noted as that.
                        if !model.contains_key(addr) {
                            let until = now + reuse.time().as_secs();
                            shelf.put(*addr, Note::Freed(&owner.pod), Some(until));
                            model.insert(*addr, (until, Noted::Freed(owner.pod.clone())));
                        }
                    }
                }
                Step::Put(addr, blocks) => {
                    let (note, noted) = match blocks {
                        true => (Note::Blocked, Noted::Blocked),
                        false => (Note::Doubtful, Noted::Doubtful),
                    };
                    shelf.put(addr, note, Some(now + 10));
                    model.insert(addr, (now + 10, noted));
                }
                Step::Pass(seconds) => {
                    now += seconds;
                    let over = model.iter().filter(|(_, (until, _))| *until <= now);
                    let over: Vec<u128> = over.map(|(addr, _)| *addr).collect();
                    for addr in over {
                        shelf.remove(addr);
                        model.remove(&addr);
                    }
                }
            }
            let cooling = model.values().filter(|(_, noted)| *noted != Noted::Blocked).count();
            prop_assert_eq!(shelf.cooling(), cooling);
        }
    }
}

#[test]
fn a_note_without_an_end_is_the_last_that_is_given_out() {
    let mut shelf = Shelf::new(Reuse::default());
    shelf.put(1, Note::Doubtful, None);
    shelf.put(2, Note::Doubtful, Some(5));
    assert_eq!(shelf.expendable().collect::<Vec<u128>>(), [2, 1]);
}
