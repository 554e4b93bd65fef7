//! What subnets have to offer.

use spiderpool_ipam::{Family, RangeSet, accounting};
use spiderpool_kit::cache::Key;

use super::placement::Room;
use crate::application::Slot;
use crate::context::Context;

/// What a subnet has to offer for a pool. A lone subnet without room is not refused here: the plan says how much it lacks.
pub fn room(context: &Context, name: &str, slot: &Slot, size: u128, pool: &str) -> Room {
    let Some(subnet) = context.caches.subnets.get("", name) else {
        return match context.caches.subnets.malformed(&Key::cluster(name)) {
            Some(bad) => Room::Invalid(bad.error.clone()),
            None => Room::Missing,
        };
    };
    let (cidr, total) = match subnet.cidr().and_then(|cidr| Ok((cidr, subnet.total()?))) {
        Ok(parsed) => parsed,
        Err(error) => return Room::Invalid(error.to_string()),
    };
    if cidr.family() != slot.family {
        return Room::WrongFamily;
    }
    if subnet.is_terminating() {
        return Room::Terminating;
    }
    if slot.subnets.len() == 1 {
        return Room::Enough;
    }
    let entries = subnet
        .controlled()
        .and_then(|pools| pools.entries(slot.family))
        .unwrap_or_default();
    let given = accounting::taken(&entries, Some(pool));
    let free = total
        .difference(&given)
        .difference(&reserved(context, slot.family))
        .count();
    if free >= size {
        Room::Enough
    } else {
        Room::Short { free }
    }
}

/// Addresses of a family that are never given out. A reservation that does not parse is the user's to repair; it is told
/// where reservations are watched.
pub fn reserved(context: &Context, family: Family) -> RangeSet {
    context.caches.reserved.read(|store| {
        store
            .iter()
            .filter_map(|reserved| reserved.addresses().ok())
            .filter(|(of, _)| *of == family)
            .fold(RangeSet::new(), |all, (_, addresses)| all.union(&addresses))
    })
}
