//! The operator: makes, sizes and removes the pools of applications, and keeps subnets and pools true.
//!
//! | module | what |
//! |---|---|
//! | [`application`] | what workloads ask for |
//! | [`kinds`] | the kinds of workload, Kubernetes' own and others |
//! | [`subnet`] | the one writer of a subnet and of the automatic pools made from it |
//! | [`pool`] | identity, counts, conditions and finalizer of every pool |
//! | [`fullness`] | when few addresses are left |
//! | [`reclaim`] | addresses of pods that are gone |
//! | [`api`] | what administrators ask for: a check of everything, and repairs |
//! | [`certificates`] | the webhook's certificate and its CA |
//! | [`metrics`] | metrics about subnets, pools and waiting applications |
//! | [`triggers`] | from what changes to what is looked at |
//! | [`write`] | every write: leader only, bounded, learnt at once |
//! | [`daemon`] | wiring |
//! | [`clean`] | leaving nothing behind |

pub mod api;
pub mod application;
pub mod certificates;
pub mod clean;
pub mod cli;
pub mod config;
pub mod context;
pub mod daemon;
pub mod events;
pub mod fullness;
pub mod kinds;
pub mod metrics;
pub mod pool;
pub mod reclaim;
pub mod subnet;
#[cfg(test)]
mod testing;
pub mod triggers;
pub mod write;
