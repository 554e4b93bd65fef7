//! Trials that are storms.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::{Length, Trial, cooling};
use crate::disaster::Slow;
use crate::node::OPERATOR;
use crate::operators;
use crate::proxy::{EXPIRED, Faults, LISTS, Mix};
use crate::scene::Scene;
use crate::storm::{Deaths, Plan, blow};

/// An hour, in seconds.
const HOUR: i64 = 3600;

/// What is added to each answer of etcd.
const LATE: Duration = Duration::from_millis(100);

/// Kinds that an agent watches, rounded up: each is listed once when an agent starts.
const WATCHED: usize = 8;

fn plan(trial: Trial, seed: u64, length: Length) -> Plan {
    let seconds = |short, long| Duration::from_secs(length.of(short, long));
    let usual = Plan {
        seed,
        length: seconds(8, 20),
        longest: seconds(40, 90),
        enough: length.of(300, 1000),
        ..Plan::USUAL
    };
    match trial {
        Trial::KilledAnywhere => Plan {
            deaths: Deaths::Killed,
            // An ADD and a DEL for each.
            enough: length.of(300, 5000),
            longest: seconds(40, 240),
            ..usual
        },
        Trial::Repeated => Plan { repeated: 100, ..usual },
        Trial::OldNews => Plan {
            deaths: Deaths::Killed,
            length: seconds(15, 75),
            faults: Some(Faults {
                frozen: 100,
                expired: 10,
                stale: 100,
                frozen_for: seconds(10, 60),
                ..Faults::NONE
            }),
            disturbed: Some(1),
            ..usual
        },
        Trial::Rolled => Plan {
            deaths: Deaths::Rolled,
            // Nobody is refused since there is nothing left.
            addresses: 40,
            ..usual
        },
        Trial::WithoutOperator => Plan {
            without_operator: true,
            length: seconds(10, 60),
            agents: length.of(4, 10),
            ..usual
        },
        Trial::Outage => Plan {
            // No tricks, but what an API server that is away answers is no wonder.
            faults: Some(Faults::NONE),
            outage: Some(seconds(10, 60)),
            length: seconds(25, 90),
            longest: seconds(60, 150),
            ..usual
        },
        Trial::Overloaded => Plan {
            faults: Some(Faults {
                requests: 100,
                mix: Mix::Overloaded,
                ..Faults::NONE
            }),
            ..usual
        },
        Trial::WrongClocks => Plan { clocks: HOUR, ..usual },
        Trial::Expired => Plan {
            faults: Some(Faults {
                expired: 100,
                ..Faults::NONE
            }),
            ..usual
        },
        _ => usual,
    }
}

pub(super) async fn run(scene: &Scene, trial: Trial, seed: u64, length: Length) -> Result<String> {
    let plan = plan(trial, seed, length);
    let outcome = match trial {
        Trial::WithoutOperator => {
            let replicas = operators::replicas_of(&scene.cluster, OPERATOR).await?;
            let mut outcome = None;
            // Whatever becomes of the storm, there are operators afterwards.
            operators::with(&scene.cluster, replicas, async || {
                outcome = Some(Box::pin(blow(scene, &plan)).await?);
                Ok(())
            })
            .await?;
            outcome.context("a storm without outcome")?
        }
        Trial::Outage => {
            let outcome = Box::pin(blow(scene, &plan)).await?;
            operators::ready(&scene.cluster, operators::replicas_of(&scene.cluster, OPERATOR).await?).await?;
            outcome
        }
        Trial::WrongClocks => {
            let rested = Box::pin(cooling::pass_on(scene, HOUR)).await?;
            let outcome = Box::pin(blow(scene, &plan)).await?;
            return Ok(format!("{}; {rested}", outcome.text));
        }
        Trial::SlowEtcd => {
            let slow = Slow::start(&scene.cluster, LATE).await?;
            let outcome = Box::pin(blow(scene, &plan)).await;
            slow.end().await?;
            outcome?
        }
        _ => Box::pin(blow(scene, &plan)).await?,
    };
    if trial == Trial::Expired {
        let of = |what| outcome.counts.get(what).copied().unwrap_or_default();
        let (lists, expired) = (of(LISTS), of(EXPIRED));
        ensure!(
            lists <= expired + WATCHED * plan.agents,
            "{lists} lists were read for {expired} watches that expired"
        );
    }
    Ok(outcome.text)
}
