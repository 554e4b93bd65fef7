//! A pool gives out addresses only when it was admitted: looked at beside all other pools, and if a user made it, entered in the
//! accounting of its subnet. The rule, and why no two pools are admitted with the same address, is that of
//! [`spiderpool_ipam::claims`]; here its writes are done.
//!
//! Automatic pools are made out of the accounting. What is one by its labels may be a copy that somebody made, so it is admitted
//! too; what it gets later out of the accounting is looked at by the subnet's pass. So that none is made of an address that a user's pool
//! was admitted with, a subnet's pass looks at the claims between its accounting and its pools ([`is_clear`]), and a pool is
//! admitted only after the accounting of its subnets was read live: one of the two sees the other.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use kube::Resource;
use spiderpool_crds::admission::usable_pool;
use spiderpool_crds::conditions::{self, INVALID, READY};
use spiderpool_crds::{SpiderIPPool, SpiderSubnet};
use spiderpool_ipam::autopool::Plan;
use spiderpool_ipam::claims::Rival;
use spiderpool_ipam::{Family, RangeSet, text};
use spiderpool_kit::store::revision;
use tokio::time::Instant;

use super::index;
use crate::context::Context;
use crate::events::{Reason, tell};
use crate::subnet::neighbours;
use crate::subnet::observe::Seen;
use crate::write;

/// Reason of the condition Ready of a pool with addresses of another.
pub const OVERLAP: &str = "Overlap";
/// Reason of the condition Ready of a pool that its subnet does not know yet.
const AWAITS_SUBNET: &str = "AwaitsSubnet";
/// How many rivals are named, and how many ranges of each.
const NAMED: usize = 10;
/// After this time a pool says that it waits for its subnet. Usually that takes some milliseconds.
const PATIENCE: Duration = Duration::from_secs(2);
/// Pause before a look at what the watch is about to tell.
const SOON: Duration = Duration::from_millis(50);

/// Whether a pool may give out addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It may.
    Admitted,
    /// It may not, for this reason of its condition and with this message.
    Refused(&'static str, String),
    /// That is not known yet; to be looked at again after a while, if nothing else happens.
    Waits(Duration),
}

/// Pools that wait for the accounting of a subnet.
#[derive(Debug, Default)]
pub struct Unaccounted {
    inner: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    by_subnet: BTreeMap<String, BTreeSet<String>>,
    since: HashMap<String, Instant>,
}

impl Unaccounted {
    /// Takes down that a pool waits for a subnet's accounting to change.
    fn add(&self, subnet: &str, pool: &str) {
        let mut waiting = self.lock();
        waiting
            .by_subnet
            .entry(subnet.to_owned())
            .or_default()
            .insert(pool.to_owned());
        waiting.since.entry(pool.to_owned()).or_insert_with(Instant::now);
    }

    /// How long a pool has waited.
    fn waited(&self, pool: &str) -> Duration {
        self.lock().since.get(pool).map(Instant::elapsed).unwrap_or_default()
    }

    /// Forgets a pool that waits no more, or is gone.
    pub fn forget(&self, pool: &str) {
        let mut waiting = self.lock();
        if waiting.since.remove(pool).is_some() {
            waiting.by_subnet.retain(|_, pools| {
                pools.remove(pool);
                !pools.is_empty()
            });
        }
    }

