//! Taking and giving back addresses.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::unset::{empty_is_null, is_false, is_zero, null_is_default};

/// Request of an address for one NIC of a pod. Members without a default must be present, though they may be empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IpamAddArgs {
    /// Sandbox that the container runtime is setting up.
    #[serde(rename = "containerID")]
    pub container_id: String,
    /// NIC inside the pod.
    pub if_name: String,
    /// Path of the pod's network namespace on the node.
    pub net_namespace: String,
    /// Namespace of the pod.
    pub pod_namespace: String,
    /// Name of the pod.
    pub pod_name: String,
    /// UID of the pod, the only thing that tells two pods of one name apart.
    #[serde(rename = "podUID")]
    pub pod_uid: String,
    /// IPv4 pools named by the network configuration, in order of preference.
    #[serde(
        rename = "defaultIPv4IPPool",
        default,
        deserialize_with = "null_is_default",
        serialize_with = "empty_is_null"
    )]
    pub default_ipv4_ippool: Vec<String>,
    /// IPv6 pools named by the network configuration, in order of preference.
    #[serde(
        rename = "defaultIPv6IPPool",
        default,
        deserialize_with = "null_is_default",
        serialize_with = "empty_is_null"
    )]
    pub default_ipv6_ippool: Vec<String>,
    /// Leave the default route out of the answer.
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "is_false")]
    pub clean_gateway: bool,
    /// Use only pools whose subnet is the one of the master NIC.
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "is_false")]
    pub match_master_subnet: bool,
    /// Addresses of the host's interface that the NIC is made of, where they matter: empty where there is none or it is not
    /// known which, absent from a plugin that does not look.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub master_addresses: Option<Vec<IpAddr>>,
    /// Name of the network in its configuration, empty from a plugin that does not say it.
    #[serde(
        default,
        deserialize_with = "null_is_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub network_name: String,
}

/// Answer to [`IpamAddArgs`]: what every NIC known for the pod has, not only the one asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IpamAddResponse {
    /// Addresses. `null` is read as none: an older agent answers so when no pool was a candidate.
    #[serde(deserialize_with = "null_is_default")]
    pub ips: Vec<IpConfig>,
    /// Routes of all NICs.
    #[serde(default, deserialize_with = "null_is_default", serialize_with = "empty_is_null")]
    pub routes: Vec<Route>,
    /// Name resolution of the pod, when the cluster's own does not apply.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dns: Option<Dns>,
}

/// One address of one NIC.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IpConfig {
    /// Address and prefix length, for example `10.20.7.31/16`.
    pub address: String,
    /// The agent could not rule out that something outside the cluster uses the address; the plugin should ask the network.
    #[serde(
        rename = "enableIPConflictDetection",
        default,
        deserialize_with = "null_is_default",
        skip_serializing_if = "is_false"
    )]
    pub enable_ip_conflict_detection: bool,
    /// The plugin should make sure that the gateway answers.
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "is_false")]
    pub enable_gateway_detection: bool,
    /// Gateway address, empty when the pool has none.
    #[serde(
        default,
        deserialize_with = "null_is_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub gateway: String,
    /// Pool of the address.
    #[serde(
        default,
        deserialize_with = "null_is_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub ip_pool: String,
    /// Hardware address the NIC should have, empty when the main plugin chooses.
    #[serde(
        default,
        deserialize_with = "null_is_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub mac: String,
    /// NIC inside the pod.
    pub nic: String,
    /// 4 or 6.
    pub version: i64,
    /// VLAN of the pool, 0 when it has none.
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "is_zero")]
    pub vlan: i64,
}

/// One route of one NIC.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Route {
    /// Destination CIDR.
    pub dst: String,
    /// Gateway address.
    pub gw: String,
    /// NIC inside the pod.
    pub if_name: String,
}

/// Name resolution of a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dns {
    /// Local domain.
    #[serde(
        default,
        deserialize_with = "null_is_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub domain: String,
    /// Servers in order of preference.
    #[serde(default, deserialize_with = "null_is_default", serialize_with = "empty_is_null")]
    pub nameservers: Vec<String>,
    /// Resolver options.
    #[serde(default, deserialize_with = "null_is_default", serialize_with = "empty_is_null")]
    pub options: Vec<String>,
    /// Search domains.
    #[serde(default, deserialize_with = "null_is_default", serialize_with = "empty_is_null")]
    pub search: Vec<String>,
}

/// Request to give back what a pod's sandbox holds. Members without a default must be present, though they may be empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IpamDelArgs {
    /// Sandbox that the container runtime is tearing down.
    #[serde(rename = "containerID")]
    pub container_id: String,
    /// NIC inside the pod.
    pub if_name: String,
    /// Path of the pod's network namespace, empty when it is gone.
    #[serde(
        default,
        deserialize_with = "null_is_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub net_namespace: String,
    /// Namespace of the pod.
    pub pod_namespace: String,
    /// Name of the pod.
    pub pod_name: String,
    /// UID of the pod.
    #[serde(rename = "podUID")]
    pub pod_uid: String,
    /// Name of the network in its configuration, empty from a plugin that does not say it.
    #[serde(
        default,
        deserialize_with = "null_is_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub network_name: String,
}

/// Request to give back all addresses of a sandbox at once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IpamBatchDelArgs {
    /// Sandbox whose addresses are given back.
    #[serde(rename = "containerID")]
    pub container_id: String,
    /// The reason is an address conflict seen on the network.
    #[serde(
        rename = "isReleaseConflictIPs",
        default,
        deserialize_with = "null_is_default",
        skip_serializing_if = "is_false"
    )]
    pub is_release_conflict_ips: bool,
    /// Path of the pod's network namespace, empty when it is gone.
    #[serde(
        default,
        deserialize_with = "null_is_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub net_namespace: String,
    /// Namespace of the pod.
    pub pod_namespace: String,
    /// Name of the pod.
    pub pod_name: String,
    /// UID of the pod.
    #[serde(rename = "podUID")]
    pub pod_uid: String,
    /// The one NIC whose addresses are given back; empty for all.
    #[serde(
        default,
        deserialize_with = "null_is_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub if_name: String,
    /// Addresses that somebody else was seen to use.
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "Vec::is_empty")]
    pub conflicts: Vec<Conflict>,
}

/// An address that somebody on the network uses who was not given it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Conflict {
    /// The address, without prefix length.
    pub address: String,
    /// Hardware address of who uses it.
    pub mac: String,
}

/// The attachments of one network that the container runtime knows; what else was set up for that network is gone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IpamGcArgs {
    /// Name of the network.
    pub network_name: String,
    /// The attachments. The member must be there: taking an absent list for an empty one would give everything back.
    pub attachments: Vec<ValidAttachment>,
}

/// One NIC of one sandbox.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ValidAttachment {
    /// The sandbox.
    #[serde(rename = "containerID")]
    pub container_id: String,
    /// NIC inside the pod.
    #[serde(rename = "ifname")]
    pub if_name: String,
}
