//! An address that rests before another pod gets it, at agents whose clocks do not agree.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use kube::ResourceExt;
use kube::api::{Patch, PatchParams};
use serde_json::json;
use spiderpool_crds::IPPoolSpec;

use super::field::{Added, make, owners, run_all, settle, with_agents};
use crate::agents::{Agent, Options};
use crate::ranges::serves;
use crate::scene::Scene;
use crate::storm::CLOCK;
use crate::storm::ledger::Ledger;
use crate::workload::from_pools;

/// How long the address rests.
const REST: Duration = Duration::from_secs(6);

/// How often it passes from one agent to the other.
const TURNS: usize = 4;

/// Pause between two ADDs that ask for it.
const AGAIN: Duration = Duration::from_millis(200);

/// Agents whose clocks are wrong by so many seconds pass an address on. Each time it has to rest for half to twice its time.
pub(super) async fn pass_on(scene: &Scene, clocks: i64) -> Result<String> {
    let pool = scene.serving("rests", 4, ("200", "200"), IPPoolSpec::default()).await?;
    let change = json!({"spec": {"reuseCooldown": REST.as_secs(), "reuseWhenCooling": "Wait"}});
    let pools = scene.pools();
    let changed = pools
        .patch(&pool, &PatchParams::default(), &Patch::Merge(&change))
        .await;
    changed.context("letting the addresses of a pool rest")?;
    serves(&pools, &pool).await?;
    let wish = from_pools(&[&pool], &[]);
    let options = |number: usize| {
        let offset = if number == 0 { clocks } else { -clocks };
        Options {
            environment: vec![(CLOCK, offset.to_string())],
            ..Options::default()
        }
    };
    with_agents(scene, 2, options, async |agents: &[Arc<Agent>]| {
        run_all(agents).await?;
        let ledger = Ledger::default();
        let mut rests = Vec::new();
        let first = agents.first().context("no agent")?;
        let mut has = make(scene, first, "rests-0", &wish).await?;
        has.must_add(&ledger).await?;
        for turn in 1..=TURNS {
            let mut next = make(scene, &agents[turn % agents.len()], &format!("rests-{turn}"), &wish).await?;
            has.end(scene, &ledger).await?;
            let freed = Instant::now();
            loop {
                match next.add(&ledger).await? {
                    Added::Given(_) => break,
                    Added::Refused(reason) => ensure!(
                        freed.elapsed() <= 2 * REST,
                        "{} has no address {:?} after it was freed: {reason}",
                        next.pod.name_any(),
                        freed.elapsed()
                    ),
                    Added::Nothing => anyhow::bail!("the ADD of {} was not answered", next.pod.name_any()),
                }
                tokio::time::sleep(AGAIN).await;
            }
            let rested = freed.elapsed();
            ensure!(
                rested >= REST / 2,
                "an address that is to rest for {REST:?} rested for {rested:?}"
            );
            rests.push(rested);
            has = next;
        }
        has.end(scene, &ledger).await?;
        settle(scene, &ledger, &owners(scene, &[])).await?;
        Ok(format!("an address that is to rest for {REST:?} rested for {rests:?}"))
    })
    .await
}
