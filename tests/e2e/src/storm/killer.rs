//! Lets agents die at named points of their work and at any other time, and runs them again.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Result, ensure};
use tokio::sync::watch;

use super::random::Random;
use crate::agents::Agent;

/// The agent's variable: the point and how often it is to be passed.
const VARIABLE: &str = "SPIDERPOOL_KILL_AT";

/// The points between an ADD and its answer, and between a DEL and its answer.
const POINTS: [&str; 22] = [
    "add-accepted",
    "add-pod-found",
    "add-chosen",
    "claim-queued",
    "write-planned",
    "write-before",
    "write-under-way",
    "write-acknowledged",
    "add-claimed",
    "endpoint-planned",
    "endpoint-before",
    "endpoint-written",
    "add-answered",
    "give-back-before",
    "give-back-done",
    "del-accepted",
    "del-pod-found",
    "release-queued",
    "del-released",
    "endpoint-let-go",
    "endpoint-deleted",
    "del-answered",
];

/// An agent whose point did not come is killed wherever it is.
const LIFE: (Duration, Duration) = (Duration::from_millis(2000), Duration::from_millis(6000));

/// How often a point is passed before the agent dies at it, at most.
const PASSES: u64 = 8;

/// Killed at no named point.
const ANYWHERE: &str = "anywhere";

/// How often agents were killed, by point.
pub(super) type Kills = Mutex<BTreeMap<&'static str, usize>>;

/// Kills an agent again and again until the storm is over. Then it runs without orders.
pub(super) async fn haunt(
    agent: &Agent,
    mut random: Random,
    kills: &Kills,
    mut over: watch::Receiver<bool>,
) -> Result<()> {
    let mut points = POINTS;
    random.shuffle(&mut points);
    for point in points.iter().cycle() {
        let order = format!("{point}:{}", 1 + random.below(PASSES));
        agent.run(&[(VARIABLE, order)]).await?;
        let life = random.between(LIFE.0, LIFE.1);
        let named = tokio::select! {
            ended = agent.ended() => {
                ensure!(ended?, "the agent of {} ended by itself", agent.node);
                Some(point)
            }
            () = tokio::time::sleep(life) => None,
            _ = over.wait_for(|over| *over) => None,
        };
        if named.is_none() {
            agent.kill().await?;
        }
        count(kills, named.copied().unwrap_or(ANYWHERE));
        if *over.borrow() {
            break;
        }
    }
    agent.run(&[]).await?;
    agent.serves().await
}

fn count(kills: &Kills, point: &'static str) {
    let mut kills = kills.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    *kills.entry(point).or_default() += 1;
}
