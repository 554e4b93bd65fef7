//! Trials that are left out of `cargo xtask test`, since they take long or stop what everybody needs, and a soak of all trials.
//! `cargo xtask soak NAME` runs one of them; `cargo xtask soak` runs all for as long as it is told to.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::api::DeleteParams;
use kube::runtime::watcher;
use spiderpool_crds::IPPoolSpec;
use spiderpool_e2e::cluster::Cluster;
use spiderpool_e2e::figures::show;
use spiderpool_e2e::life::Workload;
use spiderpool_e2e::operators;
use spiderpool_e2e::pod::{Running, addresses_by_name};
use spiderpool_e2e::scene::{Scene, scene};
use spiderpool_e2e::shape::WorkloadKind;
use spiderpool_e2e::soak::{first_seed, number};
use spiderpool_e2e::trials::{Length, Trial, once, run};
use spiderpool_e2e::usage::Usage;
use spiderpool_e2e::wait::{self, LONG};
use spiderpool_e2e::workload::from_pools;

/// Says how many minutes the soak of all trials takes at least.
const MINUTES: &str = "SPIDERPOOL_MINUTES";

/// Each trial is done with so many seeds, however long that takes: about an hour on two cores.
const SEEDS: u64 = 5;

/// How long a trial is in its turn. Those whose size is the point are always long, the others when all have had their seeds.
const fn length(trial: Trial, turn: u64) -> Length {
    match trial {
        Trial::KilledAnywhere | Trial::WithoutOperator | Trial::CutOff | Trial::Restored => Length::Long,
        _ if turn >= SEEDS => Length::Long,
        _ => Length::Short,
    }
}

#[tokio::test]
async fn c1_killed_anywhere() -> Result<()> {
    run(Trial::KilledAnywhere).await
}

#[tokio::test]
async fn c3_repeated() -> Result<()> {
    run(Trial::Repeated).await
}

#[tokio::test]
async fn c5_old_news() -> Result<()> {
    run(Trial::OldNews).await
}

#[tokio::test]
async fn f5_rolled() -> Result<()> {
    run(Trial::Rolled).await
}

#[tokio::test]
async fn f6_without_operator() -> Result<()> {
    run(Trial::WithoutOperator).await
}

#[tokio::test]
async fn f7_outage() -> Result<()> {
    run(Trial::Outage).await
}

#[tokio::test]
async fn f8_overloaded() -> Result<()> {
    run(Trial::Overloaded).await
}

#[tokio::test]
async fn f10_restored() -> Result<()> {
    run(Trial::Restored).await
}

#[tokio::test]
async fn f11_wrong_clocks() -> Result<()> {
    run(Trial::WrongClocks).await
}

#[tokio::test]
async fn f12_expired() -> Result<()> {
    run(Trial::Expired).await
}

#[tokio::test]
async fn f14_slow_etcd() -> Result<()> {
    run(Trial::SlowEtcd).await
}

/// How often the pods of a set are made again.
const RESTARTS: usize = 10;

#[tokio::test]
async fn a_set_restarted_while_everything_is_checked_each_second() -> Result<()> {
    let cluster = Cluster::open().await?;
    operators::with_more(&cluster, &["--gc-interval-seconds=1"], async || {
        scene("checked", async |scene: &Scene| {
            let pool = scene.serving("exact", 4, ("10", "12"), IPPoolSpec::default()).await?;
            let kind = WorkloadKind::stateful_set();
            let web = Workload::new(scene, &kind, "web");
            web.make(3, &from_pools(&[&pool], &[])).await?;
            let mut pods = scene.running("web", 3, LONG).await?;
            let before = addresses_by_name(&pods);
            for round in 0..RESTARTS {
                let how = DeleteParams {
                    grace_period_seconds: round.is_multiple_of(2).then_some(0),
                    ..DeleteParams::default()
                };
                for pod in &pods {
                    scene
                        .api::<Pod>()
                        .delete(&pod.name, &how)
                        .await
                        .context("deleting a pod")?;
                }
                let config = watcher::Config::default().labels("app=web");
                pods = wait::objects(&scene.api::<Pod>(), config, "three new pods of the set", LONG, |now| {
                    let running: Vec<Running> = now.values().filter_map(Running::of).collect();
                    let is_new = |pod: &Running| pods.iter().all(|old| old.uid != pod.uid);
                    Ok((running.len() == 3 && running.iter().all(is_new)).then_some(running))
                })
                .await?;
                scene.distinct_addresses(&pods, 1).await?;
                ensure!(
                    addresses_by_name(&pods) == before,
                    "{:?} were {before:?}",
                    addresses_by_name(&pods)
                );
            }
            web.end().await
        })
        .await
    })
    .await
}

/// Trials that stop the programs of the product come first, so that these may show afterwards whether they stay as large as they are.
#[tokio::test]
async fn everything() -> Result<()> {
    let minutes = number(MINUTES)?.unwrap_or(0);
    let end = Instant::now() + Duration::from_secs(60 * minutes);
    let first = first_seed()?;
    let cluster = Cluster::open().await?;
    let mut failed = Vec::new();
    let mut attempt = async |trial: Trial, seed: u64| -> Result<()> {
        // One that fails is told, and does not keep the others from being tried.
        if let Err(error) = Box::pin(once(trial, seed, length(trial, seed - first))).await {
            show(trial.name(), format!("FAILED: {error:#}"))?;
            failed.push(format!("{} with seed {seed}", trial.name()));
        }
        Ok(())
    };
    for seed in first..first + SEEDS {
        for trial in Trial::ALL.into_iter().filter(|trial| trial.is_rough()) {
            attempt(trial, seed).await?;
        }
    }
    let mut usage = Usage::new(&cluster);
    usage.look()?;
    for seed in first.. {
        if seed >= first + SEEDS && Instant::now() >= end {
            break;
        }
        for trial in Trial::ALL.into_iter().filter(|trial| !trial.is_rough()) {
            if seed >= first + SEEDS && Instant::now() >= end {
                break;
            }
            attempt(trial, seed).await?;
            usage.look()?;
        }
        usage.report()?;
    }
    ensure!(failed.is_empty(), "failed: {}", failed.join(", "));
    usage.is_flat()
}
