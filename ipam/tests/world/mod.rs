//! A cluster in miniature: one subnet, its pools with every version they had, and an operator that applies plans.

use proptest::prelude::*;
use spiderpool_ipam::accounting::{Entries, text_bytes};
use spiderpool_ipam::autopool::{Facts, Limits, Plan, PoolFact, Verdict, Want, plan};
use spiderpool_ipam::{Range, RangeSet};
use std::collections::BTreeMap;

const USER_POOL: &str = "user";

/// What may happen.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// An application wants a number of addresses.
    Want(u8, u128),
    /// An application is deleted, and so is its pool.
    Forget(u8),
    /// A pod takes the lowest free address of its pool.
    Take(u8),
    /// A pod gives one of the pool's addresses back.
    GiveBack(u8, usize),
    /// Other addresses are reserved.
    Reserve(u128, u128),
    /// The subnet has other addresses.
    Subnet(u128, u128),
    /// A user makes a pool of addresses that nobody has.
    UserPool(u128, u128),
    /// The user deletes it.
    DropUserPool,
    /// The operator plans from versions so many steps old, and dies after so many writes.
    Pass {
        old_pools: Vec<usize>,
        old_subnet: usize,
        dies_after: usize,
    },
}

/// Every version of an object; none where it did not exist.
#[derive(Debug)]
struct History<T>(Vec<Option<T>>);

impl<T: Clone> History<T> {
    fn now(&self) -> Option<&T> {
        self.0.last().and_then(Option::as_ref)
    }

    fn version(&self) -> usize {
        self.0.len()
    }

    fn at(&self, old: usize) -> Option<&T> {
        self.0
            .iter()
            .rev()
            .nth(old.min(self.0.len() - 1))
            .and_then(Option::as_ref)
    }

    fn write(&mut self, value: Option<T>) {
        self.0.push(value);
    }
}

#[derive(Debug)]
pub(crate) struct World {
    total: RangeSet,
    reserved: RangeSet,
    entries: History<Entries>,
    pools: BTreeMap<String, History<PoolFact>>,
    wants: Vec<Want>,
    limits: Limits,
}

fn set(first: u128, last: u128) -> RangeSet {
    Range::new(first.min(last), first.max(last)).into_iter().collect()
}

fn name(app: u8) -> String {
    format!("pool-{app}")
}

