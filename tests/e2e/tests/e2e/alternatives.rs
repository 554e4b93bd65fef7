//! Subnets that are full: the next of a list is used, the users are told at once, and addresses that come free go to whoever
//! waited longest.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::apps::v1::Deployment;
use kube::api::{Patch, PatchParams, PropagationPolicy};
use serde_json::json;
use spiderpool_crds::SpiderIPPool;
use spiderpool_crds::names::LABEL_OWNER_SUBNET;
use spiderpool_e2e::life::{Workload, size};
use spiderpool_e2e::scene::{Scene, scene};
use spiderpool_e2e::shape::WorkloadKind;
use spiderpool_e2e::wait::{LONG, SOON};
use spiderpool_e2e::workload::{Annotations, deployment, from_subnets};

/// How long users wait for an answer at most.
const AT_ONCE: Duration = Duration::from_secs(2);

/// A Deployment whose pods no node takes, so that nothing but its pool comes of it.
async fn idle(scene: &Scene, name: &str, replicas: i32, wish: &Annotations) -> Result<()> {
    let mut object: Deployment = deployment(name, replicas, wish)?;
    let spec = object.spec.as_mut().and_then(|spec| spec.template.spec.as_mut());
    spec.context("a Deployment without pod")?.node_selector =
        Some([("e2e.spiderpool.io/nowhere".to_owned(), "true".to_owned())].into());
    scene.create(&object).await.map(drop)
}

fn subnet_of(pool: &SpiderIPPool) -> &str {
    pool.label(LABEL_OWNER_SUBNET).unwrap_or_default()
}

/// Gives a further subnet another number of addresses.
async fn enlarge(scene: &Scene, subnet: &str, which: u8, addresses: u8) -> Result<()> {
    let change = json!({"spec": {"ips": [scene.further_range(which, addresses)]}});
    let subnets = scene.subnets();
    let changed = subnets
        .patch(subnet, &PatchParams::default(), &Patch::Merge(&change))
        .await;
    changed.map(drop).with_context(|| format!("enlarging {subnet}"))
}

#[tokio::test]
async fn an_application_stays_in_the_subnet_it_is_in() -> Result<()> {
    scene("stays", async |scene: &Scene| {
        let kind = WorkloadKind::deployment();
        let full = scene.further_subnet("full", 1, 4).await?;
        let holder = Workload::new(scene, &kind, "holder");
        idle(scene, "holder", 4, &from_subnets(&[&full], &[], "+0")).await?;
        holder.sized(4, 4).await?;
        let shop = Workload::new(scene, &kind, "shop");
        shop.make(1, &from_subnets(&[&full, &scene.v4], &[], "+1")).await?;
        let first = shop.sized(4, 2).await?;
        ensure!(subnet_of(&first) == scene.v4, "the pool is in {}", subnet_of(&first));
        scene.running("shop", 1, LONG).await?;
        holder.delete(PropagationPolicy::Background).await?;
        holder.no_pool("eth0", 4).await?;
        shop.scale(2).await?;
        let second = shop.sized(4, 3).await?;
        ensure!(
            kube::ResourceExt::uid(&first) == kube::ResourceExt::uid(&second) && subnet_of(&second) == scene.v4,
            "the application moved to {}",
            subnet_of(&second)
        );
        let pods = scene.running("shop", 2, LONG).await?;
        scene.distinct_addresses(&pods, 1).await.map(drop)
    })
    .await
}

