//! SpiderIPPool.

use super::network::{self, Sound, network_of};
use super::subnet::{list, terminating};
use super::{Settings, Verdict};
use crate::names::{
    AFFINITY_APP_GROUP, AFFINITY_APP_KIND, AFFINITY_APP_NAME, AFFINITY_APP_NAMESPACE, AFFINITY_APP_VERSION,
};
use crate::types::{SpiderIPPool, SpiderSubnet};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::ResourceExt;
use spiderpool_ipam::{RangeSet, addr};
use std::collections::BTreeSet;

/// What the podAffinity of an automatic pool names its application by.
const APP_KEYS: [&str; 5] = [
    AFFINITY_APP_GROUP,
    AFFINITY_APP_VERSION,
    AFFINITY_APP_KIND,
    AFFINITY_APP_NAMESPACE,
    AFFINITY_APP_NAME,
];

/// The objects that a pool must get on with.
#[derive(Clone, Copy, Debug, Default)]
pub struct PoolWorld<'a> {
    /// Pools whose networks have an address in common with this pool's.
    pub pools: &'a [&'a SpiderIPPool],
    /// The subnet that the pool is a part of, if it is of one and that is known.
    pub subnet: Option<&'a SpiderSubnet>,
    /// Reserved addresses of the pool's family.
    pub reserved: Option<&'a RangeSet>,
}

/// Judges a pool that is made, or that replaces an `old` one.
pub fn pool(new: &SpiderIPPool, old: Option<&SpiderIPPool>, world: PoolWorld<'_>, settings: Settings) -> Verdict {
    if new.is_terminating() {
        return terminating(new.has_finalizer(), "SpiderIPPool", &new.name_any());
    }
    let (mut verdict, sound) = alone(new, old, settings);
    let Some(sound) = sound else { return verdict };
    neighbours(new, old.is_none(), &sound, world.pools, &mut verdict);
    if old.is_some() {
        in_use(new, &sound, &mut verdict);
    }
    if let Some(subnet) = world.subnet.filter(|_| settings.subnets) {
        inside(new, &sound, subnet, &mut verdict);
    }
    if let Some(reserved) = world.reserved
        && !sound.total.is_empty()
        && sound.total.is_subset_of(reserved)
    {
        verdict.warn(
            "spec.ips: all addresses are reserved by SpiderReservedIPs (`kubectl get sr`), so no pod gets one"
                .to_owned(),
        );
    }
    verdict
}

/// Judges what a pool alone can tell.
pub fn pool_alone(new: &SpiderIPPool, old: Option<&SpiderIPPool>, settings: Settings) -> Verdict {
    alone(new, old, settings).0
}

/// Judges the deletion of a pool.
pub fn pool_deletion(old: &SpiderIPPool, settings: Settings) -> Verdict {
    let count = old.status.as_ref().and_then(|status| status.allocated_ip_count);
    match count.filter(|count| settings.protect_used && *count > 0) {
        Some(count) => Verdict::forbid(format!(
            "SpiderIPPool {} has {count} addresses in use and is kept from deletion; delete the pods that use them first \
             (`kubectl get se -A`)",
            old.name_any()
        )),
        None => Verdict::default(),
    }
}

fn alone(new: &SpiderIPPool, old: Option<&SpiderIPPool>, settings: Settings) -> (Verdict, Option<Sound>) {
    let mut verdict = Verdict::default();
    if let Some(old) = old {
        network::stays(network_of!(new.spec), network_of!(old.spec), &mut verdict);
    }
    let sound = network::judge(network_of!(new.spec), settings, &mut verdict);
    affinity(new, &mut verdict);
    matchless(new, &mut verdict);
    (verdict, sound)
}

fn affinity(new: &SpiderIPPool, verdict: &mut Verdict) {
    let Some(selector) = &new.spec.pod_affinity else { return };
    let labels = selector.match_labels.iter().flatten();
    let terms = selector.match_expressions.as_deref().unwrap_or_default();
    if new.is_automatic() {
        for (key, value) in labels.filter(|(key, _)| !APP_KEYS.contains(&key.as_str())) {
            let message = format!(
                "the podAffinity of an automatic pool names its application by {} and nothing else",
                APP_KEYS.join(", ")
            );
            verdict.invalid(format!("spec.podAffinity.matchLabels[{key}]"), value, message);
        }
        if !terms.is_empty() {
            let message = "the podAffinity of an automatic pool has no matchExpressions; leave them out";
            verdict.invalid("spec.podAffinity.matchExpressions", "", message);
        }
    } else if labels.count() == 0 && terms.is_empty() {
        let message = "an empty podAffinity selects nothing in particular; write matchLabels or matchExpressions, or leave podAffinity out";
        verdict.invalid("spec.podAffinity", "", message);
    }
}

/// A pool that no pod can match is legal, and nobody wants one.
fn matchless(new: &SpiderIPPool, verdict: &mut Verdict) {
    let spec = &new.spec;
    let selectors: [(&str, &Option<LabelSelector>); 3] = [
        ("podAffinity", &spec.pod_affinity),
        ("namespaceAffinity", &spec.namespace_affinity),
        ("nodeAffinity", &spec.node_affinity),
    ];
    for (name, selector) in selectors {
        if let Some(key) = selector.as_ref().and_then(contradiction) {
            verdict.warn(format!(
                "spec.{name}: the terms about {key} contradict each other, so nothing matches and no pod gets an address of this pool"
            ));
        }
    }
}

