//! The node agent: answers the CNI plugin on a unix socket, allocates and releases addresses.
//!
//! An ADD runs in four steps, each in a module of its own: find the pod ([`pods`]) and its application ([`owner`]), choose
//! the pools it may use ([`choose`]), claim an address of each family ([`pools`]), and write the pod's endpoint
//! ([`endpoints`]). [`add`] and [`del`] put them together. What decides is in `spiderpool-ipam`; here it is observed and
//! acted upon.
//!
//! Ownership of an address is settled by nothing but the acknowledged write of the pool that records it. Caches, locks and
//! queues of this process only save requests: each of them may be stale or lost at any time without two pods getting one
//! address.

pub mod add;
pub mod automatic;
pub mod cancel;
pub mod choose;
pub mod collect;
pub mod command;
pub mod config;
pub mod context;
pub mod daemon;
pub mod del;
pub mod endpoints;
pub mod error;
pub mod explain;
pub mod give_up;
pub mod install;
pub mod journal;
pub mod kill;
pub mod look;
pub mod metrics;
pub mod owner;
pub mod pause;
pub mod pods;
pub mod pools;
pub mod preview;
pub mod recheck;
pub mod restore;
pub mod sandboxes;
pub mod serial;
pub mod server;
pub mod socket;
pub mod status;
pub mod sticky;
pub mod surroundings;
pub mod sweep;
pub mod tell;
pub mod tries;
pub mod unnamed;
