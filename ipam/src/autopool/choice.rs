//! Which addresses a pool gets, and which it gives up.
//!
//! The lowest free ones, and the highest free ones: so the pools of a subnet stay together at its lower end, and a user can
//! foresee them. Where that would make too many ranges, those that make the fewest.

use super::Blocked;
use crate::range::Range;
use crate::set::RangeSet;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// What a pool of these addresses has when it gets `count` more, or all that are there. Addresses reserved for it earlier
/// go first.
pub(super) fn grown(
    base: &RangeSet,
    count: u128,
    own: &RangeSet,
    free: &RangeSet,
    allows: impl Fn(&RangeSet) -> Result<(), Blocked>,
) -> Result<RangeSet, Blocked> {
    let lowest = base.union(&lowest(count, own, free));
    if allows(&lowest).is_ok() {
        return Ok(lowest);
    }
    let compact = base.union(&compact(count, base, &own.union(free)));
    allows(&compact).map(|()| compact)
}

fn lowest(count: u128, own: &RangeSet, free: &RangeSet) -> RangeSet {
    let first = own.first_n(count);
    let rest = count - first.count();
    first.union(&free.first_n(rest))
}

/// The choice that gives `base` the fewest ranges: first what lies between two of its ranges, then what touches one, then
/// the longest runs.
fn compact(count: u128, base: &RangeSet, free: &RangeSet) -> RangeSet {
    let mut runs: BinaryHeap<Run> = free
        .ranges()
        .iter()
        .map(|run| {
            let below = run.first().checked_sub(1).is_some_and(|addr| base.contains(addr));
            let above = run.last().checked_add(1).is_some_and(|addr| base.contains(addr));
            Run {
                touches: u8::from(below) + u8::from(above),
                count: run.count(),
                lowest: Reverse(*run),
                from_top: above && !below,
            }
        })
        .collect();
    let mut left = count;
    let mut chosen: Vec<Range> = Vec::new();
    while left > 0
        && let Some(run) = runs.pop()
    {
        let part = RangeSet::from(run.lowest.0);
        let part = if run.from_top {
            part.last_n(left)
        } else {
            part.first_n(left)
        };
        left -= part.count();
        chosen.extend(part.ranges());
    }
    chosen.into_iter().collect()
}

/// Free addresses in one piece; the greatest is the one to take first.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Run {
    touches: u8,
    count: u128,
    lowest: Reverse<Range>,
    from_top: bool,
}

/// What a pool keeps when it gives up `count` addresses, or as many as are not in use. Where that would make too many
/// ranges, others go, and fewer if need be: what waits goes when the addresses around it do.
pub(super) fn shrunk(
    ranges: &RangeSet,
    used: &RangeSet,
    count: u128,
    most_ranges: usize,
    allows: impl Fn(&RangeSet) -> Result<(), Blocked>,
) -> RangeSet {
    let idle = ranges.difference(used);
    let highest = ranges.difference(&idle.last_n(count));
    if allows(&highest).is_ok() {
        return highest;
    }
    let without_holes = |most_ranges| ranges.difference(&highest_of_runs(ranges, &idle, count, most_ranges));
    let within = without_holes(most_ranges);
    if allows(&within).is_ok() {
        return within;
    }
    without_holes(0)
}

/// Up to `count` addresses without which there are no more than `most_ranges` ranges, or no more than there are now.
fn highest_of_runs(ranges: &RangeSet, idle: &RangeSet, count: u128, most_ranges: usize) -> RangeSet {
    let ends = |run: &Range| {
        let around = ranges.range_of(run.first()).unwrap_or(*run);
        (run.first() == around.first(), run.last() == around.last())
    };
    let mut runs: Vec<(Range, (bool, bool))> = idle.ranges().iter().rev().map(|run| (*run, ends(run))).collect();
    // Whole ranges, ends of ranges, and last what leaves a hole: of each kind the highest first.
    runs.sort_by_key(|(_, (low, high))| Reverse(u8::from(*low) + u8::from(*high)));
    let mut left = count;
    let mut remaining = ranges.ranges().len();
    let mut leaving: Vec<Range> = Vec::new();
    for (run, (low, high)) in runs {
        if left == 0 || (!low && !high && remaining >= most_ranges) {
            break;
        }
        let part = RangeSet::from(run);
        let part = if low && !high {
            part.first_n(left)
        } else {
            part.last_n(left)
        };
        left -= part.count();
        match (low, high) {
            (true, true) if part.count() == run.count() => remaining -= 1,
            (false, false) => remaining += 1,
            _ => {}
        }
        leaving.extend(part.ranges());
    }
    leaving.into_iter().collect()
}
