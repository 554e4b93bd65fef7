//! How long the accounting of a subnet and how ragged one of its pools may become.

use super::Blocked;
use crate::accounting::{self, Entries, Entry};
use crate::set::RangeSet;

/// What the API server, and the store behind it, take of one object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most bytes of the accounting's text.
    pub accounting_bytes: usize,
    /// Most ranges of one pool.
    pub ranges: usize,
}

/// No limit at all.
impl Default for Limits {
    fn default() -> Self {
        Self {
            accounting_bytes: usize::MAX,
            ranges: usize::MAX,
        }
    }
}

/// Keeps count of the accounting's text while a plan is made.
pub(super) struct Meter {
    limits: Limits,
    bytes: usize,
}

impl Meter {
    pub(super) fn new(limits: Limits, entries: &Entries) -> Self {
        let bytes = match limits.accounting_bytes {
            usize::MAX => 0,
            _ => accounting::text_bytes(entries),
        };
        Self { limits, bytes }
    }

    /// Most ranges of one pool.
    pub(super) const fn ranges(&self) -> usize {
        self.limits.ranges
    }

    /// Whether a pool that has the addresses of `before` may have these. What makes nothing worse always may.
    pub(super) fn allows(&self, name: &str, before: Option<&Entry>, after: &Entry) -> Result<(), Blocked> {
        let had = before.map_or(0, |entry| entry.ranges.ranges().len());
        let ranges = after.ranges.ranges().len();
        if ranges > self.limits.ranges && ranges > had {
            return Err(Blocked::Fragmented {
                ranges,
                limit: self.limits.ranges,
            });
        }
        let bytes = self.bytes_with(name, before, after);
        if bytes > self.limits.accounting_bytes && bytes > self.bytes {
            return Err(Blocked::AccountingLimit {
                bytes,
                limit: self.limits.accounting_bytes,
            });
        }
        Ok(())
    }

    /// Counts a pool in that is to have these addresses. What becomes shorter only does so when the pool was written.
    pub(super) fn book(&mut self, name: &str, before: Option<&Entry>, after: &Entry) {
        self.bytes = self.bytes.max(self.bytes_with(name, before, after));
    }

    fn bytes_with(&self, name: &str, before: Option<&Entry>, after: &Entry) -> usize {
        if self.limits.accounting_bytes == usize::MAX {
            return 0;
        }
        let had = before.map_or(0, |entry| accounting::entry_bytes(name, entry));
        self.bytes.saturating_sub(had) + accounting::entry_bytes(name, after)
    }
}

/// The addresses a pool is to have, as its entry in the accounting.
pub(super) fn entry(application: &str, ranges: RangeSet) -> Entry {
    Entry {
        ranges,
        application: Some(application.to_owned()),
    }
}
