//! The four kinds, exactly as they are on the wire.
//!
//! Text stays text here: an object that somebody stored with a broken subnet or range must still be readable, so that it
//! can be reported and repaired instead of breaking the watch of every other object. `parse` gives the checked form.
//! For the same reason members that the schema requires fall back to empty when a stored object lacks them.

mod endpoint;
mod pool;
mod reserved;
mod subnet;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use endpoint::{EndpointStatus, NicDetail, PodAllocation, SpiderEndpoint};
pub use pool::{IPPoolSpec, IPPoolStatus, Restoring, SpiderIPPool};
pub use reserved::{ReservedIPSpec, SpiderReservedIP};
pub use subnet::{SpiderSubnet, SubnetSpec, SubnetStatus};

/// Members that a newer version wrote and this one does not know. They are carried through every read-modify-write.
pub type UnknownMembers = BTreeMap<String, serde_json::Value>;

/// Most items that `ips` and `excludeIPs` may have. The API server must be able to bound the cost of looking at each of
/// them: it would take twice as many, and this leaves room for other versions to count otherwise.
pub const MAX_RANGES: usize = 2048;

/// Most items that `routes` of a subnet or pool may have, for the same reason.
pub const MAX_ROUTES: usize = 128;

/// Most items that `namespaceName` and `nodeName` of a pool may have, even if all of them are as long as names can be.
pub const MAX_NAMES: usize = 2048;

/// Most items that `multusName` of a pool may have.
pub const MAX_MULTUS_NAMES: usize = 512;

/// Most `matchLabels` and most `matchExpressions` that a selector of a pool may have.
pub const MAX_SELECTOR_TERMS: usize = 32;

/// Most `values` that a term of a selector of a pool may have.
pub const MAX_SELECTOR_VALUES: usize = 256;

/// A route that is installed in the pod.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Route {
    /// Destination network in CIDR notation, for example 192.168.200.0/24.
    #[serde(default)]
    #[schemars(length(max = 64))]
    pub dst: String,

    /// Address of the next hop, of the same IP version as dst.
    #[serde(default)]
    #[schemars(length(max = 64))]
    pub gw: String,

    /// Members this version does not know.
    #[serde(flatten)]
    #[schemars(skip)]
    pub other: UnknownMembers,
}
