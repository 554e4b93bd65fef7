//! What each level says about a NIC.

use super::Defaults;
use super::items::item_of;
use crate::automatic;
use crate::config::Config;
use crate::error::RequestError;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use spiderpool_crds::annotations::{self, AnnotationError, Annotations};
use spiderpool_crds::app::AppKey;
use spiderpool_crds::{SpiderIPPool, names, owner};
use spiderpool_ipam::candidates::{Asked, Level};

/// What the pod's annotations ask for on the NIC, if they name subnets or pools at all.
pub(super) fn of_pod(
    config: &Config,
    pod: &Pod,
    app: &AppKey,
    defaults: Defaults<'_>,
) -> Result<Option<Asked>, RequestError> {
    let full = || format!("{}/{}", pod.namespace().unwrap_or_default(), pod.name_any());
    let wrong = |source: AnnotationError| RequestError::Annotation { pod: full(), source };
    let unfit = |reason: String| RequestError::Unfit { pod: full(), reason };
    let (nic, clean) = (defaults.nic, defaults.clean_gateway);
    if config.enable_spider_subnet
        && let Some(request) = annotations::subnet_request(pod.annotations()).map_err(wrong)?
    {
        if !config.enable_auto_pool_for_application {
            return Err(unfit(format!(
                "it's invalid to use '{}' or '{}' annotation when Auto-Pool feature is disabled",
                names::ANNOTATION_SUBNETS,
                names::ANNOTATION_SUBNET
            )));
        }
        if let Some(reason) = owner::refusal(app) {
            return Err(unfit(reason));
        }
        let item = automatic::item(request, nic).map_err(unfit)?;
        return Ok(Some(Asked::new(Level::Subnets, item.ipv4, item.ipv6, clean)));
    }
    if let Some(items) = annotations::ippools(pod.annotations()).map_err(wrong)? {
        let networks = annotations::networks(pod.annotations());
        let item = item_of(items, nic, &networks).map_err(unfit)?;
        let (pools, clean) = (item.pools, item.clean_gateway);
        return Ok(Some(Asked::new(Level::IPPools, pools.ipv4, pools.ipv6, clean)));
    }
    let request = annotations::ippool(pod.annotations()).map_err(wrong)?;
    Ok(request.map(|request| Asked::new(Level::IPPool, request.ipv4, request.ipv6, clean)))
}

/// What the namespace names as its default pools.
pub(super) fn of_namespace(
    namespace: &str,
    annotations: &Annotations,
    pod: &str,
    defaults: Defaults<'_>,
) -> Result<Option<Asked>, RequestError> {
    let request = annotations::namespace_pools(annotations).map_err(|source| RequestError::NamespaceAnnotation {
        pod: pod.to_owned(),
        namespace: namespace.to_owned(),
        source,
    })?;
    let clean = defaults.clean_gateway;
    Ok(request.map(|request| Asked::new(Level::Namespace, request.ipv4, request.ipv6, clean)))
}

/// What the CNI configuration names.
pub(super) fn of_network(defaults: Defaults<'_>) -> Asked {
    let (ipv4, ipv6) = (defaults.ipv4.to_vec(), defaults.ipv6.to_vec());
    Asked::new(Level::Network, ipv4, ipv6, defaults.clean_gateway)
}

/// The default pools.
pub(super) fn of_cluster<'a>(pools: impl Iterator<Item = &'a SpiderIPPool>, defaults: Defaults<'_>) -> Asked {
    let default = pools.filter(|pool| pool.spec.default == Some(true));
    Asked::defaults(default.filter_map(|pool| pool.family().ok()), defaults.clean_gateway)
}
