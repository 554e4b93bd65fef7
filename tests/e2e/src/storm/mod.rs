//! A storm of ADDs and DELs at agents that die or whose API server plays tricks, and the checker of what it leaves behind.
//!
//! Clients stand for kubelets: each makes pods on Nodes without kubelet, sends their ADDs and DELs to real agents as often and in
//! as strange orders as may happen, and repeats what was not answered. Pools are smaller than the number of clients, so every
//! address that is freed is taken at once. What has to hold is checked while it happens ([`ledger`]) and when all is quiet ([`rest`]).
//! All choices come of one seed.

mod client;
pub(crate) mod killer;
pub mod ledger;
mod quiet;
pub mod random;
mod records;
pub(crate) mod rest;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures::future::try_join_all;
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client as KubeClient, ResourceExt};
use spiderpool_crds::IPPoolSpec;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::agents::{Agent, Options};
use crate::node::OPERATOR;
use crate::proxy::{Faults, Proxy};
use crate::scene::Scene;
use crate::wait::SOON;
use crate::workload::Annotations;
use crate::{disaster, operators};
use client::{Client, Held};
pub(crate) use client::{addresses, note};
use killer::Kills;
pub use killer::points;
use ledger::Ledger;
use random::Random;
use records::Records;

/// Shifts the clock of an agent.
pub(crate) const CLOCK: &str = "SPIDERPOOL_CLOCK_OFFSET";

/// The API server goes away when this part of a storm is over.
const OUTAGE: u32 = 8;

/// How long what needs the API server is tried again while that is away.
const PATIENCE: Duration = Duration::from_secs(120);

/// Pause before that.
const AGAIN: Duration = Duration::from_millis(200);

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
    /// How agents end.
    pub deaths: Deaths,
    /// Of a hundred ADDs, so many are sent several times at once.
    pub repeated: u64,
    /// What the API server does to agents.
    pub faults: Option<Faults>,
    /// To how many of them; all if absent.
    pub disturbed: Option<usize>,
    /// By how many seconds the clocks of the agents are wrong: every second one is fast, and the others are slow.
    pub clocks: i64,
    /// Whether no operator runs while it blows.
    pub without_operator: bool,
    /// For how long the API server is away in it.
    pub outage: Option<Duration>,
}

impl Plan {
    /// What most storms are like: three of four clients have an address of each family at a time.
    pub const USUAL: Self = Self {
        seed: 0,
        length: Duration::from_secs(8),
        enough: 400,
        longest: Duration::from_secs(40),
        agents: 4,
        clients: 32,
        addresses: 24,
        deaths: Deaths::None,
        repeated: 50,
        faults: None,
        disturbed: None,
        clocks: 0,
        without_operator: false,
        outage: None,
    };
}

/// How agents end in a storm, to be started again at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deaths {
    /// They do not.
    None,
    /// They are killed, at named points and anywhere.
    Killed,
    /// They are told to stop, one after the other, as in an upgrade: what they have taken they answer.
    Rolled,
}

/// What is counted.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    answered: AtomicU64,
    repeated: AtomicU64,
    /// How long answers to ADDs took that gave addresses.
    times: Mutex<Vec<Duration>>,
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
    /// Whether the API server plays tricks.
    faults: bool,
    deaths: Deaths,
    repeated: u64,
    /// The pods, by UID.
    pods: Mutex<BTreeMap<String, Made>>,
    over: watch::Sender<bool>,
}

/// A pod that was made.
#[derive(Debug)]
struct Made {
    /// Its Node.
    node: String,
    at: Instant,
    /// Whether a request for it failed since its agent lost the API server.
    troubled: bool,
}

/// What a storm did.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The figures, in words.
    pub text: String,
    /// The named points at which agents died, as often as they did.
    pub points: Vec<&'static str>,
    /// What proxies did, and what they passed on.
    pub counts: BTreeMap<&'static str, usize>,
}

/// A refusal that names the API server.
const API_SERVER: &str = "API server";

/// Refusals that only an API server may cause that cannot be relied on. Of five requests for one pod at once, the last ones wait for
/// four others that each take their time with it.
const UNREACHED: [(&str, &str); 2] = [
    (API_SERVER, "API server"),
    ("is still running on this node", "behind others of its pod"),
];

/// Reasons for which an ADD is refused, by a part of the text.
const REASONS: [(&str, &str); 6] = [
    ("no IPPool available", "pools full"),
    ("is terminating", "pod ended"),
    ("is not known", "pod ended"),
    ("has not read", "agent starting"),
    ("cancelled", "cancelled"),
    // An agent whose requests are slow loses against the others for as long as it may try.
    ("no acknowledged write", "not written in time"),
];

