//! SpiderIPPool.

use super::network::{self, Sound, network_of};
use super::subnet::{list, name_taken, terminating};
use super::{Outcome, Rule, Settings, affinity};
use crate::types::{SpiderIPPool, SpiderSubnet};
use kube::ResourceExt;
use spiderpool_ipam::{Family, RangeSet, addr};

/// The objects that a pool must get on with.
#[derive(Clone, Copy, Debug, Default)]
pub struct PoolWorld<'a> {
    /// Pools whose networks have an address in common with this pool's.
    pub pools: &'a [&'a SpiderIPPool],
    /// The subnet that the pool is a part of, if it is of one and that is known.
    pub subnet: Option<&'a SpiderSubnet>,
    /// Subnets of other networks that have an address in common with this pool's.
    pub subnets: &'a [&'a SpiderSubnet],
    /// Reserved addresses of the pool's family.
    pub reserved: Option<&'a RangeSet>,
}

/// Judges a pool that is made, or that replaces an `old` one.
pub fn pool(new: &SpiderIPPool, old: Option<&SpiderIPPool>, world: PoolWorld<'_>, settings: Settings) -> Outcome {
    if new.is_terminating() {
        return terminating(new.has_finalizer(), "SpiderIPPool", &new.name_any());
    }
    // An object that is judged a second time is among those that are there.
    let taken = |other: &&SpiderIPPool| other.name_any() == new.name_any() && other.uid() != new.uid();
    if old.is_none() && world.pools.iter().any(taken) {
        return name_taken("SpiderIPPool", &new.name_any());
    }
    let (mut outcome, sound) = alone(new, old, settings);
    let Some(sound) = sound else { return outcome };
    let before = old.and_then(|old| old.total().ok());
    // What the pool has already harms nobody more than before, and who mends or disables it must be able to.
    let added = before
        .as_ref()
        .map_or_else(|| sound.total.clone(), |before| sound.total.difference(before));
    neighbours(new, old.is_none(), &sound, &added, world.pools, &mut outcome);
    if old.is_some() {
        in_use(new, &sound, before.as_ref(), &mut outcome);
    } else if settings.subnets {
        subnets_around(new, &sound, world.subnets, &mut outcome);
    }
    if let Some(subnet) = world.subnet.filter(|_| settings.subnets) {
        inside(new, sound.cidr.family(), &added, subnet, &mut outcome);
    }
    advise(&sound, world.reserved, &mut outcome);
    outcome
}

/// Judges what a pool alone can tell.
pub fn pool_alone(new: &SpiderIPPool, old: Option<&SpiderIPPool>, settings: Settings) -> Outcome {
    alone(new, old, settings).0
}

/// Judges the deletion of a pool.
pub fn pool_deletion(old: &SpiderIPPool, settings: Settings) -> Outcome {
    let count = old.status.as_ref().and_then(|status| status.allocated_ip_count);
    match count.filter(|count| settings.protect_used && *count > 0) {
        Some(count) => Outcome::refused(
            Rule::InUse,
            format!(
                "SpiderIPPool {} has {count} addresses in use and is kept from deletion; delete the pods that use them first \
             (`kubectl get se -A`)",
                old.name_any()
            ),
        ),
        None => Outcome::default(),
    }
}

fn alone(new: &SpiderIPPool, old: Option<&SpiderIPPool>, settings: Settings) -> (Outcome, Option<Sound>) {
    let mut outcome = Outcome::default();
    if let Some(old) = old {
        network::stays(network_of!(new.spec), network_of!(old.spec), &mut outcome);
    }
    let sound = network::judge(network_of!(new.spec), settings, &mut outcome);
    affinity::judge(new, &mut outcome);
    affinity::advise(&new.spec, &mut outcome);
    if let Some(old) = old {
        network::unchanged_pass(network_of!(new.spec), network_of!(old.spec), &mut outcome);
        let (new, old) = (&new.spec, &old.spec);
        network::unchanged_fields_pass(&mut outcome, |field| match field {
            "podAffinity" => new.pod_affinity == old.pod_affinity,
            "namespaceAffinity" => new.namespace_affinity == old.namespace_affinity,
            "nodeAffinity" => new.node_affinity == old.node_affinity,
            "namespaceName" => new.namespace_name == old.namespace_name,
            "nodeName" => new.node_name == old.node_name,
            "multusName" => new.multus_name == old.multus_name,
            _ => false,
        });
    }
    (outcome, sound)
}

