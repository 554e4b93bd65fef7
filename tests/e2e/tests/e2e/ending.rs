//! Pools that get smaller or go while their pods still live: pods that take their time to end, pods whose controller was
//! deleted without them, and annotations that were taken away.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::PropagationPolicy;
use serde_json::json;
use spiderpool_crds::SpiderIPPool;
use spiderpool_crds::conditions::find;
use spiderpool_crds::names::{
    ANNOTATION_IPPOOL, ANNOTATION_IPPOOLS, ANNOTATION_RECLAIM, ANNOTATION_SUBNET, ANNOTATION_SUBNETS,
    LABEL_OWNER_APP_UID, LABEL_OWNER_SUBNET,
};
use spiderpool_e2e::life::{Workload, size};
use spiderpool_e2e::scene::{Scene, scene};
use spiderpool_e2e::shape::WorkloadKind;
use spiderpool_e2e::wait::{self, LONG, SOON};
use spiderpool_e2e::workload::{Annotations, from_subnets};

/// A container that ends when it is told so by SIGUSR1 and not by SIGTERM.
const STUBBORN: &str = "trap '' TERM; trap 'exit 0' USR1; while true; do sleep 1000000 & wait $!; done";

/// Lets a stubborn pod end.
async fn release(scene: &Scene, pod: &str) -> Result<()> {
    wait::until(&format!("pod {pod} to be gone"), LONG, async || {
        // The command's own end may go with the container, and a node with much to do refuses some.
        let _ = scene.exec(pod, &["sh", "-c", "kill -USR1 1"]).await;
        let soon = Duration::from_secs(5);
        Ok(wait::gone(&scene.api::<Pod>(), pod, soon).await.ok())
    })
    .await
}

