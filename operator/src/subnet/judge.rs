//! What becomes of the pools of a subnet, and which applications get new ones.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use spiderpool_crds::{SpiderIPPool, SpiderSubnet};
use spiderpool_ipam::autopool::{Facts, Want};
use spiderpool_kit::cache::Key;

use super::fate::{self, AppSeen, Fate, Hold, PoolView};
use super::hold::hold;
use super::object::other_name;
use super::observe::{Purpose, Refusal, Removal, Seen};
use super::placement::choose;
use super::room::room;
use crate::application::{AppId, Application, SlotId};
use crate::context::Context;
use crate::metrics::Waiting;
use crate::pool::used::used;

/// Decides what becomes of each pool of the subnet.
pub fn pools(context: &Context, seen: &mut Seen, by_slot: &HashMap<SlotId, Vec<PoolView>>) {
    let family = seen.cidr.family();
    for (name, pool) in &seen.pools {
        if seen.facts.terminating {
            if !pool.is_terminating() && belongs(pool, &seen.subnet) {
                seen.removals.push((pool.clone(), Removal::WithSubnet));
            }
            continue;
        }
        let Some(key) = pool.app_key().filter(|_| context.config.automatic_pools) else {
            continue;
        };
        // What cannot be understood is not touched.
        if pool.total().is_err() {
            continue;
        }
        let slot_id = SlotId {
            app: AppId::from(&key),
            nic: pool.interface().to_owned(),
            family,
        };
        let siblings = by_slot.get(&slot_id).map(Vec::as_slice).unwrap_or_default();
        let Some(me) = siblings.iter().find(|pool| pool.name == *name) else {
            continue;
        };
        let (app, unwatched) = application(context, &slot_id.app);
        let app_seen = match &app {
            Some(app) => AppSeen::Is(app),
            None if unwatched => AppSeen::Unwatched,
            None => AppSeen::Gone,
        };
        match fate::fate(me, &slot_id.nic, family, app_seen, siblings, |pool| held(context, pool)) {
            Fate::Keep => {}
            Fate::Remove => seen.removals.push((pool.clone(), Removal::Orphan(slot_id.app))),
            Fate::Drain if used(pool, family).is_empty() => seen.removals.push((pool.clone(), Removal::Drained)),
            Fate::Drain => {
                seen.facts.wants.push(Want {
                    application: key.to_string(),
                    pool: name.clone(),
                    size: 0,
                });
                seen.purposes.insert(name.clone(), Purpose::Drain);
            }
            Fate::Serve => {
                let asked = app.and_then(|app| {
                    let request = app.asked.request()?.clone();
                    let slot = request.slot(&slot_id.nic, family)?.clone();
                    Some((app, request, slot))
                });
                let Some((app, request, slot)) = asked else { continue };
                context.placements.forget(&slot_id);
                // A pool left over elsewhere may go now that this one serves, unless that was found already.
                let left_over = |other: &&PoolView| {
                    let may_go = other.reclaim && !other.terminating;
                    other.subnet != me.subnet && may_go && !context.shrinking.has(&other.name)
                };
                let others = siblings.iter().filter(left_over);
                seen.elsewhere.extend(others.map(|other| other.subnet.clone()));
                seen.facts.wants.push(Want {
                    application: key.to_string(),
                    pool: name.clone(),
                    size: request.size,
                });
                seen.purposes
                    .insert(name.clone(), Purpose::Serve { app, request, slot });
            }
        }
    }
}

/// Whether a pool goes with the subnet: made from it, or owned by it.
fn belongs(pool: &SpiderIPPool, subnet: &SpiderSubnet) -> bool {
    let made_from = pool.is_automatic() && pool.owner_subnet() == subnet.metadata.name.as_deref();
    let owners = pool.metadata.owner_references.iter().flatten();
    made_from
        || owners
            .into_iter()
            .any(|owner| Some(&owner.uid) == subnet.metadata.uid.as_ref())
}

