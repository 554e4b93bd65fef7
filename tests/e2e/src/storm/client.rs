//! A client: what a kubelet does for one pod after the other, in all the orders in which it may come.

use std::net::IpAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::DeleteParams;
use spiderpool_wire::{IpamAddArgs, IpamAddResponse, IpamDelArgs, journal};
use tokio::time::Instant;

use super::random::Random;
use super::{Deaths, Storm, patiently};
use crate::agents::{Agent, add_args, del_args, remove_pod};
use crate::socket::{self, Answer, Asked, IP};
use crate::workload::from_pools;

/// Pause before a request is sent again that was not answered, since its agent is dead.
const AGAIN: Duration = Duration::from_millis(50);

/// Pauses before an ADD that was refused is sent again.
const REFUSED: (Duration, Duration) = (Duration::from_millis(50), Duration::from_millis(400));

/// How long a pod has its addresses.
const HOLD: (Duration, Duration) = (Duration::ZERO, Duration::from_millis(400));

/// How long a sandbox may run on whose pod was deleted by force. The longest is more than two looks at its addresses are apart.
const GHOST: (Duration, Duration) = (Duration::ZERO, Duration::from_secs(8));

/// Of a hundred such sandboxes, so many run on.
const GHOSTS: u64 = 30;

/// How long a request may go unanswered or fail, all its repetitions counted.
const PATIENCE: Duration = Duration::from_secs(120);

/// An agent answers an ADD within 30 seconds, in which it also gives back what it took. A write that is under way then may take its
/// 5 seconds, and a busy machine one to bring the answer.
const ADD_LIMIT: Duration = Duration::from_secs(36);

/// How long a process that was killed while it had a request may be seen to run.
const DYING: Duration = Duration::from_secs(3);

/// A pod with addresses.
pub(super) struct Held {
    /// The pod.
    pub(super) pod: Pod,
    /// Its addresses.
    pub(super) addresses: Vec<IpAddr>,
    pub(super) agent: Arc<Agent>,
    pub(super) add: IpamAddArgs,
}

/// One client.
pub(super) struct Client {
    storm: Arc<Storm>,
    number: usize,
    random: Random,
    sandboxes: u32,
}

impl Client {
    /// The client of a number.
    pub(super) fn new(storm: &Arc<Storm>, number: usize) -> Self {
        Self {
            storm: storm.clone(),
            number,
            random: Random::of(storm.seed, 1000 + number as u64),
            sandboxes: 0,
        }
    }

    /// Works until the storm is over; what it has then it keeps.
    pub(super) async fn work(mut self) -> Result<Option<Held>> {
        let mut name = 0;
        loop {
            // A pod that is made again has the old one's name, as those of StatefulSets do, and may be on another node.
            if self.random.percent(50) {
                name += 1;
            }
            let agents = &self.storm.agents;
            let agent = agents[self.random.below(agents.len() as u64) as usize].clone();
            let pod = self.make(&agent, &format!("c{}-{name}", self.number)).await?;
            let held = self.set_up(&agent, pod).await?;
            if self.storm.is_over() {
                return Ok(held);
            }
            let Some(held) = held else { continue };
            let time = self.random.between(HOLD.0, HOLD.1);
            self.storm.calm_for(time).await;
            let held = Box::pin(self.new_sandbox(held)).await?;
            if self.storm.is_over() {
                return Ok(held);
            }
            if let Some(held) = held {
                self.tear_down(held).await?;
            }
        }
    }

    async fn make(&mut self, agent: &Agent, name: &str) -> Result<Pod> {
        let (mut v4, mut v6) = (self.storm.v4.clone(), self.storm.v6.clone());
        self.random.shuffle(&mut v4);
        self.random.shuffle(&mut v6);
        let v4: Vec<&str> = v4.iter().map(String::as_str).collect();
        let v6: Vec<&str> = v6.iter().map(String::as_str).collect();
        let annotations = from_pools(&v4, &v6);
        self.storm.make_pod(agent, name, &annotations).await
    }

    fn sandbox(&mut self) -> String {
        self.sandboxes += 1;
        format!("sandbox-{}-{}", self.number, self.sandboxes)
    }

