//! SpiderIPPool: addresses for pods, with who may use them and who does.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, LabelSelector};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{MAX_RANGES, MAX_ROUTES, Route, UnknownMembers};

/// What the pool offers and to whom.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[kube(
    group = "spiderpool.spidernet.io",
    version = "v2beta1",
    kind = "SpiderIPPool",
    plural = "spiderippools",
    singular = "spiderippool",
    shortname = "sp",
    category = "spiderpool",
    status = "IPPoolStatus",
    derive = "Default",
    derive = "PartialEq",
    doc = "Addresses that pods get, the pods that may use them, and the record of who uses which address."
)]
pub struct IPPoolSpec {
    /// IP version of the pool, 4 or 6. May be left out: it is then taken from subnet. Cannot be changed once set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("enum" = [4, 6]))]
    pub ip_version: Option<i64>,

    /// The network of the pool's addresses in CIDR notation with no host bits set and, for IPv6, in its shortest lower-case
    /// form, for example 10.6.0.0/16 or fd00:10::/64. Cannot be changed.
    #[serde(default)]
    #[schemars(length(max = 64))]
    pub subnet: String,

    /// Addresses of the pool. Each item is one address or a range "first-last", for example 10.6.1.10-10.6.1.250. All of
    /// them lie inside subnet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = MAX_RANGES), inner(length(max = 96)))]
    pub ips: Option<Vec<String>>,

    /// Addresses taken out of ips again, in the same notation.
    #[serde(default, rename = "excludeIPs", skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = MAX_RANGES), inner(length(max = 96)))]
    pub exclude_ips: Option<Vec<String>>,

    /// Default gateway of the pods. An address inside subnet. Inherited from the SpiderSubnet when left out on creation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub gateway: Option<String>,

    /// Further routes of the pods. The default route is expressed by gateway. Inherited from the SpiderSubnet when left out
    /// on creation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = MAX_ROUTES))]
    pub routes: Option<Vec<Route>>,

    /// Only pods with matching labels get addresses of this pool. In automatic pools the five ipam.spidernet.io/app-* keys
    /// name the application instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_affinity: Option<LabelSelector>,

    /// Only pods in namespaces with matching labels get addresses of this pool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace_affinity: Option<LabelSelector>,

    /// Only pods in one of these namespaces get addresses of this pool. Goes before namespaceAffinity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace_name: Option<Vec<String>>,

    /// Only pods on nodes with matching labels get addresses of this pool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_affinity: Option<LabelSelector>,

    /// Only pods on one of these nodes get addresses of this pool. Goes before nodeAffinity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_name: Option<Vec<String>>,

    /// Only interfaces made by one of these network attachments, written "namespace/name" or "name", get addresses of this
    /// pool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub multus_name: Option<Vec<String>>,

    /// Whether pods for which nobody chose a pool may use this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = false))]
    pub default: Option<bool>,

    /// Whether to stop giving out addresses. Pods that have one keep it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = false))]
    pub disable: Option<bool>,

    /// What becomes of the addresses of deleted pods whose node is lost. Keep holds them until the node is back, After frees them
    /// when the node has not been Ready for a time, OutOfService when the Node was deleted or has the taint
    /// node.kubernetes.io/out-of-service. Without it the setting of the installation holds, which is OutOfService unless changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("enum" = ["Keep", "After", "OutOfService"]))]
    pub on_node_lost: Option<String>,

    /// The time of onNodeLost After. Without it that of the installation holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 31_536_000))]
    pub on_node_lost_after_seconds: Option<i64>,

    /// Seconds that an address rests between the pod that had it and another one. A pod of the same name, and the same virtual
    /// machine, gets it again at once. 0, as without it, ends all rests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 604_800))]
    pub reuse_cooldown: Option<i64>,

    /// What other pods get when only addresses that rest are left: with Wait none, with Oldest, as without it, the one whose rest
    /// is over first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("enum" = ["Wait", "Oldest"]))]
    pub reuse_when_cooling: Option<String>,

    /// Members this version does not know.
    #[serde(flatten)]
    #[schemars(skip)]
    pub other: UnknownMembers,
}

/// A pause in giving out addresses, after the API server went back to an older state.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Restoring {
    /// Since when.
    #[serde(default)]
    pub since: String,

    /// Who found out: the agent of this node, or the controller.
    #[serde(default)]
    pub by: String,

    /// Nodes whose agents have put on record again what their pods have.
    #[serde(default)]
    pub asserted: Vec<String>,

    /// Addresses that were put on record for the sandbox that uses them, in the place of an older record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retaken: Option<Vec<String>>,

    /// Members this version does not know.
    #[serde(flatten)]
    #[schemars(skip)]
    pub other: UnknownMembers,
}

/// Who uses which address. Written by Spiderpool only.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct IPPoolStatus {
    /// JSON document that maps each address in use to its pod. Absent when no address is in use.
    #[serde(default, rename = "allocatedIPs", skip_serializing_if = "Option::is_none")]
    pub allocated_ips: Option<String>,

    /// JSON document that maps each address that no pod uses but that must not be given out yet to the reason. Absent when
    /// there is none.
    #[serde(default, rename = "heldIPs", skip_serializing_if = "Option::is_none")]
    pub held_ips: Option<String>,

    /// When an agent or the controller last made sure that an earlier write, which may be under way still, cannot land any
    /// more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fence: Option<String>,

    /// Present while nothing is given out because the storage of the API server went back to an older state, until the agents have
    /// put on record again what their pods have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restoring: Option<Restoring>,

    /// Number of addresses of the pool: ips without excludeIPs.
    #[serde(default, rename = "totalIPCount", skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub total_ip_count: Option<i64>,

    /// Number of addresses in use.
    #[serde(default, rename = "allocatedIPCount", skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub allocated_ip_count: Option<i64>,

    /// What the controller found out about the pool, one condition of each type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conditions: Option<Vec<Condition>>,

    /// Members this version does not know.
    #[serde(flatten)]
    #[schemars(skip)]
    pub other: UnknownMembers,
}
