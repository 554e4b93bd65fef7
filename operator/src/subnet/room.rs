//! What subnets have to offer.

use spiderpool_crds::MAX_RANGES;
use spiderpool_crds::admission::usable_subnet;
use spiderpool_crds::app::AppKey;
use spiderpool_crds::records::ControlledPools;
use spiderpool_ipam::accounting::{Entries, taken};
use spiderpool_ipam::autopool::{self, Blocked, Facts, Limits, Want};
use spiderpool_ipam::{Cidr, Family, RangeSet};
use spiderpool_kit::cache::Key;

use super::neighbours;
use super::placement::Room;
use super::refused::Offer;
use super::world::overlapping;
use crate::application::{AppId, Slot, SlotId};
use crate::context::Context;

/// What a subnet has to offer for a pool. A lone subnet without room is not refused here: the plan says how much it lacks.
pub fn room(context: &Context, name: &str, app: &AppKey, slot: &Slot, size: u128, pool: &str) -> Room {
    let Some(subnet) = context.caches.subnets.get("", name) else {
        return match context.caches.subnets.malformed(&Key::cluster(name)) {
            Some(bad) => Room::Invalid(bad.error.clone()),
            None => Room::Missing,
        };
    };
    let (cidr, total) = match usable_subnet(&subnet, context.config.settings()) {
        Ok(usable) => usable,
        Err(why) => return Room::Invalid(why),
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
    // A corrupted accounting is rebuilt from the pools before anything is given.
    let controlled = subnet.controlled().unwrap_or_default();
    let entries = controlled.entries(slot.family).unwrap_or_default();
    let facts = Facts {
        total,
        reserved: taken_elsewhere(
            context,
            cidr,
            &overlapping(&context.caches.pools, &subnet.spec.subnet, cidr),
            &neighbours::booked(context, &subnet, |_| None),
        ),
        limits: limits(&controlled, &entries),
        entries,
        ..Facts::default()
    };
    let want = Want {
        application: app.to_string(),
        pool: pool.to_owned(),
        size,
    };
    match autopool::room(&facts, &want) {
        Ok(()) => {
            let slot_id = SlotId {
                app: AppId::from(app),
                nic: slot.nic.clone(),
                family: slot.family,
            };
            let offer = || Offer {
                free: free(&facts, &facts.entries),
                wanted: size,
            };
            match context.placements.refused.would_again(&slot_id, name, offer) {
                true => Room::Refused,
                false => Room::Enough,
            }
        }
        Err(Blocked::Exhausted { .. }) => Room::Short,
        Err(why) => Room::Limited(why),
    }
}

/// Addresses that a subnet may not give though its own pools do not have them: reserved, in pools of networks that overlap its
/// own, booked by other subnets, or with pods whose pools do not offer them any more.
pub fn taken_elsewhere(context: &Context, cidr: Cidr, overlapping: &RangeSet, booked: &RangeSet) -> RangeSet {
    let family = cidr.family();
    reserved(context, family)
        .union(overlapping)
        .union(booked)
        .union(&context.board.beyond(family))
}

/// How many addresses a subnet could give that no pool was given by this accounting.
pub fn free(facts: &Facts, entries: &Entries) -> u128 {
    if facts.unusable {
        return 0;
    }
    let given = taken(entries, None).union(&facts.reserved);
    facts.total.difference(&given).count()
}

/// How large a subnet and its pools may become.
pub fn limits(controlled: &ControlledPools, entries: &Entries) -> Limits {
    Limits {
        accounting_bytes: controlled.accounting_limit(entries),
        ranges: MAX_RANGES,
    }
}

/// Addresses of a family that are never given out.
pub fn reserved(context: &Context, family: Family) -> RangeSet {
    context.caches.reserved.read(|store| {
        let kept_back = store.iter().map(|reserved| reserved.kept_back(family));
        kept_back.fold(RangeSet::new(), |all, addresses| all.union(&addresses))
    })
}
