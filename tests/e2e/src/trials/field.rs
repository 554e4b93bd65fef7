//! What trials beside storms have in common: agents, pods with sandboxes at them, and a ledger of who has what.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use spiderpool_wire::{IpamAddArgs, IpamAddResponse};

use crate::agents::{Agent, Options, add_args, del_args, remove_pod};
use crate::scene::Scene;
use crate::socket::{Asked, IP};
use crate::storm::ledger::Ledger;
use crate::storm::rest::{self, Owners};
use crate::workload::Annotations;

/// An agent answers an ADD within this, on a machine that does much else.
const ADD_LIMIT: Duration = Duration::from_secs(40);

/// A pod with a sandbox.
pub(super) struct Guest {
    pub(super) pod: Pod,
    pub(super) agent: Arc<Agent>,
    pub(super) add: IpamAddArgs,
    pub(super) addresses: Vec<IpAddr>,
}

/// What became of an ADD.
pub(super) enum Added {
    /// It was answered with addresses.
    Given(Vec<IpAddr>),
    /// It was refused.
    Refused(String),
    /// There was no answer.
    Nothing,
}

/// Runs a trial with agents of its own, which are removed afterwards. They do not run yet.
pub(super) async fn with_agents<T>(
    scene: &Scene,
    count: usize,
    options: impl Fn(usize) -> Options,
    trial: impl AsyncFnOnce(&[Arc<Agent>]) -> Result<T>,
) -> Result<T> {
    let mut agents = Vec::new();
    let mut outcome = Ok(());
    for number in 0..count {
        match Agent::make(&scene.cluster, &scene.own(&format!("trial{number}")), &options(number)).await {
            Ok(agent) => agents.push(Arc::new(agent)),
            Err(error) => {
                outcome = Err(error);
                break;
            }
        }
    }
    let outcome = match outcome {
        Ok(()) => trial(&agents).await,
        Err(error) => Err(error),
    };
    for agent in &agents {
        let removed = agent.remove().await;
        // The failure is what is told.
        if outcome.is_ok() {
            removed?;
        }
    }
    outcome
}

/// Runs agents and waits until they serve.
pub(super) async fn run_all(agents: &[Arc<Agent>]) -> Result<()> {
    for agent in agents {
        agent.run(&[]).await?;
    }
    for agent in agents {
        agent.serves().await?;
    }
    Ok(())
}

/// Makes a pod for an agent, without addresses.
pub(super) async fn make(scene: &Scene, agent: &Arc<Agent>, name: &str, wish: &Annotations) -> Result<Guest> {
    let pod = agent.make_pod(&scene.namespace, name, wish).await?;
    let add = add_args(&pod, &format!("sandbox-{name}"));
    agent.sandboxes.begin(&add.container_id)?;
    Ok(Guest {
        pod,
        agent: agent.clone(),
        add,
        addresses: Vec::new(),
    })
}

impl Guest {
    pub(super) fn uid(&self) -> String {
        self.pod.uid().unwrap_or_default()
    }

    /// Sends its ADD.
    pub(super) async fn add(&mut self, ledger: &Ledger) -> Result<Added> {
        let answer = match self.agent.ask_within(ADD_LIMIT, "POST", &self.add).await? {
            Asked::Answered(answer) => answer,
            Asked::NotTaken(_) | Asked::Unanswered { .. } => return Ok(Added::Nothing),
        };
        if answer.status != 200 {
            return Ok(Added::Refused(answer.reason()?));
        }
        let given: IpamAddResponse = serde_json::from_str(&answer.body).context("understanding an answer")?;
        self.addresses = crate::storm::addresses(&given, &self.add.if_name)?;
        ledger.answered(&self.owner(), &self.add.container_id, &self.addresses);
        self.agent.sandboxes.attached(&self.add, &self.addresses)?;
        Ok(Added::Given(self.addresses.clone()))
    }

    /// Sends its ADD, which has to give addresses.
    pub(super) async fn must_add(&mut self, ledger: &Ledger) -> Result<Duration> {
        let began = Instant::now();
        match self.add(ledger).await? {
            Added::Given(_) => Ok(began.elapsed()),
            Added::Refused(reason) => anyhow::bail!("the ADD of {} was refused: {reason}", self.pod.name_any()),
            Added::Nothing => anyhow::bail!("the ADD of {} was not answered", self.pod.name_any()),
        }
    }

    /// Who it is in the ledger: a pod has other addresses at each of its interfaces.
    fn owner(&self) -> String {
        format!("{} {}", self.uid(), self.add.if_name)
    }

    /// Its pod is deleted, then its sandbox ends.
    pub(super) async fn end(&mut self, scene: &Scene, ledger: &Ledger) -> Result<()> {
        remove_pod(&scene.cluster.client, &self.pod).await?;
        self.end_sandbox(ledger).await
    }

    /// Its sandbox ends.
    pub(super) async fn end_sandbox(&mut self, ledger: &Ledger) -> Result<()> {
        let del = del_args(&self.add);
        ledger.ends(&del.container_id);
        let answer = self.agent.ask("DELETE", IP, &del).await?;
        ensure!(
            answer.status == 200,
            "the DEL of {} was answered with {answer:?}",
            self.pod.name_any()
        );
        self.addresses.clear();
        self.agent.sandboxes.end(&del)
    }
}

/// Who has which address.
pub(super) fn owners<'a>(scene: &Scene, guests: impl IntoIterator<Item = &'a Guest>) -> Owners {
    let of = |guest: &Guest| rest::owner(&scene.namespace, &guest.pod.name_any(), &guest.uid());
    let each = guests
        .into_iter()
        .flat_map(|guest| guest.addresses.iter().map(move |ip| (*ip, of(guest))));
    each.collect()
}

/// Requires that no address had two owners, and that pools and endpoints say what the pods know.
pub(super) async fn settle(scene: &Scene, ledger: &Ledger, owners: &Owners) -> Result<()> {
    rest::agrees(scene, owners).await?;
    let wrongs = ledger.wrongs();
    ensure!(wrongs.is_empty(), "what must never happen did:\n{}", wrongs.join("\n"));
    Ok(())
}