impl Figures {
    /// How long answers took, in words.
    fn quantiles(&self) -> String {
        let mut times = self.times.lock().unwrap_or_else(PoisonError::into_inner).clone();
        times.sort_unstable();
        let at = |part: usize| times.get((times.len() * part / 100).min(times.len().saturating_sub(1)));
        let shown = [50, 99, 100].map(|part| format!("p{part} {} ms", at(part).map_or(0, Duration::as_millis)));
        format!(" ({})", shown.join(", "))
    }
}

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

    fn pods(&self) -> MutexGuard<'_, BTreeMap<String, Made>> {
        self.pods.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn api(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Makes a pod on the Node of an agent.
    async fn make_pod(&self, agent: &Agent, name: &str, annotations: &Annotations) -> Result<Pod> {
        let mut tries = 0;
        let pod = patiently(async || {
            tries += 1;
            match agent.make_pod(&self.namespace, name, annotations).await {
                // The answer to the one before was lost.
                Err(_) if tries > 1 && self.api().get_opt(name).await?.is_some() => Ok(self.api().get(name).await?),
                made => made,
            }
        })
        .await?;
        let made = Made {
            node: agent.node.clone(),
            at: Instant::now(),
            troubled: false,
        };
        self.pods().insert(pod.uid().unwrap_or_default(), made);
        Ok(pod)
    }

    /// A request for a pod was refused.
    fn in_trouble(&self, uid: &str, reason: &str) {
        let lost = reason.contains(API_SERVER) || reason.contains("no acknowledged write");
        if lost && let Some(made) = self.pods().get_mut(uid) {
            made.troubled = true;
        }
    }

    /// Whether the agent of a pod may have left its addresses to the operator: it was killed in the pod's time, or lost the API
    /// server while it worked for it.
    fn excuses(&self, uid: &str, kills: &Kills) -> bool {
        self.pods()
            .get(uid)
            .is_some_and(|made| made.troubled && self.faults || kills.any_since(&made.node, made.at))
    }

    fn is_pool(&self, name: &str) -> bool {
        self.v4.iter().chain(&self.v6).any(|own| own == name)
    }

    fn is_full(&self, reason: &str) -> bool {
        reason.contains(REASONS[0].0)
    }

    fn refused(&self, reason: &str) {
        let unreached = UNREACHED.iter().filter(|_| self.faults);
        let known = REASONS.iter().chain(unreached).find(|(part, _)| reason.contains(part));
        let mut refused = self.figures.refused.lock().unwrap_or_else(PoisonError::into_inner);
        *refused.entry(known.map_or("other", |(_, name)| name)).or_default() += 1;
        if known.is_none() {
            self.ledger
                .wrong(format!("an ADD was refused for no reason that may be: {reason}"));
        }
    }
}

/// Lets a storm blow in a scene, and checks what it did.
pub async fn blow(scene: &Scene, plan: &Plan) -> Result<Outcome> {
    let outcome = blow_once(scene, plan).await;
    outcome.with_context(|| {
        format!(
            "the storm of seed {0}; SPIDERPOOL_SEED={0} makes the same choices again",
            plan.seed
        )
    })
}

