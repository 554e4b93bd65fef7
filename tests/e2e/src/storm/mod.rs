//! A storm of ADDs and DELs at agents that die or whose API server plays tricks, and the checker of what it leaves behind.
//!
//! Clients stand for kubelets: each makes pods on Nodes without kubelet, sends their ADDs and DELs to real agents as often and in
//! as strange orders as may happen, and repeats what was not answered. Pools are smaller than the number of clients, so every
//! address that is freed is taken at once. What has to hold is checked while it happens ([`ledger`]) and when all is quiet ([`rest`]).
//! All choices come of one seed.

mod client;
mod killer;
pub mod ledger;
pub mod random;
mod rest;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures::future::try_join_all;
use futures::{StreamExt, TryStreamExt};
use kube::api::{ListParams, WatchEvent, WatchParams};
use kube::{Api, Client as KubeClient, ResourceExt};
use spiderpool_crds::{IPPoolSpec, SpiderIPPool};
use tokio::sync::watch;

use crate::agents::{Agent, Options};
use crate::proxy::{Faults, Proxy};
use crate::scene::Scene;
use crate::wait::{self, SOON};
use client::{Client, Held};
use killer::Kills;
use ledger::Ledger;
use random::Random;
use rest::Owners;

/// Pools of each family.
const POOLS: usize = 2;

/// What a storm is like.
#[derive(Clone, Debug)]
pub struct Plan {
    /// All choices come of it.
    pub seed: u64,
    /// How long it blows at least.
    pub length: Duration,
    /// How often addresses are to be given out before it ends,
    pub enough: usize,
    /// unless it blows so long: on a machine that has other things to do.
    pub longest: Duration,
    /// Agents.
    pub agents: usize,
    /// Clients, all at once.
    pub clients: usize,
    /// Addresses of each family, for all of them.
    pub addresses: u8,
    /// Whether agents are killed.
    pub kills: bool,
    /// What their API server does to them.
    pub faults: Option<Faults>,
}

/// What is counted.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    answered: AtomicU64,
    repeated: AtomicU64,
    /// The slowest answer to an ADD, in milliseconds.
    longest: AtomicU64,
    refused: Mutex<BTreeMap<&'static str, usize>>,
}

/// A storm that blows.
pub(crate) struct Storm {
    seed: u64,
    namespace: String,
    client: KubeClient,
    agents: Vec<Arc<Agent>>,
    v4: Vec<String>,
    v6: Vec<String>,
    ledger: Ledger,
    figures: Figures,
    over: watch::Sender<bool>,
}

/// Reasons for which an ADD is refused, by a part of the text.
const REASONS: [(&str, &str); 7] = [
    ("no IPPool available", "pools full"),
    ("is terminating", "pod ended"),
    ("is not known", "pod ended"),
    ("has not read", "agent starting"),
    ("cancelled", "cancelled"),
    // An agent whose requests are slow loses against the others for as long as it may try.
    ("no acknowledged write", "not written in time"),
    ("API server", "API server"),
];

impl Storm {
    fn is_over(&self) -> bool {
        *self.over.borrow()
    }

    /// Waits, but not longer than the storm lasts.
    async fn calm_for(&self, time: Duration) {
        let mut over = self.over.subscribe();
        // Either way it is time.
        let _ = tokio::time::timeout(time, over.wait_for(|over| *over)).await;
    }

    fn is_full(&self, reason: &str) -> bool {
        reason.contains(REASONS[0].0)
    }

    fn refused(&self, reason: &str) {
        let known = REASONS.iter().find(|(part, _)| reason.contains(part));
        let mut refused = self.figures.refused.lock().unwrap_or_else(PoisonError::into_inner);
        *refused.entry(known.map_or("other", |(_, name)| name)).or_default() += 1;
        if known.is_none() {
            self.ledger
                .wrong(format!("an ADD was refused for no reason that may be: {reason}"));
        }
    }
}

/// Lets a storm blow in a scene, and checks what it did. Gives the figures, in words.
pub async fn blow(scene: &Scene, plan: &Plan) -> Result<String> {
    let outcome = blow_once(scene, plan).await;
    outcome.with_context(|| {
        format!(
            "the storm of seed {0}; SPIDERPOOL_SEED={0} makes the same choices again",
            plan.seed
        )
    })
}

