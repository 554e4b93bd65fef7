//! What there is to know about one subnet, from the caches.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use spiderpool_crds::records::{ControlledPools, RecordsError};
use spiderpool_crds::{SpiderIPPool, SpiderSubnet};
use spiderpool_ipam::accounting::Entries;
use spiderpool_ipam::autopool::{Facts, PoolFact, Want};
use spiderpool_ipam::{Cidr, RangeSet};
use spiderpool_kit::cache::Key;

use super::fate::{self, AppSeen, Fate, PoolView};
use super::object::other_name;
use super::placement::{Room, choose};
use super::room::{limits, reserved, room};
use super::world::world;
use crate::application::{AppId, Application, Request, Slot, SlotId, deployment};
use crate::context::Context;
use crate::pool::used::used;

/// Why a pool exists that the plan has a say in.
pub enum Purpose {
    /// It serves, or will serve, an application.
    Serve {
        /// The application.
        app: Arc<Application>,
        /// What it asks for.
        request: Request,
        /// The part of it that this pool is for.
        slot: Slot,
    },
    /// It gives up its addresses as they come free.
    Drain,
}

/// Why a pool is to be deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Removal {
    /// Its application is gone, or is another one by now.
    Orphan(AppId),
    /// Nobody asks for it, and none of its addresses is in use.
    Drained,
    /// Its subnet is being deleted.
    WithSubnet,
}

/// Why no pool is made for a slot.
pub struct Refusal {
    /// The application.
    pub app: Arc<Application>,
    /// The part of what it asks for.
    pub slot: Slot,
    /// For each subnet, why not.
    pub subnets: Vec<(String, Room)>,
}

/// What was seen of one subnet.
pub struct Seen {
    /// The subnet, in the state that writes are based on.
    pub subnet: Arc<SpiderSubnet>,
    /// Its network.
    pub cidr: Cidr,
    /// Why it cannot give addresses: they do not parse. What pools have of it they keep.
    pub problem: Option<String>,
    /// Its accounting as text; empty when that is corrupted.
    pub controlled: ControlledPools,
    /// What the plan is made from.
    pub facts: Facts,
    /// Its pools, by name.
    pub pools: BTreeMap<String, Arc<SpiderIPPool>>,
    /// What each planned pool is for, by name.
    pub purposes: BTreeMap<String, Purpose>,
    /// Pools to be deleted.
    pub removals: Vec<(Arc<SpiderIPPool>, Removal)>,
    /// Slots that no subnet has room for.
    pub refusals: Vec<Refusal>,
    /// Other subnets that have to be looked at because of what was seen here.
    pub elsewhere: BTreeSet<String>,
}

impl Seen {
    /// The name of the subnet.
    pub fn name(&self) -> &str {
        self.subnet.metadata.name.as_deref().unwrap_or_default()
    }
}

/// Looks at a subnet.
pub fn look(context: &Context, subnet: Arc<SpiderSubnet>, cidr: Cidr) -> Seen {
    let family = cidr.family();
    let (total, problem) = match subnet.total() {
        Ok(total) => (total, None),
        Err(error) => (RangeSet::new(), Some(error.to_string())),
    };
    let controlled = subnet.controlled();
    let entries = controlled
        .as_ref()
        .map_err(Clone::clone)
        .and_then(|pools| pools.entries(family));
    let (controlled, entries) = readable(&subnet, controlled, entries);
    let world = world(context, &subnet, cidr);
    let limits = limits(&controlled, &entries);
    let mut seen = Seen {
        cidr,
        problem,
        controlled,
        facts: Facts {
            total,
            reserved: reserved(context, family).union(&world.overlapping),
            limits,
            entries,
            terminating: subnet.is_terminating(),
            ..Facts::default()
        },
        subnet,
        pools: world.mine,
        purposes: BTreeMap::new(),
        removals: Vec::new(),
        refusals: Vec::new(),
        elsewhere: BTreeSet::new(),
    };
    judge(context, &mut seen, &world.by_slot);
    if context.config.automatic_pools {
        newcomers(context, &mut seen, &world.by_slot);
    }
    seen.facts.pools = facts(context, &seen);
    order(&mut seen.facts.wants, &seen.purposes);
    seen
}