impl World {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            total: set(10, 29),
            reserved: RangeSet::new(),
            entries: History(vec![Some(Entries::new())]),
            pools: BTreeMap::new(),
            wants: Vec::new(),
            limits,
        }
    }

    fn pool(&self, name: &str) -> Option<&PoolFact> {
        self.pools.get(name).and_then(History::now)
    }

    fn live(&self) -> impl Iterator<Item = &PoolFact> {
        self.pools.values().filter_map(History::now)
    }

    fn accounted(&self) -> Entries {
        self.entries.now().cloned().unwrap_or_default()
    }

    fn write(&mut self, name: &str, value: Option<PoolFact>) {
        self.pools
            .entry(name.to_owned())
            .or_insert_with(|| History(vec![None]))
            .write(value);
    }

    fn edit(&mut self, name: &str, change: impl FnOnce(&mut PoolFact)) {
        if let Some(mut pool) = self.pool(name).cloned() {
            change(&mut pool);
            // What is terminating and empty loses its finalizer.
            let gone = pool.terminating && pool.used.is_empty();
            self.write(name, (!gone).then_some(pool));
        }
    }

    pub(crate) fn act(&mut self, step: Step) {
        match step {
            Step::Want(app, size) => {
                let pool = name(app);
                match self.wants.iter_mut().find(|want| want.pool == pool) {
                    Some(want) => want.size = size,
                    None => self.wants.push(Want {
                        application: format!("app-{app}"),
                        pool,
                        size,
                    }),
                }
            }
            Step::Forget(app) => {
                self.wants.retain(|want| want.pool != name(app));
                self.edit(&name(app), |pool| pool.terminating = true);
            }
            Step::Take(app) => self.edit(&name(app), |pool| {
                if !pool.terminating {
                    let addr = pool.ranges.first_outside(&pool.used);
                    pool.used = pool.used.union(&addr.into_iter().collect());
                }
            }),
            Step::GiveBack(app, at) => self.edit(&name(app), |pool| {
                let at = at as u128 % pool.used.count().max(1);
                pool.used = pool.used.difference(&pool.used.nth(at).into_iter().collect());
            }),
            Step::Reserve(at, len) => self.reserved = set(at, at + len),
            Step::Subnet(first, last) => self.total = set(first - 10, last - 10),
            Step::UserPool(at, len) => {
                let ranges = set(at, at + len);
                let others = self.live().any(|pool| pool.ranges.intersects(&ranges));
                let given = self.accounted().values().any(|entry| entry.ranges.intersects(&ranges));
                if !others && !given && self.pool(USER_POOL).is_none() {
                    let pool = PoolFact {
                        name: USER_POOL.into(),
                        application: None,
                        ranges,
                        used: RangeSet::new(),
                        terminating: false,
                    };
                    self.write(USER_POOL, Some(pool));
                }
            }
            Step::DropUserPool => self.write(USER_POOL, None),
            Step::Pass {
                old_pools,
                old_subnet,
                dies_after,
            } => self.pass(&old_pools, old_subnet, dies_after),
        }
    }

    /// What the operator sees. Pools that users make are seen at once: nothing but the webhook orders them.
    pub(crate) fn observe(&self, old_pools: &[usize], old_subnet: usize) -> Facts {
        let age = |at: usize| old_pools.get(at).copied().unwrap_or(0);
        let seen = self.pools.iter().enumerate().filter_map(|(at, (name, history))| {
            if name == USER_POOL {
                history.now()
            } else {
                history.at(age(at))
            }
            .cloned()
        });
        Facts {
            total: self.total.clone(),
            reserved: self.reserved.clone(),
            entries: self.entries.at(old_subnet).cloned().unwrap_or_default(),
            pools: seen.collect(),
            wants: self.wants.clone(),
            terminating: false,
            unusable: false,
            kept_for: std::collections::BTreeSet::new(),
            limits: self.limits,
        }
    }

    pub(crate) fn pass(&mut self, old_pools: &[usize], old_subnet: usize, mut dies_after: usize) {
        let facts = self.observe(old_pools, old_subnet);
        let versions: BTreeMap<String, usize> = self
            .pools
            .iter()
            .enumerate()
            .map(|(at, (name, history))| {
                let age = old_pools.get(at).copied().unwrap_or(0).min(history.version() - 1);
                (name.clone(), history.version() - age)
            })
            .collect();
        let plan = plan(&facts);
        judge(&facts, &plan);
        let holds =
            |(name, leaving): (&String, &RangeSet)| self.pool(name).is_some_and(|p| p.ranges.intersects(leaving));
        let exists = |name: &String| self.pool(name).is_some();
        if plan.released.iter().any(holds) || plan.dropped.iter().any(exists) || self.accounted() != facts.entries {
            return;
        }
        let mut alive = || {
            let alive = dies_after > 0;
            dies_after = dies_after.saturating_sub(1);
            alive
        };
        if plan.entries != facts.entries {
            if !alive() {
                return;
            }
            self.entries.write(Some(plan.entries.clone()));
        }
        for want in &facts.wants {
            let current = self.pools.get(&want.pool).map_or(0, History::version);
            let fresh = versions.get(&want.pool).copied().unwrap_or(0) == current;
            match &plan.verdicts[&want.pool] {
                Verdict::Create(ranges) if self.pool(&want.pool).is_none() && alive() => {
                    let pool = PoolFact {
                        name: want.pool.clone(),
                        application: Some(want.application.clone()),
                        ranges: ranges.clone(),
                        used: RangeSet::new(),
                        terminating: false,
                    };
                    self.write(&want.pool, Some(pool));
                }
                Verdict::Grow { ranges, .. } | Verdict::Shrink { ranges, .. } if fresh && alive() => {
                    self.edit(&want.pool, |pool| pool.ranges = ranges.clone());
                }
                _ => {}
            }
        }
    }

    /// What must hold at any moment.
    pub(crate) fn check(&self) -> Result<(), TestCaseError> {
        let mut seen = RangeSet::new();
        for pool in self.live() {
            prop_assert!(
                !pool.ranges.intersects(&seen),
                "an address of {} is in two pools: {self:?}",
                pool.name
            );
            seen = seen.union(&pool.ranges);
            prop_assert!(
                pool.used.is_subset_of(&pool.ranges),
                "an address in use left {}",
                pool.name
            );
            if pool.application.is_some() {
                let accounted = self.accounted();
                let entry = accounted.get(&pool.name);
                let inside = entry.is_some_and(|entry| pool.ranges.is_subset_of(&entry.ranges));
                prop_assert!(inside, "{} holds more than it was given: {self:?}", pool.name);
            }
        }
        let mut given = RangeSet::new();
        for (name, entry) in self.accounted() {
            prop_assert!(
                !entry.ranges.intersects(&given),
                "an address of {name} was given twice: {self:?}"
            );
            given = given.union(&entry.ranges);
        }
        Ok(())
    }
}