async fn blow_once(scene: &Scene, plan: &Plan) -> Result<String> {
    let (v4, v6) = (pools(scene, plan, 4).await?, pools(scene, plan, 6).await?);
    let mut proxies = Vec::new();
    let mut agents = Vec::new();
    for number in 0..plan.agents {
        let node = scene.own(&format!("storm{number}"));
        let mut options = Options::default();
        if let Some(faults) = &plan.faults {
            let random = Random::of(plan.seed, 500 + number as u64);
            let proxy = Proxy::start(&scene.cluster, faults.clone(), random).await?;
            options.server = Some(proxy.server());
            proxies.push(proxy);
        }
        agents.push(Arc::new(Agent::make(&scene.cluster, &node, &options).await?));
    }
    let storm = Arc::new(Storm {
        seed: plan.seed,
        namespace: scene.namespace.clone(),
        client: scene.cluster.client.clone(),
        agents,
        v4,
        v6,
        ledger: Ledger::default(),
        figures: Figures::default(),
        over: watch::Sender::new(false),
    });
    let outcome = rage(scene, plan, &storm, &proxies).await;
    let wrongs = storm.ledger.wrongs();
    for agent in &storm.agents {
        // The failure is what is told.
        let removed = agent.remove().await;
        if outcome.is_ok() {
            removed?;
        }
    }
    let wrongs = wrongs.join("\n");
    match outcome {
        Ok(_) => ensure!(wrongs.is_empty(), "what must never happen did:\n{wrongs}"),
        Err(error) if wrongs.is_empty() => return Err(error),
        Err(error) => return Err(error.context(format!("what must never happen did:\n{wrongs}"))),
    }
    outcome
}

async fn rage(scene: &Scene, plan: &Plan, storm: &Arc<Storm>, proxies: &[Proxy]) -> Result<String> {
    let kills = Kills::default();
    let _watch = watch_records(storm).await?;
    proxies.iter().for_each(Proxy::disturb);
    let agents = async {
        let each = storm.agents.iter().enumerate().map(async |(number, agent)| {
            if plan.kills {
                let random = Random::of(plan.seed, number as u64);
                return killer::haunt(agent, random, &kills, storm.over.subscribe()).await;
            }
            agent.run(&[]).await?;
            agent.serves().await
        });
        try_join_all(each).await.map(drop)
    };
    let clients = async {
        let each = (0..plan.clients).map(|number| Client::new(storm, number).work());
        try_join_all(each).await
    };
    let end = async {
        tokio::time::sleep(plan.length).await;
        let more = plan.longest.saturating_sub(plan.length);
        let _ = tokio::time::timeout(more, storm.ledger.has_given(plan.enough)).await;
        storm.over.send_replace(true);
        // What was sent meanwhile is answered under the same conditions; then the API server is as it should be.
        proxies.iter().for_each(Proxy::calm);
        Ok(())
    };
    let (held, (), ()) = futures::try_join!(clients, agents, end)?;
    let held: Vec<Held> = held.into_iter().flatten().collect();
    let full = held.len();
    let mut left = rest::agrees(scene, &owners(storm, &held)).await?;
    let ends = held.into_iter().enumerate().map(async |(number, held)| {
        let mut client = Client::new(storm, plan.clients + number);
        client.tear_down(held).await
    });
    try_join_all(ends).await?;
    left += rest::agrees(scene, &Owners::new()).await?;
    let killed: usize = kills.lock().unwrap_or_else(PoisonError::into_inner).values().sum();
    ensure!(!plan.kills || killed >= plan.agents, "only {killed} agents were killed");
    let given = storm.ledger.given();
    ensure!(
        given > 2 * usize::from(plan.addresses),
        "no address was given out twice: only {given} were"
    );
    Ok(told(plan, storm, &kills, proxies, full, left))
}

fn owners(storm: &Storm, held: &[Held]) -> Owners {
    let mut owners = Owners::new();
    for held in held {
        let (name, uid) = (held.pod.name_any(), held.pod.uid().unwrap_or_default());
        let owner = rest::owner(&storm.namespace, &name, &uid);
        owners.extend(held.addresses.iter().map(|ip| (*ip, owner.clone())));
    }
    owners
}

