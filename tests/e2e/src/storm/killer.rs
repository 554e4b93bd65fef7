//! Lets agents die at named points of their work and at any other time, and runs them again.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Result, ensure};
use tokio::sync::watch;
use tokio::time::Instant;

use super::random::Random;
use crate::agents::Agent;

/// The agent's variable: the point and how often it is to be passed.
pub(crate) const VARIABLE: &str = "SPIDERPOOL_KILL_AT";

/// The points between an ADD and its answer, and between a DEL and its answer. Each with how often it may be passed before the agent
/// dies there: the seldom ones would not be passed so often in an agent's life.
pub(crate) const POINTS: [(&str, u64); 22] = [
    ("add-accepted", OFTEN),
    ("add-pod-found", OFTEN),
    ("add-chosen", OFTEN),
    ("claim-queued", OFTEN),
    ("write-planned", OFTEN),
    ("write-before", OFTEN),
    ("write-under-way", OFTEN),
    ("write-acknowledged", OFTEN),
    ("add-claimed", SELDOM),
    ("endpoint-planned", SELDOM),
    ("endpoint-before", SELDOM),
    ("endpoint-written", SELDOM),
    ("add-answered", SELDOM),
    ("give-back-before", SELDOM),
    ("give-back-done", SELDOM),
    ("del-accepted", OFTEN),
    ("del-pod-found", SELDOM),
    ("release-queued", SELDOM),
    ("del-released", SELDOM),
    ("endpoint-let-go", SELDOM),
    ("endpoint-deleted", SELDOM),
    ("del-answered", SELDOM),
];

/// Passed by every request, and more than once by many.
const OFTEN: u64 = 6;

/// Passed by some requests only.
const SELDOM: u64 = 2;

/// An agent whose point did not come after this is killed wherever it is.
const LIFE: (Duration, Duration) = (Duration::from_millis(2000), Duration::from_millis(6000));

/// Of a hundred agents, so many have their life from their start on, and may not get to work.
const STARTING: u64 = 20;

/// Killed at no named point.
const ANYWHERE: &str = "anywhere";

/// The names of the points.
pub fn points() -> impl Iterator<Item = &'static str> {
    POINTS.into_iter().map(|(name, _)| name)
}

/// An agent died.
struct Kill {
    node: String,
    /// Where; nowhere in particular if absent.
    point: Option<&'static str>,
    at: Instant,
}

/// The agents that were killed.
#[derive(Default)]
pub(super) struct Kills {
    all: Mutex<Vec<Kill>>,
    named: watch::Sender<usize>,
}

impl Kills {
    fn all(&self) -> MutexGuard<'_, Vec<Kill>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, node: &str, point: Option<&'static str>) {
        let at = Instant::now();
        let node = node.to_owned();
        self.all().push(Kill { node, point, at });
        self.named.send_modify(|named| *named += usize::from(point.is_some()));
    }

    /// How often agents died at named points.
    pub(super) fn named(&self) -> usize {
        *self.named.borrow()
    }

    /// Waits until agents died at named points so often.
    pub(super) async fn has_named(&self, often: usize) {
        // The sender is here, so it does not go.
        let _ = self.named.subscribe().wait_for(|named| *named >= often).await;
    }

    /// How often agents died, by point.
    pub(super) fn by_point(&self) -> BTreeMap<&'static str, usize> {
        let mut counts = BTreeMap::new();
        for kill in self.all().iter() {
            *counts.entry(kill.point.unwrap_or(ANYWHERE)).or_default() += 1;
        }
        counts
    }

    /// The named points at which agents died.
    pub(super) fn points(&self) -> Vec<&'static str> {
        self.all().iter().filter_map(|kill| kill.point).collect()
    }

    /// Whether the agent of a Node was killed after a moment.
    pub(super) fn any_since(&self, node: &str, moment: Instant) -> bool {
        self.all().iter().any(|kill| kill.node == node && kill.at >= moment)
    }
}

/// Kills an agent again and again until the storm is over. Then it runs without orders.
pub(super) async fn haunt(
    agent: &Agent,
    mut random: Random,
    kills: &Kills,
    mut over: watch::Receiver<bool>,
) -> Result<()> {
    let mut points = POINTS;
    random.shuffle(&mut points);
    for (point, passes) in points.into_iter().cycle() {
        let order = format!("{point}:{}", 1 + random.below(passes));
        agent.run(&[(VARIABLE, order)]).await?;
        let life = random.between(LIFE.0, LIFE.1);
        let starting = random.percent(STARTING);
        let named = tokio::select! {
            ended = agent.ended() => {
                ensure!(ended?, "the agent of {} ended by itself", agent.node);
                Some(point)
            }
            () = lives(agent, starting, life) => None,
            _ = over.wait_for(|over| *over) => None,
        };
        if named.is_none() {
            agent.kill().await?;
        }
        kills.note(&agent.node, named);
        if *over.borrow() {
            break;
        }
    }
    agent.run(&[]).await?;
    agent.serves().await
}

/// How long one that is to be rolled serves before it is told to stop.
const SERVES: (Duration, Duration) = (Duration::from_millis(500), Duration::from_millis(3000));

/// Tells an agent to stop and runs it again, until the storm is over. It has to end well.
pub(super) async fn roll(
    agent: &Agent,
    mut random: Random,
    kills: &Kills,
    mut over: watch::Receiver<bool>,
) -> Result<()> {
    loop {
        agent.run(&[]).await?;
        agent.serves().await?;
        let life = random.between(SERVES.0, SERVES.1);
        let ended = tokio::time::timeout(life, over.wait_for(|over| *over)).await;
        if ended.is_ok() {
            return Ok(());
        }
        agent.stop().await?;
        kills.note(&agent.node, None);
    }
}

/// An agent's life is over. It begins when the agent serves: on a machine that has other things to do none would get so far.
async fn lives(agent: &Agent, starting: bool, life: Duration) {
    if !starting {
        // One that dies before is seen to have ended.
        let _ = agent.serves().await;
    }
    tokio::time::sleep(life).await;
}