    /// The pools to be looked at now that the accounting of a subnet changed.
    pub fn take(&self, subnet: &str) -> BTreeSet<String> {
        self.lock().by_subnet.remove(subnet).unwrap_or_default()
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a pool may give out addresses. Those that have to stand back for it are told so before.
pub async fn admission(context: &Context, pool: &SpiderIPPool) -> Result<Admission, write::Error> {
    let (cidr, offered) = match usable_pool(pool, context.config.settings()) {
        Ok(usable) => usable,
        Err(why) => return Ok(Admission::Refused(INVALID, why)),
    };
    let family = cidr.family();
    let Some(contest) = context.board.contest(pool) else {
        // Agents write a busy pool all the time; what made this version brings us back.
        return Ok(match pool.is_ready() {
            true => Admission::Admitted,
            false => Admission::Waits(SOON),
        });
    };
    if let Some(why) = refusal(&contest.before, family) {
        return Ok(Admission::Refused(OVERLAP, why));
    }
    if pool.is_ready() {
        return Ok(Admission::Admitted);
    }
    for rival in &contest.after {
        if !stand_back(context, &rival.rank.name, pool, family).await? {
            return Ok(Admission::Waits(SOON));
        }
    }
    match pool.is_automatic() {
        true => Ok(Admission::Admitted),
        false => accounted(context, pool, family, &offered).await,
    }
}

/// What a pool is told that stands back for rivals; none without any.
fn refusal(before: &[Rival], family: Family) -> Option<String> {
    let named = before.iter().take(NAMED).map(|rival| {
        let name = &rival.rank.name;
        let common = Some(&rival.common).filter(|common| !common.is_empty());
        let common = common.map(|common| format!("{} in SpiderIPPool {name}", shown(family, common)));
        // Of what both offer it does not matter here whether a pod has it.
        let held = rival.held.difference(&rival.common);
        let held = Some(held).filter(|held| !held.is_empty());
        let held = held.map(|held| format!("{} in use by pods of SpiderIPPool {name}", shown(family, &held)));
        common.into_iter().chain(held).collect::<Vec<_>>().join(", ")
    });
    let named: Vec<String> = named.collect();
    let more = match before.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(", and others in {more} more"),
    };
    let remedy = match before.iter().all(|rival| rival.common.is_empty()) {
        true => "take them out of this pool, or wait until those pods are gone",
        false => "take them out of one of the pools",
    };
    (!named.is_empty()).then(|| {
        format!(
            "no address of this pool is given out, as some are in other pools too, which come first: {}{more}; {remedy}",
            named.join(", ")
        )
    })
}

fn shown(family: Family, ranges: &RangeSet) -> String {
    let mut texts = text::print_ranges(family, ranges);
    if texts.len() > NAMED {
        let more = texts.len() - NAMED;
        texts.truncate(NAMED);
        texts.push(format!("{more} more ranges"));
    }
    texts.join(", ")
}

/// Makes sure that a rival which stands back for a pool knows that it must not give out addresses, and because of whom, and
/// that nobody admits it who looked at it before. False if what is known of it is old.
async fn stand_back(context: &Context, name: &str, first: &SpiderIPPool, family: Family) -> Result<bool, write::Error> {
    let Some(rival) = context.caches.pools.get("", name) else {
        return Ok(false);
    };
    let Some(contest) = context.board.contest(&rival) else {
        return Ok(false);
    };
    let is_first = |other: &Rival| Some(&*other.rank.name) == first.metadata.name.as_deref();
    // At this very version, none of its pods has an address that the pool is admitted with.
    if !contest.before.iter().any(is_first) || contest.after.iter().any(is_first) {
        return Ok(false);
    }
    let Some(why) = refusal(&contest.before, family) else {
        return Ok(false);
    };
    let Some((told, news)) = told(&rival, first, &why, Timestamp::now()) else {
        return Ok(true);
    };
    context.pools.replace_status(&told).await?;
    if news {
        tell(&context.recorder, rival.object_ref(&()), Reason::Overlap, &why);
    }
    Ok(true)
}

/// A rival as it is to be written so that it stands back for a pool, and whether that is news to it. None if it was told
/// after the pool became what it is: whoever looked at the rival since has seen the pool too.
fn told(rival: &SpiderIPPool, first: &SpiderIPPool, why: &str, now: Timestamp) -> Option<(SpiderIPPool, bool)> {
    let mut told = rival.clone();
    let status = told.status.get_or_insert_default();
    let generation = rival.metadata.generation;
    let news = conditions::set(&mut status.conditions, READY, false, OVERLAP, why, generation, now);
    if !news && revision(&rival.metadata) > revision(&first.metadata) {
        return None;
    }
    // What changes nothing would not get a new version.
    status.fence = Some(now.to_string());
    Some((told, news))
}

/// Whether the accounting of the subnets around a pool has its addresses for it, and none of them for an automatic pool, be it
/// made already or not. Read live: a replica that led before may have written more than was watched yet. What was watched
/// suffices for a no, as every change of it brings the pool back.
async fn accounted(
    context: &Context,
    pool: &SpiderIPPool,
    family: Family,
    offered: &RangeSet,
) -> Result<Admission, write::Error> {
    let name = pool.metadata.name.as_deref().unwrap_or_default();
    for subnet in index::subnets_around(&context.caches.subnets, &pool.spec.subnet) {
        // Before the look: what changes after it must be heard of.
        context.unaccounted.add(&subnet, name);
        let watched = context.caches.subnets.get("", &subnet);
        if let Some(no) = watched.and_then(|watched| against(context, pool, family, offered, &watched)) {
            return Ok(no);
        }
        let live = context.subnets.read(&subnet).await?;
        if let Some(no) = live.and_then(|live| against(context, pool, family, offered, &live)) {
            return Ok(no);
        }
    }
    context.unaccounted.forget(name);
    Ok(Admission::Admitted)
}

/// What the accounting of a subnet has against a pool.
fn against(
    context: &Context,
    pool: &SpiderIPPool,
    family: Family,
    offered: &RangeSet,
    subnet: &SpiderSubnet,
) -> Option<Admission> {
    let name = pool.metadata.name.as_deref().unwrap_or_default();
    let subnet_name = subnet.metadata.name.as_deref().unwrap_or_default();
    let Ok(entries) = subnet.controlled().and_then(|pools| pools.entries(family)) else {
        return Some(awaits(context, name, subnet_name));
    };
    let mut automatic = entries.iter().filter(|(_, entry)| entry.application.is_some());
    if let Some((other, entry)) = automatic.find(|(other, entry)| *other != name && entry.ranges.intersects(offered)) {
        let common = shown(family, &entry.ranges.intersection(offered));
        let why = format!(
            "no address of this pool is given out, as SpiderSubnet {subnet_name} has given some to SpiderIPPool {other}, which \
             comes first: {common}; take them out of this pool"
        );
        return Some(Admission::Refused(OVERLAP, why));
    }
    if subnet.spec.subnet != pool.spec.subnet {
        return None;
    }
    let due = offered.intersection(&subnet.total().unwrap_or_default());
    let has_all = entries.get(name).is_some_and(|entry| due.is_subset_of(&entry.ranges));
    (!due.is_empty() && !has_all).then(|| awaits(context, name, subnet_name))
}

fn awaits(context: &Context, pool: &str, subnet: &str) -> Admission {
    let left = PATIENCE.saturating_sub(context.unaccounted.waited(pool));
    if !left.is_zero() {
        return Admission::Waits(left);
    }
    let why = format!(
        "no address of this pool is given out before they are in the accounting of SpiderSubnet {subnet}; `kubectl describe \
         spidersubnet {subnet}` tells what it waits for"
    );
    Admission::Refused(AWAITS_SUBNET, why)
}

/// Whether no other pool has an address that the plan of a subnet is about to give an automatic pool. To be asked when the
/// accounting is written: a user's pool that came since the subnet was looked at may have been admitted without it.
pub fn is_clear(context: &Context, seen: &Seen, plan: &Plan) -> bool {
    let family = seen.cidr.family();
    let mut given = neighbours::given(seen, plan).into_iter();
    given.all(|(name, ranges)| context.board.holder(family, &ranges, name).is_none())
}

#[cfg(test)]
mod tests {
    use super::*;
    use spiderpool_ipam::claims::{Rank, Standing};

