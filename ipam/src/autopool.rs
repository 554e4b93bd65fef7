//! What to do about the automatic pools of one subnet.
//!
//! The plan is a function of what was observed: the subnet, the pools that exist, its accounting, and what applications
//! want. It is safe to compute again after a crash at any point: an accounting entry without a pool is a reservation that
//! the next plan uses up or drops, and the accounting of a pool never holds less than the pool itself.
//!
//! What was observed may be old, since pools come from a cache. A plan from old observations does no harm if whoever
//! applies it
//! - writes the accounting against the version of the subnet that was observed, or where the accounting stays as it is,
//!   reads live that it still does, before any pool is made or grown;
//! - reads the pools of [`Plan::released`] and [`Plan::dropped`] live before the accounting is written, and plans again
//!   if one of them holds more than was observed;
//! - writes a pool against the version that was observed.

use crate::accounting::{Entries, Entry, taken};
use crate::set::RangeSet;
use std::collections::{BTreeMap, BTreeSet};

/// A pool that exists with addresses of the subnet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolFact {
    /// Name of the pool object.
    pub name: String,
    /// Key of the application of an automatic pool; none for a pool that a user made.
    pub application: Option<String>,
    /// Addresses that the pool may hand out, by its spec.
    pub ranges: RangeSet,
    /// Addresses in use or held, by its status.
    pub used: RangeSet,
    /// Whether the pool object is being deleted.
    pub terminating: bool,
}

/// What one application wants of this subnet for one NIC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Want {
    /// Key of the application.
    pub application: String,
    /// Name of its pool: of the existing one, or the one that a new pool is to have.
    pub pool: String,
    /// How many addresses.
    pub size: u128,
}

/// What was observed about one subnet.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The subnet's addresses.
    pub total: RangeSet,
    /// Addresses that nobody may be given.
    pub reserved: RangeSet,
    /// The accounting as it stands in the subnet's status.
    pub entries: Entries,
    /// The pools with addresses of this subnet.
    pub pools: Vec<PoolFact>,
    /// What applications want, first come first served.
    pub wants: Vec<Want>,
    /// Whether the subnet is being deleted: then it gives nothing to anybody.
    pub terminating: bool,
}

/// What is to be done for one [`Want`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The pool has the wanted size.
    Nothing,
    /// Make the pool with these addresses.
    Create(RangeSet),
    /// Give the pool these addresses, which contain all that it has. `short` is how many the subnet could not give.
    Grow {
        /// All addresses that the pool is to have.
        ranges: RangeSet,
        /// Wanted addresses that the subnet does not have.
        short: u128,
    },
    /// Leave the pool these addresses. `pending` is how many more go once they are free.
    Shrink {
        /// All addresses that the pool is to keep.
        ranges: RangeSet,
        /// Addresses above the wanted number that are in use.
        pending: u128,
    },
    /// Nothing can be done now.
    Blocked(Blocked),
}

/// Why nothing can be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Blocked {
    /// The subnet has too few free addresses.
    Exhausted {
        /// How many more addresses are wanted.
        wanted: u128,
        /// How many are free.
        free: u128,
    },
    /// The subnet is being deleted.
    SubnetTerminating,
    /// The application's pool is being deleted; a new one is made when it is gone.
    PoolTerminating,
    /// The pool of that name is not the application's; the new one needs another name.
    NameTaken,
    /// The shrink waits for this many addresses in use.
    InUse {
        /// Addresses above the wanted number that are in use.
        pending: u128,
    },
}

/// What is to be done about one subnet. The accounting is written before any pool grows or is made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// The accounting that the subnet's status is to hold.
    pub entries: Entries,
    /// What to do for each want, by pool name.
    pub verdicts: BTreeMap<String, Verdict>,
    /// Accounting entries that go although nobody deleted their pool as far as was observed. Whoever applies the plan
    /// makes sure by a live read that these pools do not exist.
    pub dropped: BTreeSet<String>,
    /// Addresses that leave the accounting of a pool, by pool name, because the pool was not observed to hold them.
    /// The next plan may give them to others, so whoever applies this one makes sure by a live read that the pool does
    /// not hold them, and plans again after the write.
    pub released: BTreeMap<String, RangeSet>,
}

