//! How long freed addresses have rested, by a clock that nobody sets.
//!
//! A note says until when an address rests by the clock of the machine that wrote it, and clocks of nodes may be hours apart. So it
//! is counted from when this agent saw the note come. Of a note that was there before this agent only the time it says is known: it
//! counts with [`APART`] added, but from now on for no longer than the pool's rest.

use super::PoolStore;
use jiff::{SignedDuration, Timestamp};
use spiderpool_crds::SpiderIPPool;
use spiderpool_crds::records::{Held, HeldRecords};
use spiderpool_ipam::hold::Note;
use spiderpool_kit::cache::Change;
use spiderpool_kit::clock;
use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// How far clocks of two nodes may be apart.
const APART: SignedDuration = SignedDuration::from_hours(2);

/// What was seen of the notes of each pool that has a cool-down. A pool is known from the first look at it on.
#[derive(Debug, Default)]
pub(super) struct Rests(Mutex<HashMap<String, HashMap<IpAddr, Rest>>>);

#[derive(Debug)]
struct Rest {
    /// Of the same address another note may come.
    until: Option<Timestamp>,
    by: Option<String>,
    since: Instant,
    /// Time left then; none if it has no end.
    left: Option<Duration>,
}

impl Rest {
    fn is_of(&self, held: &Held) -> bool {
        (self.until, self.by.as_ref()) == (held.until, held.by.as_ref())
    }
}

impl Rests {
    /// Takes down which notes a pool has, and tells which addresses have rested for long enough.
    pub(super) fn over(&self, pool: &SpiderIPPool, held: &HeldRecords, now: Timestamp) -> BTreeSet<IpAddr> {
        let name = pool.metadata.name.clone().unwrap_or_default();
        let mut pools = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let cooldown = pool.reuse().cooldown;
        if cooldown.is_zero() {
            pools.remove(&name);
            return BTreeSet::new();
        }
        let before = pools.remove(&name);
        let is_known = before.is_some();
        let (mut before, mut seen) = (before.unwrap_or_default(), HashMap::new());
        let (mut over, moment) = (BTreeSet::new(), Instant::now());
        for (ip, held) in held.iter().filter(|(_, held)| matches!(held.note(), Note::Freed(_))) {
            let rest = before.remove(&ip).filter(|rest| rest.is_of(held));
            let rest = rest.unwrap_or_else(|| Rest {
                until: held.until,
                by: held.by.clone(),
                since: moment,
                left: held.until.map(|until| match is_known {
                    true => cooldown,
                    false => Duration::try_from(until.duration_since(now).saturating_add(APART)).unwrap_or_default(),
                }),
            });
            let left = rest.left.map(|left| left.min(cooldown));
            if left.is_some_and(|left| moment.saturating_duration_since(rest.since) >= left) {
                over.insert(ip);
            }
            seen.insert(ip, rest);
        }
        pools.insert(name, seen);
        over
    }

    /// Forgets a pool.
    pub(super) fn forget(&self, pool: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(pool);
    }
}

impl PoolStore {
    /// Sees notes about freed addresses come, for ever: how long these rest is counted from then on.
    pub async fn watch_rests(&self) {
        let look = |pool: &SpiderIPPool| {
            // A text that cannot be read keeps all addresses of its pool from everybody.
            if pool.reuse().is_set()
                && let Ok(held) = pool.held()
            {
                self.rests.over(pool, &held, clock::now());
            }
        };
        let mut changes = self.cache.subscribe();
        self.cache.list().iter().for_each(|pool| look(pool));
        while let Some(change) = changes.next().await {
            match change {
                Change::Applied { new, .. } => look(&new),
                Change::Malformed(_) => {}
                Change::Deleted(pool) => self.rests.forget(pool.metadata.name.as_deref().unwrap_or_default()),
                Change::Resynced => self.cache.list().iter().for_each(|pool| look(pool)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use spiderpool_crds::IPPoolSpec;

    fn pool(cooldown: i64) -> SpiderIPPool {
        let spec = IPPoolSpec {
            reuse_cooldown: Some(cooldown),
            ..IPPoolSpec::default()
        };
        SpiderIPPool::new("p", spec)
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn notes(notes: &[(u8, i64)]) -> HeldRecords {
        let mut held = HeldRecords::new();
        for (last, until) in notes {
            let note = format!(r#"{{"reason":"Cooling","until":"{}","by":"ns/p"}}"#, at(*until));
            held.insert([10, 0, 0, *last].into(), serde_json::from_str(&note).unwrap());
        }
        held
    }

    #[tokio::test(start_paused = true)]
    async fn a_note_that_came_is_counted_by_our_own_clock_whatever_it_says() {
        let (rests, hour) = (Rests::default(), 3600);
        let look = |held: &[(u8, i64)]| {
            let over = rests.over(&pool(600), &notes(held), at(0));
            over.into_iter().map(|ip| ip.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(look(&[]), Vec::<String>::new());
        // By clocks of others one is long over, the other has a long time to go.
        let held = [(1, -hour), (2, hour + 600)];
        assert_eq!(look(&held), Vec::<String>::new());
        tokio::time::advance(Duration::from_secs(599)).await;
        assert_eq!(look(&held), Vec::<String>::new());
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(look(&held), ["10.0.0.1", "10.0.0.2"]);
        // It was given out and freed again in between.
        assert_eq!(look(&[(1, 1200)]), Vec::<String>::new());
    }

    #[tokio::test(start_paused = true)]
    async fn of_a_note_from_before_what_it_says_counts_but_no_longer_than_the_pool_has_it() {
        let (rests, hour) = (Rests::default(), 3600);
        // Of the last one it is certain that it is over, of the others it is not.
        let held = notes(&[(1, 60 - 2 * hour), (2, 0), (3, hour), (4, -3 * hour)]);
        let look = |cooldown| {
            let over = rests.over(&pool(cooldown), &held, at(0));
            over.into_iter().map(|ip| ip.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(look(600), ["10.0.0.4"]);
        tokio::time::advance(Duration::from_secs(60)).await;
        assert_eq!(look(600), ["10.0.0.1", "10.0.0.4"]);
        tokio::time::advance(Duration::from_secs(540)).await;
        assert_eq!(look(600), ["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4"]);
        assert_eq!(look(0), Vec::<String>::new());
    }

    #[tokio::test(start_paused = true)]
    async fn a_shorter_time_holds_at_once() {
        let rests = Rests::default();
        let (none, held) = (notes(&[]), notes(&[(1, 0)]));
        assert!(rests.over(&pool(600), &none, at(0)).is_empty());
        assert!(rests.over(&pool(600), &held, at(0)).is_empty());
        tokio::time::advance(Duration::from_secs(60)).await;
        assert!(rests.over(&pool(600), &held, at(0)).is_empty());
        assert_eq!(rests.over(&pool(60), &held, at(0)).len(), 1);
    }
}
