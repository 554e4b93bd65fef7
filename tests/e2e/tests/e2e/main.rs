//! The end-to-end tests, one module for each subject. What they are made of is in the library of this crate.
//!
//! They run against the test cluster with the chart installed: `cargo xtask test e2e`, or `cargo xtask test e2e NAME` for
//! those whose path contains NAME. All run side by side, except those in modules called `exclusive_...`: they stop or kill
//! what all others need, and run alone after them. Those in `soaked` are run by `cargo xtask soak` only.

mod admission;
mod admission_policies;
mod admission_random;
mod adoption;
mod affinities;
mod agent_rights;
mod agent_socket;
mod agents_of_tests;
mod alternatives;
mod bad_input;
mod candidates;
mod checks;
mod clonesets;
mod cni_verbs;
mod crd_rules;
mod crd_shape;
mod deployments;
mod detection;
mod ending;
mod exact;
mod exclusive_addresses;
mod exclusive_admission;
mod exclusive_crashes;
mod exclusive_reclaims;
mod exclusive_storm;
mod exclusive_trials;
mod exclusive_webhook;
mod failures;
mod healing;
mod histories;
mod invalid_objects;
mod journal;
mod kinds;
mod lint;
mod masters;
mod nics;
mod pools;
mod readiness;
mod reclaims;
mod rights;
mod rollouts;
mod sandboxes;
mod soaked;
mod static_pods;
mod sticky;
mod subnets;
mod webhook_completes;
mod webhook_rules;
mod webhook_stale;
