//! One inclusive range of addresses.

/// Addresses `first..=last` of one family. Never empty, so that the whole IPv6 space is a range as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Range {
    first: u128,
    last: u128,
}

impl Range {
    /// A range, or nothing if `first` is above `last`.
    pub const fn new(first: u128, last: u128) -> Option<Self> {
        if first <= last {
            Some(Self { first, last })
        } else {
            None
        }
    }

    /// A range of one address.
    pub const fn single(addr: u128) -> Self {
        Self {
            first: addr,
            last: addr,
        }
    }

    /// The range between two addresses, whichever is lower.
    pub(crate) const fn between(a: u128, b: u128) -> Self {
        if a <= b {
            Self { first: a, last: b }
        } else {
            Self { first: b, last: a }
        }
    }

    /// The lowest address.
    pub const fn first(&self) -> u128 {
        self.first
    }

    /// The highest address.
    pub const fn last(&self) -> u128 {
        self.last
    }

    /// How many addresses; the whole IPv6 space saturates at `u128::MAX`.
    pub const fn count(&self) -> u128 {
        (self.last - self.first).saturating_add(1)
    }

    /// Whether an address lies inside.
    pub const fn contains(&self, addr: u128) -> bool {
        self.first <= addr && addr <= self.last
    }
}
