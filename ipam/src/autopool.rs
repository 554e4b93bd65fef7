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

mod choice;
mod elsewhere;
mod limits;

use crate::accounting::{Entries, Entry, taken};
use crate::set::RangeSet;
use elsewhere::Elsewhere;
pub use limits::Limits;
use limits::Meter;
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
    /// Names of wanted pools that what is free is kept for when it does not suffice: later wants get none of it, else small
    /// ones could keep a large one waiting for ever.
    pub kept_for: BTreeSet<String>,
    /// Whether the subnet is being deleted: then it gives nothing to anybody.
    pub terminating: bool,
    /// Whether something is wrong with the subnet so that it must not be used: then it gives nothing to anybody either, and what
    /// pools have of it they keep.
    pub unusable: bool,
    /// How much the objects may hold.
    pub limits: Limits,
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
        /// Addresses above the wanted number that are in use, or between such as are where their going would make too
        /// many ranges.
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
    /// What is free is kept for somebody who has waited longer.
    Behind {
        /// Name of the pool that it is kept for.
        pool: String,
    },
    /// The subnet is being deleted.
    SubnetTerminating,
    /// The subnet must not be used.
    SubnetUnusable,
    /// The application's pool is being deleted; a new one is made when it is gone.
    PoolTerminating,
    /// The pool of that name is not the application's; the new one needs another name.
    NameTaken,
    /// The shrink waits for this many addresses in use.
    InUse {
        /// Addresses above the wanted number that are in use, or between such as are where their going would make too
        /// many ranges.
        pending: u128,
    },
    /// The accounting of the subnet would become too long.
    AccountingLimit {
        /// How many bytes its text would have at most.
        bytes: usize,
        /// How many it may have.
        limit: usize,
    },
    /// The free addresses lie so scattered that the pool would have too many ranges.
    Fragmented {
        /// How many ranges the pool would have at least.
        ranges: usize,
        /// How many it may have.
        limit: usize,
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
    let elsewhere = Elsewhere::of(facts);
    let mut entries: Entries = Entries::new();
    for pool in &facts.pools {
        let ranges = match pool.application {
            Some(_) => elsewhere.without(facts, pool, pool.ranges.clone()),
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
    let mut meter = Meter::new(facts.limits, &entries);
    let mut verdicts = BTreeMap::new();
    let (mut kept_for, none): (Option<&str>, _) = (None, RangeSet::new());
    for want in &facts.wants {
        let left = if kept_for.is_some() { &none } else { &free };
        let own = reservations.remove(want.pool.as_str()).unwrap_or_default();
        let pool = pools.get(want.pool.as_str()).copied();
        let before = entries.get(&want.pool);
        let booked = |ranges: &RangeSet| {
            let ranges = ranges.clone();
            let ranges = match pool {
                Some(pool) => elsewhere.without(facts, pool, ranges),
                None => ranges,
            };
            limits::entry(&want.application, ranges)
        };
        let allows = |ranges: &RangeSet| meter.allows(&want.pool, before, &booked(ranges));
        let verdict = match pool {
            Some(pool) if pool.application.as_ref() != Some(&want.application) => Err(Blocked::NameTaken),
            Some(pool) if pool.terminating => Err(Blocked::PoolTerminating),
            Some(pool) if facts.terminating && pool.ranges.count() < want.size => Err(Blocked::SubnetTerminating),
            None if facts.terminating => Err(Blocked::SubnetTerminating),
            Some(pool) if facts.unusable && pool.ranges.count() < want.size => Err(Blocked::SubnetUnusable),
            None if facts.unusable => Err(Blocked::SubnetUnusable),
            Some(pool) => resize(pool, want, &own, left, meter.ranges(), allows),
            None => create(want, &own, left, allows),
        };
        let verdict = match (verdict, kept_for) {
            (Err(Blocked::Exhausted { .. }), Some(first)) => Err(Blocked::Behind { pool: first.to_owned() }),
            (Err(Blocked::Exhausted { wanted, free }), None) => {
                if free > 0 && facts.kept_for.contains(&want.pool) {
                    kept_for = Some(&want.pool);
                }
                Err(Blocked::Exhausted { wanted, free })
            }
            (verdict, _) => verdict,
        };
        match &verdict {
            Ok(Verdict::Create(ranges) | Verdict::Grow { ranges, .. }) => {
                let after = booked(ranges);
                meter.book(&want.pool, before, &after);
                free = free.difference(ranges);
                entries.insert(want.pool.clone(), after);
            }
            // Until the pool is written, the accounting stays as it is.
            Ok(Verdict::Shrink { ranges, .. }) => meter.book(&want.pool, before, &booked(ranges)),
            Ok(Verdict::Nothing | Verdict::Blocked(_)) | Err(_) => {}
        }
        verdicts.insert(want.pool.clone(), verdict.unwrap_or_else(Verdict::Blocked));
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

/// Whether a subnet has room for a pool that does not exist, and if not, why. The facts need no wants; without pools, the
/// accounting alone says what is taken. What others want as well is for [`plan`] to say.
pub fn room(facts: &Facts, want: &Want) -> Result<(), Blocked> {
    if facts.terminating {
        return Err(Blocked::SubnetTerminating);
    }
    if facts.unusable {
        return Err(Blocked::SubnetUnusable);
    }
    let mut entries = facts.entries.clone();
    // An entry of that name which is another's stays: the pool will get another name.
    let is_own = |entry: &Entry| entry.application.as_ref() == Some(&want.application);
    let own = match entries.get(&want.pool).is_some_and(is_own) {
        true => entries.remove(&want.pool).unwrap_or_default().ranges,
        false => RangeSet::new(),
    };
    let held: RangeSet = facts
        .pools
        .iter()
        .flat_map(|pool| pool.ranges.ranges())
        .copied()
        .collect();
    let given = taken(&entries, None).union(&held).union(&facts.reserved);
    let free = facts.total.difference(&given).difference(&own);
    let own = own.intersection(&facts.total).difference(&given);
    let meter = Meter::new(facts.limits, &entries);
    let allows = |ranges: &RangeSet| {
        let entry = limits::entry(&want.application, ranges.clone());
        meter.allows(&want.pool, None, &entry)
    };
    create(want, &own, &free, allows).map(|_| ())
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

fn create(
    want: &Want,
    own: &RangeSet,
    free: &RangeSet,
    allows: impl Fn(&RangeSet) -> Result<(), Blocked>,
) -> Result<Verdict, Blocked> {
    let available = own.count().saturating_add(free.count());
    if available < want.size {
        return Err(Blocked::Exhausted {
            wanted: want.size,
            free: available,
        });
    }
    choice::grown(&RangeSet::new(), want.size, own, free, allows).map(Verdict::Create)
}

fn resize(
    pool: &PoolFact,
    want: &Want,
    own: &RangeSet,
    free: &RangeSet,
    most_ranges: usize,
    allows: impl Fn(&RangeSet) -> Result<(), Blocked>,
) -> Result<Verdict, Blocked> {
    let have = pool.ranges.count();
    if have == want.size {
        return Ok(Verdict::Nothing);
    }
    if have < want.size {
        let need = want.size - have;
        if own.is_empty() && free.is_empty() {
            return Err(Blocked::Exhausted { wanted: need, free: 0 });
        }
        let ranges = choice::grown(&pool.ranges, need, own, free, allows)?;
        return Ok(Verdict::Grow {
            short: want.size - ranges.count(),
            ranges,
        });
    }
    let ranges = choice::shrunk(&pool.ranges, &pool.used, have - want.size, most_ranges, allows);
    let pending = ranges.count() - want.size;
    if ranges == pool.ranges {
        return Err(Blocked::InUse { pending });
    }
    Ok(Verdict::Shrink { ranges, pending })
}
