//! Where a NIC's addresses come from: what the pod asks for, and which pools may serve it.

use crate::automatic;
use crate::context::Context;
use crate::error::RequestError;
use k8s_openapi::api::core::v1::{Namespace, Node, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::{Api, ResourceExt};
use spiderpool_crds::annotations::{self, AnnotationError};
use spiderpool_crds::app::AppKey;
use spiderpool_crds::{SpiderIPPool, names};
use spiderpool_ipam::Family;
use spiderpool_ipam::candidates::{self, Expression, PodFacts, PodRule, PoolFacts, Selector};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

const READ_TIMEOUT: Duration = Duration::from_secs(5);

/// Where addresses come from. The first level that is present decides; there is no falling through to the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Level {
    /// The automatic pools of the pod's application, which the operator makes out of these subnets.
    Subnets,
    /// Pools named by an annotation or by the CNI configuration.
    Named,
    /// Pools with `spec.default: true`.
    Default,
}

/// What one NIC asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// The deciding level.
    pub level: Level,
    /// Names of subnets or pools by family, in the user's order. A family that is not asked for is absent.
    pub names: BTreeMap<Family, Vec<String>>,
    /// Leave out the default route.
    pub clean_gateway: bool,
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
pub fn choose(context: &Context, pod: &Pod, app: &AppKey, defaults: Defaults<'_>) -> Result<Choice, RequestError> {
    let full = || format!("{}/{}", pod.namespace().unwrap_or_default(), pod.name_any());
    let wrong = |source: AnnotationError| RequestError::Annotation { pod: full(), source };
    let unfit = |reason: String| RequestError::Unfit { pod: full(), reason };
    let nic = defaults.nic;
    let config = &context.config;
    let enabled = |lists: [(Family, Vec<String>); 2]| -> BTreeMap<Family, Vec<String>> {
        lists
            .into_iter()
            .filter(|(family, list)| !list.is_empty() && config.enables(*family))
            .collect()
    };
    let from_conf = defaults.clean_gateway;
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
        if let Some(reason) = automatic::refusal(app) {
            return Err(unfit(reason));
        }
        let item = automatic::item(request, nic).map_err(unfit)?;
        let names = enabled([(Family::V4, item.ipv4), (Family::V6, item.ipv6)]);
        return finish(Level::Subnets, names, from_conf, &unfit);
    }
    if let Some(items) = annotations::ippools(pod.annotations()).map_err(wrong)? {
        let position = nic_position(nic);
        let item = items
            .into_iter()
            .enumerate()
            .find(|(at, item)| match &item.interface {
                Some(interface) => interface == nic,
                None => Some(*at) == position,
            })
            .map(|(_, item)| item)
            .ok_or_else(|| {
                unfit(format!(
                    "annotation {} has no item for interface {nic}",
                    names::ANNOTATION_IPPOOLS
                ))
            })?;
        let names = enabled([(Family::V4, item.pools.ipv4), (Family::V6, item.pools.ipv6)]);
        return finish(Level::Named, names, item.clean_gateway, &unfit);
    }
    if let Some(request) = annotations::ippool(pod.annotations()).map_err(wrong)? {
        let names = enabled([(Family::V4, request.ipv4), (Family::V6, request.ipv6)]);
        return finish(Level::Named, names, from_conf, &unfit);
    }
    if !defaults.ipv4.is_empty() || !defaults.ipv6.is_empty() {
        let names = enabled([
            (Family::V4, defaults.ipv4.to_vec()),
            (Family::V6, defaults.ipv6.to_vec()),
        ]);
        return finish(Level::Named, names, from_conf, &unfit);
    }
    let mut by_family: BTreeMap<Family, Vec<String>> = BTreeMap::new();
    for pool in context.pools.cache().list() {
        if pool.spec.default == Some(true)
            && let Ok(family) = pool.family()
            && config.enables(family)
        {
            by_family.entry(family).or_default().push(pool.name_any());
        }
    }
    by_family.values_mut().for_each(|names| names.sort_unstable());
    if by_family.is_empty() {
        return Err(unfit(format!(
            "no IPPool available: the Pod has none of the annotations {}, {} and {}, and no IPPool has `spec.default: true`",
            names::ANNOTATION_SUBNET,
            names::ANNOTATION_IPPOOL,
            names::ANNOTATION_IPPOOLS
        )));
    }
    Ok(Choice {
        level: Level::Default,
        names: by_family,
        clean_gateway: from_conf,
    })
}

