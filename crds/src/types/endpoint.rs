//! SpiderEndpoint: the addresses of one pod.
//!
//! The kind has no spec, and its status is an ordinary member without a subresource. The derive of the other kinds makes a
//! subresource of every status, so the traits it would give are written out here.

use std::borrow::Cow;
use std::net::IpAddr;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1 as apiext;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::{ApiResource, CustomResourceExt, NamespaceResourceScope, Resource};
use schemars::JsonSchema;
use serde::ser::SerializeStruct;
use serde::{Deserialize, Serialize, Serializer};

use super::{Route, UnknownMembers};
use crate::generate::root_schema;
use crate::names;

/// The addresses that Spiderpool gave to one pod. It has the name and namespace of the pod.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[schemars(rename_all = "camelCase")]
pub struct SpiderEndpoint {
    /// Standard object metadata.
    #[serde(default)]
    #[schemars(skip)]
    pub metadata: ObjectMeta,

    /// What the pod was given.
    #[serde(default)]
    pub status: EndpointStatus,
}

/// What one pod was given. Written by the agent of the pod's node only.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EndpointStatus {
    /// What the pod that exists now was given.
    #[serde(default)]
    pub current: PodAllocation,

    /// Kind of the workload the pod belongs to, for example Deployment; Pod when there is none.
    #[serde(default)]
    pub owner_controller_type: String,

    /// Name of the workload the pod belongs to; the pod's own name when there is none.
    #[serde(default)]
    pub owner_controller_name: String,

    /// API version of the workload, for example apps/v1: kinds of several groups have the same name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner_controller_api_version: Option<String>,

    /// Members this version does not know.
    #[serde(flatten)]
    #[schemars(skip)]
    pub other: UnknownMembers,
}

/// What a pod was given on all its interfaces.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodAllocation {
    /// UID of the pod.
    #[serde(default)]
    pub uid: String,

    /// Name of the pod, where it is not the endpoint's: the pods of a virtual machine share the endpoint that has its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_name: Option<String>,

    /// Node the pod runs on.
    #[serde(default)]
    pub node: String,

    /// One item for each interface of the pod.
    #[serde(default)]
    pub ips: Vec<NicDetail>,

    /// Members this version does not know.
    #[serde(flatten)]
    #[schemars(skip)]
    pub other: UnknownMembers,
}

/// What a pod was given on one interface.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NicDetail {
    /// Name of the interface inside the pod. Empty while it is not known yet.
    #[serde(default)]
    pub interface: String,

    /// IPv4 address with prefix length, for example 10.6.0.5/16.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv4: Option<String>,

    /// IPv6 address with prefix length, for example fd00:10::5/64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv6: Option<String>,

    /// Pool the IPv4 address comes from.
    #[serde(default, rename = "ipv4Pool", skip_serializing_if = "Option::is_none")]
    pub ipv4_pool: Option<String>,

    /// Pool the IPv6 address comes from.
    #[serde(default, rename = "ipv6Pool", skip_serializing_if = "Option::is_none")]
    pub ipv6_pool: Option<String>,

    /// VLAN ID, 0 for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 4094), extend("default" = 0))]
    pub vlan: Option<i64>,

    /// IPv4 gateway.
    #[serde(default, rename = "ipv4Gateway", skip_serializing_if = "Option::is_none")]
    pub ipv4_gateway: Option<String>,

    /// IPv6 gateway.
    #[serde(default, rename = "ipv6Gateway", skip_serializing_if = "Option::is_none")]
    pub ipv6_gateway: Option<String>,

    /// Whether no default route was set up on this interface although it has a gateway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clean_gateway: Option<bool>,

    /// Routes that were installed for this interface, besides the default route.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub routes: Option<Vec<Route>>,

    /// MAC address, when a cloud provider dictates it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<String>,

    /// ID of the sandbox container that was last set up with these addresses. Absent once that sandbox is gone.
    #[serde(default, rename = "containerID", skip_serializing_if = "Option::is_none")]
    pub container_id: Option<String>,

    /// Name of the network that the interface was set up for, from its CNI configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_name: Option<String>,

    /// Members this version does not know.
    #[serde(flatten)]
    #[schemars(skip)]
    pub other: UnknownMembers,
}

impl NicDetail {
    /// The addresses without their prefix lengths and the pools they come from, IPv4 first. What is not an address is left out.
    pub fn addresses(&self) -> impl Iterator<Item = (IpAddr, Option<&str>)> {
        let written = [(&self.ipv4, &self.ipv4_pool), (&self.ipv6, &self.ipv6_pool)].into_iter();
        written.filter_map(|(address, pool)| {
            let host = address.as_deref()?.split('/').next()?;
            Some((host.parse().ok()?, pool.as_deref()))
        })
    }
}

impl SpiderEndpoint {
    /// An endpoint for the pod of this namespace and name.
    pub fn new(namespace: &str, name: &str, status: EndpointStatus) -> Self {
        Self {
            metadata: ObjectMeta {
                namespace: Some(namespace.to_owned()),
                name: Some(name.to_owned()),
                ..ObjectMeta::default()
            },
            status,
        }
    }
}

impl Serialize for SpiderEndpoint {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut object = serializer.serialize_struct("SpiderEndpoint", 4)?;
        object.serialize_field("apiVersion", &Self::api_version(&()))?;
        object.serialize_field("kind", &Self::kind(&()))?;
        object.serialize_field("metadata", &self.metadata)?;
        object.serialize_field("status", &self.status)?;
        object.end()
    }
}

impl Resource for SpiderEndpoint {
    type DynamicType = ();
    type Scope = NamespaceResourceScope;

    fn kind(_: &()) -> Cow<'_, str> {
        "SpiderEndpoint".into()
    }

    fn group(_: &()) -> Cow<'_, str> {
        names::GROUP.into()
    }

    fn version(_: &()) -> Cow<'_, str> {
        names::VERSION.into()
    }

    fn plural(_: &()) -> Cow<'_, str> {
        "spiderendpoints".into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

impl CustomResourceExt for SpiderEndpoint {
    fn crd() -> apiext::CustomResourceDefinition {
        apiext::CustomResourceDefinition {
            metadata: ObjectMeta {
                name: Some(Self::crd_name().to_owned()),
                ..ObjectMeta::default()
            },
            spec: apiext::CustomResourceDefinitionSpec {
                group: names::GROUP.to_owned(),
                names: apiext::CustomResourceDefinitionNames {
                    categories: Some(vec!["spiderpool".to_owned()]),
                    kind: "SpiderEndpoint".to_owned(),
                    plural: "spiderendpoints".to_owned(),
                    short_names: Some(Self::shortnames().iter().map(|&name| name.to_owned()).collect()),
                    singular: Some("spiderendpoint".to_owned()),
                    ..Default::default()
                },
                scope: "Namespaced".to_owned(),
                versions: vec![apiext::CustomResourceDefinitionVersion {
                    name: names::VERSION.to_owned(),
                    schema: Some(apiext::CustomResourceValidation {
                        open_api_v3_schema: root_schema::<Self>(),
                    }),
                    served: true,
                    storage: true,
                    ..Default::default()
                }],
                ..Default::default()
            },
            status: None,
        }
    }

    fn crd_name() -> &'static str {
        "spiderendpoints.spiderpool.spidernet.io"
    }

    fn api_resource() -> ApiResource {
        ApiResource::erase::<Self>(&())
    }

    fn shortnames() -> &'static [&'static str] {
        &["se"]
    }
}
