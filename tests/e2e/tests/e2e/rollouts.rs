//! Argo Rollouts, by its real controller: one pool over releases, whose pods belong to ever new ReplicaSets.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::runtime::watcher;
use serde_json::json;
use spiderpool_crds::SpiderIPPool;
use spiderpool_e2e::life::Workload;
use spiderpool_e2e::scene::{Scene, scene};
use spiderpool_e2e::shape::WorkloadKind;
use spiderpool_e2e::wait::{self, LONG};
use spiderpool_e2e::workload::from_subnets;

/// The label of a pod that tells its ReplicaSet.
const HASH: &str = "rollouts-pod-template-hash";

/// Waits until only pods of the newest release are left, and gives its hash.
async fn released(scene: &Scene, pods: usize, before: &BTreeSet<String>) -> Result<String> {
    let what = format!("{pods} pods of a new release");
    let config = watcher::Config::default().labels("app=shop");
    let hash = wait::objects(&scene.api::<Pod>(), config, &what, LONG, |all| {
        let hashes: BTreeSet<&String> = all.values().filter_map(|pod| pod.labels().get(HASH)).collect();
        let new = hashes.len() == 1 && all.len() == pods;
        Ok(hashes
            .first()
            .filter(|hash| new && !before.contains(**hash))
            .map(|hash| (*hash).clone()))
    })
    .await?;
    scene.running("shop", pods, LONG).await?;
    Ok(hash)
}

#[tokio::test]
async fn a_rollout_keeps_its_pools_over_releases() -> Result<()> {
    scene("releases", async |scene: &Scene| {
        let kind = WorkloadKind::rollout();
        let rollout = Workload::new(scene, &kind, "shop");
        let wish = from_subnets(&[&scene.v4], &[&scene.v6], "+1");
        rollout.make(2, &wish).await?;
        let mut hashes = BTreeSet::new();
        hashes.insert(released(scene, 2, &hashes).await?);
        let first = identities(&rollout).await?;
        for release in ["2", "3"] {
            rollout.annotate(&json!({"example.com/release": release})).await?;
            hashes.insert(released(scene, 2, &hashes).await?);
            let pods = scene.running("shop", 2, LONG).await?;
            scene.distinct_addresses(&pods, 2).await?;
            let now = identities(&rollout).await?;
            ensure!(now == first, "the pools {first:?} became {now:?} by release {release}");
        }
        let sets = scene.api::<ReplicaSet>().list(&Default::default()).await?;
        ensure!(
            sets.items.len() == 3,
            "three releases have {} ReplicaSets",
            sets.items.len()
        );
        let others = scene.own_pools().await?;
        ensure!(others.len() == 2, "the scene has {} pools", others.len());
        rollout.scale(3).await?;
        rollout.sized(4, 4).await?;
        let pods = scene.running("shop", 3, LONG).await?;
        scene.distinct_addresses(&pods, 2).await?;
        rollout.scale(1).await?;
        rollout.sized(6, 2).await?;
        scene.running("shop", 1, LONG).await?;
        let now = identities(&rollout).await?;
        ensure!(now == first, "the pools {first:?} became {now:?}");
        rollout.end().await?;
        scene.nothing_stays().await
    })
    .await
}

/// Names and UIDs of the pools of both families.
async fn identities(rollout: &Workload<'_>) -> Result<Vec<(String, String)>> {
    let mut all = Vec::new();
    for version in [4, 6] {
        let pool: SpiderIPPool = rollout.pool("eth0", version, "that is there", LONG, |_| true).await?;
        all.push((pool.name_any(), pool.uid().context("a pool without UID")?));
    }
    Ok(all)
}
