//! What every daemon needs around its decisions.

pub mod backoff;
pub mod cache;
pub mod client;
pub mod deadline;
pub mod health;
pub mod lease;
pub mod metrics;
pub mod queue;
pub mod serve;
pub mod shutdown;
pub mod store;
pub mod telemetry;
pub mod tls;
