//! The claims of all pools as the watch told them, in its order.
//!
//! Whoever admits a pool has to have observed everything that happened before the version of the pool it writes. So a look
//! is only given at a pool whose very version was taken in here: the watch has then told all that came before.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use spiderpool_crds::SpiderIPPool;
use spiderpool_ipam::claims::{Claim, Claims, Contest, Standing};
use spiderpool_ipam::{Family, RangeSet};
use spiderpool_kit::store::revision;

/// The claims of all pools.
#[derive(Debug, Default)]
pub struct Board {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    claims: Claims,
    seen: HashMap<String, Seen>,
    /// Addresses of pods that their pool does not offer any more, by pool.
    beyond: HashMap<String, (Family, RangeSet)>,
}

/// The version of a pool that was taken in.
#[derive(Clone, Debug)]
struct Seen {
    uid: Option<String>,
    version: u64,
    generation: Option<i64>,
}

impl Board {
    /// Takes in a pool. Says which others have to be looked at because of that.
    pub fn put(&self, pool: &SpiderIPPool) -> BTreeSet<Arc<str>> {
        let (name, version) = (name(pool), revision(&pool.metadata));
        let mut inner = self.lock();
        let known = inner.seen.get(name).filter(|known| known.uid == pool.metadata.uid);
        if known.is_some_and(|known| known.version > version) {
            // A list told more than what still comes from the watch.
            return BTreeSet::new();
        }
        let (claim, beyond) = match inner.claim(pool, known) {
            Some((claim, beyond)) => (Some(claim), beyond),
            None => (None, RangeSet::new()),
        };
        let seen = Seen {
            uid: pool.metadata.uid.clone(),
            version,
            generation: pool.metadata.generation,
        };
        inner.seen.insert(name.to_owned(), seen);
        inner.beyond.remove(name);
        if let Some(claim) = claim.as_ref().filter(|_| !beyond.is_empty()) {
            inner.beyond.insert(name.to_owned(), (claim.family, beyond));
        }
        match claim {
            Some(claim) => inner.claims.put(name, claim),
            None => inner.claims.remove(name),
        }
    }

    /// Takes in that a pool is gone. Says which others have to be looked at because of that.
    pub fn remove(&self, pool: &SpiderIPPool) -> BTreeSet<Arc<str>> {
        let (name, mut inner) = (name(pool), self.lock());
        let is_known = inner.seen.get(name).is_some_and(|known| known.uid == pool.metadata.uid);
        if !is_known {
            return BTreeSet::new();
        }
        inner.forget(name)
    }

    /// Takes in all pools. Those that exist but cannot be read keep what they had.
    pub fn fill(&self, pools: &[Arc<SpiderIPPool>], unreadable: &HashSet<String>) {
        for pool in pools {
            self.put(pool);
        }
        let listed: HashSet<&str> = pools.iter().map(|pool| name(pool)).collect();
        let mut inner = self.lock();
        let gone = |name: &&String| !listed.contains(name.as_str()) && !unreadable.contains(*name);
        let gone: Vec<String> = inner.seen.keys().filter(gone).cloned().collect();
        for name in gone {
            inner.forget(&name);
        }
    }

    /// How a pool stands to its rivals; none if this version of it was not taken in yet.
    pub fn contest(&self, pool: &SpiderIPPool) -> Option<Contest> {
        let (name, inner) = (name(pool), self.lock());
        let seen = inner.seen.get(name)?;
        let same = seen.uid == pool.metadata.uid && seen.version == revision(&pool.metadata);
        same.then(|| inner.claims.contest(name)).flatten()
    }

    /// The name of a pool other than `own` that has one of these addresses.
    pub fn holder(&self, family: Family, ranges: &RangeSet, own: &str) -> Option<Arc<str>> {
        let within = self.lock().claims.within(family, ranges);
        within.into_keys().find(|name| &**name != own)
    }

