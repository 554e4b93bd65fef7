//! As many pods as addresses, at several agents, and all are replaced at once: a pod goes, and the next one has the last free
//! address, wherever that is. Nobody may be refused.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use futures::{StreamExt, TryStreamExt};
use spiderpool_crds::IPPoolSpec;

use super::Length;
use super::field::{Guest, make, owners, run_all, settle, with_agents};
use crate::agents::{Agent, Options};
use crate::scene::Scene;
use crate::storm::ledger::Ledger;
use crate::storm::random::Random;
use crate::workload::from_pools;

/// Pods that are replaced at the same time.
const AT_ONCE: usize = 32;

/// Agents.
const AGENTS: (usize, usize) = (4, 10);

/// Addresses, and pods.
const ADDRESSES: (u32, u32) = (64, 1000);

/// How often all are replaced.
const ROUNDS: (usize, usize) = (3, 4);

pub(super) async fn run(scene: &Scene, seed: u64, length: Length) -> Result<String> {
    let addresses = length.of(ADDRESSES.0, ADDRESSES.1);
    let (first, last) = (0x100, 0x100 + addresses - 1);
    let range = (format!("{first:x}"), format!("{last:x}"));
    let range = (range.0.as_str(), range.1.as_str());
    let pool = scene.serving("exact", 6, range, IPPoolSpec::default()).await?;
    let wish = from_pools(&[], &[&pool]);
    let count = length.of(AGENTS.0, AGENTS.1);
    with_agents(scene, count, |_| Options::default(), async |agents: &[Arc<Agent>]| {
        run_all(agents).await?;
        let ledger = Ledger::default();
        let mut random = Random::of(seed, 1);
        let place = |number: usize, round: usize| &agents[(number + round) % agents.len()];
        let fill = (0..addresses as usize).map(async |number| {
            let mut guest = make(scene, place(number, 0), &format!("p0-{number}"), &wish).await?;
            guest.must_add(&ledger).await?;
            anyhow::Ok(guest)
        });
        let mut guests: Vec<Guest> = futures::stream::iter(fill).buffer_unordered(AT_ONCE).try_collect().await?;
        settle(scene, &ledger, &owners(scene, &guests)).await?;
        let mut slowest = Duration::ZERO;
        let mut rounds = Vec::new();
        for round in 1..=length.of(ROUNDS.0, ROUNDS.1) {
            random.shuffle(&mut guests);
            let began = Instant::now();
            let replace = std::mem::take(&mut guests).into_iter().enumerate().map(async |(number, mut old)| {
                let mut new = make(scene, place(number, round), &format!("p{round}-{number}"), &wish).await?;
                old.end(scene, &ledger).await?;
                let took = new.must_add(&ledger).await?;
                anyhow::Ok((new, took))
            });
            let replaced: Vec<(Guest, Duration)> =
                futures::stream::iter(replace).buffer_unordered(AT_ONCE).try_collect().await?;
            rounds.push(began.elapsed());
            for (guest, took) in replaced {
                slowest = slowest.max(took);
                guests.push(guest);
            }
            let owners = owners(scene, &guests);
            ensure!(owners.len() == addresses as usize, "{} of {addresses} addresses are taken", owners.len());
            settle(scene, &ledger, &owners).await?;
        }
        let ends = guests.iter_mut().map(|guest| guest.end(scene, &ledger));
        futures::stream::iter(ends).buffer_unordered(AT_ONCE).try_collect::<Vec<()>>().await?;
        settle(scene, &ledger, &owners(scene, &[])).await?;
        Ok(format!(
            "seed {seed}: {addresses} pods on {addresses} addresses at {count} agents, all replaced in {rounds:?}, nobody refused; the \
             last one had its address {slowest:?} after it was free"
        ))
    })
    .await
}
