//! The pause of a pool after the storage of the API server went back to an older state, as when etcd was restored from a backup.
//!
//! What pods were given since then is on record nowhere but at their nodes. So whoever finds out, an agent or the controller, writes
//! `status.restoring` into each pool, and nothing is given out of it any more. Each agent puts on record again what sandboxes of its node
//! use and adds its node. Here it is decided when that is enough, and told.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use spiderpool_crds::conditions::{self, RESTORING};
use spiderpool_crds::{IPPoolStatus, Restoring, SpiderIPPool};
use spiderpool_ipam::reclaim::Node;
use spiderpool_kit::cache::Cache;
use tokio::time::Instant;

use crate::context::Context;
use crate::events::{Reason, tell};
use crate::pool::index::PAUSED;
use crate::write;

/// How long a pause lasts at most. An agent that has not said anything by then is taken for one that does not run.
const LONGEST: Duration = Duration::from_secs(50);
/// How long a pause lasts at least: agents find out at the next try of a broken watch, which is after three seconds at most, and four
/// later the API server has failed to disprove it. A pause that has ended by then would be begun anew.
const SHORTEST: Duration = Duration::from_secs(10);
/// Pause between two looks at one that lasts.
const LOOK: Duration = Duration::from_secs(1);
/// Nodes that are named.
const NAMED: usize = 5;

/// Since when this process knows of the pauses. Their own time is that of another machine's clock.
#[derive(Debug, Default)]
pub struct Pauses {
    pools: Mutex<HashMap<String, (String, Instant)>>,
    /// When this process noticed that the storage went back.
    noticed: Mutex<Option<Instant>>,
}

impl Pauses {
    /// How long no pool is to be made, grown or shrunk yet. A pool that was made after the snapshot is gone, with its pods, but what these
    /// have runs on until their kubelets have ended it, and nobody knows of the addresses.
    pub fn left(&self, pools: &Cache<SpiderIPPool>) -> Option<Duration> {
        // Another process may have noticed.
        if pools.read(|store| store.indexed(PAUSED).next().is_some()) {
            return Some(LOOK);
        }
        self.noticed_left()
    }

    fn noticed_left(&self) -> Option<Duration> {
        let noticed = *self.noticed.lock().unwrap_or_else(PoisonError::into_inner);
        let left = LONGEST.saturating_sub(noticed?.elapsed());
        (!left.is_zero()).then_some(left)
    }

    fn notice(&self) {
        *self.noticed.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    fn lasted(&self, pool: &str, restoring: &Restoring) -> Duration {
        let mut all = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        match all.get(pool).filter(|known| known.0 == restoring.since) {
            Some(known) => known.1.elapsed(),
            None => {
                all.insert(pool.to_owned(), (restoring.since.clone(), Instant::now()));
                self.notice();
                Duration::ZERO
            }
        }
    }

    /// Forgets a pool that does not pause or is gone.
    pub fn forget(&self, pool: &str) {
        self.pools.lock().unwrap_or_else(PoisonError::into_inner).remove(pool);
    }
}

/// How a pause stands.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Stand {
    /// These nodes have said nothing yet; none, if it is only too early.
    Waits(Vec<String>),
    /// It ends, without the word of these nodes.
    Ends(Vec<String>),
}

fn stand(restoring: &Restoring, ready: &BTreeSet<String>, lasted: Duration) -> Stand {
    let asserted: BTreeSet<&String> = restoring.asserted.iter().collect();
    let silent = ready.iter().filter(|node| !asserted.contains(node));
    let silent: Vec<String> = silent.cloned().collect();
    if lasted >= LONGEST || (silent.is_empty() && lasted >= SHORTEST) {
        Stand::Ends(silent)
    } else {
        Stand::Waits(silent)
    }
}

/// News for an Event.
pub type News = Option<(Reason, String)>;

