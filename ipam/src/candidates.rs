//! Which pools a request may use, in which order, and why the others may not serve it.
//!
//! One level decides: the first of annotation of a subnet, annotation of pools, and default pools that is present.
//! Within it, pools that do not fit are rejected with a reason that ends up in the pod's Event.

use crate::addr::Family;
use std::collections::BTreeMap;
use std::fmt;

/// One `matchExpressions` term of a Kubernetes label selector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expression {
    /// Label key.
    pub key: String,
    /// `In`, `NotIn`, `Exists` or `DoesNotExist`.
    pub operator: String,
    /// Values of the first two operators.
    pub values: Vec<String>,
}

/// A Kubernetes label selector.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector {
    /// Labels that must be there with these values.
    pub labels: BTreeMap<String, String>,
    /// Further terms; all must hold.
    pub expressions: Vec<Expression>,
}

impl Selector {
    /// Whether labels match. A selector with an unknown operator matches nothing.
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.labels.iter().all(|(key, value)| labels.get(key) == Some(value))
            && self.expressions.iter().all(|term| {
                let value = labels.get(&term.key);
                match term.operator.as_str() {
                    "In" => value.is_some_and(|value| term.values.contains(value)),
                    "NotIn" => value.is_none_or(|value| !term.values.contains(value)),
                    "Exists" => value.is_some(),
                    "DoesNotExist" => value.is_none(),
                    _ => false,
                }
            })
    }
}

/// Who may use a pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PodRule {
    /// Any pod.
    Any,
    /// Pods with matching labels.
    Labels(Selector),
    /// Pods of one application: the pool is an automatic one, and this is its application's key.
    Application(String),
}

/// What the rules need to know of a pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolFacts {
    /// Name.
    pub name: String,
    /// Family; none if the pool's spec is broken.
    pub family: Option<Family>,
    /// Whether it is being deleted.
    pub terminating: bool,
    /// `spec.disable`.
    pub disabled: bool,
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
}

/// What the rules need to know of a pod's NIC.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodFacts {
    /// Key of the application that controls the pod.
    pub application: String,
    /// Namespace.
    pub namespace: String,
    /// Labels of the namespace.
    pub namespace_labels: BTreeMap<String, String>,
    /// Labels of the pod.
    pub labels: BTreeMap<String, String>,
    /// Node.
    pub node: String,
    /// Labels of the node.
    pub node_labels: BTreeMap<String, String>,
    /// `namespace/name` of the network attachment of this NIC, if a meta plugin chose one.
    pub network: Option<String>,
    /// The namespace of entries in `multusName` that name none.
    pub default_network_namespace: String,
}

/// Why a pool may not serve a request. The texts of node and multus mismatch are matched by other software.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rejection {
    /// It is being deleted.
    Terminating,
    /// `spec.disable` is true.
    Disabled,
    /// It holds the other family, or its spec is broken.
    Family,
    /// `spec.nodeName` or `spec.nodeAffinity`.
    Node,
    /// `spec.namespaceName` or `spec.namespaceAffinity`.
    Namespace,
    /// `spec.podAffinity`.
    Pod,
    /// It belongs to another application.
    Application(String),
    /// `spec.multusName`.
    Multus(Vec<String>),
}

impl Rejection {
    /// The reason as a sentence about the named pool, where the NIC is not known.
    pub fn about<'a>(&'a self, pool: &'a str) -> impl fmt::Display + 'a {
        About {
            rejection: self,
            pool,
            nic: None,
        }
    }

    /// The reason as a sentence about the named pool and NIC.
    pub fn about_nic<'a>(&'a self, pool: &'a str, nic: &'a str) -> impl fmt::Display + 'a {
        About {
            rejection: self,
            pool,
            nic: Some(nic),
        }
    }
}

struct About<'a> {
    rejection: &'a Rejection,
    pool: &'a str,
    nic: Option<&'a str>,
}

impl fmt::Display for About<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pool = self.pool;
        match self.rejection {
            Rejection::Terminating => write!(f, "IPPool {pool} is being deleted"),
            Rejection::Disabled => write!(f, "IPPool {pool} is disabled"),
            Rejection::Family => write!(f, "IPPool {pool} does not hold addresses of this family"),
            Rejection::Node => write!(f, "unmatched Node name of IPPool {pool}"),
            Rejection::Namespace => write!(f, "unmatched Namespace of IPPool {pool}"),
            Rejection::Pod => write!(f, "unmatched Pod labels of IPPool {pool}"),
            Rejection::Application(app) => write!(f, "IPPool {pool} belongs to application {app}"),
            Rejection::Multus(names) => {
                let names = names.join(" ");
                write!(
                    f,
                    "the spec.multusName [{names}] in the IPPool {pool} used by the Pod interface "
                )?;
                if let Some(nic) = self.nic {
                    write!(f, "{nic} ")?;
                }
                f.write_str("is not matched")
            }
        }
    }
}

/// Whether a pool may serve a NIC of a pod with addresses of a family.
pub fn check(pool: &PoolFacts, family: Family, pod: &PodFacts) -> Result<(), Rejection> {
    if pool.terminating {
        return Err(Rejection::Terminating);
    }
    if pool.disabled {
        return Err(Rejection::Disabled);
    }
    if pool.family != Some(family) {
        return Err(Rejection::Family);
    }
    let node = match (&pool.node_names, &pool.nodes) {
        (names, _) if !names.is_empty() => names.contains(&pod.node),
        (_, Some(selector)) => selector.matches(&pod.node_labels),
        _ => true,
    };
    if !node {
        return Err(Rejection::Node);
    }
    let namespace = match (&pool.namespace_names, &pool.namespaces) {
        (names, _) if !names.is_empty() => names.contains(&pod.namespace),
        (_, Some(selector)) => selector.matches(&pod.namespace_labels),
        _ => true,
    };
    if !namespace {
        return Err(Rejection::Namespace);
    }
    match &pool.pods {
        PodRule::Any => {}
        PodRule::Labels(selector) if selector.matches(&pod.labels) => {}
        PodRule::Labels(_) => return Err(Rejection::Pod),
        // An automatic pool is made for one NIC of one application, which settles the network as well.
        PodRule::Application(app) if *app == pod.application => return Ok(()),
        PodRule::Application(app) => return Err(Rejection::Application(app.clone())),
    }
    let named = |entry: &String| {
        let full = if entry.contains('/') {
            entry.clone()
        } else {
            format!("{}/{entry}", pod.default_network_namespace)
        };
        pod.network.as_ref() == Some(&full)
    };
    if pool.multus_names.is_empty() || pool.multus_names.iter().any(named) {
        Ok(())
    } else {
        Err(Rejection::Multus(pool.multus_names.clone()))
    }
}

/// Puts pools in the order in which they are tried: those made for few pods come before those for many, so that the
/// latter stay for pods that have no choice. The order of the list decides between equals.
pub fn order(pools: &mut [PoolFacts]) {
    pools.sort_by_key(|pool| {
        [
            pool.pods == PodRule::Any,
            pool.node_names.is_empty(),
            pool.nodes.is_none(),
            pool.namespace_names.is_empty(),
            pool.namespaces.is_none(),
            pool.multus_names.is_empty(),
        ]
    });
}
