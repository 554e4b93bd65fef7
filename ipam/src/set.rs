//! Sets of addresses as sorted, disjoint, coalesced ranges.

use crate::range::Range;
use std::cmp::Ordering;

/// A set of addresses of one family.
///
/// Two sets are equal exactly when they hold the same addresses, since neighbouring ranges are always joined. Every
/// operation costs time in the number of ranges.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct RangeSet {
    ranges: Vec<Range>,
}

impl RangeSet {
    /// The empty set.
    pub const fn new() -> Self {
        Self { ranges: Vec::new() }
    }

    /// The ranges, ascending, with at least one missing address between two of them.
    pub fn ranges(&self) -> &[Range] {
        &self.ranges
    }

    /// How many addresses; saturates at `u128::MAX` for the whole IPv6 space.
    pub fn count(&self) -> u128 {
        self.ranges
            .iter()
            .fold(0, |sum, range| sum.saturating_add(range.count()))
    }

    /// Whether there is no address.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// Whether an address is in the set.
    pub fn contains(&self, addr: u128) -> bool {
        self.find(addr).is_ok()
    }

    /// The index of the range that holds an address, or where such a range would be inserted.
    fn find(&self, addr: u128) -> Result<usize, usize> {
        self.ranges.binary_search_by(|range| {
            if range.last() < addr {
                Ordering::Less
            } else if range.first() > addr {
                Ordering::Greater
            } else {
                Ordering::Equal
            }
        })
    }

    /// The ranges that reach between the lowest and the highest address of the other set.
    fn spanned_by(&self, other: &Self) -> &[Range] {
        let (Some(low), Some(high)) = (other.ranges.first(), other.ranges.last()) else {
            return &[];
        };
        let from = self.ranges.partition_point(|r| r.last() < low.first());
        let to = self.ranges.partition_point(|r| r.first() <= high.last());
        self.ranges.get(from..to).unwrap_or_default()
    }

    /// The set of ranges in any order, which may overlap.
    fn join(mut all: Vec<Range>) -> Self {
        // The stable sort finds runs that are in order already, of which a union has two.
        all.sort();
        all.dedup_by(|range, top| {
            let touches = range.first() <= top.last() || range.first() - top.last() == 1;
            if touches {
                *top = Range::between(top.first(), top.last().max(range.last()));
            }
            touches
        });
        Self { ranges: all }
    }

    /// Adds a range.
    pub fn insert(&mut self, range: Range) {
        // Neighbours that touch the new range (with no gap) become part of it.
        let from = self
            .ranges
            .partition_point(|r| r.last() < range.first() && range.first() - r.last() > 1);
        let to = self
            .ranges
            .partition_point(|r| r.first() <= range.last() || r.first() - range.last() == 1);
        let joined = match (
            self.ranges.get(from),
            to.checked_sub(1).and_then(|last| self.ranges.get(last)),
        ) {
            (Some(low), Some(high)) if from < to => {
                Range::between(low.first().min(range.first()), high.last().max(range.last()))
            }
            _ => range,
        };
        self.ranges.splice(from..to.max(from), [joined]);
    }

