//! Kinds that Kubernetes does not have: CloneSets, and one that nobody has heard of.

use anyhow::{Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::api::PropagationPolicy;
use serde_json::json;
use spiderpool_crds::names::LABEL_OWNER_APP_KIND;
use spiderpool_e2e::life::Workload;
use spiderpool_e2e::own_kind::OwnKind;
use spiderpool_e2e::scene::{Scene, scene};
use spiderpool_e2e::shape::WorkloadKind;
use spiderpool_e2e::wait::LONG;
use spiderpool_e2e::workload::from_subnets;

#[tokio::test]
async fn a_clone_set_scaled_up_and_down_is_followed() -> Result<()> {
    scene("clone_set_scaled", async |scene: &Scene| {
        let kind = WorkloadKind::clone_set();
        let clones = Workload::new(scene, &kind, "clones");
        let wish = from_subnets(&[&scene.v4], &[&scene.v6], "+1");
        clones.make(2, &wish).await?;
        for (pods, addresses) in [(2, 3), (5, 6), (1, 2)] {
            clones.scale(pods).await?;
            for version in [4, 6] {
                clones.sized(version, addresses).await?;
            }
            let running = scene.running("clones", usize::try_from(pods)?, LONG).await?;
            scene.distinct_addresses(&running, 2).await?;
        }
        clones.end().await?;
        scene.nothing_stays().await
    })
    .await
}

#[tokio::test]
async fn a_kind_nobody_listed_has_pools_from_its_first_pod_on() -> Result<()> {
    scene("unlisted", async |scene: &Scene| {
        let own = OwnKind::new(scene, "Fleet");
        own.define().await?;
        own.grant().await?;
        let wish = from_subnets(&[&scene.v4], &[], "+1");
        let first = Workload::new(scene, &own.kind, "first");
        first.make(2, &wish).await?;
        own.make_pod(&first, "first-0", &wish).await?;
        let pool = first.sized(4, 3).await?;
        ensure!(
            pool.label(LABEL_OWNER_APP_KIND) == Some("Fleet"),
            "the pool is of {:?}",
            pool.label(LABEL_OWNER_APP_KIND)
        );
        own.make_pod(&first, "first-1", &wish).await?;
        let pods = scene.running("first", 2, LONG).await?;
        scene.distinct_addresses(&pods, 1).await?;
        // The kind is known now, so nobody waits for pods of the next ones.
        let second = Workload::new(scene, &own.kind, "second");
        second.make(2, &wish).await?;
        second.sized(4, 3).await?;
        second.scale(4).await?;
        second.sized(4, 5).await?;
        second.scale(0).await?;
        second.sized(4, 1).await?;
        let pods = scene
            .api::<Pod>()
            .list(&kube::api::ListParams::default().labels("app=second"))
            .await?;
        ensure!(pods.items.is_empty(), "the second has pods");
        second.delete(PropagationPolicy::Background).await?;
        second.no_pool("eth0", 4).await?;
        own.end(&first).await?;
        first.no_pool("eth0", 4).await?;
        own.remove().await
    })
    .await
}

#[tokio::test]
async fn a_kind_that_is_removed_and_comes_back_is_served_again() -> Result<()> {
    scene("comes_back", async |scene: &Scene| {
        let own = OwnKind::new(scene, "Squad");
        let wish = from_subnets(&[&scene.v4], &[], "+0");
        for _ in 0..2 {
            own.define().await?;
            own.grant().await?;
            let squad = Workload::new(scene, &own.kind, "squad");
            squad.make(3, &wish).await?;
            own.make_pod(&squad, "squad-0", &wish).await?;
            squad.sized(4, 3).await?;
            let pods = scene.running("squad", 1, LONG).await?;
            scene.distinct_addresses(&pods, 1).await?;
            own.end(&squad).await?;
            squad.no_pool("eth0", 4).await?;
            own.remove().await?;
        }
        Ok(())
    })
    .await
}

/// As the controllers of third parties do it that make ReplicaSets and not pods.
#[tokio::test]
async fn a_replica_set_of_a_kind_that_scales_uses_the_pools_of_that() -> Result<()> {
    scene("owned_replica_set", async |scene: &Scene| {
        let own = OwnKind::new(scene, "Band");
        own.define().await?;
        own.grant().await?;
        let wish = from_subnets(&[&scene.v4], &[], "+1");
        let band = Workload::new(scene, &own.kind, "band");
        let uid = band.make(3, &wish).await?;
        let sets = WorkloadKind::replica_set();
        let set = Workload::new(scene, &sets, "band-1");
        let mut object = sets.workload("band-1", 1, &wish, "")?;
        object["metadata"]["ownerReferences"] = json!([{
            "apiVersion": own.kind.resource.api_version,
            "kind": own.kind.resource.kind,
            "name": "band",
            "uid": uid,
            "controller": true,
        }]);
        set.make_as(object, 1).await?;
        band.sized(4, 4).await?;
        let pods = scene.running("band-1", 1, LONG).await?;
        scene.distinct_addresses(&pods, 1).await?;
        let pools = scene.own_pools().await?;
        ensure!(pools.len() == 1, "there are {} pools", pools.len());
        // Its set goes with it.
        band.delete(PropagationPolicy::Background).await?;
        scene.running("band-1", 0, LONG).await?;
        band.no_pool("eth0", 4).await?;
        own.remove().await
    })
    .await
}
