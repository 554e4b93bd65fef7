//! The JSON documents inside status strings: who has which address of a pool, and which pool was given what of a subnet.
//!
//! Other programs read and write the same strings, so the text is a contract: compact JSON, keys in byte order, members in
//! a fixed order, and no document at all instead of an empty one. Members that a newer version added to a record stay in it
//! as long as the record does. Member names are read in any case, as the peer's decoder does.
//!
//! A string that does not parse is never repaired by guessing: an address that looks free because its record was unreadable
//! would be given out twice.

mod by_address;
mod controlled;
mod held;
mod pool;
mod read;

use std::net::IpAddr;

/// Longest text of a subnet's accounting. The store takes objects of 1.5 MB, and the rest of the subnet needs some of that.
pub const ACCOUNTING_BYTES: usize = 1_200_000;

pub use by_address::{ByAddress, OfAddress};
pub use controlled::{ControlledPool, ControlledPools};
pub use held::{Held, HeldReason, HeldRecords};
pub use pool::{PoolRecords, Record};

/// Why a status string cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field} is corrupted: {problem}; repair that field, for example with kubectl edit --subresource=status")]
pub struct RecordsError {
    /// Path of the status field.
    pub field: &'static str,
    /// What is wrong with its text.
    pub problem: Problem,
}

/// What is wrong with the text of a status string.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// It is not the expected JSON document.
    #[error("the text is not the expected JSON document: {0}")]
    Json(String),
    /// A key is not an IP address.
    #[error("key {0:?} is not an IP address")]
    Address(String),
    /// A key is an address, but not written as we would write it.
    #[error("key {key:?} is not in the canonical form {canonical}")]
    NotCanonical {
        /// The key as found.
        key: String,
        /// The same address as it must be written.
        canonical: IpAddr,
    },
    /// A key occurs twice, so that one of two owners would be forgotten.
    #[error("key {0:?} occurs twice")]
    Duplicate(String),
    /// An address is of the other IP version than the object.
    #[error("address {address} is not an {family} address, as all others of this object")]
    Family {
        /// The address.
        address: IpAddr,
        /// The family of the object.
        family: spiderpool_ipam::Family,
    },
    /// The addresses that a pool was given do not parse.
    #[error("the addresses of pool {pool:?} do not parse: {source}")]
    Ranges {
        /// Name of the pool.
        pool: String,
        /// What is wrong with them.
        source: spiderpool_ipam::TextError,
    },
}