    /// Sends ADDs until one is answered with addresses; nothing if the storm is over before.
    async fn set_up(&mut self, agent: &Arc<Agent>, pod: Pod) -> Result<Option<Held>> {
        let patience = Instant::now() + PATIENCE;
        let mut add = add_args(&pod, &self.sandbox());
        loop {
            agent.sandboxes.begin(&add.container_id)?;
            match self.add(agent, &add).await? {
                Ok(answer) => {
                    let addresses = addresses(&answer, &add.if_name)?;
                    ensure!(addresses.len() == 2, "an ADD was answered with {addresses:?}");
                    agent.sandboxes.attached(&add, &addresses)?;
                    return Ok(Some(Held {
                        pod,
                        addresses,
                        agent: agent.clone(),
                        add,
                    }));
                }
                Err(reason) if Instant::now() > patience && !self.storm.is_full(&reason) => {
                    bail!("no addresses for {} in {PATIENCE:?}: {reason}", pod.name_any());
                }
                Err(_) if self.storm.is_over() || self.random.percent(5) => {
                    // Its owner lost patience.
                    let held = Held {
                        pod: pod.clone(),
                        addresses: Vec::new(),
                        agent: agent.clone(),
                        add: add.clone(),
                    };
                    self.tear_down(held).await?;
                    return Ok(None);
                }
                Err(_) => {
                    // The runtime clears a sandbox that it could not set up, and makes another one.
                    if self.random.percent(70) {
                        self.del(agent, &del_args(&add)).await?;
                        add = add_args(&pod, &self.sandbox());
                    }
                    tokio::time::sleep(self.random.between(REFUSED.0, REFUSED.1)).await;
                }
            }
        }
    }

    /// Sends an ADD one to five times, until answered. Either all copies are waited for, or the first answer is enough and the
    /// others come when they come.
    async fn add(&mut self, agent: &Arc<Agent>, add: &IpamAddArgs) -> Result<Result<IpamAddResponse, String>> {
        let copies = if self.random.percent(self.storm.repeated) {
            1 + self.random.below(4)
        } else {
            0
        };
        let wait = self.random.percent(60);
        let once: Vec<_> = (0..copies)
            .map(|_| {
                let (storm, agent, add) = (self.storm.clone(), agent.clone(), add.clone());
                tokio::spawn(async move { storm.add_once(&agent, &add).await })
            })
            .collect();
        let main = async {
            let patience = Instant::now() + PATIENCE;
            loop {
                if let Some(answer) = self.storm.add_once(agent, add).await? {
                    return Ok(answer);
                }
                self.storm.figures.repeated.fetch_add(1, Ordering::Relaxed);
                ensure!(
                    Instant::now() < patience,
                    "no answer to an ADD at {} in {PATIENCE:?}",
                    agent.node
                );
                tokio::time::sleep(AGAIN).await;
            }
        };
        let answer = main.await?;
        if wait {
            for copy in once {
                copy.await.context("a copy of an ADD")??;
            }
        }
        Ok(answer)
    }

    /// Sometimes the sandbox dies while the pod lives.
    async fn new_sandbox(&mut self, mut held: Held) -> Result<Option<Held>> {
        if !self.random.percent(25) {
            return Ok(Some(held));
        }
        self.del(&held.agent, &del_args(&held.add)).await?;
        let before = std::mem::take(&mut held.addresses);
        let Some(after) = self.set_up(&held.agent.clone(), held.pod).await? else {
            return Ok(None);
        };
        ensure!(
            before == after.addresses,
            "pod {} had {before:?} and has {:?} in its next sandbox",
            after.pod.name_any(),
            after.addresses
        );
        Ok(Some(after))
    }

    /// Ends a pod: mostly as the kubelet does, sometimes by force, and sometimes with an agent that cannot be reached.
    pub(super) async fn tear_down(&mut self, held: Held) -> Result<()> {
        let Held { pod, agent, add, .. } = held;
        let client = self.storm.client.clone();
        let forced = self.random.percent(25);
        if forced {
            patiently(async || remove_pod(&client, &pod).await).await?;
        } else {
            let terminating = DeleteParams::default().grace_period(30);
            patiently(async || {
                let deleted = self.storm.api().delete(&pod.name_any(), &terminating).await;
                deleted.context("deleting a pod").map(drop)
            })
            .await?;
        }
        let del = del_args(&add);
        if forced && self.random.percent(GHOSTS) {
            let time = self.random.between(GHOST.0, GHOST.1);
            self.storm.calm_for(time).await;
        }
        if self.random.percent(15) {
            self.storm.ledger.ends(&del.container_id);
            note(&agent, &del)?;
            agent.sandboxes.end(&del)?;
        } else if self.random.percent(20) {
            let (storm, second) = (self.storm.clone(), agent.clone());
            let copy = del.clone();
            // A repetition that is on its way already; what becomes of it is nobody's concern.
            storm.ledger.ends(&copy.container_id);
            let copy = tokio::spawn(async move { second.ask("DELETE", IP, &copy).await });
            self.del(&agent, &del).await?;
            let _ = copy.await;
        } else {
            self.del(&agent, &del).await?;
        }
        if !forced {
            patiently(async || remove_pod(&client, &pod).await).await?;
        }
        Ok(())
    }

