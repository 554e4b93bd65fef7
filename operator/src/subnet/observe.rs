//! What there is to know about one subnet, from the caches.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use spiderpool_crds::admission::usable_subnet;
use spiderpool_crds::records::{ControlledPools, RecordsError};
use spiderpool_crds::{SpiderIPPool, SpiderSubnet};
use spiderpool_ipam::accounting::Entries;
use spiderpool_ipam::autopool::{Facts, PoolFact};
use spiderpool_ipam::{Cidr, RangeSet};
use spiderpool_kit::cache::Key;

use super::judge;
use super::neighbours;
use super::placement::Room;
use super::room::{limits, taken_elsewhere};
use super::world::world;
use crate::application::{AppId, Application, Request, Slot};
use crate::context::Context;
use crate::kinds::rights;
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
    /// Why it must not be used. What pools have of it they keep.
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
    /// Kinds of workload that ask for its addresses or have some, and that cannot be read: what to tell of each.
    pub unreadable: Vec<String>,
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
    let (total, problem) = match usable_subnet(&subnet, context.config.settings()) {
        Ok((_, total)) => (total, None),
        // What users' pools have of it is entered in the accounting all the same.
        Err(why) => (subnet.total().unwrap_or_default(), Some(why)),
    };
    let controlled = subnet.controlled();
    let entries = controlled
        .as_ref()
        .map_err(Clone::clone)
        .and_then(|pools| pools.entries(family));
    let (controlled, entries) = readable(&subnet, controlled, entries);
    let world = world(context, &subnet, cidr);
    let booked = neighbours::booked(context, &subnet, |name| world.mine.get(name).map(|pool| &**pool));
    let limits = limits(&controlled, &entries);
    let mut seen = Seen {
        cidr,
        controlled,
        facts: Facts {
            total,
            unusable: problem.is_some(),
            reserved: taken_elsewhere(context, cidr, &world.overlapping, &booked),
            limits,
            entries,
            terminating: subnet.is_terminating(),
            ..Facts::default()
        },
        problem,
        subnet,
        pools: world.mine,
        purposes: BTreeMap::new(),
        removals: Vec::new(),
        refusals: Vec::new(),
        unreadable: Vec::new(),
        elsewhere: BTreeSet::new(),
    };
    seen.unreadable = rights::of_subnet(context, seen.name(), &seen.pools);
    judge::pools(context, &mut seen, &world.by_slot);
    if context.config.automatic_pools {
        judge::newcomers(context, &mut seen, &world.by_slot);
    }
    seen.facts.pools = facts(context, &seen);
    judge::order(&mut seen.facts.wants, &seen.purposes, &context.waiting);
    seen.facts.kept_for = judge::kept_for(&seen.facts, &seen.purposes, &context.waiting);
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