    /// Addresses that are in either set.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        let mut all: Vec<Range> = Vec::with_capacity(self.ranges.len() + other.ranges.len());
        all.extend(&self.ranges);
        all.extend(&other.ranges);
        Self::join(all)
    }

    /// Addresses of this set that are not in the other.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Self {
        // Only the cuts between the lowest and the highest address can change anything, and each adds one range at most.
        let spanned = other.spanned_by(self);
        let mut ranges = Vec::with_capacity(self.ranges.len() + spanned.len());
        let mut cuts = spanned.iter().peekable();
        for range in &self.ranges {
            let mut rest = Some(*range);
            while let (Some(left), Some(cut)) = (rest, cuts.peek()) {
                if cut.last() < left.first() {
                    cuts.next();
                    continue;
                }
                if cut.first() > left.last() {
                    break;
                }
                if cut.first() > left.first() {
                    ranges.push(Range::between(left.first(), cut.first() - 1));
                }
                if cut.last() >= left.last() {
                    // The cut may reach into the next range as well, so it stays.
                    rest = None;
                } else {
                    rest = Some(Range::between(cut.last() + 1, left.last()));
                    cuts.next();
                }
            }
            ranges.extend(rest);
        }
        Self { ranges }
    }

    /// Addresses that are in both sets.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        // Only the part of the longer set that the shorter one spans is walked.
        let (short, long) = if self.ranges.len() <= other.ranges.len() {
            (self, other)
        } else {
            (other, self)
        };
        let spanned = long.spanned_by(short);
        let mut ranges = Vec::new();
        let (mut left, mut right) = (short.ranges.iter().peekable(), spanned.iter().peekable());
        while let (Some(a), Some(b)) = (left.peek(), right.peek()) {
            if let Some(common) = Range::new(a.first().max(b.first()), a.last().min(b.last())) {
                ranges.push(common);
            }
            if a.last() < b.last() {
                left.next();
            } else {
                right.next();
            }
        }
        Self { ranges }
    }

    /// Whether the sets have an address in common.
    pub fn intersects(&self, other: &Self) -> bool {
        let (small, large) = if self.ranges.len() <= other.ranges.len() {
            (self, other)
        } else {
            (other, self)
        };
        small.ranges.iter().any(|range| {
            let at = large.ranges.partition_point(|r| r.last() < range.first());
            large.ranges.get(at).is_some_and(|r| r.first() <= range.last())
        })
    }

    /// Whether every address of this set is in the other.
    pub fn is_subset_of(&self, other: &Self) -> bool {
        self.ranges.iter().all(|range| match other.find(range.first()) {
            Ok(at) => other.ranges.get(at).is_some_and(|r| r.last() >= range.last()),
            Err(_) => false,
        })
    }

    /// The address at a position, counted from 0 at the lowest.
    pub fn nth(&self, position: u128) -> Option<u128> {
        let mut left = position;
        for range in &self.ranges {
            // The highest position in the range, which unlike the count does not saturate.
            let top = range.last() - range.first();
            if left <= top {
                return Some(range.first() + left);
            }
            left -= top;
            left -= 1;
        }
        None
    }

    /// The lowest `count` addresses, or all if there are fewer.
    #[must_use]
    pub fn first_n(&self, count: u128) -> Self {
        let mut left = count;
        let mut ranges = Vec::new();
        for range in &self.ranges {
            if left == 0 {
                break;
            }
            let take = range.count().min(left);
            ranges.push(Range::between(range.first(), range.first() + (take - 1)));
            left -= take;
        }
        Self { ranges }
    }

    /// The highest `count` addresses, or all if there are fewer.
    #[must_use]
    pub fn last_n(&self, count: u128) -> Self {
        let mut left = count;
        let mut ranges = Vec::new();
        for range in self.ranges.iter().rev() {
            if left == 0 {
                break;
            }
            let take = range.count().min(left);
            ranges.push(Range::between(range.last() - (take - 1), range.last()));
            left -= take;
        }
        ranges.reverse();
        Self { ranges }
    }

    /// The lowest address.
    pub fn first(&self) -> Option<u128> {
        self.ranges.first().map(Range::first)
    }

    /// The range that holds an address.
    pub fn range_of(&self, addr: u128) -> Option<Range> {
        self.find(addr).ok().and_then(|at| self.ranges.get(at)).copied()
    }

    /// The lowest address that is not in the other set. Costs time in the ranges passed over only.
    pub fn first_outside(&self, other: &Self) -> Option<u128> {
        self.ranges.iter().find_map(|range| {
            let mut addr = range.first();
            let mut at = other.ranges.partition_point(|r| r.last() < addr);
            while let Some(cut) = other.ranges.get(at) {
                if cut.first() > addr {
                    break;
                }
                if cut.last() >= range.last() {
                    return None;
                }
                addr = cut.last() + 1;
                at += 1;
            }
            Some(addr)
        })
    }
}

impl From<Range> for RangeSet {
    fn from(range: Range) -> Self {
        Self { ranges: vec![range] }
    }
}

impl FromIterator<Range> for RangeSet {
    fn from_iter<I: IntoIterator<Item = Range>>(ranges: I) -> Self {
        Self::join(ranges.into_iter().collect())
    }
}

/// A set of single addresses.
impl FromIterator<u128> for RangeSet {
    fn from_iter<I: IntoIterator<Item = u128>>(addrs: I) -> Self {
        addrs.into_iter().map(Range::single).collect()
    }
}