/// Finds the applications that are to get a pool from this subnet and have none.
pub fn newcomers(context: &Context, seen: &mut Seen, by_slot: &HashMap<SlotId, Vec<PoolView>>) {
    let here = seen.name().to_owned();
    let family = seen.cidr.family();
    for app in context.applications.naming(&here) {
        let Some(request) = app.asked.request().filter(|_| !app.terminating) else {
            continue;
        };
        for slot in request.slots.iter().filter(|slot| slot.subnets.contains(&here)) {
            let slot_id = app.slot_id(slot);
            let siblings = by_slot.get(&slot_id).map(Vec::as_slice).unwrap_or_default();
            if fate::home(&app, slot, siblings, |pool| held(context, pool)).is_some() {
                continue;
            }
            let usual = spiderpool_ipam::pool_name(&app.key.name, slot.family, &slot.nic, &app.uid);
            let place = context.placements.place(&slot_id, &app.uid, &slot.subnets, || {
                let room = |name: &str| room(context, name, &app.key, slot, request.size, &usual);
                choose(&slot.subnets, room).map(str::to_owned)
            });
            match place {
                Ok(place) if place.subnet == here && slot.family == family => {
                    let name = free_name(context, seen, &usual, &slot_id, &app);
                    seen.facts.wants.push(Want {
                        application: app.key.to_string(),
                        pool: name.clone(),
                        size: request.size,
                    });
                    let purpose = Purpose::Serve {
                        app: app.clone(),
                        request: request.clone(),
                        slot: slot.clone(),
                    };
                    seen.purposes.insert(name, purpose);
                }
                Ok(place) if place.subnet != here && place.wake => context.queues.subnets.add(place.subnet),
                Ok(_) => {}
                Err(subnets) => seen.refusals.push(Refusal {
                    app: app.clone(),
                    slot: slot.clone(),
                    subnets,
                }),
            }
        }
    }
}

/// The name of a pool to be made: the usual one, unless that is somebody else's.
fn free_name(context: &Context, seen: &Seen, usual: &str, slot: &SlotId, app: &Application) -> String {
    let key = Key::cluster(usual);
    let taken = match context.caches.pools.get_key(&key) {
        None => context.caches.pools.malformed(&key).is_some(),
        Some(pool) => {
            let same_app = pool.app_key().is_some_and(|key| AppId::from(&key) == slot.app);
            let same_slot = same_app && pool.interface() == slot.nic && pool.spec.subnet == seen.subnet.spec.subnet;
            !same_slot
        }
    };
    if taken {
        other_name(usual, seen.name(), app)
    } else {
        usual.to_owned()
    }
}

/// An application as it is now, and whether nobody can know that. The index is filled from the caches a moment later than
/// they are, so what it does not have is looked up.
fn application(context: &Context, id: &AppId) -> (Option<Arc<Application>>, bool) {
    if let Some(app) = context.applications.get(id) {
        return (Some(app), false);
    }
    match context.kinds.of(id) {
        Some(kind) => (kind.application(context, &id.namespace, &id.name).map(Arc::new), false),
        None => (None, true),
    }
}

/// Who still uses a pool whose application is gone.
pub(super) fn held(context: &Context, view: &PoolView) -> Hold {
    match context.caches.pools.get("", &view.name) {
        Some(pool) => hold(context, &pool, &view.subnet),
        None => Hold::No,
    }
}

/// First come, first served: who has waited longest goes first, then older applications before younger ones.
pub fn order(wants: &mut [Want], purposes: &BTreeMap<String, Purpose>, waiting: &Waiting) {
    wants.sort_by_cached_key(|want| match purposes.get(&want.pool) {
        Some(Purpose::Serve { app, slot, .. }) => {
            let place = waiting.place(&app.slot_id(slot));
            (1, place.unwrap_or(u64::MAX), app.since)
        }
        Some(Purpose::Drain) | None => (0, 0, None),
    });
}

/// The pools that what is free is kept for: those whose applications wait, unless they wait in vain.
pub fn kept_for(facts: &Facts, purposes: &BTreeMap<String, Purpose>, waiting: &Waiting) -> BTreeSet<String> {
    let most = facts.total.difference(&facts.reserved).count();
    let hopes = |want: &&Want| match purposes.get(&want.pool) {
        Some(Purpose::Serve { app, slot, .. }) => want.size <= most && waiting.kept(&app.slot_id(slot)).is_some(),
        Some(Purpose::Drain) | None => false,
    };
    facts.wants.iter().filter(hopes).map(|want| want.pool.clone()).collect()
}