    /// Addresses that pods have and that their pools do not offer any more.
    pub fn beyond(&self, family: Family) -> RangeSet {
        let inner = self.lock();
        let of = inner.beyond.values().filter(|(of, _)| *of == family);
        of.flat_map(|(_, ranges)| ranges.ranges().to_vec()).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// What a pool lays claim to, and which addresses of its pods it does not offer; none if its network does not parse and
    /// never did.
    fn claim(&self, pool: &SpiderIPPool, seen: Option<&Seen>) -> Option<(Claim, RangeSet)> {
        let known = seen.and_then(|_| self.claims.get(name(pool)));
        let standing = standing(pool);
        // Reading records costs time in their number. Pods get no address that their pool does not offer, so as long as that
        // stays the same, a pool that gives out addresses has none beyond it.
        let same = seen.is_some_and(|seen| seen.generation == pool.metadata.generation);
        let same = |known: &&Claim| same && known.standing.serves() && standing.serves() && known.held.is_empty();
        if let Some(known) = known.filter(same) {
            let claim = Claim {
                standing,
                made: made(pool),
                ..known.clone()
            };
            return Some((claim, RangeSet::new()));
        }
        let family = pool.family().ok().or_else(|| known.map(|known| known.family))?;
        let offered = pool.total().unwrap_or_default();
        let used: RangeSet = match pool.owners(family) {
            Ok(owners) => owners.into_iter().map(|(bits, _)| bits).collect(),
            // Pods may have whatever it was seen to offer.
            Err(_) => known.map_or_else(
                || offered.clone(),
                |known| known.offered.union(&known.held).union(&offered),
            ),
        };
        let beyond = used.difference(&offered);
        let claim = Claim {
            family,
            held: if standing.serves() { beyond.clone() } else { used },
            offered,
            standing,
            made: made(pool),
        };
        Some((claim, beyond))
    }

    fn forget(&mut self, name: &str) -> BTreeSet<Arc<str>> {
        self.seen.remove(name);
        self.beyond.remove(name);
        self.claims.remove(name)
    }
}

fn name(pool: &SpiderIPPool) -> &str {
    pool.metadata.name.as_deref().unwrap_or_default()
}

fn standing(pool: &SpiderIPPool) -> Standing {
    let records = pool.status.as_ref().and_then(|status| status.allocated_ips.as_deref());
    if pool.is_terminating() {
        Standing::Going
    } else if pool.is_automatic() {
        match pool.is_ready() {
            true => Standing::Automatic,
            false => Standing::Accounted,
        }
    } else if pool.is_ready() {
        Standing::Admitted
    } else if records.is_some_and(|text| !matches!(text.trim(), "" | "{}" | "null")) {
        Standing::InUse
    } else {
        Standing::New
    }
}

fn made(pool: &SpiderIPPool) -> i64 {
    let at = pool.metadata.creation_timestamp.as_ref();
    at.map_or(i64::MAX, |at| at.0.as_second())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};
    use spiderpool_ipam::text;

    fn pool(name: &str, version: u32, generation: i64, ips: &str, status: &Value) -> SpiderIPPool {
        serde_json::from_value(json!({
            "apiVersion": "spiderpool.spidernet.io/v2beta1", "kind": "SpiderIPPool",
            "metadata": {"name": name, "uid": name, "resourceVersion": version.to_string(), "generation": generation},
            "spec": {"subnet": "10.0.0.0/24", "ips": [ips]}, "status": status,
        }))
        .unwrap()
    }

    fn ready(generation: i64) -> Value {
        json!({"conditions": [{"type": "Ready", "status": "True", "reason": "Accepted", "message": "",
            "observedGeneration": generation, "lastTransitionTime": "2026-01-01T00:00:00Z"}]})
    }

    const POD: &str = r#"{"10.0.0.9":{"pod":"ns/p","podUid":"u"}}"#;

    #[test]
    fn only_the_version_that_was_taken_in_is_judged() {
        let board = Board::default();
        let a = pool("a", 5, 1, "10.0.0.1", &Value::Null);
        assert_eq!(board.contest(&a), None);
        board.put(&a);
        assert_eq!(board.contest(&a), Some(Contest::default()));
        assert_eq!(board.contest(&pool("a", 6, 1, "10.0.0.1", &Value::Null)), None);
        assert!(board.put(&pool("a", 4, 1, "10.0.0.7", &Value::Null)).is_empty());
        assert!(board.contest(&a).is_some(), "what is older than the known is no news");
    }

    #[test]
    fn who_was_admitted_comes_first_and_the_others_are_told_when_it_goes() {
        let board = Board::default();
        let (a, b) = (
            pool("a", 1, 1, "10.0.0.1-10.0.0.5", &Value::Null),
            pool("b", 2, 1, "10.0.0.4-10.0.0.9", &ready(1)),
        );
        board.put(&a);
        assert_eq!(board.put(&b).into_iter().collect::<Vec<_>>(), ["a".into()]);
        let contest = board.contest(&a).unwrap();
        assert_eq!((contest.before.len(), contest.after.len()), (1, 0));
        assert_eq!(
            contest.before[0].common,
            text::parse_ranges(Family::V4, &["10.0.0.4-10.0.0.5"]).unwrap()
        );
        assert_eq!(
            board.holder(Family::V4, &contest.before[0].common, "a"),
            Some("b".into())
        );
        let edited = pool("b", 3, 2, "10.0.0.4-10.0.0.9", &ready(1));
        board.put(&edited);
        assert_eq!(
            board.contest(&a).unwrap().after.len(),
            1,
            "by name, once its admission is out of date"
        );
        assert_eq!(board.remove(&edited).len(), 1);
        assert_eq!(board.contest(&a), Some(Contest::default()));
    }

