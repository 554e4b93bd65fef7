//! Sees the records of a storm's pools, every state of them.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use futures::StreamExt;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{Config, Event, watcher};
use kube::{Api, ResourceExt};
use spiderpool_crds::SpiderIPPool;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::Storm;

/// The records of each pool: who has which address.
type Known = BTreeMap<String, BTreeMap<IpAddr, String>>;

/// A watch of the pools, which tells the ledger of each record that goes while somebody has its address. Ends when dropped.
pub(super) struct Records {
    known: watch::Sender<Known>,
    fullest: watch::Sender<usize>,
}

impl Records {
    /// Begins to watch the pools of a storm.
    pub(super) fn watch(storm: &Arc<Storm>) -> (Arc<Self>, JoinSet<()>) {
        let records = Arc::new(Self {
            known: watch::Sender::default(),
            fullest: watch::Sender::default(),
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(follow(records.clone(), storm.clone()));
        (records, tasks)
    }

    /// The most addresses that all pools had on record at once.
    pub(super) fn fullest(&self) -> usize {
        *self.fullest.borrow()
    }

    /// Waits until the pools had so many addresses on record at once.
    pub(super) async fn were_as_full(&self, addresses: usize) {
        // The sender is here, so it does not go.
        let _ = self.fullest.subscribe().wait_for(|most| *most >= addresses).await;
    }

    /// Requires that the watch still follows: that it sees the pools empty, which they are.
    pub(super) async fn see_nothing(&self, pools: usize, deadline: Duration) -> Result<()> {
        let mut known = self.known.subscribe();
        let empty = known.wait_for(|known| known.len() == pools && known.values().all(BTreeMap::is_empty));
        let seen = tokio::time::timeout(deadline, empty).await.map(drop);
        seen.with_context(|| {
            format!(
                "the watch of pools does not follow them: they are empty, and it sees {:?}",
                *self.known.borrow()
            )
        })
    }

    /// A pool was seen.
    fn seen(&self, pool: &SpiderIPPool, storm: &Storm) {
        let (name, Ok(records)) = (pool.name_any(), pool.records()) else {
            storm
                .ledger
                .wrong(format!("the records of pool {} cannot be read", pool.name_any()));
            return;
        };
        let records: BTreeMap<IpAddr, String> = records
            .iter()
            .map(|(ip, record)| (ip, record.pod_uid.clone()))
            .collect();
        self.known.send_modify(|known| {
            for (ip, uid) in known.remove(&name).unwrap_or_default() {
                if records.get(&ip) != Some(&uid) {
                    storm.ledger.record_gone(ip, &uid);
                }
            }
            known.insert(name, records);
        });
        let now: usize = self.known.borrow().values().map(BTreeMap::len).sum();
        self.fullest.send_if_modified(|most| {
            let more = now > *most;
            *most = now.max(*most);
            more
        });
    }
}

/// Follows the pools. A watch that ends goes on where it was; one that is too old for that lists the pools again.
async fn follow(records: Arc<Records>, storm: Arc<Storm>) {
    let api: Api<SpiderIPPool> = Api::all(storm.client.clone());
    let mut events = watcher(api, Config::default()).default_backoff().boxed();
    while let Some(event) = events.next().await {
        // An error is met again or not; a watch that has stopped is found out in the end.
        if let Ok(Event::Apply(pool) | Event::InitApply(pool)) = event
            && storm.is_pool(&pool.name_any())
        {
            records.seen(&pool, &storm);
        }
    }
}
