//! What the agent has on record for a pod.

use serde::{Deserialize, Serialize};

use crate::unset::{empty_is_null, is_zero, null_is_default};

/// Answer of the workload endpoint path: the addresses on record for one pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadEndpointStatus {
    /// NICs of the pod.
    #[serde(deserialize_with = "null_is_default")]
    pub interfaces: Vec<EndpointInterface>,
    /// Node that the pod runs on.
    pub node: String,
    /// Name of the endpoint, which is the pod's unless a virtual machine owns it.
    pub pod_name: String,
    /// Namespace of the pod.
    pub pod_namespace: String,
    /// UID of the pod.
    #[serde(rename = "podUID")]
    pub pod_uid: String,
}

/// Addresses on record for one NIC.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EndpointInterface {
    /// NIC inside the pod.
    pub interface: String,
    /// IPv4 address with prefix length, empty when there is none.
    #[serde(
        default,
        deserialize_with = "null_is_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub ipv4: String,
    /// IPv4 gateway.
    #[serde(
        default,
        deserialize_with = "null_is_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub ipv4_gateway: String,
    /// Pool of the IPv4 address.
    #[serde(
        default,
        deserialize_with = "null_is_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub ipv4_pool: String,
    /// IPv6 address with prefix length, empty when there is none.
    #[serde(
        default,
        deserialize_with = "null_is_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub ipv6: String,
    /// IPv6 gateway.
    #[serde(
        default,
        deserialize_with = "null_is_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub ipv6_gateway: String,
    /// Pool of the IPv6 address.
    #[serde(
        default,
        deserialize_with = "null_is_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub ipv6_pool: String,
    /// Hardware address of the NIC, empty when the main plugin chooses.
    #[serde(
        default,
        deserialize_with = "null_is_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub mac: String,
    /// Routes of the NIC.
    #[serde(default, deserialize_with = "null_is_default", serialize_with = "empty_is_null")]
    pub routes: Vec<EndpointRoute>,
    /// VLAN of the pools, 0 when they have none.
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "is_zero")]
    pub vlan: i64,
    /// Sandbox that was last set up with the addresses, empty once it is gone.
    #[serde(
        rename = "containerID",
        default,
        deserialize_with = "null_is_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub container_id: String,
    /// Why the pool does not have the IPv4 address on record for this NIC, empty when it has.
    #[serde(
        default,
        deserialize_with = "null_is_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub ipv4_fault: String,
    /// Why the pool does not have the IPv6 address on record for this NIC, empty when it has.
    #[serde(
        default,
        deserialize_with = "null_is_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub ipv6_fault: String,
}

/// One route on record. The NIC is the enclosing one's, so `ifName` is `null` here.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EndpointRoute {
    /// Destination CIDR.
    pub dst: String,
    /// Gateway address.
    pub gw: String,
    /// Always `null`.
    #[serde(default)]
    pub if_name: Option<String>,
}