#[tokio::test]
async fn a_pool_shrinks_as_terminating_pods_go() -> Result<()> {
    scene("terminating", async |scene: &Scene| {
        let kind = WorkloadKind::deployment();
        let shop = Workload::new(scene, &kind, "shop");
        let wish = from_subnets(&[&scene.v4], &[], "+1");
        let mut object = kind.workload("shop", 10, &wish, "")?;
        object["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] = json!(600);
        object["spec"]["template"]["spec"]["containers"][0]["command"] = json!(["sh", "-c", STUBBORN]);
        shop.make_as(object, 10).await?;
        shop.sized(4, 11).await?;
        scene.running("shop", 10, LONG).await?;
        shop.scale(3).await?;
        let ending = wait::objects(
            &scene.api::<Pod>(),
            Default::default(),
            "seven pods to be ending",
            LONG,
            |pods| {
                let ending = pods.values().filter(|pod| pod.metadata.deletion_timestamp.is_some());
                let names: Vec<String> = ending.map(ResourceExt::name_any).collect();
                Ok((names.len() == 7).then_some(names))
            },
        )
        .await?;
        // The address that nobody has goes at once, the others with their pods.
        shop.sized(4, 10).await?;
        let told = |pool: &SpiderIPPool| {
            let conditions = pool.status.as_ref().and_then(|status| status.conditions.as_deref());
            find(conditions, "Shrinking").is_some_and(|shrinking| {
                shrinking.status == "True" && ending.iter().any(|pod| shrinking.message.contains(pod.as_str()))
            })
        };
        shop.pool("eth0", 4, "with a condition that names holders", SOON, told)
            .await?;
        scene.event("Deployment", "shop", "Shrinking", &[], SOON).await?;
        let (first, rest) = ending.split_first().context("no pod is ending")?;
        release(scene, first).await?;
        shop.sized(4, 9).await?;
        futures::future::try_join_all(rest.iter().map(|pod| release(scene, pod))).await?;
        shop.sized(4, 4).await?;
        let calm = |pool: &SpiderIPPool| {
            let conditions = pool.status.as_ref().and_then(|status| status.conditions.as_deref());
            find(conditions, "Shrinking").is_none_or(|shrinking| shrinking.status == "False")
        };
        shop.pool("eth0", 4, "no longer shrinking", SOON, calm).await?;
        let pods = scene.running("shop", 3, LONG).await?;
        scene.distinct_addresses(&pods, 1).await?;
        shop.delete(PropagationPolicy::Background).await?;
        let last = pods.iter().map(async |pod| {
            let ending = |pod: Option<&Pod>| {
                pod.is_none_or(|pod| pod.metadata.deletion_timestamp.is_some())
                    .then_some(())
            };
            wait::object(&scene.api::<Pod>(), &pod.name, "the pod to be ending", LONG, ending).await?;
            release(scene, &pod.name).await
        });
        futures::future::try_join_all(last).await?;
        shop.no_pool("eth0", 4).await
    })
    .await
}

#[tokio::test]
async fn a_workload_deleted_without_its_pods_is_taken_over_under_its_name() -> Result<()> {
    scene("orphans", async |scene: &Scene| {
        let kind = WorkloadKind::deployment();
        let shop = Workload::new(scene, &kind, "shop");
        let wish = from_subnets(&[&scene.v4], &[&scene.v6], "+1");
        shop.make(2, &wish).await?;
        let pods = scene.running("shop", 2, LONG).await?;
        let addresses = scene.distinct_addresses(&pods, 2).await?;
        let pool = shop.sized(4, 3).await?;
        shop.delete(PropagationPolicy::Orphan).await?;
        // Another application of the subnet comes and goes: the operator has looked at this one since.
        let other = Workload::new(scene, &kind, "other");
        other.make(0, &wish).await?;
        other.sized(4, 1).await?;
        other.delete(PropagationPolicy::Background).await?;
        other.no_pool("eth0", 4).await?;
        let left = scene
            .pools()
            .get(&pool.name_any())
            .await
            .context("the pool went before its pods")?;
        ensure!(
            left.metadata.deletion_timestamp.is_none(),
            "the pool of living pods is being deleted"
        );
        let uid = shop.make(2, &wish).await?;
        let ours = |pool: &SpiderIPPool| pool.label(LABEL_OWNER_APP_UID) == Some(&uid) && size(pool) == 3;
        let taken = shop.pool("eth0", 4, "taken over", LONG, ours).await?;
        ensure!(
            taken.uid() == pool.uid(),
            "{} became {}",
            pool.name_any(),
            taken.name_any()
        );
        let pods = scene.running("shop", 2, LONG).await?;
        let now = scene.distinct_addresses(&pods, 2).await?;
        ensure!(now == addresses, "the pods had {addresses:?} and have {now:?}");
        // Without anybody to take it over it goes with its last pod.
        shop.delete(PropagationPolicy::Orphan).await?;
        Workload::new(scene, &WorkloadKind::replica_set(), &replica_set(scene).await?)
            .delete(PropagationPolicy::Background)
            .await?;
        scene.running("shop", 0, LONG).await?;
        shop.no_pool("eth0", 4).await?;
        scene.nothing_stays().await
    })
    .await
}

/// The name of the scene's only ReplicaSet.
async fn replica_set(scene: &Scene) -> Result<String> {
    let sets = scene
        .api::<k8s_openapi::api::apps::v1::ReplicaSet>()
        .list(&Default::default())
        .await?;
    ensure!(sets.items.len() == 1, "{} ReplicaSets", sets.items.len());
    Ok(sets.items.first().context("no ReplicaSet")?.name_any())
}

#[tokio::test]
async fn a_family_that_is_no_longer_asked_for_drains() -> Result<()> {
    scene("family_removed", async |scene: &Scene| {
        let kind = WorkloadKind::deployment();
        let shop = Workload::new(scene, &kind, "shop");
        shop.make(1, &from_subnets(&[&scene.v4], &[&scene.v6], "+1")).await?;
        scene.running("shop", 1, LONG).await?;
        let first = shop.sized(4, 2).await?;
        shop.sized(6, 2).await?;
        let single = json!({"ipv4": [scene.v4]}).to_string();
        shop.annotate(&json!({ANNOTATION_SUBNET: single})).await?;
        shop.no_pool("eth0", 6).await?;
        let pods = scene.running("shop", 1, LONG).await?;
        scene.distinct_addresses(&pods, 1).await?;
        let kept = shop.sized(4, 2).await?;
        ensure!(kept.uid() == first.uid(), "the other family's pool is another one");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn an_annotation_that_is_taken_away_drains_the_pools() -> Result<()> {
    scene("annotation_removed", async |scene: &Scene| {
        let kind = WorkloadKind::deployment();
        let spec = scene.range(4, "200", "209");
        let named = scene.create_pool("named", 4, spec).await?.name_any();
        let wish = from_subnets(&[&scene.v4], &[], "+1");
        let kept = {
            let mut kept = wish.clone();
            kept.insert(ANNOTATION_RECLAIM.to_owned(), "false".to_owned());
            kept
        };
        for (name, wish) in [("going", wish), ("staying", kept)] {
            let workload = Workload::new(scene, &kind, name);
            workload.make(1, &wish).await?;
            workload.sized(4, 2).await?;
            scene.running(name, 1, LONG).await?;
            let pools = json!({"ipv4": [named]}).to_string();
            workload
                .annotate(&json!({ANNOTATION_SUBNET: null, ANNOTATION_IPPOOL: pools}))
                .await?;
        }
        Workload::new(scene, &kind, "going").no_pool("eth0", 4).await?;
        let staying = Workload::new(scene, &kind, "staying");
        let idle = |pool: &SpiderIPPool| pool.records().is_ok_and(|records| records.is_empty());
        let pool = staying.pool("eth0", 4, "without records", LONG, idle).await?;
        ensure!(pool.metadata.deletion_timestamp.is_none(), "the pool is being deleted");
        scene.running("staying", 1, LONG).await?;
        // It is the user's now.
        scene.pools().delete(&pool.name_any(), &Default::default()).await?;
        staying.no_pool("eth0", 4).await
    })
    .await
}

#[tokio::test]
async fn an_interface_that_is_no_longer_asked_for_drains() -> Result<()> {
    scene("nic_removed", async |scene: &Scene| {
        let kind = WorkloadKind::deployment();
        let shop = Workload::new(scene, &kind, "shop");
        let second = json!({"interface": "net1", "ipv4": [scene.v4]});
        let first = json!({"interface": "eth0", "ipv4": [scene.v4]});
        let wish = Annotations::from([
            (ANNOTATION_SUBNETS.to_owned(), json!([first, second]).to_string()),
            ("e2e.spiderpool.io/second-nic".to_owned(), "true".to_owned()),
        ]);
        shop.make(1, &wish).await?;
        scene.running("shop", 1, LONG).await?;
        for nic in ["eth0", "net1"] {
            shop.pool(nic, 4, "of 2 addresses", LONG, |pool| size(pool) == 2)
                .await?;
        }
        let fewer = json!([first]).to_string();
        shop.annotate(
            &json!({ANNOTATION_SUBNETS: fewer, "e2e.spiderpool.io/second-nic": null, ANNOTATION_IPPOOLS: null}),
        )
        .await?;
        shop.no_pool("net1", 4).await?;
        scene.running("shop", 1, LONG).await?;
        shop.sized(4, 2).await.map(drop)
    })
    .await
}

#[tokio::test]
async fn an_application_that_moves_has_its_new_pool_first() -> Result<()> {
    scene("moves", async |scene: &Scene| {
        let kind = WorkloadKind::deployment();
        let target = scene.further_subnet("target", 1, 10).await?;
        let shop = Workload::new(scene, &kind, "shop");
        shop.make(2, &from_subnets(&[&scene.v4], &[], "+1")).await?;
        scene.running("shop", 2, LONG).await?;
        let old = shop.sized(4, 3).await?;
        let elsewhere = json!({"ipv4": [target]}).to_string();
        shop.annotate(&json!({ANNOTATION_SUBNET: elsewhere})).await?;
        let moved = |pool: &SpiderIPPool| pool.label(LABEL_OWNER_SUBNET) == Some(&target) && size(pool) == 3;
        shop.pools("eth0", 4, "to be in the other subnet", LONG, |pools| {
            pools.values().any(moved).then_some(())
        })
        .await?;
        wait::gone(&scene.pools(), &old.name_any(), LONG).await?;
        let pods = scene.running("shop", 2, LONG).await?;
        scene.distinct_addresses(&pods, 1).await?;
        shop.pool("eth0", 4, "alone in the other subnet", SOON, moved)
            .await
            .map(drop)
    })
    .await
}