    fn rival(name: &str, ranges: &[&str]) -> Rival {
        Rival {
            rank: Rank {
                standing: Standing::Admitted,
                made: 0,
                name: name.into(),
            },
            common: text::parse_ranges(Family::V4, ranges).unwrap(),
            held: RangeSet::new(),
        }
    }

    fn pool(name: &str, version: u32) -> SpiderIPPool {
        serde_json::from_value(serde_json::json!({
            "apiVersion": "spiderpool.spidernet.io/v2beta1", "kind": "SpiderIPPool",
            "metadata": {"name": name, "uid": name, "resourceVersion": version.to_string(), "generation": 1},
            "spec": {"subnet": "10.0.0.0/24", "ips": ["10.0.0.1"]},
        }))
        .unwrap()
    }

    #[test]
    fn who_was_told_before_the_other_became_what_it_is_is_changed_again() {
        let (first, at) = (pool("a", 5), |second| Timestamp::from_second(second).unwrap());
        let (mut rival, news) = told(&pool("b", 7), &first, "why", at(1)).unwrap();
        assert!(news && rival.refusal() == Some("why"));
        rival.metadata.resource_version = Some("8".to_owned());
        assert_eq!(told(&rival, &first, "why", at(2)), None);
        // The same words because of the pool as it was made anew, or edited there and back.
        let (again, news) = told(&rival, &pool("a", 9), "why", at(2)).unwrap();
        assert!(!news && again != rival && again.refusal() == Some("why"));
        assert!(told(&rival, &first, "another why", at(2)).unwrap().1);
    }

