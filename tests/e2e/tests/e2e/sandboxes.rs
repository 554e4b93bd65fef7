//! A pod's addresses are the pod's, not the sandbox's: they stay when the sandbox is made again, and go with the pod.

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::ListParams;
use kube::runtime::watcher;
use serde_json::json;
use spiderpool_crds::SpiderEndpoint;
use spiderpool_e2e::plugin::{Attachment, NETWORK, network, spiderpool};
use spiderpool_e2e::scene::{Scene, scene};
use spiderpool_e2e::wait::{self, LONG, SOON};
use spiderpool_e2e::workload::{deployment, from_subnets, job};

/// The sandbox that an endpoint's addresses were last set up in.
fn sandbox(endpoint: &SpiderEndpoint) -> Option<String> {
    endpoint.status.current.ips.first()?.container_id.clone()
}

#[tokio::test]
async fn a_sandbox_made_again_keeps_the_addresses() -> Result<()> {
    scene("made_again", async |scene: &Scene| {
        let wish = from_subnets(&[&scene.v4], &[&scene.v6], "+1");
        scene.create(&deployment("shop", 1, &wish)?).await?;
        let before = scene.running("shop", 1, LONG).await?.pop().context("no pod")?;
        let node = scene.cluster.node(&before.node)?;
        let endpoints = scene.api::<SpiderEndpoint>();
        let old = sandbox(&endpoints.get(&before.name).await?).context("the endpoint names no sandbox")?;
        let replayed = Attachment::of(scene, &before).await?.gone(&old);
        let processes = node.container(&old)?;
        ensure!(!processes.is_empty(), "sandbox {old} has no process on {}", node.name);
        for process in processes {
            process.kill()?;
        }
        let new = wait::object(&endpoints, &before.name, "another sandbox", LONG, |endpoint| {
            endpoint.and_then(sandbox).filter(|new| *new != old)
        })
        .await?;
        let after = scene.running("shop", 1, LONG).await?.pop().context("no pod")?;
        ensure!(after.uid == before.uid, "the pod was made again, not its sandbox");
        ensure!(
            after.addresses == before.addresses,
            "{:?} became {:?}",
            before.addresses,
            after.addresses
        );
        // The kubelet sends the DEL of a dead sandbox again when it collects its garbage, long after the new one runs.
        for _ in 0..3 {
            let conf = network("1.0.0", NETWORK, json!({}));
            let ended = spiderpool(node, "DEL", &conf, Some(&replayed)).await?;
            ended.result().context("the DEL of the older sandbox")?;
        }
        scene.distinct_addresses(&[after], 2).await?;
        let now = sandbox(&endpoints.get(&before.name).await?);
        ensure!(
            now.as_ref() == Some(&new),
            "the replayed DEL changed the sandbox of the endpoint to {now:?}"
        );
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_finished_job_leaves_its_addresses_though_it_stays() -> Result<()> {
    scene("finished_job", async |scene: &Scene| {
        let spec = spiderpool_crds::IPPoolSpec {
            ips: Some(vec![scene.ip(4, "10")]),
            ..Default::default()
        };
        let pool = scene.create_pool("single", 4, spec).await?.name_any();
        let wish = spiderpool_e2e::workload::from_pools(&[&pool], &[]);
        for round in ["first", "second"] {
            scene.create(&job(round, "sleep 1", &wish)?).await?;
            // Only one address: the second Job runs only if the first gave it back.
            wait::object(&scene.api::<Job>(), round, "the Job to end", LONG, |job| {
                let status = job?.status.as_ref()?;
                (status.succeeded == Some(1)).then_some(())
            })
            .await?;
            wait::object(&scene.pools(), &pool, "no record to be left", SOON, |pool| {
                pool?.records().ok()?.is_empty().then_some(())
            })
            .await?;
        }
        wait::objects(
            &scene.api::<SpiderEndpoint>(),
            watcher::Config::default(),
            "no endpoint to be left",
            SOON,
            |left| Ok(left.is_empty().then_some(())),
        )
        .await?;
        let pods = scene.api::<Pod>().list(&ListParams::default()).await?;
        ensure!(
            pods.items.len() == 2,
            "the pods of the Jobs are gone: {:?}",
            pods.items.iter().map(Pod::name_any).collect::<Vec<_>>()
        );
        Ok(())
    })
    .await
}

#[tokio::test]
async fn pods_deleted_by_force_leave_nothing() -> Result<()> {
    scene("by_force", async |scene: &Scene| {
        let wish = from_subnets(&[&scene.v4], &[&scene.v6], "+2");
        scene.create(&deployment("shop", 4, &wish)?).await?;
        let before = scene.running("shop", 4, LONG).await?;
        let force = kube::api::DeleteParams {
            grace_period_seconds: Some(0),
            ..Default::default()
        };
        for pod in &before {
            scene.api::<Pod>().delete(&pod.name, &force).await?;
        }
        let after = scene.running("shop", 4, LONG).await?;
        scene.distinct_addresses(&after, 2).await?;
        ensure!(
            before.iter().all(|old| after.iter().all(|new| new.uid != old.uid)),
            "a pod is still the old one"
        );
        Ok(())
    })
    .await
}