    #[test]
    fn a_pod_keeps_the_address_that_its_pool_does_not_offer_any_more() {
        let board = Board::default();
        let mut status = ready(1);
        status["allocatedIPs"] = json!(POD);
        board.put(&pool("a", 1, 1, "10.0.0.1-10.0.0.9", &status));
        assert!(board.beyond(Family::V4).is_empty());
        board.put(&pool("a", 2, 2, "10.0.0.1-10.0.0.5", &status));
        let nine = text::parse_ranges(Family::V4, &["10.0.0.9"]).unwrap();
        assert_eq!(board.beyond(Family::V4), nine);
        assert_eq!(board.holder(Family::V4, &nine, "b"), Some("a".into()));
        let mut b = pool("b", 3, 1, "10.0.0.9", &Value::Null);
        board.put(&b);
        assert_eq!(board.contest(&b).unwrap().before.len(), 1);
        let concerned = board.put(&pool("a", 4, 2, "10.0.0.1-10.0.0.5", &ready(2)));
        assert_eq!(concerned.into_iter().collect::<Vec<_>>(), ["b".into()]);
        assert!(board.contest(&b).unwrap().before.is_empty() && board.beyond(Family::V4).is_empty());
        b.spec.subnet = "oops".to_owned();
        b.metadata.resource_version = Some("5".to_owned());
        board.put(&b);
        assert_eq!(board.holder(Family::V4, &nine, "a"), None);
    }

    #[test]
    fn an_edited_pool_keeps_what_its_pods_have_and_others_are_told_when_they_go() {
        let board = Board::default();
        let old = pool("a", 1, 1, "10.0.0.1-10.0.0.9", &Value::Null);
        board.put(&old);
        let mut status = ready(1);
        status["allocatedIPs"] = json!(POD);
        let mut new = pool("b", 2, 1, "10.0.0.8-10.0.0.9", &status);
        board.put(&new);
        // It comes later by its name, but its pod has an address that both offer.
        new.metadata.generation = Some(2);
        new.metadata.resource_version = Some("3".to_owned());
        board.put(&new);
        let contest = board.contest(&old).unwrap();
        assert_eq!((contest.before.len(), contest.after.len()), (1, 0));
        assert_eq!(
            contest.before[0].held,
            text::parse_ranges(Family::V4, &["10.0.0.9"]).unwrap()
        );
        assert!(board.contest(&new).unwrap().before.is_empty());
        // The same without the pod is a change that the other has to hear of.
        let gone = pool("b", 4, 2, "10.0.0.8-10.0.0.9", &ready(1));
        assert_eq!(board.put(&gone).into_iter().collect::<Vec<_>>(), ["a".into()]);
        assert!(board.contest(&old).unwrap().before.is_empty());
        assert_eq!(board.contest(&gone).unwrap().before.len(), 1);
    }

    #[test]
    fn with_records_that_cannot_be_read_pods_may_have_all_that_was_ever_offered() {
        let board = Board::default();
        board.put(&pool("a", 1, 1, "10.0.0.1-10.0.0.5", &ready(1)));
        let mut status = ready(1);
        status["allocatedIPs"] = json!("{oops");
        board.put(&pool("a", 2, 2, "10.0.0.4-10.0.0.9", &status));
        board.put(&pool("a", 3, 3, "10.0.0.20", &status));
        let older = pool("0", 4, 1, "10.0.0.1", &Value::Null);
        board.put(&older);
        assert_eq!(board.contest(&older).unwrap().before.len(), 1);
        let all = text::parse_ranges(Family::V4, &["10.0.0.1-10.0.0.9"]).unwrap();
        assert_eq!(board.beyond(Family::V4), all);
        board.put(&pool("a", 5, 3, "10.0.0.20", &ready(1)));
        assert!(board.contest(&older).unwrap().before.is_empty() && board.beyond(Family::V4).is_empty());
    }

    #[test]
    fn a_pool_whose_network_does_not_parse_any_more_keeps_what_its_pods_have() {
        let board = Board::default();
        let mut status = ready(1);
        status["allocatedIPs"] = json!(POD);
        board.put(&pool("a", 1, 1, "10.0.0.1-10.0.0.9", &status));
        let mut broken = pool("a", 2, 2, "10.0.0.1-10.0.0.9", &status);
        broken.spec.subnet = "oops".to_owned();
        board.put(&broken);
        let nine = text::parse_ranges(Family::V4, &["10.0.0.9"]).unwrap();
        assert_eq!(board.beyond(Family::V4), nine);
        assert_eq!(board.holder(Family::V4, &nine, "b"), Some("a".into()));
    }

    #[test]
    fn a_list_takes_the_place_of_everything_but_what_cannot_be_read() {
        let board = Board::default();
        for name in ["a", "b", "c"] {
            board.put(&pool(name, 1, 1, "10.0.0.1", &Value::Null));
        }
        let a = Arc::new(pool("a", 2, 1, "10.0.0.1", &Value::Null));
        board.fill(std::slice::from_ref(&a), &HashSet::from(["b".to_owned()]));
        let contest = board.contest(&a).unwrap();
        let names: Vec<_> = contest.after.iter().map(|rival| &*rival.rank.name).collect();
        assert_eq!(names, ["b"]);
    }
}
