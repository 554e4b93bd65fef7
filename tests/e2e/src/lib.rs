//! What the end-to-end tests are made of.
//!
//! The tests themselves are in `tests/e2e/`. They run against the test cluster (`cargo xtask test e2e`), each in a
//! [`scene::Scene`] of its own: a namespace and a pair of subnets that nobody else uses, so that all run side by side.
//! Everything that is waited for is watched, with a deadline, and every address that a scene's pools ever recorded is
//! checked afterwards ([`history`]).

pub mod agents;
pub mod answers;
pub mod attached;
pub mod cluster;
pub mod component;
pub mod definition;
pub mod disaster;
pub mod dump;
mod edit;
pub mod event;
pub mod figures;
pub mod foreign;
pub mod gate;
pub mod golden;
pub mod heartbeat;
pub mod history;
pub mod kruise;
mod leave;
pub mod life;
pub mod lost;
mod networks;
pub mod node;
pub mod operator_api;
pub mod operators;
pub mod own_kind;
pub mod plugin;
pub mod pod;
pub mod property;
pub mod proxy;
pub mod ranges;
pub mod recorded;
pub mod requests;
pub mod sandboxes;
pub mod scene;
pub mod second_agent;
pub mod shape;
pub mod soak;
pub mod socket;
pub mod squatter;
pub mod stopped;
pub mod storm;
pub mod told;
pub mod trials;
pub mod trust;
pub mod usage;
pub mod wait;
pub mod webhooks;
pub mod workload;

/// Image with a shell, `ping`, `sleep` and `nc`, which every node of the test cluster has.
pub const IMAGE: &str = "localhost/spiderpool-test:1";

/// Namespace of the chart's release.
pub const RELEASE_NAMESPACE: &str = "kube-system";

/// Asks whether the API server would take an object.
pub const DRY_RUN: kube::api::PostParams = kube::api::PostParams {
    dry_run: true,
    field_manager: None,
};
