//! An agent is cut off with its node, and its pods are deleted by force. What they have is given to nobody, since they may run on:
//! until the node is back and has ended them, or somebody deletes it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::api::core::v1::Node;
use kube::api::DeleteParams;
use kube::{Api, ResourceExt};
use spiderpool_crds::IPPoolSpec;

use super::Length;
use super::field::{Added, Guest, make, owners, run_all, settle, with_agents};
use crate::agents::{Agent, Options, remove_pod, without_kubelet};
use crate::proxy::{Faults, Proxy};
use crate::scene::Scene;
use crate::storm::ledger::Ledger;
use crate::storm::random::Random;
use crate::wait::LONG;
use crate::workload::from_pools;

/// Pods of the agent that is cut off, and of the other one. Together they have all addresses.
const PODS: (usize, usize) = (6, 4);

/// For how long it is cut off.
const AWAY: (Duration, Duration) = (Duration::from_secs(15), Duration::from_secs(60));

/// Pause between two ADDs that ask for an address that nobody may have.
const AGAIN: Duration = Duration::from_millis(500);

pub(super) async fn run(scene: &Scene, seed: u64, length: Length) -> Result<String> {
    let last = (9 + PODS.0 + PODS.1).to_string();
    let pool = scene.serving("few", 4, ("10", &last), IPPoolSpec::default()).await?;
    let wish = from_pools(&[&pool], &[]);
    let proxy = Proxy::start(&scene.cluster, Faults::NONE, Random::of(seed, 500)).await?;
    let options = |number: usize| Options {
        server: (number == 0).then(|| proxy.server()),
        ..Options::default()
    };
    // Either the machine comes back, or it was switched off and its Node is deleted.
    let comes_back = seed.is_multiple_of(2);
    with_agents(scene, 2, options, async |agents: &[Arc<Agent>]| {
        let [lost, other] = agents else { bail!("two agents were asked for") };
        run_all(agents).await?;
        let ledger = Ledger::default();
        let mut guests = Vec::new();
        for number in 0..PODS.0 + PODS.1 {
            let agent = if number < PODS.0 { lost } else { other };
            let mut guest = make(scene, agent, &format!("p{number}"), &wish).await?;
            guest.must_add(&ledger).await?;
            guests.push(guest);
        }
        settle(scene, &ledger, &owners(scene, &guests)).await?;
        proxy.cut(true);
        lost.heartbeat.lose().await?;
        for guest in guests.iter().take(PODS.0) {
            remove_pod(&scene.cluster.client, &guest.pod).await?;
        }
        let mut next = make(scene, other, "next", &wish).await?;
        let asked = refused(&mut next, &ledger, length.of(AWAY.0, AWAY.1)).await?;
        // Those that were deleted have theirs on record all the time, and so have the others.
        let pool_now = scene.pools().get(&pool).await.context("reading the pool")?;
        let records = pool_now.records().context("reading the records")?.len();
        ensure!(records == PODS.0 + PODS.1, "the pool has {records} records");
        let rest = guests.split_off(PODS.0);
        let took = if comes_back {
            back(scene, lost, &proxy, guests, &mut next, &ledger).await?
        } else {
            switched_off(scene, lost, guests, &mut next, &ledger).await?
        };
        let mut rest = rest;
        rest.push(next);
        settle(scene, &ledger, &owners(scene, &rest)).await?;
        for guest in &mut rest {
            guest.end(scene, &ledger).await?;
        }
        settle(scene, &ledger, &owners(scene, &[])).await?;
        let how = if comes_back { "its agent was back" } else { "its Node was deleted" };
        Ok(format!(
            "seed {seed}: {asked} ADDs got none of {} addresses of pods on a lost node; one was given {took:?} after {how}",
            PODS.0
        ))
    })
    .await
}

/// Asks for an address again and again; nobody may have one.
async fn refused(next: &mut Guest, ledger: &Ledger, time: Duration) -> Result<usize> {
    let began = Instant::now();
    let mut asked = 0;
    while began.elapsed() < time {
        asked += 1;
        match next.add(ledger).await? {
            Added::Refused(_) => {}
            Added::Given(addresses) => bail!("{addresses:?} was given away, which a pod on a lost node may use"),
            Added::Nothing => bail!("an ADD was not answered"),
        }
        tokio::time::sleep(AGAIN).await;
    }
    Ok(asked)
}

/// Asks until there is an address; how long that took.
async fn given(next: &mut Guest, ledger: &Ledger) -> Result<Duration> {
    let began = Instant::now();
    loop {
        match next.add(ledger).await? {
            Added::Given(_) => return Ok(began.elapsed()),
            Added::Refused(reason) => ensure!(began.elapsed() < LONG, "no address in {LONG:?}: {reason}"),
            Added::Nothing => bail!("an ADD was not answered"),
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// The node is back, and its kubelet ends what was deleted.
async fn back(
    scene: &Scene,
    lost: &Arc<Agent>,
    proxy: &Proxy,
    mut guests: Vec<Guest>,
    next: &mut Guest,
    ledger: &Ledger,
) -> Result<Duration> {
    proxy.cut(false);
    lost.heartbeat.find().await?;
    lost.serves().await?;
    // Its sandboxes still run.
    let records = scene
        .own_pools()
        .await?
        .iter()
        .map(|pool| pool.records().map_or(0, |records| records.len()))
        .sum::<usize>();
    ensure!(
        records == PODS.0 + PODS.1,
        "the pool has {records} records before a sandbox of the node was ended"
    );
    for guest in &mut guests {
        guest.end_sandbox(ledger).await?;
    }
    given(next, ledger).await
}

/// The machine is off, and its Node is deleted.
async fn switched_off(
    scene: &Scene,
    lost: &Arc<Agent>,
    guests: Vec<Guest>,
    next: &mut Guest,
    ledger: &Ledger,
) -> Result<Duration> {
    lost.kill().await?;
    for guest in &guests {
        ledger.ends(&guest.add.container_id);
    }
    let nodes: Api<Node> = Api::all(scene.cluster.client.clone());
    let deleted = nodes.delete(&lost.node, &DeleteParams::default()).await;
    deleted.context("deleting the Node")?;
    let took = given(next, ledger).await?;
    // The trial's end removes it again.
    let again = without_kubelet(&lost.node)?;
    let made = nodes.create(&kube::api::PostParams::default(), &again).await;
    made.with_context(|| format!("making the Node {} again", again.name_any()))?;
    Ok(took)
}