/// Sets the condition Restoring, absent until there was a pause, and ends one whose time has come. Gives when to look again, and the
/// Event when there is news.
pub fn update(
    context: &Context,
    pool: &SpiderIPPool,
    status: &mut IPPoolStatus,
    now: Timestamp,
) -> (Option<Duration>, News) {
    let name = pool.metadata.name.as_deref().unwrap_or_default();
    let Some(restoring) = status.restoring.clone() else {
        context.pauses.forget(name);
        return (None, None);
    };
    let nodes = context.caches.nodes.list();
    let ready = nodes.iter().filter(|node| node.seen() == Node::Ready);
    let ready: BTreeSet<String> = ready.filter_map(|node| node.metadata.name.clone()).collect();
    let lasted = context.pauses.lasted(name, &restoring);
    let news = apply(
        status,
        &restoring,
        &stand(&restoring, &ready, lasted),
        pool.metadata.generation,
        now,
    );
    (status.restoring.as_ref().map(|_| LOOK), news)
}

fn apply(
    status: &mut IPPoolStatus,
    restoring: &Restoring,
    stand: &Stand,
    generation: Option<i64>,
    now: Timestamp,
) -> News {
    let was = conditions::find(status.conditions.as_deref(), RESTORING).is_some_and(|known| known.status == "True");
    let mut set = |on, reason, message: &str| {
        conditions::set(&mut status.conditions, RESTORING, on, reason, message, generation, now);
    };
    match stand {
        Stand::Waits(silent) => {
            let message = format!(
                "the storage of the API server went back to an older state, as {} found out, so nothing is given out until the agents \
                 of all Ready nodes have put on record again what their pods have{}; less than a minute",
                restoring.by,
                named(silent, "; waiting for ")
            );
            set(true, "WaitingForAgents", &message);
            (!was).then_some((Reason::Restoring, message))
        }
        Stand::Ends(silent) if silent.is_empty() => {
            let message = "after a restore of the API server's storage the agents of all Ready nodes have put on record again what their \
                           pods have";
            set(false, "Asserted", message);
            status.restoring = None;
            Some((Reason::Restored, message.to_owned()))
        }
        Stand::Ends(silent) => {
            let message = format!(
                "addresses are given out again after a restore of the API server's storage; no agent has told what the pods use of {}",
                named(silent, "")
            );
            set(false, "AgentsSilent", &message);
            status.restoring = None;
            Some((Reason::Restored, message))
        }
    }
}

fn named(nodes: &[String], before: &str) -> String {
    if nodes.is_empty() {
        return String::new();
    }
    let others = if nodes.len() > NAMED { " and others" } else { "" };
    let first: Vec<&str> = nodes.iter().take(NAMED).map(String::as_str).collect();
    format!("{before}{}{others}", first.join(", "))
}

/// Begins a pause of each pool when this replica leads and finds out that the storage went back.
pub async fn watch(context: std::sync::Arc<Context>) {
    let caches = &context.caches;
    // Pools of which none was written since the snapshot are as they were.
    let mut rewinds = [
        caches.pools.rewinds(),
        caches.subnets.rewinds(),
        caches.endpoints.rewinds(),
        caches.pods.rewinds(),
    ];
    loop {
        let changed = rewinds.iter_mut().map(|rewinds| Box::pin(rewinds.changed()));
        if futures::future::select_all(changed).await.0.is_err() {
            return;
        }
        context.pauses.notice();
        let noticed = Instant::now();
        let mut left: BTreeSet<String> = names(&context);
        // Who leads may be open yet: the Lease went back as well.
        while !left.is_empty() && noticed.elapsed() < LONGEST {
            if context.leadership.is_leader() {
                left = begin_all(&context, left).await;
            }
            if !left.is_empty() {
                tokio::time::sleep(LOOK).await;
            }
        }
    }
}

/// Begins a pause of these pools; gives those that are left.
async fn begin_all(context: &Context, pools: BTreeSet<String>) -> BTreeSet<String> {
    let mut left = BTreeSet::new();
    for name in pools {
        if let Err(error) = begin(context, &name).await {
            tracing::warn!(pool = name, %error, "not paused after a restore yet, trying again");
            left.insert(name);
        }
    }
    left
}

fn names(context: &Context) -> BTreeSet<String> {
    let pools = context.caches.pools.list();
    pools.iter().filter_map(|pool| pool.metadata.name.clone()).collect()
}

