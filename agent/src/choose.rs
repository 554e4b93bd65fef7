//! Where a NIC's addresses come from: what the pod asks for, or its namespace, or its network.
//!
//! Which level decides and which pools may serve is the rule of [`spiderpool_ipam::candidates`]; here it is observed what that
//! rule needs, and no more: a namespace or node is read only when a level or a pool asks for it.

mod facts;
mod items;
mod levels;

pub use facts::{identity, master, pod_facts, pool_facts, pool_facts_for, with_labels};
pub use items::together;

use crate::config::Config;
use crate::context::Context;
use crate::error::RequestError;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use spiderpool_crds::SpiderIPPool;
use spiderpool_crds::annotations::{self, AnnotationError, ExactAddresses};
use spiderpool_crds::app::AppKey;
use spiderpool_crds::names;
use spiderpool_ipam::Family;
use spiderpool_ipam::candidates::{Asked, Level, Unasked, deciding};
use std::sync::Arc;
use tokio::time::Instant;

/// What one NIC asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// The deciding level.
    pub asked: Asked,
    /// The exact addresses that are asked for.
    pub exact: ExactAddresses,
}

/// What the CNI configuration says.
#[derive(Clone, Copy, Debug)]
pub struct Defaults<'a> {
    /// Interface of the request.
    pub nic: &'a str,
    /// IPv4 pools.
    pub ipv4: &'a [String],
    /// IPv6 pools.
    pub ipv6: &'a [String],
    /// Leave out the default route.
    pub clean_gateway: bool,
}

/// Reads what a pod's NIC asks for.
pub async fn choose(
    context: &Context,
    pod: &Pod,
    app: &AppKey,
    defaults: Defaults<'_>,
    deadline: Instant,
) -> Result<Choice, RequestError> {
    let full = || format!("{}/{}", pod.namespace().unwrap_or_default(), pod.name_any());
    let config = &context.config;
    let mut present = Vec::new();
    present.extend(levels::of_pod(config, pod, app, defaults)?);
    if present.is_empty() {
        let namespace = pod.namespace().unwrap_or_default();
        let found = context.surroundings.namespace(&namespace, deadline).await?;
        present.extend(levels::of_namespace(&namespace, &found.annotations, &full(), defaults)?);
        present.push(levels::of_network(defaults));
        let pools = context.pools.cache().list();
        present.push(levels::of_cluster(pools.iter().map(Arc::as_ref), defaults));
    }
    decide(config, present, pod, defaults.nic)
}

/// The deciding one of the levels that are present, with the exact addresses.
fn decide(config: &Config, present: Vec<Asked>, pod: &Pod, nic: &str) -> Result<Choice, RequestError> {
    let full = || format!("{}/{}", pod.namespace().unwrap_or_default(), pod.name_any());
    let unfit = |reason: String| RequestError::Unfit { pod: full(), reason };
    let enabled: Vec<Family> = Family::ALL
        .into_iter()
        .filter(|family| config.enables(*family))
        .collect();
    let asked = deciding(present, &enabled).map_err(|unasked| unfit(about_unasked(unasked)))?;
    let wrong = |source: AnnotationError| RequestError::Annotation { pod: full(), source };
    let mut exact = annotations::exact_addresses(pod.annotations()).map_err(wrong)?;
    let exact = exact.remove(nic).unwrap_or_default();
    if let Some((family, address)) = exact.iter().find(|(family, _)| !asked.names.contains_key(family)) {
        return Err(unfit(format!(
            "annotation {} asks for {address} on interface {nic}, but no IPPool gives it {family} addresses: {} asks for \
             none, or the IP version is switched off (ipam.enable{family} of the chart)",
            names::ANNOTATION_IP,
            origin(asked.level)
        )));
    }
    Ok(Choice { asked, exact })
}

fn about_unasked(unasked: Unasked) -> String {
    match unasked {
        Unasked::NoLevel => format!(
            "no IPPool available: the Pod has none of the annotations {}, {}, {} and {}, its Namespace names no default pools, \
             the CNI configuration of its network names none, and no IPPool has `spec.default: true`",
            names::ANNOTATION_SUBNETS,
            names::ANNOTATION_SUBNET,
            names::ANNOTATION_IPPOOL,
            names::ANNOTATION_IPPOOLS
        ),
        Unasked::Families(level) => format!(
            "{} asks for no IP family that is enabled (ipam.enableIPv4, ipam.enableIPv6 of the chart)",
            origin(level)
        ),
    }
}

/// Where a level is written, in words.
pub fn origin(level: Level) -> String {
    match level {
        Level::Subnets => format!(
            "annotation {} or {} of the Pod",
            names::ANNOTATION_SUBNETS,
            names::ANNOTATION_SUBNET
        ),
        Level::IPPools => format!("annotation {} of the Pod", names::ANNOTATION_IPPOOLS),
        Level::IPPool => format!("annotation {} of the Pod", names::ANNOTATION_IPPOOL),
        Level::Namespace => format!(
            "annotation {} or {} of the Namespace",
            names::ANNOTATION_DEFAULT_IPV4_IPPOOL,
            names::ANNOTATION_DEFAULT_IPV6_IPPOOL
        ),
        Level::Network => "the CNI configuration of the network (default_ipv4_ippool, default_ipv6_ippool)".to_owned(),
        Level::Default => "`spec.default: true` of IPPools".to_owned(),
    }
}

/// The pools that a level other than that of subnets asks for, as far as they exist.
pub fn considered(context: &Context, asked: &Asked) -> Vec<Arc<SpiderIPPool>> {
    let cache = context.pools.cache();
    match asked.plain_names() {
        Some(names) => names.filter_map(|name| cache.get("", name)).collect(),
        None => {
            let concerned = asked.concerned();
            let name = |pool: &SpiderIPPool| pool.metadata.name.clone().unwrap_or_default();
            let all = cache.list().into_iter();
            all.filter(|pool| concerned(&name(pool), pool.spec.default == Some(true)))
                .collect()
        }
    }
}

#[cfg(test)]
mod tests;