/// A key that a selector wants to have a value which it excludes, or to be there and not to be there.
fn contradiction(selector: &LabelSelector) -> Option<String> {
    let terms = selector.match_expressions.as_deref().unwrap_or_default();
    let values = |operator: &str, key: &str| -> Option<BTreeSet<String>> {
        let own = terms.iter().filter(|term| term.key == key && term.operator == operator);
        own.map(|term| term.values.iter().flatten().cloned().collect())
            .reduce(|one: BTreeSet<String>, other| match operator {
                "In" => one.intersection(&other).cloned().collect(),
                _ => one.union(&other).cloned().collect(),
            })
    };
    let labels = selector.match_labels.iter().flatten();
    let keys = labels.map(|(key, _)| key).chain(terms.iter().map(|term| &term.key));
    let keys: BTreeSet<&String> = keys.collect();
    let impossible = |key: &&String| {
        let label = selector.match_labels.as_ref().and_then(|labels| labels.get(*key));
        let exact = label.map(|value| BTreeSet::from([value.clone()]));
        let wanted = match (exact, values("In", key)) {
            (Some(one), Some(other)) => Some(one.intersection(&other).cloned().collect::<BTreeSet<_>>()),
            (one, other) => one.or(other),
        };
        let barred = values("NotIn", key).unwrap_or_default();
        let absent = terms
            .iter()
            .any(|term| term.key == **key && term.operator == "DoesNotExist");
        let present = terms.iter().any(|term| term.key == **key && term.operator == "Exists");
        let none_left = wanted.as_ref().is_some_and(|wanted| wanted.is_subset(&barred));
        none_left || absent && (present || wanted.is_some())
    };
    keys.into_iter().find(impossible).cloned()
}

/// Pools of one network may not share an address; other networks may not overlap at all.
fn neighbours(new: &SpiderIPPool, made: bool, sound: &Sound, pools: &[&SpiderIPPool], verdict: &mut Verdict) {
    let own = new.name_any();
    for other in pools.iter().filter(|other| other.name_any() != own) {
        let Ok(cidr) = other.cidr() else { continue };
        if cidr != sound.cidr {
            if made && cidr.overlaps(&sound.cidr) {
                verdict.invalid(
                    "spec.subnet",
                    &new.spec.subnet,
                    format!(
                        "overlap with SpiderIPPool {} which subnet is {cidr}; write that subnet, or use another network",
                        other.name_any()
                    ),
                );
            }
            continue;
        }
        // A pool whose addresses do not parse hands out none.
        let shared = other.total().unwrap_or_default().intersection(&sound.total);
        if !shared.is_empty() {
            verdict.forbidden(
                "spec.ips",
                format!(
                    "overlap with SpiderIPPool {}, which has {} too; take them out of one of the pools",
                    other.name_any(),
                    list(cidr.family(), &shared)
                ),
            );
        }
    }
}

/// What pods use stays in the pool.
fn in_use(new: &SpiderIPPool, sound: &Sound, verdict: &mut Verdict) {
    let family = sound.cidr.family();
    let owners = match new.owners(family) {
        Ok(owners) => owners,
        Err(error) => {
            let message =
                format!("status.allocatedIPs does not parse, so nobody knows which addresses pods use: {error}");
            return verdict.forbidden("spec.ips", message);
        }
    };
    let mut lost = owners.iter().filter(|(bits, _)| !sound.total.contains(*bits));
    if let Some((bits, owner)) = lost.next() {
        let more = match lost.count() {
            0 => String::new(),
            more => format!(" (and {more} more)"),
        };
        verdict.forbidden(
            "spec.ips",
            format!(
                "remove an IP address {} that is being used by Pod {}{more}; leave it in the pool until the Pod is gone",
                addr::from_bits(family, *bits),
                owner.pod
            ),
        );
    }
}

/// A part of a subnet has addresses of that subnet only; an automatic one only those that the accounting says it has. It may have
/// fewer: a shrink leaves the pool before it leaves the accounting.
fn inside(new: &SpiderIPPool, sound: &Sound, subnet: &SpiderSubnet, verdict: &mut Verdict) {
    let family = sound.cidr.family();
    let outside = sound.total.difference(&subnet.total().unwrap_or_default());
    if !outside.is_empty() {
        verdict.forbidden(
            "spec.ips",
            format!(
                "{} are not among the addresses of SpiderSubnet {}, which controls this pool; add them to the subnet first",
                list(family, &outside),
                subnet.name_any()
            ),
        );
        return;
    }
    if !new.is_automatic() {
        return;
    }
    let entries = subnet.controlled().and_then(|pools| pools.entries(family));
    let entry = entries
        .ok()
        .and_then(|entries| entries.get(&new.name_any()).map(|entry| entry.ranges.clone()));
    let outside = sound.total.difference(&entry.unwrap_or_default());
    if !outside.is_empty() {
        verdict.forbidden(
            "spec.ips",
            format!(
                "SpiderSubnet {} did not give {} to this automatic pool; the operator sets its addresses, by the annotation \
                 ipam.spidernet.io/ippool-ip-number of the application",
                subnet.name_any(),
                list(family, &outside)
            ),
        );
    }
}
