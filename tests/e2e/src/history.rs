//! Every state that a scene's pools and subnets were in, and what must have held in each of them.
//!
//! Pools and subnets come by two watches, which say nothing about each other's order. So nothing is checked while they
//! come: all states are kept with their resourceVersion, which orders the writes of the whole cluster, and are replayed in
//! that order at the end. A moment in which an address had two owners is found however short it was.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use futures::StreamExt;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client, ResourceExt};
use spiderpool_crds::{SpiderIPPool, SpiderSubnet};
use spiderpool_ipam::{Family, RangeSet, addr};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::wait::Watched;

/// Something that was seen of a pool or subnet.
#[derive(Clone, Debug)]
pub enum Seen {
    /// A pool as it was then.
    Pool(Box<SpiderIPPool>),
    /// A pool was gone.
    NoPool(String),
    /// A subnet as it was then.
    Subnet(Box<SpiderSubnet>),
    /// A subnet was gone.
    NoSubnet(String),
}

/// What a history is kept of.
pub trait Kept: Watched {
    /// The network of the object, which tells whose it is.
    fn network(&self) -> &str;
    /// The object as it was.
    fn seen(self) -> Seen;
    /// The object was gone.
    fn none(name: String) -> Seen;
}

impl Kept for SpiderIPPool {
    fn network(&self) -> &str {
        &self.spec.subnet
    }
    fn seen(self) -> Seen {
        Seen::Pool(Box::new(self))
    }
    fn none(name: String) -> Seen {
        Seen::NoPool(name)
    }
}

impl Kept for SpiderSubnet {
    fn network(&self) -> &str {
        &self.spec.subnet
    }
    fn seen(self) -> Seen {
        Seen::Subnet(Box::new(self))
    }
    fn none(name: String) -> Seen {
        Seen::NoSubnet(name)
    }
}

type Log = Arc<Mutex<Vec<(u64, Seen)>>>;

/// The resourceVersions of states that a test wrote itself, against the rules. They do not count: what was true before them
/// has to be true again in the next state that somebody else writes.
pub type Edits = Arc<Mutex<BTreeSet<u64>>>;

/// The history of the pools and subnets of some networks.
pub struct History {
    log: Log,
    edits: Edits,
    pools: watch::Receiver<Option<usize>>,
    subnets: watch::Receiver<Option<usize>>,
    _watches: JoinSet<()>,
}

impl History {
    /// Starts to keep the history of networks, given as CIDRs. What is done after this returns is in it.
    pub async fn of(client: &Client, networks: &[String]) -> Result<Self> {
        let log = Log::default();
        let networks: Arc<BTreeSet<String>> = Arc::new(networks.iter().cloned().collect());
        let mut watches = JoinSet::new();
        let (pools_alive, mut pools) = watch::channel(None);
        let (subnets_alive, mut subnets) = watch::channel(None);
        let kinds: (Api<SpiderIPPool>, Api<SpiderSubnet>) = (Api::all(client.clone()), Api::all(client.clone()));
        watches.spawn(keep(kinds.0, networks.clone(), log.clone(), pools_alive));
        watches.spawn(keep(kinds.1, networks, log.clone(), subnets_alive));
        let started = async {
            pools.wait_for(Option::is_some).await?;
            subnets.wait_for(Option::is_some).await.map(drop)
        };
        tokio::time::timeout(crate::wait::SOON, started)
            .await
            .context("the watches of pools and subnets did not start in time")?
            .context("the watches of pools and subnets ended")?;
        Ok(Self {
            log,
            edits: Edits::default(),
            pools,
            subnets,
            _watches: watches,
        })
    }

    /// Where a test tells which states it wrote against the rules.
    pub fn edits(&self) -> Edits {
        self.edits.clone()
    }