#[tokio::test]
async fn a_subnet_too_small_is_told_and_used_once_it_is_enlarged() -> Result<()> {
    scene("too_small", async |scene: &Scene| {
        let kind = WorkloadKind::deployment();
        let small = scene.further_subnet("small", 1, 2).await?;
        let shop = Workload::new(scene, &kind, "shop");
        let began = Instant::now();
        idle(scene, "shop", 4, &from_subnets(&[&small], &[], "+1")).await?;
        scene
            .event("Deployment", "shop", "SubnetExhausted", &[&small], SOON)
            .await?;
        let took = began.elapsed();
        ensure!(took <= AT_ONCE, "the Event came only after {took:?}");
        let began = Instant::now();
        enlarge(scene, &small, 1, 6).await?;
        shop.sized(4, 5).await?;
        let took = began.elapsed();
        ensure!(took <= AT_ONCE, "the pool came only {took:?} after there was room");
        // A pool that is there grows by what there is.
        let began = Instant::now();
        shop.scale(9).await?;
        scene
            .event(
                "Deployment",
                "shop",
                "WaitingForAddresses",
                &[&small, "10 addresses"],
                SOON,
            )
            .await?;
        let took = began.elapsed();
        ensure!(took <= AT_ONCE, "the Event came only after {took:?}");
        shop.sized(4, 6).await?;
        let began = Instant::now();
        enlarge(scene, &small, 1, 20).await?;
        shop.sized(4, 10).await?;
        let took = began.elapsed();
        ensure!(took <= AT_ONCE, "the pool grew only {took:?} after there was room");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn who_waited_longer_is_served_first() -> Result<()> {
    scene("in_turn", async |scene: &Scene| {
        let kind = WorkloadKind::deployment();
        let subnet = scene.further_subnet("scarce", 1, 5).await?;
        let wish = from_subnets(&[&subnet], &[], "+0");
        let [holder, early, late] = ["holder", "early", "late"].map(|name| Workload::new(scene, &kind, name));
        idle(scene, "holder", 5, &wish).await?;
        holder.sized(4, 5).await?;
        idle(scene, "early", 3, &wish).await?;
        scene
            .event("Deployment", "early", "SubnetExhausted", &[&subnet], SOON)
            .await?;
        // Creation times have whole seconds.
        tokio::time::sleep(Duration::from_millis(1100)).await;
        idle(scene, "late", 2, &wish).await?;
        scene
            .event("Deployment", "late", "SubnetExhausted", &[&subnet], SOON)
            .await?;
        // Two addresses would do for the later one, but they are the earlier one's.
        holder.scale(3).await?;
        holder.sized(4, 3).await?;
        holder.scale(2).await?;
        let pool = early.sized(4, 3).await?;
        let none = late
            .pools("eth0", 4, "to be told", SOON, |pools| Some(pools.len()))
            .await?;
        ensure!(none == 0, "the later application has a pool already");
        ensure!(size(&pool) == 3, "{pool:?}");
        holder.delete(PropagationPolicy::Background).await?;
        late.sized(4, 2).await.map(drop)
    })
    .await
}

#[tokio::test]
async fn a_family_without_subnet_is_named() -> Result<()> {
    scene("half_missing", async |scene: &Scene| {
        let kind = WorkloadKind::deployment();
        let missing = scene.own("missing");
        idle(scene, "shop", 2, &from_subnets(&[&scene.v4], &[&missing], "+1")).await?;
        scene
            .event("Deployment", "shop", "SubnetNotFound", &["IPv6", &missing], SOON)
            .await?;
        Workload::new(scene, &kind, "shop").sized(4, 3).await?;
        // The subnet comes: so does the pool, by itself.
        let spec = spiderpool_crds::SubnetSpec {
            subnet: scene.further_network(6, 1),
            ips: Some(vec![format!(
                "{0}10-{0}20",
                scene.further_network(6, 1).replace("/64", "")
            )]),
            ..Default::default()
        };
        let began = Instant::now();
        scene.create_subnet("missing", spec).await?;
        Workload::new(scene, &kind, "shop").sized(6, 3).await?;
        let took = began.elapsed();
        ensure!(took <= AT_ONCE, "the pool came only {took:?} after its subnet");
        Ok(())
    })
    .await
}

/// A rolling update that starts a new pod first needs an address for it.
#[tokio::test]
async fn a_surge_without_spare_address_is_told_with_the_number_to_write() -> Result<()> {
    scene("surge", async |scene: &Scene| {
        let kind = WorkloadKind::deployment();
        for (name, number) in [("tight", "+0"), ("exact", "2"), ("spare", "+1")] {
            idle(scene, name, 2, &from_subnets(&[&scene.v4], &[], number)).await?;
        }
        scene
            .event("Deployment", "tight", "SurgeBlocked", &["+1"], SOON)
            .await?;
        scene
            .event("Deployment", "exact", "SurgeBlocked", &["+1"], SOON)
            .await?;
        let spare = Workload::new(scene, &kind, "spare");
        spare.sized(4, 3).await?;
        spare.scale(3).await?;
        spare.sized(4, 4).await?;
        // What was told about it goes through one queue, in turn: once it is resized, nothing is to come.
        scene.event("Deployment", "spare", "Resized", &[], SOON).await?;
        let events = scene
            .api::<k8s_openapi::api::core::v1::Event>()
            .list(&Default::default())
            .await?;
        let wrong = events.items.iter().find(|event| {
            event.reason.as_deref() == Some("SurgeBlocked") && event.involved_object.name.as_deref() == Some("spare")
        });
        ensure!(wrong.is_none(), "one address to spare is enough: {wrong:?}");
        Ok(())
    })
    .await
}
