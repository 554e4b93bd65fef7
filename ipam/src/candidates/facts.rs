//! What the rules need to know of a pool and of a pod's NIC.

use super::{Rejection, Selector};
use crate::addr::Family;
use crate::cidr::Cidr;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// Who may use a pool.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum PodRule {
    /// Any pod.
    #[default]
    Any,
    /// Pods with matching labels.
    Labels(Selector),
    /// Pods of one application: the pool is an automatic one, and this is its application's key.
    Application(String),
}

/// What a look at a pool's records showed for this request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Room {
    /// Nobody looked: whoever claims will see.
    #[default]
    Unknown,
    /// There is an address for it.
    Free,
    /// There is none, for this reason.
    None(Rejection),
}

/// What the rules need to know of a pool.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PoolFacts {
    /// Name.
    pub name: String,
    /// `spec.subnet`; none if the pool's spec is broken.
    pub subnet: Option<Cidr>,
    /// Whether it is being deleted.
    pub terminating: bool,
    /// `spec.disable`.
    pub disabled: bool,
    /// `spec.default`.
    pub default: bool,
    /// Whether the operator checked the spec of now against all other pools, which it does for pools that users make.
    pub ready: bool,
    /// Why that check found that it must not serve.
    pub refused: Option<String>,
    /// `spec.podAffinity`.
    pub pods: PodRule,
    /// `spec.nodeName`; empty for any.
    pub node_names: Vec<String>,
    /// `spec.nodeAffinity`.
    pub nodes: Option<Selector>,
    /// `spec.namespaceName`; empty for any.
    pub namespace_names: Vec<String>,
    /// `spec.namespaceAffinity`.
    pub namespaces: Option<Selector>,
    /// `spec.multusName`; empty for any.
    pub multus_names: Vec<String>,
    /// Whether it has an address for this request, where somebody looked.
    pub room: Room,
}

impl PoolFacts {
    /// The family of its addresses; none if the pool's spec is broken.
    pub fn family(&self) -> Option<Family> {
        self.subnet.as_ref().map(Cidr::family)
    }
}

/// What is known of the NIC's master on the host, where the CNI configuration asks for pools in the master's subnet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Master {
    /// Nobody asks.
    #[default]
    Any,
    /// Its addresses.
    Has(Vec<IpAddr>),
    /// They are asked for, but not known.
    Unknown,
}

/// What the rules need to know of a pod's NIC.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodFacts {
    /// The NIC.
    pub nic: String,
    /// Key of the application that controls the pod.
    pub application: String,
    /// Namespace.
    pub namespace: String,
    /// Labels of the namespace; none if nobody read them.
    pub namespace_labels: Option<BTreeMap<String, String>>,
    /// Labels of the pod.
    pub labels: BTreeMap<String, String>,
    /// Node.
    pub node: String,
    /// Labels of the node; none if nobody read them.
    pub node_labels: Option<BTreeMap<String, String>>,
    /// `namespace/name` of the network attachment of this NIC, if a meta plugin chose one.
    pub network: Option<String>,
    /// The namespace of entries in `multusName` that name none.
    pub default_network_namespace: String,
    /// Master of the NIC.
    pub master: Master,
    /// The one address that the pod asks for in each family.
    pub exact: BTreeMap<Family, IpAddr>,
}
