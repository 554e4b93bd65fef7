//! Pods that keep their addresses: as long as their workload may make a pod of the same identity again, and as long as the
//! recorded address may serve it.
//!
//! The identity of a set's pod is its ordinal, that of a virtual machine its name. Neither rule knows of time: an identity is
//! valid while nothing runs under it.

use crate::addr::{self, Family};
use crate::candidates::{Asked, PodFacts, PoolFacts, Rejection, verdicts};
use crate::range::Range;
use crate::set::RangeSet;
use std::net::IpAddr;

/// The ordinals that a set of pods has: `replicas` of them from `start` on, without those that are reserved.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ordinals {
    /// The first one.
    pub start: u64,
    /// How many pods there are.
    pub replicas: u64,
    /// Ordinals that are skipped, as an Advanced StatefulSet does.
    pub reserved: RangeSet,
}

impl Ordinals {
    /// Whether the set has a pod of this ordinal.
    pub fn contains(&self, ordinal: u64) -> bool {
        let (start, ordinal) = (u128::from(self.start), u128::from(ordinal));
        if ordinal < start || self.reserved.contains(ordinal) {
            return false;
        }
        let before = ordinal.checked_sub(1).and_then(|last| Range::new(start, last));
        let before: RangeSet = before.into_iter().collect();
        let skipped = before.intersection(&self.reserved).count();
        ordinal - start - skipped < u128::from(self.replicas)
    }
}

/// The ordinal in the name of a set's pod; none if the set makes no pod of that name.
pub fn ordinal(set: &str, pod: &str) -> Option<u64> {
    let digits = pod.strip_prefix(set)?.strip_prefix('-')?;
    let canonical = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    // A set writes no leading zeros: `web-01` is somebody else's pod.
    let canonical = canonical && (digits == "0" || !digits.starts_with('0'));
    digits.parse().ok().filter(|_| canonical)
}

/// The instance of a virtual machine, as it was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instance {
    /// Whether it is being deleted.
    pub terminating: bool,
    /// Whether a virtual machine controls it, which may start it again.
    pub of_machine: bool,
}

/// Whether a virtual machine may run again under its name. `machine` tells whether the machine of that name, if there is one,
/// is being deleted. An instance that is gone for good takes its addresses along, even if a machine of its name exists that
/// never controlled it.
pub const fn machine_stays(instance: Option<Instance>, machine: Option<Terminating>) -> bool {
    match instance {
        Some(instance) if !instance.terminating => true,
        Some(instance) if !instance.of_machine => false,
        Some(_) | None => matches!(machine, Some(Terminating::No)),
    }
}

/// Whether an object is being deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Terminating {
    /// It is.
    Yes,
    /// It stays.
    No,
}

/// What becomes of a recorded address when a pod comes again under its identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The pod has it again.
    Keep,
    /// The pod has it again if no other pool serves it: the pool is on its way out, but until then an old address is better than
    /// none.
    LastResort,
    /// The pod gets another one first, and then this one is freed.
    Leave(Rejection),
}

/// How the pool of a recorded address stands to what the pod asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// It may be one of those that are asked for.
    Asked,
    /// It is the application's own, in a subnet that is not asked for any more. It stays until the application has another.
    Elsewhere,
    /// Subnets are asked for, and it is none of the application's pools.
    Foreign,
}

/// Where a recorded address lies by now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded<'a> {
    /// The address.
    pub address: IpAddr,
    /// What its pool demands.
    pub pool: &'a PoolFacts,
    /// How the pool stands to what the pod asks for.
    pub place: Place,
    /// The addresses of the pool.
    pub total: &'a RangeSet,
    /// The addresses that must not be given out.
    pub reserved: &'a RangeSet,
}

/// Decides about a recorded address of a NIC. That its pool is disabled or not checked yet keeps others from new addresses, but
/// not the pod from its own.
pub fn fate(asked: &Asked, pod: &PodFacts, recorded: &Recorded<'_>) -> Fate {
    let (family, bits) = addr::to_bits(recorded.address);
    if recorded.place == Place::Foreign || !asked.names.contains_key(&family) {
        return Fate::Leave(Rejection::NoMatch);
    }
    if let Err(rejection) = may_serve(asked, family, pod, recorded.pool) {
        return Fate::Leave(rejection);
    }
    if !recorded.total.contains(bits) {
        return Fate::Leave(Rejection::AddressOutside(recorded.address));
    }
    if recorded.reserved.contains(bits) {
        return Fate::Leave(Rejection::AddressHeld {
            address: recorded.address,
            why: "reserved by a SpiderReservedIP".to_owned(),
        });
    }
    match pod.exact.get(&family) {
        Some(exact) if *exact != recorded.address => Fate::Leave(Rejection::AddressOutside(*exact)),
        _ if recorded.pool.terminating || recorded.place == Place::Elsewhere => Fate::LastResort,
        _ => Fate::Keep,
    }
}

/// Whether a pool is asked for and fits, whatever state it is in.
fn may_serve(asked: &Asked, family: Family, pod: &PodFacts, pool: &PoolFacts) -> Result<(), Rejection> {
    let open = PoolFacts {
        terminating: false,
        disabled: false,
        ready: true,
        ..pool.clone()
    };
    let name = &open.name;
    let mut found = verdicts(asked, family, pod, std::slice::from_ref(&open));
    if found.chosen.contains(name) {
        return Ok(());
    }
    let rejected = found.rejected.iter().position(|verdict| verdict.pool == *name);
    Err(rejected.map_or(Rejection::NoMatch, |at| found.rejected.swap_remove(at).rejection))
}

#[cfg(test)]
mod tests;
