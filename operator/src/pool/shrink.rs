//! Pools that are to have fewer addresses than pods use.
//!
//! How many is known by the pass over the subnet; who has them is known by the pool. Here the one tells the other.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use spiderpool_crds::conditions::{self, SHRINKING, find};
use spiderpool_crds::{IPPoolStatus, SpiderIPPool};
use spiderpool_ipam::{Family, addr};

use super::used::held;

/// How many holders of addresses are named.
const NAMED: usize = 5;

/// What a pool has still to give up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shrink {
    /// Addresses above the wanted number that are in use.
    pub pending: u128,
    /// Whether nobody asks for the pool any more.
    pub drains: bool,
}

impl Shrink {
    /// Whether there is something.
    pub const fn is_open(self) -> bool {
        self.pending > 0 || self.drains
    }
}

/// What every pool has still to give up, as the last pass over its subnet found it.
#[derive(Debug, Default)]
pub struct Marks {
    by_pool: Mutex<HashMap<String, Mark>>,
}

#[derive(Debug, Default)]
struct Mark {
    shrink: Shrink,
    /// How many addresses the pool had when that began. Known until the pass after the one that found it at its end.
    from: Option<u128>,
}

impl Marks {
    /// Takes down what a pool has to give up. Says whether the pool's condition has to be looked at because of that.
    pub fn set(&self, name: &str, shrink: Shrink, pool: &SpiderIPPool) -> bool {
        let mut marks = self.lock();
        let size = || pool.total().ok().map(|total| total.count());
        if let Some(mark) = marks.get_mut(name) {
            let before = std::mem::replace(&mut mark.shrink, shrink);
            if !before.is_open() {
                mark.from = size().filter(|_| shrink.is_open());
            }
            return before != shrink;
        }
        let from = size().filter(|_| shrink.is_open());
        marks.insert(name.to_owned(), Mark { shrink, from });
        let conditions = pool.status.as_ref().and_then(|status| status.conditions.as_deref());
        shrink.is_open() || find(conditions, SHRINKING).is_some_and(|known| known.status == "True")
    }

    /// What a pool has to give up; none if no pass has looked at it, so that nothing is known.
    pub fn get(&self, name: &str) -> Option<Shrink> {
        self.lock().get(name).map(|mark| mark.shrink)
    }

    /// How many addresses a pool had when it began to give up what it still has to, or has given up since.
    pub fn from(&self, name: &str) -> Option<u128> {
        self.lock().get(name)?.from
    }

    /// Whether a pool has something to give up.
    pub fn has(&self, name: &str) -> bool {
        self.get(name).is_some_and(Shrink::is_open)
    }