    /// Waits until all pools of the networks were seen to be gone, and all subnets but at most one.
    pub async fn ended(&mut self, deadline: Duration) -> Result<()> {
        let ended = async {
            self.pools.wait_for(|alive| *alive == Some(0)).await?;
            self.subnets
                .wait_for(|alive| alive.is_some_and(|alive| alive < 2))
                .await
                .map(drop)
        };
        tokio::time::timeout(deadline, ended)
            .await
            .context("pools or subnets were not seen to go")?
            .context("the watches of pools and subnets ended")
    }

    /// What was wrong at some moment; empty if nothing was.
    pub fn violations(&self) -> Vec<String> {
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner).clone();
        log.sort_by_key(|(version, _)| *version);
        let edits = self.edits.lock().unwrap_or_else(PoisonError::into_inner);
        log.retain(|(version, _)| !edits.contains(version));
        replay(log)
    }
}

/// Writes down what a watch shows of the objects of some networks.
async fn keep<K: Kept>(api: Api<K>, networks: Arc<BTreeSet<String>>, log: Log, alive: watch::Sender<Option<usize>>) {
    let ours = |object: &K| networks.contains(object.network());
    let version = |object: &K| {
        object
            .resource_version()
            .and_then(|text| text.parse::<u64>().ok())
            .unwrap_or_default()
    };
    let mut known: BTreeMap<String, u64> = BTreeMap::new();
    let mut listed: BTreeMap<String, u64> = BTreeMap::new();
    let mut events = std::pin::pin!(watcher::watcher(api, watcher::Config::default()).default_backoff());
    while let Some(event) = events.next().await {
        let mut lines: Vec<(u64, Seen)> = Vec::new();
        let mut started = alive.borrow().is_some();
        match event {
            // The watch starts again by itself.
            Err(_) => continue,
            Ok(Event::Init) => listed.clear(),
            Ok(Event::InitApply(object)) if ours(&object) => {
                listed.insert(object.name_any(), version(&object));
                lines.push((version(&object), object.seen()));
            }
            Ok(Event::InitDone) => {
                // What went while nobody watched is gone from its last known state on.
                let missing = known.iter().filter(|(name, _)| !listed.contains_key(*name));
                lines.extend(missing.map(|(name, version)| (*version, K::none(name.clone()))));
                known = std::mem::take(&mut listed);
                started = true;
            }
            Ok(Event::Apply(object)) if ours(&object) => {
                known.insert(object.name_any(), version(&object));
                lines.push((version(&object), object.seen()));
            }
            Ok(Event::Delete(object)) if ours(&object) => {
                known.remove(&object.name_any());
                lines.push((version(&object), K::none(object.name_any())));
            }
            Ok(Event::InitApply(_) | Event::Apply(_) | Event::Delete(_)) => continue,
        }
        log.lock().unwrap_or_else(PoisonError::into_inner).append(&mut lines);
        if started {
            alive.send_replace(Some(known.len()));
        }
    }
}

/// Goes through the states in their order and tells what was wrong in any of them, each thing once.
pub fn replay(log: impl IntoIterator<Item = (u64, Seen)>) -> Vec<String> {
    let mut world = World::default();
    let mut told = BTreeSet::new();
    let mut violations = Vec::new();
    for (version, seen) in log {
        world.take_in(seen);
        for wrong in world.wrongs() {
            if told.insert(wrong.clone()) {
                violations.push(format!("at resourceVersion {version}: {wrong}"));
            }
        }
    }
    violations
}

/// The pools and subnets at one moment, by name.
#[derive(Default)]
struct World {
    pools: BTreeMap<String, Pool>,
    subnets: BTreeMap<String, Subnet>,
}

struct Pool {
    /// Whether it may give out addresses.
    serves: bool,
    /// Whether its addresses are of IPv4.
    v4: bool,
    /// The subnet it was given its addresses by; none for a pool that a user made.
    subnet: Option<String>,
    ranges: RangeSet,
    records: BTreeMap<IpAddr, String>,
}

struct Subnet {
    /// What it gave to automatic pools, and all that it gave.
    automatic: BTreeSet<String>,
    entries: BTreeMap<String, RangeSet>,
}