/// What is legal and probably not meant.
fn advise(sound: &Sound, reserved: Option<&RangeSet>, outcome: &mut Outcome) {
    let family = sound.cidr.family();
    let count = sound.total.count();
    // An IPv6 pool is that large by nature.
    if family == Family::V4 && count > MOST_IN_USE {
        outcome.warn(format!(
            "spec.ips: the pool has {count} addresses, but records of not more than {MOST_IN_USE} fit into one object; make several \
             pools of them"
        ));
    }
    if let Some(reserved) = reserved
        && !sound.total.is_empty()
        && sound.total.is_subset_of(reserved)
    {
        outcome.warn(
            "spec.ips: all addresses are reserved by SpiderReservedIPs (`kubectl get sr`), so no pod gets one"
                .to_owned(),
        );
    }
}

/// Most records that fit into an object of 1.5 MiB, which is what etcd stores: none has less than 96 bytes.
const MOST_IN_USE: u128 = 16_384;

/// Pools of one network may not share an address; other networks may not overlap at all.
fn neighbours(
    new: &SpiderIPPool,
    made: bool,
    sound: &Sound,
    added: &RangeSet,
    pools: &[&SpiderIPPool],
    outcome: &mut Outcome,
) {
    let own = new.name_any();
    for other in pools.iter().filter(|other| other.name_any() != own) {
        let Ok(cidr) = other.cidr() else { continue };
        if cidr != sound.cidr {
            if made && cidr.overlaps(&sound.cidr) {
                outcome.invalid(
                    Rule::NetworkOverlap,
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
        let shared = other.total().unwrap_or_default().intersection(added);
        if !shared.is_empty() {
            outcome.forbidden(
                Rule::PoolOverlap,
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

/// A pool with a part of the network of a subnet would keep all pools of that subnet out.
fn subnets_around(new: &SpiderIPPool, sound: &Sound, subnets: &[&SpiderSubnet], outcome: &mut Outcome) {
    for other in subnets {
        if let Ok(cidr) = other.cidr()
            && cidr != sound.cidr
            && cidr.overlaps(&sound.cidr)
        {
            outcome.invalid(
                Rule::NetworkOverlap,
                "spec.subnet",
                &new.spec.subnet,
                format!(
                    "overlap with SpiderSubnet {} which subnet is {cidr}; write that subnet, or use another network",
                    other.name_any()
                ),
            );
        }
    }
}

/// What pods use stays in the pool.
fn in_use(new: &SpiderIPPool, sound: &Sound, before: Option<&RangeSet>, outcome: &mut Outcome) {
    let family = sound.cidr.family();
    if before.is_some_and(|before| before.is_subset_of(&sound.total)) {
        return;
    }
    let owners = match new.owners(family) {
        Ok(owners) => owners,
        Err(error) => {
            let message =
                format!("status.allocatedIPs does not parse, so nobody knows which addresses pods use: {error}");
            return outcome.forbidden(Rule::RecordsReadable, "spec.ips", message);
        }
    };
    let offered = |bits| before.is_none_or(|before| before.contains(bits));
    let mut lost = owners
        .iter()
        .filter(|(bits, _)| !sound.total.contains(*bits) && offered(*bits));
    if let Some((bits, owner)) = lost.next() {
        let more = match lost.count() {
            0 => String::new(),
            more => format!(" (and {more} more)"),
        };
        outcome.forbidden(
            Rule::UsedStays,
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
fn inside(new: &SpiderIPPool, family: Family, added: &RangeSet, subnet: &SpiderSubnet, outcome: &mut Outcome) {
    let outside = added.difference(&subnet.total().unwrap_or_default());
    if !outside.is_empty() {
        outcome.forbidden(
            Rule::InsideSubnet,
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
    let outside = added.difference(&entry.unwrap_or_default());
    if !outside.is_empty() {
        outcome.forbidden(
            Rule::Accounted,
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