/// What every single plan owes, whatever it was made from.
fn judge(facts: &Facts, made: &Plan) {
    assert_eq!(plan(facts), *made, "a plan is a function of its facts");
    let mut open = facts.total.difference(&facts.reserved);
    for pool in &facts.pools {
        open = open.difference(&pool.ranges);
    }
    let mut exhausted = false;
    for want in &facts.wants {
        let pool = facts.pools.iter().find(|pool| pool.name == want.pool);
        let had = pool.map(|pool| pool.ranges.clone()).unwrap_or_default();
        let verdict = &made.verdicts[&want.pool];
        match verdict {
            Verdict::Create(ranges) | Verdict::Grow { ranges, .. } => {
                let new = ranges.difference(&had);
                assert!(
                    had.is_subset_of(ranges) && new.is_subset_of(&open),
                    "{want:?} {verdict:?}"
                );
                assert!(new.is_subset_of(&made.entries[&want.pool].ranges));
                open = open.difference(&new);
                let reserved = facts
                    .entries
                    .get(&want.pool)
                    .map(|entry| entry.ranges.clone())
                    .unwrap_or_default();
                assert!(
                    !exhausted || new.is_subset_of(&reserved),
                    "served before its turn: {want:?}"
                );
                let short = if let Verdict::Grow { short, .. } = verdict {
                    *short
                } else {
                    0
                };
                assert_eq!(ranges.count() + short, want.size);
                assert!(ranges.ranges().len() <= facts.limits.ranges.max(had.ranges().len()));
                exhausted |= short > 0;
            }
            Verdict::Shrink { ranges, pending } => {
                let used = pool.map(|pool| pool.used.clone()).unwrap_or_default();
                assert_eq!(ranges.count(), want.size + pending);
                let leaving = had.difference(ranges);
                let staying = ranges.difference(&used);
                assert!(!leaving.intersects(&used) && ranges.is_subset_of(&had));
                assert!(ranges.ranges().len() <= facts.limits.ranges.max(had.ranges().len()));
                if facts.limits == Limits::default() {
                    assert!(
                        staying.last_n(1).first() < leaving.first(),
                        "the highest free addresses go: {verdict:?}"
                    );
                    assert!(*pending == 0 || staying.is_empty());
                } else {
                    assert!(*pending == 0 || no_end_is_idle(ranges, &used));
                }
            }
            Verdict::Nothing => assert_eq!(had.count(), want.size),
            Verdict::Blocked(_) => {}
        }
    }
    let mut nobody = facts.clone();
    nobody.wants.clear();
    let before = text_bytes(&plan(&nobody).entries);
    assert!(
        text_bytes(&made.entries) <= facts.limits.accounting_bytes.max(before),
        "the accounting is too long: {made:?}"
    );
}

/// Whether every range of a pool begins and ends with an address in use.
pub(crate) fn no_end_is_idle(ranges: &RangeSet, used: &RangeSet) -> bool {
    ranges
        .ranges()
        .iter()
        .all(|range| used.contains(range.first()) && used.contains(range.last()))
}