async fn begin(context: &Context, name: &str) -> Result<(), write::Error> {
    let Some(mut pool) = context.pools.read(name).await? else {
        return Ok(());
    };
    if pool.is_restoring() {
        return Ok(());
    }
    pool.status.get_or_insert_default().restoring = Some(Restoring {
        since: Timestamp::now().to_string(),
        by: "the controller".to_owned(),
        ..Restoring::default()
    });
    context.pools.replace_status(&pool).await.map(drop)
}

/// Tells the news of a pool.
pub fn report(context: &Context, pool: &SpiderIPPool, news: News) {
    use kube::Resource;
    if let Some((reason, note)) = news {
        tell(&context.recorder, pool.object_ref(&()), reason, &note);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn restoring(asserted: &[&str]) -> Restoring {
        Restoring {
            since: "2026-01-01T00:00:00Z".to_owned(),
            by: "the agent of n1".to_owned(),
            asserted: asserted.iter().map(|node| (*node).to_owned()).collect(),
            ..Restoring::default()
        }
    }

    fn nodes(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn a_pause_ends_when_all_ready_nodes_have_spoken_and_not_at_once() {
        let (ready, second) = (nodes(&["n1", "n2"]), Duration::from_secs(1));
        let silent = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let stand = |asserted: &[&str], lasted| stand(&restoring(asserted), &ready, lasted);
        assert_eq!(stand(&["n2"], LONGEST - second), Stand::Waits(silent(&["n1"])));
        assert_eq!(stand(&["n1", "n2"], SHORTEST - second), Stand::Waits(Vec::new()));
        // A node that is lost, or has no Node any more, may have spoken too.
        assert_eq!(stand(&["n1", "n3", "n2"], SHORTEST), Stand::Ends(Vec::new()));
        assert_eq!(stand(&["n2"], LONGEST), Stand::Ends(silent(&["n1"])));
    }

    #[test]
    fn beginning_and_end_are_told_once() {
        let mut status = IPPoolStatus {
            restoring: Some(restoring(&[])),
            allocated_ips: Some("{}".to_owned()),
            ..IPPoolStatus::default()
        };
        let mut step = |stand: &Stand| {
            let news = apply(&mut status, &restoring(&[]), stand, Some(1), Timestamp::UNIX_EPOCH);
            let condition = conditions::find(status.conditions.as_deref(), RESTORING).unwrap();
            (
                news.map(|(reason, _)| reason),
                condition.status == "True",
                condition.message.contains("n1"),
                status.restoring.is_some(),
            )
        };
        let waits = Stand::Waits(vec!["n1".to_owned()]);
        assert_eq!(step(&waits), (Some(Reason::Restoring), true, true, true));
        assert_eq!(step(&waits), (None, true, true, true));
        assert_eq!(
            step(&Stand::Ends(Vec::new())),
            (Some(Reason::Restored), false, false, false)
        );
        let silent = Stand::Ends(vec!["n1".to_owned()]);
        assert_eq!(step(&silent), (Some(Reason::Restored), false, true, false));
        assert_eq!(status.allocated_ips.as_deref(), Some("{}"));
    }

    #[tokio::test(start_paused = true)]
    async fn how_long_a_pause_has_lasted_is_counted_by_the_own_clock() {
        let pauses = Pauses::default();
        let second = Duration::from_secs(1);
        assert_eq!(pauses.lasted("p", &restoring(&[])), Duration::ZERO);
        tokio::time::advance(second).await;
        assert_eq!(pauses.lasted("p", &restoring(&["n1"])), second);
        let other = Restoring {
            since: "2026-01-01T00:00:09Z".to_owned(),
            ..restoring(&[])
        };
        assert_eq!(pauses.lasted("p", &other), Duration::ZERO);
        tokio::time::advance(second).await;
        assert_eq!(pauses.noticed_left(), Some(LONGEST - second));
        pauses.notice();
        tokio::time::advance(second).await;
        assert_eq!(pauses.noticed_left(), Some(LONGEST - second));
        pauses.forget("p");
        assert_eq!(pauses.lasted("p", &other), Duration::ZERO);
        tokio::time::advance(LONGEST).await;
        assert_eq!(pauses.noticed_left(), None);
    }
}