fn readable(
    subnet: &SpiderSubnet,
    controlled: Result<ControlledPools, RecordsError>,
    entries: Result<Entries, RecordsError>,
) -> (ControlledPools, Entries) {
    match (controlled, entries) {
        (Ok(controlled), Ok(entries)) => (controlled, entries),
        (Err(error), _) | (_, Err(error)) => {
            // What pools were given stands in the pools as well.
            let name = subnet.metadata.name.as_deref().unwrap_or_default();
            tracing::warn!(subnet = name, %error, "the accounting is rebuilt from the pools");
            (ControlledPools::new(), Entries::new())
        }
    }
}

/// Decides what becomes of each pool of the subnet.
fn judge(context: &Context, seen: &mut Seen, by_slot: &HashMap<SlotId, Vec<PoolView>>) {
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
        let app = context.applications.get(&slot_id.app);
        let app_seen = match &app {
            Some(app) => AppSeen::Is(app),
            None if deployment::is(&slot_id.app) => AppSeen::Gone,
            None => AppSeen::Unwatched,
        };
        match fate::fate(me, &slot_id.nic, family, app_seen, siblings) {
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
                // A pool left over elsewhere may go now that this one serves.
                let others = siblings
                    .iter()
                    .filter(|other| other.subnet != me.subnet && !other.terminating);
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
fn newcomers(context: &Context, seen: &mut Seen, by_slot: &HashMap<SlotId, Vec<PoolView>>) {
    let here = seen.name().to_owned();
    let family = seen.cidr.family();
    for app in context.applications.naming(&here) {
        let Some(request) = app.asked.request() else { continue };
        for slot in request.slots.iter().filter(|slot| slot.subnets.contains(&here)) {
            let slot_id = app.slot_id(slot);
            let siblings = by_slot.get(&slot_id).map(Vec::as_slice).unwrap_or_default();
            if fate::home(&app, slot, siblings).is_some() {
                continue;
            }
            let usual = spiderpool_ipam::pool_name(&app.key.name, slot.family, &slot.nic, &app.uid);
            let place = context.placements.place(&slot_id, &app.uid, &slot.subnets, || {
                let room = |name: &str| room(context, name, &app.key, slot, request.size, &usual);
                choose(&slot.subnets, room).map(str::to_owned)
            });
            match place {
                Ok(place) if place == here && slot.family == family => {
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
                Ok(place) if place == here => {}
                Ok(place) => {
                    seen.elsewhere.insert(place);
                }
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

/// The pools as the plan sees them. Those that cannot be read keep what the accounting says they have.
fn facts(context: &Context, seen: &Seen) -> Vec<PoolFact> {
    let family = seen.cidr.family();
    let sizes: HashMap<&str, u128> = seen
        .facts
        .wants
        .iter()
        .map(|want| (want.pool.as_str(), want.size))
        .collect();
    let booked = |name: &str| seen.facts.entries.get(name).map(|entry| entry.ranges.clone());
    let mut facts: Vec<PoolFact> = seen
        .pools
        .iter()
        .map(|(name, pool)| {
            let parsed = pool.total().ok();
            let broken = parsed.is_none();
            let ranges = parsed.or_else(|| booked(name)).unwrap_or_default();
            // Reading the records of a pool costs time in their number; only a pool that gets smaller needs them.
            let shrinks = sizes.get(name.as_str()).is_some_and(|size| *size < ranges.count());
            PoolFact {
                name: name.clone(),
                application: pool.app_key().map(|key| key.to_string()),
                used: match shrinks {
                    _ if broken => ranges.clone(),
                    true => used(pool, family),
                    false => RangeSet::new(),
                },
                ranges,
                terminating: pool.is_terminating(),
            }
        })
        .collect();
    let unreadable = seen.facts.entries.iter().filter(|(name, _)| {
        !seen.pools.contains_key(*name) && context.caches.pools.malformed(&Key::cluster(name.as_str())).is_some()
    });
    facts.extend(unreadable.map(|(name, entry)| PoolFact {
        name: name.clone(),
        application: entry.application.clone(),
        used: entry.ranges.clone(),
        ranges: entry.ranges.clone(),
        terminating: false,
    }));
    facts
}

/// First come, first served: older applications go before younger ones.
fn order(wants: &mut [Want], purposes: &BTreeMap<String, Purpose>) {
    wants.sort_by_key(|want| match purposes.get(&want.pool) {
        Some(Purpose::Serve { app, .. }) => (1, app.since),
        Some(Purpose::Drain) | None => (0, None),
    });
}
