//! Addresses of pools that were observed before they gave them up.

use super::{Facts, PoolFact};
use crate::accounting::taken;
use crate::range::Range;
use crate::set::RangeSet;

/// Addresses that are accounted to some pool, or held by more than one.
///
/// An automatic pool that was observed to hold an address which is only accounted to others, or which another holds, gave
/// it up and was observed before that. The accounting is right then, and nobody is given the address on the word of the
/// old observation.
pub(super) struct Elsewhere(RangeSet);

impl Elsewhere {
    pub(super) fn of(facts: &Facts) -> Self {
        let mut held: Vec<Range> = facts
            .pools
            .iter()
            .flat_map(|pool| pool.ranges.ranges())
            .copied()
            .collect();
        held.sort();
        let mut top: Option<u128> = None;
        let mut twice = Vec::new();
        for range in held {
            twice.extend(top.and_then(|top| Range::new(range.first(), range.last().min(top))));
            top = top.max(Some(range.last()));
        }
        Self(taken(&facts.entries, None).union(&twice.into_iter().collect()))
    }

    /// Addresses of a pool without those that it was observed to hold but that are others'.
    pub(super) fn without(&self, facts: &Facts, pool: &PoolFact, ranges: RangeSet) -> RangeSet {
        let unaccounted = match facts.entries.get(&pool.name) {
            Some(entry) => pool.ranges.difference(&entry.ranges),
            None => pool.ranges.clone(),
        };
        let others = unaccounted.intersection(&self.0);
        if others.is_empty() {
            ranges
        } else {
            ranges.difference(&others)
        }
    }
}
