//! SpiderSubnet.

use super::network::{self, Sound, network_of};
use super::{Outcome, Rule, Settings};
use crate::types::{SpiderIPPool, SpiderSubnet};
use kube::ResourceExt;
use spiderpool_ipam::{RangeSet, text};

/// The objects that a subnet must get on with: all whose networks have an address in common with its own are enough.
#[derive(Clone, Copy, Debug, Default)]
pub struct SubnetWorld<'a> {
    /// Subnets.
    pub subnets: &'a [&'a SpiderSubnet],
    /// Pools.
    pub pools: &'a [&'a SpiderIPPool],
}

/// Judges a subnet that is made, or that replaces an `old` one.
pub fn subnet(new: &SpiderSubnet, old: Option<&SpiderSubnet>, world: SubnetWorld<'_>, settings: Settings) -> Outcome {
    if new.is_terminating() {
        return terminating(new.has_finalizer(), "SpiderSubnet", &new.name_any());
    }
    // An object that is judged a second time is among those that are there.
    let taken = |other: &&SpiderSubnet| other.name_any() == new.name_any() && other.uid() != new.uid();
    if old.is_none() && world.subnets.iter().any(taken) {
        return name_taken("SpiderSubnet", &new.name_any());
    }
    let (mut outcome, sound) = alone(new, old, settings);
    let Some(sound) = sound else { return outcome };
    match old {
        None => neighbours(new, &sound, world, &mut outcome),
        Some(old) => given(new, &sound, old.total().ok().as_ref(), &mut outcome),
    }
    outcome
}

/// Judges what a subnet alone can tell.
pub fn subnet_alone(new: &SpiderSubnet, old: Option<&SpiderSubnet>, settings: Settings) -> Outcome {
    alone(new, old, settings).0
}

/// Judges the deletion of a subnet.
pub fn subnet_deletion(old: &SpiderSubnet, settings: Settings) -> Outcome {
    let count = old.status.as_ref().and_then(|status| status.allocated_ip_count);
    match count.filter(|count| settings.protect_used && *count > 0) {
        Some(count) => Outcome::refused(
            Rule::InUse,
            format!(
                "SpiderSubnet {} has given {count} addresses to pools and is kept from deletion; delete the pools and applications first \
             (`kubectl get sp`)",
                old.name_any()
            ),
        ),
        None => Outcome::default(),
    }
}

/// An object that is being deleted changes in one way only: it gives up the finalizer.
pub(super) fn terminating(has_finalizer: bool, kind: &str, name: &str) -> Outcome {
    if has_finalizer {
        Outcome::refused(
            Rule::Terminating,
            format!("{kind} {name} is being deleted and cannot be changed; wait until it is gone and make it anew"),
        )
    } else {
        Outcome::default()
    }
}

/// Whoever creates an object may test for this answer, to leave one alone that is there.
pub(super) fn name_taken(kind: &str, name: &str) -> Outcome {
    Outcome::refused(
        Rule::NameTaken,
        format!("{kind} {name:?} already exists; change that one, or use another name"),
    )
}

fn alone(new: &SpiderSubnet, old: Option<&SpiderSubnet>, settings: Settings) -> (Outcome, Option<Sound>) {
    let mut outcome = Outcome::default();
    if let Some(old) = old {
        network::stays(network_of!(new.spec), network_of!(old.spec), &mut outcome);
    }
    let sound = network::judge(network_of!(new.spec), settings, &mut outcome);
    if let Some(old) = old {
        network::unchanged_pass(network_of!(new.spec), network_of!(old.spec), &mut outcome);
    }
    (outcome, sound)
}

fn neighbours(new: &SpiderSubnet, sound: &Sound, world: SubnetWorld<'_>, outcome: &mut Outcome) {
    let own = new.name_any();
    for other in world.subnets.iter().filter(|other| other.name_any() != own) {
        if let Ok(cidr) = other.cidr()
            && cidr.overlaps(&sound.cidr)
        {
            outcome.invalid(
                Rule::NetworkOverlap,
                "spec.subnet",
                &new.spec.subnet,
                format!(
                    "overlap with SpiderSubnet {} which subnet is {cidr}; add the addresses to that one, or use another network",
                    other.name_any()
                ),
            );
        }
    }
    for pool in world.pools {
        let Ok(cidr) = pool.cidr() else { continue };
        if cidr != sound.cidr {
            if cidr.overlaps(&sound.cidr) {
                outcome.invalid(
                    Rule::NetworkOverlap,
                    "spec.subnet",
                    &new.spec.subnet,
                    format!(
                        "overlap with SpiderIPPool {} which subnet is {cidr}; write that subnet, or delete the pool",
                        pool.name_any()
                    ),
                );
            }
            continue;
        }
        let outside = pool.total().unwrap_or_default().difference(&sound.total);
        if !outside.is_empty() {
            outcome.invalid(
                Rule::PoolsInside,
                "spec.ips",
                list(cidr.family(), &outside),
                format!(
                    "SpiderIPPool {} of this network has these addresses, which the subnet has not; add them to ips",
                    pool.name_any()
                ),
            );
        }
    }
}

/// What the subnet gave to pools must stay its own.
fn given(new: &SpiderSubnet, sound: &Sound, before: Option<&RangeSet>, outcome: &mut Outcome) {
    let family = sound.cidr.family();
    if before.is_some_and(|before| before.is_subset_of(&sound.total)) {
        return;
    }
    let entries = match new.controlled().and_then(|pools| pools.entries(family)) {
        Ok(entries) => entries,
        Err(error) => {
            let message = format!(
                "status.controlledIPPools does not parse, so nobody knows which addresses are given to pools: {error}; the operator mends \
                 it within seconds, then try again"
            );
            return outcome.forbidden(Rule::RecordsReadable, "spec.ips", message);
        }
    };
    for (name, entry) in &entries {
        let outside = entry.ranges.difference(&sound.total);
        // What it did not have before is not taken away by this change.
        let outside = before.map_or(outside.clone(), |before| outside.intersection(before));
        if !outside.is_empty() {
            outcome.forbidden(
                Rule::GivenStays,
                "spec.ips",
                format!(
                    "{} belong to SpiderIPPool {name}; leave them in ips and out of excludeIPs, or take them out of the pool first",
                    list(family, &outside)
                ),
            );
        }
    }
}

/// Addresses for a message: all of them would drown it.
pub(super) fn list(family: spiderpool_ipam::Family, set: &RangeSet) -> String {
    const SHOWN: usize = 5;
    let mut texts = text::print_ranges(family, set);
    let more = texts.len().saturating_sub(SHOWN);
    texts.truncate(SHOWN);
    let shown = texts.join(", ");
    if more == 0 {
        shown
    } else {
        format!("{shown} and {more} more ranges")
    }
}