    /// Forgets a pool that is gone.
    pub fn forget(&self, name: &str) {
        self.lock().remove(name);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Mark>> {
        self.by_pool.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sets the condition Shrinking. Where nothing is known it stays as it is: a new leader must not say that all is done.
pub fn tell(pool: &SpiderIPPool, family: Family, shrink: Option<Shrink>, status: &mut IPPoolStatus, now: Timestamp) {
    let Some(shrink) = shrink else { return };
    let generation = pool.metadata.generation;
    let holders = || {
        holders(pool, family)
            .map(|holders| format!("; in use: {holders}"))
            .unwrap_or_default()
    };
    let (on, reason, message) = if shrink.drains {
        let message = "nobody asks for this pool any more; it goes when none of its addresses is in use";
        (true, "Draining", message.to_owned() + &holders())
    } else if shrink.pending > 0 {
        let message = format!("addresses to give up when pods go: {}", shrink.pending);
        (true, "AddressesInUse", message + &holders())
    } else if find(status.conditions.as_deref(), SHRINKING).is_some() {
        (false, "Settled", "no address waits to be given up".to_owned())
    } else {
        return;
    };
    conditions::set(&mut status.conditions, SHRINKING, on, reason, &message, generation, now);
}

/// Who has which addresses, the highest first, since those go first. None if nobody has any.
fn holders(pool: &SpiderIPPool, family: Family) -> Option<String> {
    let owners = pool.owners(family).ok()?.into_iter();
    let mut used: Vec<(u128, String)> = owners.map(|(bits, owner)| (bits, owner.pod)).collect();
    let held = held(pool).unwrap_or_default().into_iter();
    used.extend(held.map(|address| (addr::to_bits(address).1, "nobody yet".to_owned())));
    used.sort_unstable_by(|a, b| b.cmp(a));
    let mut named: Vec<String> = used
        .iter()
        .take(NAMED)
        .map(|(bits, pod)| format!("{} by {pod}", addr::from_bits(family, *bits)))
        .collect();
    if used.len() > NAMED {
        named.push(format!("and {} more", used.len() - NAMED));
    }
    (!named.is_empty()).then(|| named.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Map, json};
    use spiderpool_crds::IPPoolSpec;

    fn pool(pods: u8) -> SpiderIPPool {
        let spec = IPPoolSpec {
            subnet: "10.0.0.0/24".to_owned(),
            ips: Some(vec!["10.0.0.1-10.0.0.20".to_owned()]),
            ..IPPoolSpec::default()
        };
        let records: Map<_, _> = (1..=pods)
            .map(|n| {
                (
                    format!("10.0.0.{n}"),
                    json!({"pod": format!("ns/web-{n}"), "podUid": "u"}),
                )
            })
            .collect();
        let mut pool = SpiderIPPool::new("p", spec);
        pool.status = Some(IPPoolStatus {
            allocated_ips: Some(serde_json::to_string(&records).unwrap()),
            ..IPPoolStatus::default()
        });
        pool
    }

    fn told(pool: &SpiderIPPool, shrink: Option<Shrink>) -> Option<(String, String)> {
        let mut status = pool.status.clone()?;
        tell(pool, Family::V4, shrink, &mut status, Timestamp::UNIX_EPOCH);
        let known = find(status.conditions.as_deref(), SHRINKING)?;
        Some((known.status.clone(), known.message.clone()))
    }

    const SEVEN: Shrink = Shrink {
        pending: 7,
        drains: false,
    };
    const DRAINS: Shrink = Shrink {
        pending: 2,
        drains: true,
    };

    #[test]
    fn the_holders_of_the_highest_addresses_are_named() {
        let (status, message) = told(&pool(12), Some(SEVEN)).unwrap();
        assert_eq!(status, "True");
        let expected = "addresses to give up when pods go: 7; in use: 10.0.0.12 by ns/web-12, 10.0.0.11 by ns/web-11, \
                        10.0.0.10 by ns/web-10, 10.0.0.9 by ns/web-9, 10.0.0.8 by ns/web-8, and 7 more";
        assert_eq!(message, expected);
    }

    #[test]
    fn a_drain_says_what_it_waits_for() {
        let mut two = pool(1);
        two.status.as_mut().unwrap().held_ips = Some(r#"{"10.0.0.2":{}}"#.to_owned());
        let (_, message) = told(&two, Some(DRAINS)).unwrap();
        let end = "none of its addresses is in use; in use: 10.0.0.2 by nobody yet, 10.0.0.1 by ns/web-1";
        assert!(message.ends_with(end), "{message}");
    }

    #[test]
    fn it_is_absent_until_it_was_so_once_and_stays_where_nothing_is_known() {
        let mut pool = pool(1);
        assert_eq!(told(&pool, Some(Shrink::default())), None);
        let mut status = pool.status.clone().unwrap();
        tell(&pool, Family::V4, Some(SEVEN), &mut status, Timestamp::UNIX_EPOCH);
        pool.status = Some(status);
        assert_eq!(told(&pool, None).unwrap().0, "True");
        assert_eq!(told(&pool, Some(Shrink::default())).unwrap().0, "False");
    }

    #[test]
    fn a_mark_wakes_the_pool_when_its_condition_is_to_change() {
        let marks = Marks::default();
        assert!(!marks.set("p", Shrink::default(), &pool(1)));
        assert!(marks.set("p", SEVEN, &pool(1)));
        assert!(marks.has("p") && !marks.set("p", SEVEN, &pool(1)));
        assert!(marks.set("p", Shrink::default(), &pool(1)) && !marks.has("p"));
        assert_eq!(marks.from("p"), Some(20));
        assert!(!marks.set("p", Shrink::default(), &pool(1)));
        assert_eq!(marks.from("p"), None);
        marks.forget("p");
        assert_eq!(marks.get("p"), None);
        let mut says_so = pool(1);
        let mut status = says_so.status.clone().unwrap();
        tell(&says_so, Family::V4, Some(SEVEN), &mut status, Timestamp::UNIX_EPOCH);
        says_so.status = Some(status);
        assert!(marks.set("p", Shrink::default(), &says_so));
    }
}
