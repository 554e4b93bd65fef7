//! The free addresses of a pool, kept so that taking the lowest one and giving one back cost a look-up each.

use crate::set::RangeSet;
use std::collections::BTreeMap;

/// Disjoint ranges with at least one missing address between two of them, by first address.
#[derive(Clone, Debug, Default)]
pub(crate) struct FreeList {
    by_first: BTreeMap<u128, u128>,
    count: u128,
}

impl FreeList {
    pub(crate) fn new(set: &RangeSet) -> Self {
        Self {
            by_first: set.ranges().iter().map(|r| (r.first(), r.last())).collect(),
            count: set.count(),
        }
    }

    pub(crate) const fn count(&self) -> u128 {
        self.count
    }

    /// The lowest free address that is not blocked. Costs time in the blocked ranges passed over.
    pub(crate) fn lowest(&self, blocked: &RangeSet) -> Option<u128> {
        let mut addr = *self.by_first.keys().next()?;
        while let Some(cut) = blocked.range_of(addr) {
            addr = self.at_or_above(cut.last().checked_add(1)?)?;
        }
        Some(addr)
    }

    /// The lowest free address from an address on.
    fn at_or_above(&self, addr: u128) -> Option<u128> {
        let next = self.by_first.range(addr..).next().map(|(first, _)| *first);
        if next != Some(addr) && self.contains(addr) {
            return Some(addr);
        }
        next
    }

    pub(crate) fn contains(&self, addr: u128) -> bool {
        self.by_first
            .range(..=addr)
            .next_back()
            .is_some_and(|(_, last)| addr <= *last)
    }

    /// Removes an address; false if it was not free.
    pub(crate) fn remove(&mut self, addr: u128) -> bool {
        let Some((first, top)) = self.by_first.range_mut(..=addr).next_back() else {
            return false;
        };
        let (first, last) = (*first, *top);
        if addr > last {
            return false;
        }
        if first < addr {
            *top = addr - 1;
        } else {
            self.by_first.remove(&first);
        }
        if addr < last {
            self.by_first.insert(addr + 1, last);
        }
        self.count -= 1;
        true
    }

    /// Adds an address that was not free, and joins it with its neighbours.
    pub(crate) fn add(&mut self, addr: u128) {
        let mut last = addr;
        let next = addr.checked_add(1);
        let mut near = self.by_first.range(..=next.unwrap_or(addr));
        let mut below = near.next_back();
        if let Some((first, high)) = below
            && Some(*first) == next
        {
            last = *high;
            below = near.next_back();
        }
        let below = below.map(|(first, high)| (*first, *high));
        if below.is_some_and(|(_, high)| high >= addr) {
            return;
        }
        if let Some(next) = next.filter(|_| last > addr) {
            self.by_first.remove(&next);
        }
        match below {
            Some((first, high)) if addr - high == 1 => self.by_first.insert(first, last),
            _ => self.by_first.insert(addr, last),
        };
        self.count = self.count.saturating_add(1);
    }
}
