//! An agent is killed at each named point between a request and its answer. The request is repeated as runtimes do, and ends as if
//! nothing had happened.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures::future::try_join_all;
use spiderpool_crds::IPPoolSpec;

use super::Length;
use super::field::{Added, Guest, make, owners, settle, with_agents};
use crate::agents::{Agent, Options, del_args, remove_pod};
use crate::scene::Scene;
use crate::socket::Asked;
use crate::storm::killer::{POINTS, VARIABLE};
use crate::storm::ledger::Ledger;
use crate::storm::random::Random;
use crate::workload::{Annotations, from_pools};

/// Agents that are killed at the same time.
const AGENTS: usize = 4;

/// How often the agent passes each point with another seed.
const ROUNDS: (usize, usize) = (1, 3);

/// Begins the names of points that only an ADD passes that gives back what it took.
const GIVES_BACK: &str = "give-back";

/// Points that a DEL passes.
const OF_DEL: [&str; 7] = [
    "del-accepted",
    "del-pod-found",
    "release-queued",
    "del-released",
    "endpoint-let-go",
    "endpoint-deleted",
    "del-answered",
];

/// An agent waits so long for an order that a request would pass before.
const DIES_WITHIN: Duration = Duration::from_secs(36);

struct Field<'a> {
    scene: &'a Scene,
    ledger: Ledger,
    /// Pools with room.
    room: Annotations,
    /// A pool of the second family is full.
    half: Annotations,
}

pub(super) async fn run(scene: &Scene, seed: u64, length: Length) -> Result<String> {
    let v4 = scene.serving("room4", 4, ("10", "60"), IPPoolSpec::default()).await?;
    let v6 = scene.serving("room6", 6, ("20", "60"), IPPoolSpec::default()).await?;
    let full = scene.serving("full6", 6, ("10", "10"), IPPoolSpec::default()).await?;
    let field = Field {
        scene,
        ledger: Ledger::default(),
        room: from_pools(&[&v4], &[&v6]),
        half: from_pools(&[&v4], &[&full]),
    };
    with_agents(
        scene,
        AGENTS,
        |_| Options::default(),
        async |agents: &[Arc<Agent>]| {
            let (first, _) = agents.split_first().context("no agents")?;
            first.run(&[]).await?;
            first.serves().await?;
            let mut holder = make(scene, first, "holder", &from_pools(&[], &[&full])).await?;
            holder.must_add(&field.ledger).await?;
            first.kill().await?;
            let mut slowest = (Duration::ZERO, "");
            for round in 0..length.of(ROUNDS.0, ROUNDS.1) {
                let mut points = POINTS.map(|(point, _)| point);
                Random::of(seed, round as u64).shuffle(&mut points);
                let share = points.len().div_ceil(AGENTS);
                let work = agents.iter().zip(points.chunks(share)).map(async |(agent, points)| {
                    let mut slowest = (Duration::ZERO, "");
                    for point in points {
                        let took = field.die_at(agent, point, round).await;
                        let took = took.with_context(|| format!("an agent that dies at {point}"))?;
                        slowest = slowest.max((took, *point));
                    }
                    anyhow::Ok(slowest)
                });
                slowest = try_join_all(work).await?.into_iter().fold(slowest, Ord::max);
                settle(scene, &field.ledger, &owners(scene, [&holder])).await?;
            }
            first.run(&[]).await?;
            first.serves().await?;
            holder.end(scene, &field.ledger).await?;
            settle(scene, &field.ledger, &owners(scene, &[])).await?;
            Ok(format!(
                "seed {seed}: agents died at each of {} points; the slowest repeated request took {:?} ({})",
                POINTS.len(),
                slowest.0,
                slowest.1
            ))
        },
    )
    .await
}

impl Field<'_> {
    /// Lets an agent die at a point, and requires that all is well afterwards. How long the repeated request took.
    async fn die_at(&self, agent: &Arc<Agent>, point: &str, round: usize) -> Result<Duration> {
        let of_del = OF_DEL.contains(&point);
        let gives_back = point.starts_with(GIVES_BACK);
        let wish = if gives_back { &self.half } else { &self.room };
        let mut guest = make(self.scene, agent, &format!("{point}-{round}"), wish).await?;
        let order = (VARIABLE, format!("{point}:1"));
        if of_del {
            agent.run(&[]).await?;
            agent.serves().await?;
            guest.must_add(&self.ledger).await?;
            remove_pod(&self.scene.cluster.client, &guest.pod).await?;
            agent.kill().await?;
        }
        agent.run(&[order]).await?;
        agent.serves().await?;
        self.request(&mut guest, of_del).await?;
        let died = tokio::time::timeout(DIES_WITHIN, agent.ended()).await;
        ensure!(died.context("it did not die")??, "the agent ended by itself");
        agent.run(&[]).await?;
        agent.serves().await?;
        let began = Instant::now();
        if of_del {
            guest.end_sandbox(&self.ledger).await?;
        } else if gives_back {
            let again = guest.add(&self.ledger).await?;
            ensure!(
                matches!(again, Added::Refused(_)),
                "the ADD was not refused though a family has no address left"
            );
        } else {
            guest.must_add(&self.ledger).await?;
        }
        let took = began.elapsed();
        if !of_del {
            guest.end(self.scene, &self.ledger).await?;
        }
        agent.kill().await?;
        Ok(took)
    }

    /// Sends the request that passes the point. It may be answered before the agent dies.
    async fn request(&self, guest: &mut Guest, of_del: bool) -> Result<()> {
        if !of_del {
            return guest.add(&self.ledger).await.map(drop);
        }
        let del = del_args(&guest.add);
        self.ledger.ends(&del.container_id);
        match guest.agent.ask_within(DIES_WITHIN, "DELETE", &del).await? {
            Asked::Answered(answer) => ensure!(answer.status == 200, "the DEL was answered with {answer:?}"),
            Asked::NotTaken(_) | Asked::Unanswered { .. } => {}
        }
        Ok(())
    }
}
