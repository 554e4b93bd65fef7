//! Why a pod's NIC would get what it would get.

use serde::{Deserialize, Serialize};

use crate::unset::{is_false, null_is_default};

/// Answer to `GET` [`EXPLAIN`](crate::path::EXPLAIN): what an ADD of the NIC would do, as things are. Nothing was written to
/// find out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// Namespace of the pod.
    pub pod_namespace: String,
    /// Name of the pod.
    pub pod_name: String,
    /// UID of the pod.
    #[serde(rename = "podUID")]
    pub pod_uid: String,
    /// Node of the pod, empty when it has none yet.
    #[serde(default)]
    pub node: String,
    /// NIC inside the pod.
    pub nic: String,
    /// The level that decides which pools may serve: `Subnets`, `IPPools`, `IPPool`, `NamespaceDefault`, `CNIDefault` or
    /// `ClusterDefault`; empty when none does.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub level: String,
    /// Where that is written, in words.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub origin: String,
    /// The default route would be left out.
    #[serde(default, skip_serializing_if = "is_false")]
    pub clean_gateway: bool,
    /// Why the request as a whole would fail, empty when it would not.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub problem: String,
    /// The families that are asked for, IPv4 first.
    #[serde(default, deserialize_with = "null_is_default")]
    pub families: Vec<FamilyExplanation>,
    /// What else is to say.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// One family of an [`Explanation`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FamilyExplanation {
    /// 4 or 6.
    pub version: i64,
    /// The names of pools or subnets as they were written; none where all default pools are asked.
    #[serde(default, deserialize_with = "null_is_default")]
    pub asked: Vec<String>,
    /// The exact address that the pod asks for.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub exact: String,
    /// What the NIC has already, and would be given again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub has: Option<ExplainedAddress>,
    /// What the NIC would be given; absent when it would get nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub would_get: Option<ExplainedAddress>,
    /// Every pool that is asked for: those that may serve in the order in which they are tried, then the others.
    #[serde(default, deserialize_with = "null_is_default")]
    pub pools: Vec<PoolExplanation>,
    /// What else is to say.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// An address of a pool.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExplainedAddress {
    /// The address, without a prefix length.
    pub address: String,
    /// Its pool.
    pub ip_pool: String,
}

/// One pool of a [`FamilyExplanation`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PoolExplanation {
    /// Its name, or the pattern that matched none.
    pub name: String,
    /// `Chosen`, or the word of the reason: `PoolExhausted`, `AffinityRejected`, `Disabled` and so on.
    pub verdict: String,
    /// The reason as one line, empty for a pool that may serve.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

impl PoolExplanation {
    /// The [`verdict`](Self::verdict) of a pool that may serve.
    pub const CHOSEN: &str = "Chosen";
}
