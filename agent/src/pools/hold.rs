//! Addresses of a pool that no pod has and that are not as good as the others: what is held, for how long, and what follows.

use jiff::{SignedDuration, Timestamp};
use spiderpool_crds::SpiderIPPool;
use spiderpool_crds::records::{Held, HeldReason, HeldRecords};
use spiderpool_ipam::{Family, Owner, RangeSet, addr};
use std::net::IpAddr;

/// How long an address is chosen last after it was freed: as long as its old owner may still answer for it.
const COOLING: SignedDuration = SignedDuration::from_secs(5);

/// How long an address is kept from everybody on which a foreign host answers. Long enough that not every other pod trips over
/// it, and short enough that a host that went away is soon forgotten.
const QUARANTINE: SignedDuration = SignedDuration::from_mins(10);

/// Most addresses of a pool that are in quarantine. In a large pool a share is no bound: a host that answers for everything would
/// fill the object with notes.
const QUARANTINED_MOST: u128 = 256;

/// Most addresses that are noted as cooling. They are chosen last, which nobody depends on, and a note has a hundred bytes.
const COOLING_MOST: usize = 256;

/// Addresses that must not be given out.
pub(super) fn blocked(held: &HeldRecords, family: Family) -> RangeSet {
    let blocked = held.iter().filter(|(_, held)| held.blocks());
    blocked
        .map(|(ip, _)| addr::to_bits(ip))
        .filter(|(of, _)| *of == family)
        .map(|(_, bits)| bits)
        .collect()
}

/// Addresses that are given out last, in that order.
pub(super) fn cooling(held: &HeldRecords, family: Family) -> Vec<u128> {
    let mut cooling: Vec<(Option<Timestamp>, u128)> = held
        .iter()
        .filter(|(_, held)| !held.blocks())
        .map(|(ip, held)| (held.until, addr::to_bits(ip)))
        .filter(|(_, (of, _))| *of == family)
        .map(|(until, (_, bits))| (until, bits))
        .collect();
    cooling.sort_unstable();
    cooling.into_iter().map(|(_, bits)| bits).collect()
}

/// The note that an address was freed by a pod now, if it is worth one.
pub(super) fn cool_down(held: &HeldRecords, ip: IpAddr, pod: &str, now: Timestamp) -> Option<Held> {
    (has_cooling_room(held) && held.get(ip).is_none()).then(|| new(HeldReason::Cooling, pod, COOLING, now))
}

fn has_cooling_room(held: &HeldRecords) -> bool {
    held.iter().filter(|(_, held)| !held.blocks()).count() < COOLING_MOST
}

/// How many addresses of a pool may be in quarantine: a host that answers for everything must not empty it.
pub(super) const fn share(total: u128, percent: u8) -> u128 {
    let percent = percent as u128;
    // The parts of a hundred and the rest of it: the product of a whole IPv6 network would not fit.
    (total / 100) * percent + (total % 100) * percent / 100
}

/// The note that a foreign host answers for an address. Beyond the pool's share the address is only given out last, and when
/// there are too many of those, it is not noted.
pub(super) fn quarantine(held: &HeldRecords, ip: IpAddr, by: &str, share: u128, now: Timestamp) -> Option<Held> {
    let others = held
        .iter()
        .filter(|(other, held)| *other != ip && held.blocks())
        .count();
    let room = (others as u128) < share.min(QUARANTINED_MOST);
    let reason = if room {
        HeldReason::Quarantined
    } else if has_cooling_room(held) || held.get(ip).is_some() {
        HeldReason::Cooling
    } else {
        return None;
    };
    Some(new(reason, by, QUARANTINE, now))
}

/// How an address is held, in words that follow "the address is".
pub fn about(held: &Held) -> String {
    let until = held.until.map(|until| format!(" until {until}")).unwrap_or_default();
    let by = held.by.as_deref().unwrap_or("a host unknown");
    match &held.reason {
        HeldReason::Quarantined => format!("in quarantine{until}, because {by} answers for it"),
        HeldReason::Cooling => format!("given out last{until}, because {by} had it or answers for it"),
        HeldReason::Other(reason) => format!("held back{until} ({reason}, see status.heldIPs)"),
    }
}

fn new(reason: HeldReason, by: &str, time: SignedDuration, now: Timestamp) -> Held {
    let until = now.checked_add(time).unwrap_or(Timestamp::MAX);
    Held {
        reason,
        // Milliseconds are more than a clock shared by nodes is worth.
        until: Some(Timestamp::from_millisecond(until.as_millisecond()).unwrap_or(until)),
        by: Some(by.to_owned()),
        other: Default::default(),
    }
}

/// Why a pool does not have an address on record for an owner.
pub(super) fn record_fault(pool: &SpiderIPPool, ip: IpAddr, owner: &Owner) -> Option<String> {
    let name = pool.metadata.name.as_deref().unwrap_or_default();
    match pool.records() {
        Err(error) => Some(format!("the records of IPPool {name} are broken: {error}")),
        Ok(records) => match records.get(ip).map(Owner::from) {
            None => Some(format!("IPPool {name} has {ip} on record for nobody")),
            Some(found) if found.is(&owner.uid, owner.nic.as_deref().unwrap_or_default()) => None,
            Some(found) => Some(format!(
                "IPPool {name} has {ip} on record for {} with UID {}, interface {}",
                found.pod,
                found.uid,
                found.nic.as_deref().unwrap_or("unknown")
            )),
        },
    }
}
