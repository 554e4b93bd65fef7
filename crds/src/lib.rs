//! Everything the rest of the project knows about the wire form of Spiderpool's Kubernetes objects.
//!
//! The types of the four IPAM kinds, the names of annotations and labels with their parsers, the two JSON documents that
//! live inside status strings, and the CRD YAML generated from all that. Other crates never spell an annotation key or
//! touch a status string themselves, so that what must stay compatible can be reviewed in one place.
//!
//! There is no API client and no runtime in here: everything is a function of its arguments.

pub mod admission;
pub mod annotations;
pub mod app;
pub mod conditions;
pub mod conf;
mod generate;
pub mod json_path;
mod label;
pub mod names;
pub mod native;
pub mod owner;
pub mod parse;
pub mod pod;
pub mod records;
pub mod sticky;
mod types;
mod workload;

pub use generate::{YamlError, all_crds, yaml_files};
pub use json_path::{JsonPath, JsonPathError};
pub use types::{
    EndpointStatus, IPPoolSpec, IPPoolStatus, MAX_MULTUS_NAMES, MAX_NAMES, MAX_RANGES, MAX_ROUTES, MAX_SELECTOR_TERMS,
    MAX_SELECTOR_VALUES, NicDetail, PodAllocation, ReservedIPSpec, Restoring, Route, SpiderEndpoint, SpiderIPPool,
    SpiderReservedIP, SpiderSubnet, SubnetSpec, SubnetStatus, UnknownMembers,
};
pub use workload::{DEFAULT_TEMPLATE_PATH, WorkloadKind};