fn told(plan: &Plan, storm: &Storm, kills: &Kills, proxies: &[Proxy], full: usize, left: usize) -> String {
    let figures = &storm.figures;
    let refused = figures.refused.lock().unwrap_or_else(PoisonError::into_inner);
    let kills = kills.lock().unwrap_or_else(PoisonError::into_inner);
    let mut text = format!(
        "seed {}: {} ADDs answered with addresses, the slowest answer after {} ms, {:?} refused, {} requests repeated; {} \
         addresses given to pods, {} of {} taken at the end; {left} left to the operator",
        plan.seed,
        figures.answered.load(Ordering::Relaxed),
        figures.longest.load(Ordering::Relaxed),
        *refused,
        figures.repeated.load(Ordering::Relaxed),
        storm.ledger.given(),
        2 * full,
        2 * plan.addresses,
    );
    if plan.kills {
        text += &format!("; {} agents killed: {:?}", kills.values().sum::<usize>(), *kills);
    }
    let mut faults: BTreeMap<&'static str, usize> = BTreeMap::new();
    for proxy in proxies {
        for (fault, count) in proxy.counts() {
            *faults.entry(fault).or_default() += count;
        }
    }
    if !faults.is_empty() {
        text += &format!("; faults: {faults:?}");
    }
    text
}

/// Makes the pools of a family, which have all addresses together, and waits until they serve.
async fn pools(scene: &Scene, plan: &Plan, version: u8) -> Result<Vec<String>> {
    let share = plan.addresses / POOLS as u8;
    let mut names = Vec::new();
    for number in 0..POOLS as u8 {
        let first = 10 + number * share;
        let part = |last: u8| match version {
            4 => scene.ip(4, &last.to_string()),
            _ => scene.ip(6, &format!("{last:x}")),
        };
        // The IPv6 subnet begins at ::10.
        let offset = if version == 6 { 16 } else { 0 };
        let spec = IPPoolSpec {
            ips: Some(vec![format!(
                "{}-{}",
                part(first + offset),
                part(first + offset + share - 1)
            )]),
            ..IPPoolSpec::default()
        };
        let pool = scene
            .create_pool(&format!("storm-v{version}-{number}"), version, spec)
            .await?;
        names.push(pool.name_any());
    }
    for name in &names {
        wait::object(&scene.pools(), name, "the pool to serve", SOON, |pool| {
            pool?.is_ready().then_some(())
        })
        .await?;
    }
    Ok(names)
}

/// Watches the pools: a record that goes while somebody has the address is told to the ledger. Ends when dropped.
async fn watch_records(storm: &Arc<Storm>) -> Result<tokio::task::JoinSet<()>> {
    let api: Api<SpiderIPPool> = Api::all(storm.client.clone());
    let start = api.list(&ListParams::default()).await.context("listing pools")?;
    let mut at = start.metadata.resource_version.unwrap_or_default();
    let ours: Vec<String> = storm.v4.iter().chain(&storm.v6).cloned().collect();
    let storm = storm.clone();
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(async move {
        let mut known: BTreeMap<String, BTreeMap<IpAddr, String>> = BTreeMap::new();
        // A watch ends after some minutes; the next one goes on where it was.
        while let Ok(events) = api.watch(&WatchParams::default(), &at).await {
            let mut events = events.boxed();
            while let Ok(Some(event)) = events.try_next().await {
                let (WatchEvent::Added(pool) | WatchEvent::Modified(pool)) = event else {
                    continue;
                };
                at = pool.resource_version().unwrap_or_default();
                let (name, Ok(records)) = (pool.name_any(), pool.records()) else {
                    continue;
                };
                if !ours.contains(&name) {
                    continue;
                }
                let records: BTreeMap<IpAddr, String> = records
                    .iter()
                    .map(|(ip, record)| (ip, record.pod_uid.clone()))
                    .collect();
                for (ip, uid) in known.remove(&name).unwrap_or_default() {
                    if records.get(&ip) != Some(&uid) {
                        storm.ledger.record_gone(ip, &uid);
                    }
                }
                known.insert(name, records);
            }
        }
        storm.ledger.wrong("the watch of pools ended".to_owned());
    });
    Ok(tasks)
}