impl World {
    /// An object whose text does not parse counts for nothing: tests break some on purpose.
    fn take_in(&mut self, seen: Seen) {
        match seen {
            Seen::NoPool(name) => drop(self.pools.remove(&name)),
            Seen::NoSubnet(name) => drop(self.subnets.remove(&name)),
            Seen::Pool(pool) => {
                let name = pool.name_any();
                match (pool.total(), pool.records()) {
                    (Ok(ranges), Ok(records)) => {
                        let owner = pool.owner_subnet();
                        let subnet = owner.filter(|_| pool.is_automatic()).map(str::to_owned);
                        let by =
                            |record: &spiderpool_crds::records::Record| format!("{} ({})", record.pod, record.pod_uid);
                        let records = records.iter().map(|(ip, record)| (ip, by(record))).collect();
                        self.pools.insert(
                            name,
                            Pool {
                                v4: pool.family().is_ok_and(|family| family == Family::V4),
                                serves: pool.is_automatic() || (pool.is_ready() && !pool.is_terminating()),
                                subnet,
                                ranges,
                                records,
                            },
                        );
                    }
                    _ => drop(self.pools.remove(&name)),
                }
            }
            Seen::Subnet(subnet) => {
                let name = subnet.name_any();
                let entries = subnet
                    .family()
                    .ok()
                    .and_then(|family| subnet.controlled().ok()?.entries(family).ok());
                match entries {
                    Some(entries) => {
                        let of_applications = entries.iter().filter(|(_, entry)| entry.application.is_some());
                        let automatic = of_applications.map(|(pool, _)| pool.clone()).collect();
                        let entries = entries.into_iter().map(|(pool, entry)| (pool, entry.ranges)).collect();
                        self.subnets.insert(name, Subnet { automatic, entries });
                    }
                    None => drop(self.subnets.remove(&name)),
                }
            }
        }
    }

    fn wrongs(&self) -> Vec<String> {
        let mut wrongs = Vec::new();
        let mut owners: BTreeMap<IpAddr, (&str, &str)> = BTreeMap::new();
        for (name, pool) in &self.pools {
            for (ip, owner) in &pool.records {
                if let Some((other, first)) = owners.insert(*ip, (name, owner)) {
                    wrongs.push(format!(
                        "{ip} is recorded in pool {other} for {first} and in pool {name} for {owner}"
                    ));
                }
                if pool.subnet.is_some() && !pool.ranges.contains(addr::to_bits(*ip).1) {
                    wrongs.push(format!(
                        "pool {name} records {ip} for {owner}, which is not one of its addresses"
                    ));
                }
            }
            let Some(subnet) = pool.subnet.as_ref().and_then(|subnet| self.subnets.get(subnet)) else {
                continue;
            };
            let none = RangeSet::new();
            let given = subnet.entries.get(name).unwrap_or(&none);
            if !pool.ranges.is_subset_of(given) {
                wrongs.push(format!(
                    "pool {name} has {:?} but its subnet gave it {given:?}",
                    pool.ranges
                ));
            }
        }
        for (name, subnet) in &self.subnets {
            let mut taken = RangeSet::new();
            // Users may make pools with the same addresses; then one of them serves.
            for (pool, ranges) in subnet
                .entries
                .iter()
                .filter(|(pool, _)| subnet.automatic.contains(*pool))
            {
                if ranges.intersects(&taken) {
                    wrongs.push(format!("subnet {name} gave addresses of pool {pool} twice: {ranges:?}"));
                }
                taken = taken.union(ranges);
            }
        }
        let serving: Vec<(&String, &Pool)> = self.pools.iter().filter(|(_, pool)| pool.serves).collect();
        for (at, (name, pool)) in serving.iter().enumerate() {
            for (other, second) in serving.iter().skip(at + 1) {
                if pool.v4 == second.v4 && pool.ranges.intersects(&second.ranges) {
                    wrongs.push(format!("pools {name} and {other} serve and have addresses in common"));
                }
            }
        }
        wrongs
    }
}
