//! SpiderSubnet: a network and the addresses of it that may be handed to pools.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{MAX_RANGES, MAX_ROUTES, Route, UnknownMembers};

/// What the user asks of a subnet.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[kube(
    group = "spiderpool.spidernet.io",
    version = "v2beta1",
    kind = "SpiderSubnet",
    plural = "spidersubnets",
    singular = "spidersubnet",
    shortname = "ss",
    category = "spiderpool",
    status = "SubnetStatus",
    derive = "Default",
    derive = "PartialEq",
    doc = "A network and the addresses of it that Spiderpool may give to pools. Applications that name the subnet in an annotation get a dedicated pool out of it."
)]
pub struct SubnetSpec {
    /// IP version of the network, 4 or 6. May be left out: it is then taken from subnet. Cannot be changed once set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("enum" = [4, 6]))]
    pub ip_version: Option<i64>,

    /// The network in CIDR notation with no host bits set and, for IPv6, in its shortest lower-case form, for example
    /// 10.6.0.0/16 or fd00:10::/64. Cannot be changed.
    #[serde(default)]
    #[schemars(length(max = 64))]
    pub subnet: String,

    /// Addresses that may be handed to pools. Each item is one address or a range "first-last", for example
    /// 10.6.1.10-10.6.1.250. All of them lie inside subnet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = MAX_RANGES), inner(length(max = 96)))]
    pub ips: Option<Vec<String>>,

    /// Addresses taken out of ips again, in the same notation.
    #[serde(default, rename = "excludeIPs", skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = MAX_RANGES), inner(length(max = 96)))]
    pub exclude_ips: Option<Vec<String>>,

    /// Default gateway that pools of this subnet inherit when they are created. An address inside subnet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub gateway: Option<String>,

    /// Further routes that pools of this subnet inherit when they are created. The default route is expressed by gateway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = MAX_ROUTES))]
    pub routes: Option<Vec<Route>>,

    /// Members this version does not know.
    #[serde(flatten)]
    #[schemars(skip)]
    pub other: UnknownMembers,
}

/// What has been handed out of the subnet. Written by Spiderpool only.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SubnetStatus {
    /// JSON document that maps the name of each pool to the addresses it was given and, for automatic pools, to its
    /// application. Absent when no pool was given anything.
    #[serde(default, rename = "controlledIPPools", skip_serializing_if = "Option::is_none")]
    pub controlled_ippools: Option<String>,

    /// Number of addresses that can be handed to pools: ips without excludeIPs.
    #[serde(default, rename = "totalIPCount", skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub total_ip_count: Option<i64>,

    /// Number of addresses handed to pools, whether pods use them or not.
    #[serde(default, rename = "allocatedIPCount", skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub allocated_ip_count: Option<i64>,

    /// What the controller found out about the subnet, one condition of each type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conditions: Option<Vec<Condition>>,

    /// Members this version does not know.
    #[serde(flatten)]
    #[schemars(skip)]
    pub other: UnknownMembers,
}