fn finish(
    level: Level,
    names: BTreeMap<Family, Vec<String>>,
    clean_gateway: bool,
    unfit: &impl Fn(String) -> RequestError,
) -> Result<Choice, RequestError> {
    if names.is_empty() {
        let reason =
            "its annotation asks for no IP family that is enabled (ipam.enableIPv4, ipam.enableIPv6 of the chart)";
        return Err(unfit(reason.to_owned()));
    }
    Ok(Choice {
        level,
        names,
        clean_gateway,
    })
}

/// The place of an interface among the pod's networks, as meta plugins name them: `eth0`, `net1`, `net2`, ...
fn nic_position(nic: &str) -> Option<usize> {
    if nic == names::DEFAULT_NIC {
        Some(0)
    } else {
        nic.strip_prefix("net").and_then(|n| n.parse().ok())
    }
}

/// Named or default pools that may serve the request, in order, and one reason for each of the others.
pub fn candidates(
    pools: &[Arc<SpiderIPPool>],
    choice: &Choice,
    nic: &str,
    family: Family,
    facts: &PodFacts,
) -> (Vec<Arc<SpiderIPPool>>, Vec<String>) {
    let mut considered: Vec<Arc<SpiderIPPool>> = Vec::new();
    let mut reasons = Vec::new();
    let wanted = choice.names.get(&family).map(Vec::as_slice).unwrap_or_default();
    for name in wanted {
        match pools.iter().find(|pool| pool.metadata.name.as_ref() == Some(name)) {
            Some(pool) => considered.push(pool.clone()),
            None => reasons.push(format!("IPPool {name} does not exist")),
        }
    }
    let mut fit: Vec<PoolFacts> = Vec::new();
    for pool in &considered {
        let pool_facts = pool_facts(pool);
        match candidates::check(&pool_facts, family, facts) {
            Ok(()) => fit.push(pool_facts),
            Err(rejection) => reasons.push(rejection.about_nic(&pool_facts.name, nic).to_string()),
        }
    }
    candidates::order(&mut fit);
    let by_name = |facts: PoolFacts| {
        considered
            .iter()
            .find(|pool| pool.metadata.name.as_ref() == Some(&facts.name))
    };
    (fit.into_iter().filter_map(by_name).cloned().collect(), reasons)
}

/// What an application is known by: everything but the API version, which changes under it.
pub fn identity(app: &AppKey) -> String {
    format!("{}/{}/{}/{}", app.group, app.kind, app.namespace, app.name)
}

