//! Addresses of a pool that no pod has and that are not as good as the others: what is held, for how long, and what follows.

use super::rests::Rests;
use jiff::Timestamp;
use spiderpool_crds::SpiderIPPool;
use spiderpool_crds::records::{Held, HeldReason, HeldRecords};
use spiderpool_ipam::hold::{Note, Reuse, Shelf};
use spiderpool_ipam::{Family, Owner, addr};
use std::net::IpAddr;
use std::time::Duration;

/// How long an address is kept from everybody on which a foreign host answers. Long enough that not every other pod trips over
/// it, and short enough that a host that went away is soon forgotten.
const QUARANTINE: Duration = Duration::from_secs(600);

/// Most addresses of a pool that are in quarantine. In a large pool a share is no bound: a host that answers for everything would
/// fill the object with notes.
const QUARANTINED_MOST: u128 = 256;

/// Most addresses that are noted because a host may have them that nobody knows, beyond those in quarantine.
const DOUBTFUL_MOST: usize = 256;

/// Takes out what no longer counts, and gives it. What rests is counted by `rests`, where that is asked; an opinion goes by the time
/// that stands in the note.
pub(super) fn expire(
    held: &mut HeldRecords,
    pool: &SpiderIPPool,
    now: Timestamp,
    rests: Option<&Rests>,
) -> Vec<(IpAddr, Held)> {
    let Some(rests) = rests.filter(|_| pool.reuse().is_set()) else {
        return held.expire(now);
    };
    let over = rests.over(pool, held, now);
    held.take_out(|ip, held| match held.note() {
        Note::Freed(_) => over.contains(&ip),
        Note::Blocked | Note::Doubtful => !held.in_force(now),
    })
}

/// What is noted of the addresses of a family.
pub(super) fn shelf(held: &HeldRecords, family: Family, reuse: Reuse) -> Shelf<Timestamp> {
    let mut shelf = Shelf::new(reuse);
    for (ip, held) in held.iter() {
        let (of, bits) = addr::to_bits(ip);
        if of == family {
            shelf.put(bits, held.note(), held.until);
        }
    }
    shelf
}

/// How many addresses of a pool may be in quarantine: a host that answers for everything must not empty it.
pub(super) const fn share(total: u128, percent: u8) -> u128 {
    let percent = percent as u128;
    // The parts of a hundred and the rest of it: the product of a whole IPv6 network would not fit.
    (total / 100) * percent + (total % 100) * percent / 100
}

/// A foreign host that was met.
pub(super) struct Foreign<'a> {
    pub(super) ip: IpAddr,
    /// Its hardware address.
    pub(super) by: &'a str,
    /// The pod whose address it was until now.
    pub(super) had: Option<&'a str>,
}

/// The note that a foreign host answers for an address. Beyond the pool's share the address is only given out last, and when
/// there are too many of those, it is not noted. What rests does not rest for a shorter time because of that.
pub(super) fn quarantine(
    held: &HeldRecords,
    reuse: Reuse,
    foreign: &Foreign<'_>,
    share: u128,
    now: Timestamp,
) -> Option<Held> {
    let before = held.get(foreign.ip);
    let others = |note: Note<'_>| {
        let others = held
            .iter()
            .filter(|(ip, held)| *ip != foreign.ip && held.note() == note);
        others.count()
    };
    let room = (others(Note::Blocked) as u128) < share.min(QUARANTINED_MOST);
    let mut note = match foreign.had.filter(|_| reuse.is_set()) {
        _ if room => Held::new(HeldReason::Quarantined, foreign.by, QUARANTINE, now),
        Some(pod) => Held::new(HeldReason::Cooling, pod, QUARANTINE.max(reuse.time()), now),
        None if before.is_some() || others(Note::Doubtful) < DOUBTFUL_MOST => {
            Held::new(HeldReason::Cooling, foreign.by, QUARANTINE, now)
        }
        None => return None,
    };
    note.until = note.until.max(before.and_then(|before| before.until));
    Some(note)
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

/// How an address rests that only its own identity is given, in words that follow "the address is".
pub(super) fn about_rest(held: &Held) -> String {
    let until = held.until.map(|until| format!(" until {until}")).unwrap_or_default();
    let by = held.by.as_deref().unwrap_or("a pod unknown");
    format!("kept for {by}, which had it,{until} (spec.reuseCooldown)")
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