    /// Sends a DEL until it succeeds.
    async fn del(&self, agent: &Agent, del: &IpamDelArgs) -> Result<()> {
        let patience = Instant::now() + PATIENCE;
        self.storm.ledger.ends(&del.container_id);
        loop {
            let last = match self.storm.ask(agent, socket::DEADLINE, "DELETE", del).await? {
                Ok(answer) if answer.status == 200 => return agent.sandboxes.end(del),
                Ok(answer) => {
                    self.storm.in_trouble(&del.pod_uid, &answer.body);
                    answer.body
                }
                Err(nothing) => nothing,
            };
            self.storm.figures.repeated.fetch_add(1, Ordering::Relaxed);
            ensure!(
                Instant::now() < patience,
                "no success of a DEL at {} in {PATIENCE:?}: {last}",
                agent.node
            );
            tokio::time::sleep(AGAIN).await;
        }
    }
}

impl Storm {
    /// Sends a request. What happened instead if no answer came; that is wrong of an agent that lives.
    async fn ask(
        &self,
        agent: &Agent,
        limit: Duration,
        method: &str,
        args: &impl serde::Serialize,
    ) -> Result<Result<Answer, String>> {
        match agent.ask_within(limit, method, args).await? {
            Asked::Answered(answer) => Ok(Ok(answer)),
            Asked::NotTaken(why) => Ok(Err(why)),
            Asked::Unanswered { pid, why } => {
                let pid = pid.context("the socket does not tell whose it is")?;
                if self.deaths == Deaths::Rolled || !has_died(pid).await {
                    self.ledger.wrong(format!(
                        "the agent of {} was not killed and did not answer a {method}: {why}",
                        agent.node
                    ));
                }
                Ok(Err(why))
            }
        }
    }

    /// Sends an ADD. Nothing if no answer came.
    pub(super) async fn add_once(
        &self,
        agent: &Agent,
        add: &IpamAddArgs,
    ) -> Result<Option<Result<IpamAddResponse, String>>> {
        let started = Instant::now();
        let Ok(answer) = self.ask(agent, ADD_LIMIT, "POST", add).await? else {
            return Ok(None);
        };
        let took = started.elapsed();
        if answer.status != 200 {
            let reason = answer.reason()?;
            self.in_trouble(&add.pod_uid, &reason);
            self.refused(&reason);
            return Ok(Some(Err(reason)));
        }
        let response: IpamAddResponse = serde_json::from_str(&answer.body).context("understanding an answer")?;
        self.figures.answered.fetch_add(1, Ordering::Relaxed);
        self.figures
            .times
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(took);
        self.ledger
            .answered(&add.pod_uid, &add.container_id, &addresses(&response, &add.if_name)?);
        Ok(Some(Ok(response)))
    }
}

/// Whether a process has died, or does so within a moment: its connections end before it does.
async fn has_died(pid: i32) -> bool {
    let end = Instant::now() + DYING;
    loop {
        let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else {
            return true;
        };
        // Its name may have brackets too.
        let state = stat.rsplit_once(") ").map(|(_, rest)| rest);
        if state.is_some_and(|state| state.starts_with(['Z', 'X'])) {
            return true;
        }
        if Instant::now() > end {
            return false;
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// What a NIC was given. An answer tells of all NICs of the pod.
pub(crate) fn addresses(answer: &IpamAddResponse, nic: &str) -> Result<Vec<IpAddr>> {
    let host = |text: &str| text.split('/').next().unwrap_or_default().parse();
    let own = answer.ips.iter().filter(|ip| ip.nic == nic);
    let addresses = own.map(|ip| host(&ip.address));
    addresses.collect::<Result<_, _>>().context("an address of an answer")
}

/// Notes a DEL on the node as the plugin does that finds no agent.
pub(crate) fn note(agent: &Agent, del: &IpamDelArgs) -> Result<()> {
    let unfit = |unfit: journal::Unfit| anyhow::anyhow!("a DEL cannot be noted: {unfit}");
    let name = journal::file_name(del).map_err(unfit)?;
    let text = journal::encode(del).map_err(unfit)?;
    let folder = agent.journal();
    std::fs::create_dir_all(&folder).context("making the journal")?;
    let unfinished = folder.join(journal::unfinished_name(&name, std::process::id()));
    std::fs::write(&unfinished, text).context("writing an entry of the journal")?;
    std::fs::rename(&unfinished, folder.join(&name)).context("writing an entry of the journal")
}