/// What the rules need to know of a pool.
pub fn pool_facts(pool: &SpiderIPPool) -> PoolFacts {
    let spec = &pool.spec;
    let pods = match (pool.app_key(), &spec.pod_affinity) {
        (Some(app), _) => PodRule::Application(identity(&app)),
        (None, Some(affinity)) => PodRule::Labels(selector(affinity)),
        (None, None) => PodRule::Any,
    };
    PoolFacts {
        name: pool.name_any(),
        family: pool.family().ok(),
        terminating: pool.metadata.deletion_timestamp.is_some(),
        disabled: spec.disable == Some(true),
        pods,
        node_names: spec.node_name.clone().unwrap_or_default(),
        nodes: spec.node_affinity.as_ref().map(selector),
        namespace_names: spec.namespace_name.clone().unwrap_or_default(),
        namespaces: spec.namespace_affinity.as_ref().map(selector),
        multus_names: spec.multus_name.clone().unwrap_or_default(),
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

/// What the rules need to know of a pod. Labels of node and namespace are read only when a considered pool asks for them.
pub async fn pod_facts(
    context: &Context,
    pod: &Pod,
    app: &AppKey,
    choice: &Choice,
    nic: &str,
    deadline: Instant,
) -> Result<PodFacts, RequestError> {
    let namespace = pod.namespace().unwrap_or_default();
    let mut facts = PodFacts {
        application: identity(app),
        namespace_labels: BTreeMap::new(),
        labels: pod.labels().clone(),
        node: context.node.clone(),
        node_labels: BTreeMap::new(),
        network: network_of(pod, nic, &context.namespace),
        default_network_namespace: context.namespace.clone(),
        namespace,
    };
    if choice.level == Level::Subnets {
        return Ok(facts);
    }
    let considered: Vec<Arc<SpiderIPPool>> = choice
        .names
        .values()
        .flatten()
        .filter_map(|name| context.pools.cache().get("", name))
        .collect();
    let limit = deadline.min(Instant::now() + READ_TIMEOUT);
    if considered.iter().any(|pool| pool.spec.node_affinity.is_some()) {
        let api: Api<Node> = Api::all(context.client.clone());
        let what = || format!("read the labels of Node {}", context.node);
        facts.node_labels = context
            .call(limit, what, api.get_metadata(&context.node))
            .await?
            .labels()
            .clone();
    }
    if considered.iter().any(|pool| pool.spec.namespace_affinity.is_some()) {
        let api: Api<Namespace> = Api::all(context.client.clone());
        let what = || format!("read the labels of Namespace {}", facts.namespace);
        facts.namespace_labels = context
            .call(limit, what, api.get_metadata(&facts.namespace))
            .await?
            .labels()
            .clone();
    }
    Ok(facts)
}

/// The network attachment of the first NIC, where a meta plugin was told one.
fn network_of(pod: &Pod, nic: &str, own_namespace: &str) -> Option<String> {
    if nic != names::DEFAULT_NIC {
        return None;
    }
    let name = pod.annotations().get(names::ANNOTATION_MULTUS_DEFAULT_NETWORK)?;
    Some(if name.contains('/') {
        name.clone()
    } else {
        format!("{own_namespace}/{name}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pool(name: &str, labels: &serde_json::Value, spec: &serde_json::Value) -> Arc<SpiderIPPool> {
        let object = json!({"apiVersion": names::API_VERSION, "kind": "SpiderIPPool",
            "metadata": {"name": name, "labels": labels}, "spec": spec});
        Arc::new(serde_json::from_value(object).unwrap())
    }

    fn automatic(name: &str, app: &str, nic: &str) -> Arc<SpiderIPPool> {
        let labels = json!({
            names::LABEL_OWNER_APP_GV: "apps_v1", names::LABEL_OWNER_APP_KIND: "Deployment",
            names::LABEL_OWNER_APP_NAMESPACE: "retail", names::LABEL_OWNER_APP_NAME: app, names::LABEL_INTERFACE: nic,
        });
        pool(name, &labels, &json!({"subnet": "10.77.0.0/20"}))
    }

    fn facts() -> PodFacts {
        PodFacts {
            // Another API version of the same application.
            application: identity(&AppKey::new("apps/v2", "Deployment", "retail", "shop")),
            namespace: "retail".to_owned(),
            node: "n1".to_owned(),
            ..PodFacts::default()
        }
    }

    fn found(pools: &[Arc<SpiderIPPool>], names: &[&str]) -> (Vec<String>, Vec<String>) {
        let wanted = names.iter().map(|name| (*name).to_owned()).collect();
        let choice = Choice {
            level: Level::Named,
            names: BTreeMap::from([(Family::V4, wanted)]),
            clean_gateway: false,
        };
        let (fit, reasons) = candidates(pools, &choice, "eth0", Family::V4, &facts());
        (fit.iter().map(|pool| pool.name_any()).collect(), reasons)
    }

    #[test]
    fn named_pools_are_tried_in_the_order_of_the_user_but_narrower_ones_first() {
        let none = json!({});
        let open = json!({"subnet": "10.77.0.0/20"});
        let narrow = json!({"subnet": "10.77.0.0/20", "nodeName": ["n1"]});
        let other = json!({"subnet": "10.77.0.0/20", "nodeName": ["n2"]});
        let v6 = json!({"subnet": "fd77::/64"});
        let pools = [
            pool("z", &none, &open),
            pool("a", &none, &open),
            pool("n", &none, &narrow),
            pool("o", &none, &other),
            pool("six", &none, &v6),
            automatic("auto", "bank", "eth0"),
        ];
        let (fit, reasons) = found(&pools, &["z", "a", "n", "o", "six", "auto", "absent"]);
        assert_eq!(fit, ["n", "z", "a"]);
        let text = reasons.join("\n");
        assert!(text.contains("unmatched Node name of IPPool o"), "{text}");
        assert!(text.contains("IPPool absent does not exist"), "{text}");
        assert_eq!(reasons.len(), 4, "{text}");
    }

    #[test]
    fn interfaces_have_the_places_that_meta_plugins_give_them() {
        assert_eq!(nic_position("eth0"), Some(0));
        assert_eq!(nic_position("net2"), Some(2));
        assert_eq!(nic_position("lan"), None);
    }
}
