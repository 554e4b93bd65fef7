//! The decisions of IP address management, as pure functions over values.
//!
//! Nothing here does IO, reads a clock, logs, or knows Kubernetes. Programs observe the cluster, call a function of this
//! crate, and act on the value it returns. That is what makes every rule testable without a cluster, and what lets the
//! operator, the webhook and the agent apply the very same rule.
//!
//! Nothing here enumerates addresses: work grows with the number of ranges and records, never with the size of a subnet.
//! Addresses are `u128` numbers within one [`Family`]; text is parsed at the border ([`text`], [`Cidr`]).
//!
//! | module | rule |
//! |---|---|
//! | [`range`], [`set`] | inclusive ranges and sets of them |
//! | [`text`], [`cidr`] | the text grammar of addresses, ranges and subnets |
//! | [`ledger`] | who has which address of one pool |
//! | [`accounting`] | which pool was given which addresses of a subnet |
//! | [`claims`] | which of several pools with the same address may give it out |
//! | [`networks`] | which networks have an address in common |
//! | [`autopool`] | what to do about the pool of one application |
//! | [`rollout`] | whether a rolling update can go on in a pool |
//! | [`naming`] | names of automatic pools |
//! | [`candidates`] | which pools a request may use, in which order |
//! | [`sticky`] | which pods keep their addresses, and which of these may still serve them |
//! | [`reclaim`] | whether a recorded address may be freed |
//! | [`check`] | whether pools, endpoints, pods and subnets agree |
//! | [`hold`] | who is given an address that was just freed, and when |

pub mod accounting;
pub mod addr;
pub mod autopool;
mod by_pod;
pub mod candidates;
pub mod check;
pub mod cidr;
pub mod claims;
mod free;
mod hash;
pub mod hold;
pub mod ledger;
pub mod naming;
pub mod networks;
pub mod range;
pub mod reclaim;
pub mod rollout;
pub mod set;
pub mod sticky;
pub mod text;

pub use addr::Family;
pub use cidr::Cidr;
pub use ledger::{Ledger, Owner};
pub use naming::pool_name;
pub use range::Range;
pub use set::RangeSet;
pub use text::TextError;