/// Plans one subnet.
pub fn plan(facts: &Facts) -> Plan {
    let mut entries: Entries = Entries::new();
    for pool in &facts.pools {
        let ranges = match pool.application {
            Some(_) => pool.ranges.difference(&foreign(facts, pool)),
            None => pool.ranges.intersection(&facts.total),
        };
        if pool.application.is_some() || !ranges.is_empty() {
            entries.insert(
                pool.name.clone(),
                Entry {
                    ranges,
                    application: pool.application.clone(),
                },
            );
        }
    }
    let pools: BTreeMap<&str, &PoolFact> = facts.pools.iter().map(|pool| (pool.name.as_str(), pool)).collect();
    let held: RangeSet = facts
        .pools
        .iter()
        .flat_map(|pool| pool.ranges.ranges())
        .copied()
        .collect();
    // What the accounting gives up in this plan is not given to anybody before the next one, so that whoever came first
    // is served first, and so that nothing is given that was not free by the accounting either.
    let open = facts.total.difference(&held).difference(&facts.reserved);
    let mut free = open.difference(&taken(&facts.entries, None));
    let mut reservations = reservations(facts, &entries, &open);
    let mut verdicts = BTreeMap::new();
    for want in &facts.wants {
        let own = reservations.remove(want.pool.as_str()).unwrap_or_default();
        let verdict = match pools.get(want.pool.as_str()) {
            Some(pool) if pool.application.as_ref() != Some(&want.application) => Verdict::Blocked(Blocked::NameTaken),
            Some(pool) if pool.terminating => Verdict::Blocked(Blocked::PoolTerminating),
            Some(pool) if facts.terminating && pool.ranges.count() < want.size => {
                Verdict::Blocked(Blocked::SubnetTerminating)
            }
            None if facts.terminating => Verdict::Blocked(Blocked::SubnetTerminating),
            Some(pool) => resize(pool, want, &own, &free),
            None => create(want, &own, &free),
        };
        match &verdict {
            Verdict::Create(ranges) | Verdict::Grow { ranges, .. } => {
                free = free.difference(ranges);
                let entry = entries.entry(want.pool.clone()).or_default();
                entry.application = Some(want.application.clone());
                entry.ranges = match pools.get(want.pool.as_str()) {
                    Some(pool) => ranges.difference(&foreign(facts, pool)),
                    None => ranges.clone(),
                };
            }
            Verdict::Nothing | Verdict::Shrink { .. } | Verdict::Blocked(_) => {}
        }
        verdicts.insert(want.pool.clone(), verdict);
    }
    let dropped = facts
        .entries
        .keys()
        .filter(|name| !entries.contains_key(*name) && !pools.contains_key(name.as_str()))
        .cloned()
        .collect();
    let released = released(facts, &entries);
    Plan {
        entries,
        verdicts,
        dropped,
        released,
    }
}

/// Addresses that an automatic pool was observed to hold although they are only accounted to, or held by, others: it gave them up and
/// was observed before that. The accounting is right then, and nobody is given them on the word of the old observation.
fn foreign(facts: &Facts, pool: &PoolFact) -> RangeSet {
    let unaccounted = match facts.entries.get(&pool.name) {
        Some(entry) => pool.ranges.difference(&entry.ranges),
        None => pool.ranges.clone(),
    };
    if unaccounted.is_empty() {
        return unaccounted;
    }
    let others = facts.pools.iter().filter(|other| other.name != pool.name);
    let held: RangeSet = others.flat_map(|other| other.ranges.ranges()).copied().collect();
    unaccounted.intersection(&taken(&facts.entries, Some(&pool.name)).union(&held))
}

/// What a crashed pass reserved for pools that have a want still: they get the same addresses again. An address that two
/// entries hold is the first want's.
fn reservations<'a>(facts: &'a Facts, entries: &Entries, open: &RangeSet) -> BTreeMap<&'a str, RangeSet> {
    let mut reservations: BTreeMap<&str, RangeSet> = BTreeMap::new();
    let mut left: Option<RangeSet> = None;
    for want in &facts.wants {
        let Some(before) = facts.entries.get(&want.pool) else {
            continue;
        };
        if before.application.as_ref() != Some(&want.application) || reservations.contains_key(want.pool.as_str()) {
            continue;
        }
        let beyond = match entries.get(&want.pool) {
            Some(now) => before.ranges.difference(&now.ranges),
            None => before.ranges.clone(),
        };
        let reserved = beyond.intersection(left.as_ref().unwrap_or(open));
        if !reserved.is_empty() {
            left = Some(left.as_ref().unwrap_or(open).difference(&reserved));
            reservations.insert(&want.pool, reserved);
        }
    }
    reservations
}

/// Addresses that leave the accounting of a pool. That of a user's pool only holds what lies in the subnet, so a subnet
/// made smaller takes from it what the pool rightly keeps.
fn released(facts: &Facts, entries: &Entries) -> BTreeMap<String, RangeSet> {
    let mut released = BTreeMap::new();
    for (name, before) in &facts.entries {
        let leaving = match entries.get(name) {
            Some(now) => before.ranges.difference(&now.ranges),
            None => before.ranges.clone(),
        };
        let leaving = match before.application {
            Some(_) => leaving,
            None => leaving.intersection(&facts.total),
        };
        if !leaving.is_empty() {
            released.insert(name.clone(), leaving);
        }
    }
    released
}

/// The lowest `count` addresses, those reserved earlier first.
fn pick(count: u128, own: &RangeSet, free: &RangeSet) -> RangeSet {
    let first = own.first_n(count);
    let rest = count - first.count();
    first.union(&free.first_n(rest))
}

fn create(want: &Want, own: &RangeSet, free: &RangeSet) -> Verdict {
    let available = own.count().saturating_add(free.count());
    if available < want.size {
        return Verdict::Blocked(Blocked::Exhausted {
            wanted: want.size,
            free: available,
        });
    }
    Verdict::Create(pick(want.size, own, free))
}

fn resize(pool: &PoolFact, want: &Want, own: &RangeSet, free: &RangeSet) -> Verdict {
    let have = pool.ranges.count();
    if have == want.size {
        return Verdict::Nothing;
    }
    if have < want.size {
        let need = want.size - have;
        let more = pick(need, own, free);
        if more.is_empty() {
            return Verdict::Blocked(Blocked::Exhausted { wanted: need, free: 0 });
        }
        return Verdict::Grow {
            short: need - more.count(),
            ranges: pool.ranges.union(&more),
        };
    }
    let excess = have - want.size;
    let leaving = pool.ranges.difference(&pool.used).last_n(excess);
    let pending = excess - leaving.count();
    if leaving.is_empty() {
        return Verdict::Blocked(Blocked::InUse { pending });
    }
    Verdict::Shrink {
        ranges: pool.ranges.difference(&leaving),
        pending,
    }
}
