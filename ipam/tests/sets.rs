//! Range sets against a naive model: a set of numbers out of a small universe at either end of the number space.

use proptest::prelude::*;
use spiderpool_ipam::{Range, RangeSet};
use std::collections::BTreeSet;

const SIZE: u128 = 24;

type Model = BTreeSet<u128>;

/// Universes at the lowest numbers, the highest ones, and around the end of the IPv4 space.
fn base() -> impl Strategy<Value = u128> {
    prop_oneof![
        Just(0),
        Just(u128::MAX - (SIZE - 1)),
        Just(u128::from(u32::MAX) - SIZE / 2)
    ]
}

fn pieces() -> impl Strategy<Value = Vec<(u128, u128)>> {
    prop::collection::vec((0..SIZE, 0..6u128), 0..8)
}

fn ranges(base: u128, pieces: &[(u128, u128)]) -> Vec<Range> {
    let range = |(at, len): &(u128, u128)| Range::new(base + at, base + (at + len).min(SIZE - 1));
    pieces.iter().filter_map(range).collect()
}

fn model_of(ranges: &[Range]) -> Model {
    ranges.iter().flat_map(|range| range.first()..=range.last()).collect()
}

fn members(set: &RangeSet) -> Model {
    model_of(set.ranges())
}

fn well_formed(set: &RangeSet) -> bool {
    set.ranges()
        .windows(2)
        .all(|pair| pair[0].last() < pair[1].first() && pair[1].first() - pair[0].last() > 1)
}

proptest! {
    #[test]
    fn building_joins_and_sorts(base in base(), pieces in pieces()) {
        let ranges = ranges(base, &pieces);
        let at_once: RangeSet = ranges.iter().copied().collect();
        let mut one_by_one = RangeSet::new();
        for range in &ranges {
            one_by_one.insert(*range);
            prop_assert!(well_formed(&one_by_one));
        }
        let singles: RangeSet = model_of(&ranges).into_iter().rev().collect();
        prop_assert!(well_formed(&at_once));
        prop_assert_eq!(members(&at_once), model_of(&ranges));
        prop_assert_eq!(&one_by_one, &at_once);
        prop_assert_eq!(&singles, &at_once);
    }

    #[test]
    fn two_sets_combine_as_the_model_does(base in base(), a in pieces(), b in pieces()) {
        let (a, b): (RangeSet, RangeSet) =
            (ranges(base, &a).into_iter().collect(), ranges(base, &b).into_iter().collect());
        let (ma, mb) = (members(&a), members(&b));
        for (set, model) in [
            (a.union(&b), &ma | &mb),
            (a.difference(&b), &ma - &mb),
            (a.intersection(&b), &ma & &mb),
        ] {
            prop_assert!(well_formed(&set));
            prop_assert_eq!(members(&set), model);
        }
        prop_assert_eq!(a.intersects(&b), !ma.is_disjoint(&mb));
        prop_assert_eq!(a.is_subset_of(&b), ma.is_subset(&mb));
        prop_assert_eq!(a.first_outside(&b), ma.difference(&mb).next().copied());
    }

    #[test]
    fn one_set_answers_as_the_model_does(base in base(), pieces in pieces(), n in 0..SIZE + 2) {
        let set: RangeSet = ranges(base, &pieces).into_iter().collect();
        let model = members(&set);
        let take = usize::try_from(n).unwrap();
        prop_assert_eq!(set.count(), model.len() as u128);
        prop_assert_eq!(set.is_empty(), model.is_empty());
        prop_assert_eq!(set.first(), model.first().copied());
        prop_assert_eq!(set.nth(n), model.iter().nth(take).copied());
        prop_assert_eq!(members(&set.first_n(n)), model.iter().take(take).copied().collect::<Model>());
        prop_assert_eq!(members(&set.last_n(n)), model.iter().rev().take(take).copied().collect::<Model>());
        for addr in base..=base + (SIZE - 1) {
            prop_assert_eq!(set.contains(addr), model.contains(&addr));
            prop_assert_eq!(set.range_of(addr).is_some(), model.contains(&addr));
        }
    }
}

#[test]
fn the_whole_space_is_a_set() {
    let whole = RangeSet::from(Range::new(0, u128::MAX).unwrap());
    assert_eq!(whole.count(), u128::MAX);
    assert_eq!(whole.nth(u128::MAX), Some(u128::MAX));
    assert_eq!(whole.first_n(1).ranges(), [Range::single(0)]);
    assert_eq!(whole.last_n(1).ranges(), [Range::single(u128::MAX)]);
    assert!(whole.difference(&whole).is_empty());
    assert_eq!(whole.union(&whole), whole);
    assert_eq!(whole.first_outside(&whole), None);
    let ends: RangeSet = [0, u128::MAX].into_iter().collect();
    assert_eq!(
        whole.difference(&ends).ranges(),
        [Range::new(1, u128::MAX - 1).unwrap()]
    );
    assert_eq!(whole.difference(&ends).union(&ends), whole);
    assert_eq!(ends.nth(1), Some(u128::MAX));
    let mut built = ends.clone();
    built.insert(Range::new(1, u128::MAX - 1).unwrap());
    assert_eq!(built, whole);
    assert_eq!(Range::new(1, 0), None);
}
