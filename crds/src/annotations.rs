//! What users write in annotations of workloads and pods.
//!
//! The values are other people's text, so every error names the annotation, quotes what was found and says what to write:
//! it ends up in an Event that is all the user sees. Member names are read in any case and unknown members are ignored, as
//! the peer does.

mod check;
mod error;
mod exact;
mod json;
mod namespace;
mod networks;
mod pools;
mod routes;
mod scalar;
mod subnets;

use std::collections::BTreeMap;

pub use check::{POD_KEYS, fault};
pub use error::{AnnotationError, Problem};
pub use exact::{ExactAddresses, exact_addresses};
pub use namespace::namespace_pools;
pub use networks::{Network, Networks, networks};
pub use pools::{PoolItem, PoolRequest, interfaces, ippool, ippools};
pub use routes::{ExtraRoute, routes};
pub use scalar::{IpNumber, ip_number, reclaim};
pub use subnets::{Form, SubnetItem, SubnetRequest, subnet_request};

/// Annotations of an object.
pub type Annotations = BTreeMap<String, String>;

#[cfg(test)]
mod tests;
