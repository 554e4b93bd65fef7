//! Which pool was given which addresses of a subnet.
//!
//! An address is written into its subnet's accounting before any pool contains it, and leaves the pool before it leaves
//! the accounting. So whatever dies between two writes, an address that some pool may hand out is never given to another.

use crate::set::RangeSet;
use std::collections::BTreeMap;

/// What one pool was given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// The addresses.
    pub ranges: RangeSet,
    /// Key of the application that an automatic pool belongs to; none for a pool that a user made.
    pub application: Option<String>,
}

/// What every pool of a subnet was given, by pool name.
pub type Entries = BTreeMap<String, Entry>;

/// How many addresses the pools were given altogether.
pub fn allocated(entries: &Entries) -> u128 {
    entries
        .values()
        .fold(0, |sum, entry| sum.saturating_add(entry.ranges.count()))
}

/// Addresses given to pools other than the named one.
pub fn taken(entries: &Entries, except: Option<&str>) -> RangeSet {
    entries
        .iter()
        .filter(|(name, _)| Some(name.as_str()) != except)
        .flat_map(|(_, entry)| entry.ranges.ranges().iter().copied())
        .collect()
}

/// Addresses of the subnet that no pool was given and that are not reserved.
pub fn free(total: &RangeSet, entries: &Entries, reserved: &RangeSet) -> RangeSet {
    total.difference(&taken(entries, None)).difference(reserved)
}

/// A count as the `int64` of a status field: values above its maximum are shown as the maximum.
pub fn status_count(count: u128) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
