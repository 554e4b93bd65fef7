//! What the rules need to know of pools and pods, out of their objects.

use super::Choice;
use crate::context::Context;
use crate::error::RequestError;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::ResourceExt;
use spiderpool_crds::app::AppKey;
use spiderpool_crds::{SpiderIPPool, annotations};
use spiderpool_ipam::candidates::{Expression, Level, Master, PodFacts, PodRule, PoolFacts, Rejection, Room, Selector};
use spiderpool_ipam::{RangeSet, addr};
use std::net::IpAddr;
use std::sync::{Arc, Once};
use tokio::time::Instant;

/// What an application is known by: everything but the API version, which changes under it.
pub fn identity(app: &AppKey) -> String {
    format!("{}/{}/{}/{}", app.group, app.kind, app.namespace, app.name)
}

/// What the rules need to know of a pool, before anybody looked at its records.
pub fn pool_facts(pool: &SpiderIPPool) -> PoolFacts {
    let spec = &pool.spec;
    let pods = match (pool.app_key(), &spec.pod_affinity) {
        (Some(app), _) => PodRule::Application(identity(&app)),
        (None, Some(affinity)) => PodRule::Labels(selector(affinity)),
        (None, None) => PodRule::Any,
    };
    PoolFacts {
        name: pool.name_any(),
        subnet: pool.cidr().ok(),
        terminating: pool.is_terminating(),
        disabled: spec.disable == Some(true),
        default: spec.default == Some(true),
        ready: pool.is_ready(),
        refused: pool.refusal().map(str::to_owned),
        pods,
        node_names: spec.node_name.clone().unwrap_or_default(),
        nodes: spec.node_affinity.as_ref().map(selector),
        namespace_names: spec.namespace_name.clone().unwrap_or_default(),
        namespaces: spec.namespace_affinity.as_ref().map(selector),
        multus_names: spec.multus_name.clone().unwrap_or_default(),
        room: Room::Unknown,
    }
}

/// What the rules need to know of a pool for a NIC that may ask for one exact address. That the address is not in the pool
/// needs no look at the records.
pub fn pool_facts_for(pool: &SpiderIPPool, exact: Option<IpAddr>) -> PoolFacts {
    let outside = exact.filter(|address| {
        let (family, bits) = addr::to_bits(*address);
        // A pool whose spec is broken is rejected for that.
        let inside = |total: RangeSet| pool.family() == Ok(family) && total.contains(bits);
        pool.total().is_ok_and(|total| !inside(total))
    });
    PoolFacts {
        room: outside.map_or(Room::Unknown, |address| Room::None(Rejection::AddressOutside(address))),
        ..pool_facts(pool)
    }
}

fn selector(selector: &LabelSelector) -> Selector {
    let expressions = selector.match_expressions.iter().flatten().map(|term| Expression {
        key: term.key.clone(),
        operator: term.operator.clone(),
        values: term.values.clone().unwrap_or_default(),
    });
    Selector {
        labels: selector.match_labels.clone().unwrap_or_default(),
        expressions: expressions.collect(),
    }
}

/// What is known of the master of a NIC, from what the plugin says. An older plugin, which says nothing, leaves the demand without
/// effect: refusing every pool would take the network away from pods that have it.
pub fn master(asked: bool, addresses: Option<&[IpAddr]>) -> Master {
    match addresses {
        _ if !asked => Master::Any,
        None => {
            static TOLD: Once = Once::new();
            TOLD.call_once(|| {
                tracing::warn!(
                    "match_master_subnet of the CNI configuration has no effect: the plugin is an older one, which does not say \
                     which addresses the master interface has"
                );
            });
            Master::Any
        }
        Some([]) => Master::Unknown,
        Some(addresses) => Master::Has(addresses.to_vec()),
    }
}

/// What the rules need to know of a pod's NIC. Labels of node and namespace are read only when a considered pool asks for
/// them. The pools of an application ask for neither.
pub async fn pod_facts(
    context: &Context,
    pod: &Pod,
    app: &AppKey,
    choice: &Choice,
    nic: &str,
    deadline: Instant,
) -> Result<PodFacts, RequestError> {
    let mut facts = local_facts(pod, app, nic, &context.namespace, &context.cluster_network);
    facts.exact.clone_from(&choice.exact);
    if choice.asked.level == Level::Subnets {
        return Ok(facts);
    }
    let considered = super::considered(context, &choice.asked);
    let read = with_labels(context, &facts, &considered, deadline).await?;
    Ok(read.unwrap_or(facts))
}

/// The facts with the labels that these pools ask for and that nobody read yet; nothing if there are none such. Pools come and change
/// while a request runs.
pub async fn with_labels(
    context: &Context,
    facts: &PodFacts,
    pools: &[Arc<SpiderIPPool>],
    deadline: Instant,
) -> Result<Option<PodFacts>, RequestError> {
    let of_node = facts.node_labels.is_none() && pools.iter().any(|pool| pool.spec.node_affinity.is_some());
    let of_namespace =
        facts.namespace_labels.is_none() && pools.iter().any(|pool| pool.spec.namespace_affinity.is_some());
    if !of_node && !of_namespace {
        return Ok(None);
    }
    let mut facts = facts.clone();
    if of_node {
        let node = context.surroundings.node(&facts.node, deadline).await?;
        facts.node_labels = Some(node.labels.clone());
    }
    if of_namespace {
        let namespace = context.surroundings.namespace(&facts.namespace, deadline).await?;
        facts.namespace_labels = Some(namespace.labels.clone());
    }
    Ok(Some(facts))
}

/// What the pod itself says.
pub(super) fn local_facts(pod: &Pod, app: &AppKey, nic: &str, own_namespace: &str, cluster_network: &str) -> PodFacts {
    let namespace = pod.namespace().unwrap_or_default();
    let node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone());
    let networks = annotations::networks(pod.annotations()).or_first(cluster_network);
    PodFacts {
        nic: nic.to_owned(),
        application: identity(app),
        labels: pod.labels().clone(),
        node: node.unwrap_or_default(),
        network: networks.of(nic, own_namespace, &namespace),
        default_network_namespace: own_namespace.to_owned(),
        namespace,
        ..PodFacts::default()
    }
}