    #[tokio::test]
    async fn a_copy_of_an_automatic_pool_serves_only_when_the_first_one_is_gone() {
        let context = Context::detached();
        let automatic = |name: &str, version| {
            let mut pool = pool(name, version);
            let label = ("ipam.spidernet.io/owner-application-name".to_owned(), "shop".to_owned());
            pool.metadata.labels = Some([label].into());
            pool
        };
        // Made by the operator, which has not said yet that it serves.
        let first = automatic("b", 5);
        context.board.put(&first);
        assert_eq!(admission(&context, &first).await.unwrap(), Admission::Admitted);
        assert!(!first.is_ready());
        let (serves, _) = told(&first, &first, "", Timestamp::UNIX_EPOCH).unwrap();
        let mut serves = serves;
        let conditions = &mut serves.status.get_or_insert_default().conditions;
        conditions::set(conditions, READY, true, "Accepted", "", Some(1), Timestamp::UNIX_EPOCH);
        serves.metadata.resource_version = Some("6".to_owned());
        context.board.put(&serves);
        let copy = automatic("a", 7);
        context.board.put(&copy);
        assert!(matches!(
            admission(&context, &copy).await.unwrap(),
            Admission::Refused(OVERLAP, why) if why.contains("10.0.0.1 in SpiderIPPool b;")
        ));
        assert_eq!(admission(&context, &serves).await.unwrap(), Admission::Admitted);
        context.board.remove(&serves);
        assert_eq!(admission(&context, &copy).await.unwrap(), Admission::Admitted);
    }

    #[tokio::test]
    async fn what_the_watch_told_of_an_accounting_suffices_for_a_no() {
        // There is no API server to read from.
        let context = Context::detached();
        let subnet = serde_json::json!({
            "apiVersion": "spiderpool.spidernet.io/v2beta1", "kind": "SpiderSubnet",
            "metadata": {"name": "rack7", "uid": "s", "resourceVersion": "1"},
            "spec": {"subnet": "10.0.0.0/24", "ips": ["10.0.0.1-10.0.0.9"]},
        });
        context.caches.subnets.learn(serde_json::from_value(subnet).unwrap());
        let waits = pool("a", 5);
        context.board.put(&waits);
        assert!(matches!(
            admission(&context, &waits).await.unwrap(),
            Admission::Waits(_)
        ));
    }

    #[test]
    fn what_only_pods_of_another_pool_have_is_said_to_come_free() {
        let nine = text::parse_ranges(Family::V4, &["10.0.0.9"]).unwrap();
        let mut one = rival("a", &[]);
        one.held.clone_from(&nine);
        let expected = "no address of this pool is given out, as some are in other pools too, which come first: 10.0.0.9 in \
                        use by pods of SpiderIPPool a; take them out of this pool, or wait until those pods are gone";
        assert_eq!(
            refusal(std::slice::from_ref(&one), Family::V4).as_deref(),
            Some(expected)
        );
        one.common = text::parse_ranges(Family::V4, &["10.0.0.8-10.0.0.9"]).unwrap();
        let text = refusal(&[one], Family::V4).unwrap();
        assert!(
            text.ends_with("first: 10.0.0.8-10.0.0.9 in SpiderIPPool a; take them out of one of the pools"),
            "{text}"
        );
    }

    #[test]
    fn who_stands_back_is_told_for_whom_and_because_of_which_addresses() {
        let two = [
            rival("a", &["10.0.0.1-10.0.0.3", "10.0.0.7"]),
            rival("b", &["10.0.0.9"]),
        ];
        let expected = "no address of this pool is given out, as some are in other pools too, which come first: \
                        10.0.0.1-10.0.0.3, 10.0.0.7 in SpiderIPPool a, 10.0.0.9 in SpiderIPPool b; take them out of one of \
                        the pools";
        assert_eq!(refusal(&two, Family::V4).as_deref(), Some(expected));
        assert_eq!(refusal(&[], Family::V4), None);
        let odd: Vec<String> = (0..13).map(|n| format!("10.0.0.{}", 2 * n)).collect();
        let odd: Vec<&str> = odd.iter().map(String::as_str).collect();
        let many: Vec<Rival> = (0..12).map(|n| rival(&format!("p{n}"), &odd)).collect();
        let text = refusal(&many, Family::V4).unwrap();
        assert!(
            text.contains("10.0.0.18, 3 more ranges in SpiderIPPool p9, and others in 2 more; "),
            "{text}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_a_subnet_is_woken_by_it_and_says_so_only_after_a_while() {
        let context = Context::detached();
        context.unaccounted.add("rack7", "p");
        assert_eq!(awaits(&context, "p", "rack7"), Admission::Waits(PATIENCE));
        assert_eq!(context.unaccounted.take("rack7").into_iter().collect::<Vec<_>>(), ["p"]);
        assert!(context.unaccounted.take("rack7").is_empty());
        tokio::time::advance(PATIENCE).await;
        context.unaccounted.add("rack7", "p");
        assert!(matches!(
            awaits(&context, "p", "rack7"),
            Admission::Refused(AWAITS_SUBNET, _)
        ));
        context.unaccounted.forget("p");
        assert_eq!(awaits(&context, "p", "rack7"), Admission::Waits(PATIENCE));
        assert!(context.unaccounted.take("rack7").is_empty());
    }
}