async fn blow_once(scene: &Scene, plan: &Plan) -> Result<Outcome> {
    let (v4, v6) = (pools(scene, plan, 4).await?, pools(scene, plan, 6).await?);
    let mut proxies = Vec::new();
    let mut agents = Vec::new();
    for number in 0..plan.agents {
        let node = scene.own(&format!("storm{number}"));
        let mut options = Options::default();
        if plan.clocks != 0 {
            let offset = if number.is_multiple_of(2) {
                plan.clocks
            } else {
                -plan.clocks
            };
            options.environment = vec![(CLOCK, offset.to_string())];
        }
        if let Some(faults) = &plan.faults
            && plan.disturbed.is_none_or(|disturbed| number < disturbed)
        {
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
        faults: plan.faults.is_some(),
        deaths: plan.deaths,
        repeated: plan.repeated,
        pods: Mutex::default(),
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

async fn rage(scene: &Scene, plan: &Plan, storm: &Arc<Storm>, proxies: &[Proxy]) -> Result<Outcome> {
    let kills = Kills::default();
    let (records, _watch) = Records::watch(storm);
    let room = 2 * usize::from(plan.addresses);
    // As many as there are agents.
    let deaths = if plan.deaths == Deaths::Killed { plan.agents } else { 0 };
    let operators = operators::replicas_of(&scene.cluster, OPERATOR).await?;
    if plan.without_operator {
        operators::scale(&scene.cluster, 0).await?;
    }
    proxies.iter().for_each(Proxy::disturb);
    let agents = async {
        let each = storm.agents.iter().enumerate().map(async |(number, agent)| {
            let random = Random::of(plan.seed, number as u64);
            match plan.deaths {
                Deaths::Killed => return killer::haunt(agent, random, &kills, storm.over.subscribe()).await,
                Deaths::Rolled => return killer::roll(agent, random, &kills, storm.over.subscribe()).await,
                Deaths::None => {}
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
        let enough = async {
            storm.ledger.has_given(plan.enough).await;
            kills.has_named(deaths).await;
            if room <= 2 * plan.clients {
                records.were_as_full(room).await;
            }
        };
        let _ = tokio::time::timeout(more, enough).await;
        storm.over.send_replace(true);
        // What was sent meanwhile is answered under the same conditions; then the API server is as it should be.
        proxies.iter().for_each(Proxy::calm);
        Ok(())
    };
    let outage = async {
        let Some(away) = plan.outage else { return Ok(None) };
        tokio::time::sleep(plan.length / OUTAGE).await;
        disaster::outage(&scene.cluster, away).await.map(Some)
    };
    let (held, (), (), recovered) = futures::try_join!(clients, agents, end, outage)?;
    if plan.without_operator {
        operators::scale(&scene.cluster, operators).await?;
    }
    let in_storm = records.fullest();
    let held: Vec<Held> = held.into_iter().flatten().collect();
    let full = held.len();
    let left = quiet::check(scene, plan, storm, held, &kills).await?;
    records.see_nothing(storm.v4.len() + storm.v6.len(), SOON).await?;
    ensure!(
        kills.named() >= deaths,
        "only {} agents died at named points, and {deaths} have to: {:?}",
        kills.named(),
        kills.by_point()
    );
    ensure!(
        in_storm == room || room > 2 * plan.clients,
        "the pools were never full in the storm: {in_storm} of {room} addresses were on record at most"
    );
    let given = storm.ledger.given();
    ensure!(
        given > 2 * usize::from(plan.addresses),
        "no address was given out twice: only {given} were"
    );
    let points = kills.points();
    let mut text = told(plan, storm, &kills, proxies, full, left);
    if let Some(recovered) = recovered {
        text += &format!("; the API server answered {recovered:?} after it was started again");
    }
    let counts = counts(proxies);
    Ok(Outcome { text, points, counts })
}

fn told(plan: &Plan, storm: &Storm, kills: &Kills, proxies: &[Proxy], full: usize, left: usize) -> String {
    let figures = &storm.figures;
    let refused = figures.refused.lock().unwrap_or_else(PoisonError::into_inner);
    let kills = kills.by_point();
    let mut text = format!(
        "seed {}: {} ADDs answered with addresses{}, {:?} refused, {} requests repeated; {} \
         addresses given to pods, {} of {} taken at the end; {left} left to the operator",
        plan.seed,
        figures.answered.load(Ordering::Relaxed),
        figures.quantiles(),
        *refused,
        figures.repeated.load(Ordering::Relaxed),
        storm.ledger.given(),
        2 * full,
        2 * plan.addresses,
    );
    match plan.deaths {
        Deaths::None => {}
        Deaths::Killed => text += &format!("; {} agents killed: {:?}", kills.values().sum::<usize>(), kills),
        Deaths::Rolled => text += &format!("; {} agents rolled", kills.values().sum::<usize>()),
    }
    let faults = counts(proxies);
    if !faults.is_empty() {
        text += &format!("; faults: {faults:?}");
    }
    text
}

/// Does something again and again while the API server is away.
async fn patiently<T>(mut attempt: impl AsyncFnMut() -> Result<T>) -> Result<T> {
    let end = Instant::now() + PATIENCE;
    loop {
        match attempt().await {
            Err(error) if is_away(&error) && Instant::now() < end => tokio::time::sleep(AGAIN).await,
            outcome => return outcome,
        }
    }
}

/// Whether an error says nothing but that the API server, or its etcd, is not there.
fn is_away(error: &anyhow::Error) -> bool {
    match error.chain().find_map(|cause| cause.downcast_ref::<kube::Error>()) {
        Some(kube::Error::Api(status)) => status.code >= 500,
        Some(_) => true,
        None => false,
    }
}

/// What all proxies did.
fn counts(proxies: &[Proxy]) -> BTreeMap<&'static str, usize> {
    let mut counts: BTreeMap<&'static str, usize> = BTreeMap::new();
    for (what, count) in proxies.iter().flat_map(Proxy::counts) {
        *counts.entry(what).or_default() += count;
    }
    counts
}

/// Makes the pools of a family, which have all addresses together, and waits until they serve.
async fn pools(scene: &Scene, plan: &Plan, version: u8) -> Result<Vec<String>> {
    let share = plan.addresses / POOLS as u8;
    let mut names = Vec::new();
    for number in 0..POOLS as u8 {
        let first = 10 + number * share;
        let part = |last: u8| match version {
            4 => last.to_string(),
            _ => format!("{last:x}"),
        };
        // The IPv6 subnet begins at ::10.
        let offset = if version == 6 { 16 } else { 0 };
        let (first, last) = (part(first + offset), part(first + offset + share - 1));
        let name = format!("storm-v{version}-{number}");
        names.push(
            scene
                .serving(&name, version, (&first, &last), IPPoolSpec::default())
                .await?,
        );
    }
    Ok(names)
}
