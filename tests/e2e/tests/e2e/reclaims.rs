//! Addresses that no DEL gave back, of pods that run on real nodes: leaked, edited by hand, of pods that ended in unusual ways.
//!
//! `SPIDERPOOL_SOAK` makes the pod of one name be made a hundred times, as `cargo xtask soak under_one_name` does.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::api::DeleteParams;
use kube::runtime::watcher;
use kube::{Api, ResourceExt};
use serde_json::json;
use spiderpool_crds::{IPPoolSpec, SpiderEndpoint};
use spiderpool_e2e::figures::show;
use spiderpool_e2e::life::Workload;
use spiderpool_e2e::pod::{Running, addresses_by_name};
use spiderpool_e2e::recorded::{FREED, IN_FLIGHT};
use spiderpool_e2e::scene::{Scene, scene};
use spiderpool_e2e::shape::WorkloadKind;
use spiderpool_e2e::soak::number;
use spiderpool_e2e::wait::{self, LONG};
use spiderpool_e2e::workload::{deployment, from_pools, pod};

/// How often the pod of one name is made where nobody asked for more.
const AGAIN: u64 = 10;

/// How often it is made in a soak.
const SOAKED: u64 = 100;

/// Pods of a namespace that is deleted, and in a soak.
const PODS: (i32, i32) = (12, 100);

/// How long a namespace may take to end when its last sandbox has.
const ENDS: Duration = Duration::from_secs(30);

/// How often a set is scaled down and up.
const BREATHS: usize = 3;

/// Waits until a pod of this name runs.
async fn runs(scene: &Scene, name: &str) -> Result<Running> {
    let pods = scene.running(name, 1, LONG).await?;
    pods.into_iter().next().context("no pod")
}

/// Waits until a pod has no endpoint.
async fn no_endpoint(scene: &Scene, pod: &str) -> Result<()> {
    wait::gone(&scene.api::<SpiderEndpoint>(), pod, LONG).await
}

#[tokio::test]
async fn a_record_of_nobody_is_freed() -> Result<()> {
    scene("leak", async |scene: &Scene| {
        let pool = scene.serving("leak", 4, ("10", "12"), IPPoolSpec::default()).await?;
        let node = &scene.cluster.first_node()?.name;
        scene.create(&pod("lives", node, &from_pools(&[&pool], &[]))?).await?;
        let lives = runs(scene, "lives").await?;
        let leaked = [scene.ip(4, "11"), scene.ip(4, "12")];
        let began = Instant::now();
        scene
            .edit_records(&pool, |records| {
                for (at, ip) in leaked.iter().enumerate() {
                    let uid = format!("00000000-0000-4000-8000-00000000000{at}");
                    let pod = format!("{}/nobody-{at}", scene.namespace);
                    records.insert(ip.clone(), json!({"pod": pod, "podUid": uid}));
                }
            })
            .await?;
        scene.on_record(&pool, &[lives], FREED).await?;
        let took = began.elapsed();
        ensure!(
            took >= IN_FLIGHT,
            "a record was freed after {took:?}, when an ADD of its pod could have been under way"
        );
        show("leak", format!("two leaked records were freed after {took:?}"))
    })
    .await
}

#[tokio::test]
async fn an_evicted_pod_gives_its_addresses_back() -> Result<()> {
    scene("evicted", async |scene: &Scene| {
        let pool = scene.serving("single", 4, ("10", "10"), IPPoolSpec::default()).await?;
        let node = &scene.cluster.first_node()?.name;
        let wish = from_pools(&[&pool], &[]);
        // The kubelet evicts who writes more than it may.
        let mut object = serde_json::to_value(pod("greedy", node, &wish)?)?;
        object["spec"]["volumes"] = json!([{"name": "data", "emptyDir": {"sizeLimit": "1Mi"}}]);
        let container = &mut object["spec"]["containers"][0];
        container["volumeMounts"] = json!([{"name": "data", "mountPath": "/data"}]);
        container["command"] = json!(["sh", "-c", "head -c 16777216 /dev/zero > /data/much; sleep 1000000"]);
        scene.create::<Pod>(&serde_json::from_value(object)?).await?;
        let reason = |pod: &Pod| pod.status.as_ref().and_then(|status| status.reason.clone());
        wait::object(&scene.api::<Pod>(), "greedy", "the pod to be evicted", LONG, |pod| {
            reason(pod?).filter(|reason| reason == "Evicted")
        })
        .await?;
        scene.on_record(&pool, &[], LONG).await?;
        no_endpoint(scene, "greedy").await?;
        scene.create(&pod("next", node, &wish)?).await?;
        let next = runs(scene, "next").await?;
        scene.distinct_addresses(&[next], 1).await?;
        let evicted = scene
            .api::<Pod>()
            .get("greedy")
            .await
            .context("the evicted pod stays")?;
        ensure!(
            reason(&evicted).as_deref() == Some("Evicted"),
            "the evicted pod is another one now"
        );
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_pod_past_its_deadline_gives_its_addresses_back_though_it_stays() -> Result<()> {
    scene("deadline", async |scene: &Scene| {
        let pool = scene.serving("single", 4, ("10", "10"), IPPoolSpec::default()).await?;
        let node = &scene.cluster.first_node()?.name;
        let wish = from_pools(&[&pool], &[]);
        for name in ["first", "second"] {
            let mut object = serde_json::to_value(pod(name, node, &wish)?)?;
            object["spec"]["activeDeadlineSeconds"] = json!(1);
            scene.create::<Pod>(&serde_json::from_value(object)?).await?;
            wait::object(&scene.api::<Pod>(), name, "the pod to have failed", LONG, |pod| {
                let status = pod?.status.as_ref()?;
                (status.reason.as_deref() == Some("DeadlineExceeded")).then_some(())
            })
            .await?;
            scene.on_record(&pool, &[], LONG).await?;
            no_endpoint(scene, name).await?;
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_pod_made_over_and_over_under_one_name() -> Result<()> {
    let rounds = if number("SPIDERPOOL_SOAK")?.is_some() {
        SOAKED
    } else {
        AGAIN
    };
    scene("one_name", async |scene: &Scene| {
        let pool = scene.serving("shared", 4, ("10", "15"), IPPoolSpec::default()).await?;
        let wish = from_pools(&[&pool], &[]);
        scene.create(&deployment("other", 2, &wish)?).await?;
        scene.running("other", 2, LONG).await?;
        let pods = scene.api::<Pod>();
        let mut last = String::new();
        for round in 0..rounds {
            // On the other node each time, and by force each second time: then the last one may still run.
            let nodes = &scene.cluster.nodes;
            let node = &nodes[round as usize % nodes.len()];
            scene.create(&pod("same", &node.name, &wish)?).await?;
            let same = runs(scene, "same").await?;
            ensure!(same.uid != last, "the pod was not made again");
            let mut all = scene.running("other", 2, LONG).await?;
            let others = all.first().context("no other pod")?.name.clone();
            last.clone_from(&same.uid);
            all.push(same);
            scene.distinct_addresses(&all, 1).await?;
            let force = DeleteParams {
                grace_period_seconds: round.is_multiple_of(2).then_some(0),
                ..DeleteParams::default()
            };
            pods.delete("same", &force).await.context("deleting the pod")?;
            pods.delete(&others, &force)
                .await
                .context("deleting a pod of the other workload")?;
            wait::gone(&pods, "same", LONG).await?;
        }
        let left = scene.running("other", 2, LONG).await?;
        scene.on_record(&pool, &left, LONG).await
    })
    .await
}

#[tokio::test]
async fn a_set_scaled_down_and_up_in_one_breath_keeps_its_addresses_apart() -> Result<()> {
    scene("breath", async |scene: &Scene| {
        // Not one address more than the set has pods.
        let pool = scene.serving("exact", 4, ("10", "12"), IPPoolSpec::default()).await?;
        let kind = WorkloadKind::stateful_set();
        let web = Workload::new(scene, &kind, "web");
        web.make(3, &from_pools(&[&pool], &[])).await?;
        let before = scene.running("web", 3, LONG).await?;
        for _ in 0..BREATHS {
            web.scale(1).await?;
            // As soon as the first one begins to go: the DELs of the last pods come while the next ones are made.
            let config = watcher::Config::default().labels("app=web");
            wait::objects(&scene.api::<Pod>(), config, "a pod of the set to go", LONG, |pods| {
                let goes = |pod: &Pod| pod.metadata.deletion_timestamp.is_some();
                Ok((pods.len() < 3 || pods.values().any(goes)).then_some(()))
            })
            .await?;
            web.scale(3).await?;
            wait::objects(
                &scene.api::<Pod>(),
                watcher::Config::default().labels("app=web"),
                "three pods of the set that are not going",
                LONG,
                |pods| {
                    let running: Vec<Running> = pods.values().filter_map(Running::of).collect();
                    Ok((pods.len() == 3 && running.len() == 3).then_some(()))
                },
            )
            .await?;
            let pods = scene.running("web", 3, LONG).await?;
            scene.distinct_addresses(&pods, 1).await?;
            ensure!(
                addresses_by_name(&pods).get("web-0") == addresses_by_name(&before).get("web-0"),
                "web-0, which stayed, has {:?} and had {:?}",
                addresses_by_name(&pods),
                addresses_by_name(&before)
            );
            scene.on_record(&pool, &pods, LONG).await?;
        }
        web.end().await
    })
    .await
}

#[tokio::test]
async fn a_namespace_deleted_with_its_pods_ends_with_the_last_of_them() -> Result<()> {
    let count = if number("SPIDERPOOL_SOAK")?.is_some() {
        PODS.1
    } else {
        PODS.0
    };
    scene("namespace_gone", async |scene: &Scene| {
        let v4 = scene.serving("gone4", 4, ("10", "120"), IPPoolSpec::default()).await?;
        let v6 = scene.serving("gone6", 6, ("10", "90"), IPPoolSpec::default()).await?;
        scene
            .create(&deployment("shop", count, &from_pools(&[&v4], &[&v6]))?)
            .await?;
        let pods = scene.running("shop", count as usize, LONG).await?;
        scene.distinct_addresses(&pods, 2).await?;
        let namespaces: Api<Namespace> = Api::all(scene.cluster.client.clone());
        let deleted = namespaces.delete(&scene.namespace, &DeleteParams::default()).await;
        deleted.context("deleting the namespace")?;
        let config = watcher::Config::default();
        wait::objects(&scene.api::<Pod>(), config, "all pods to be gone", LONG, |pods| {
            Ok(pods.is_empty().then_some(()))
        })
        .await?;
        let began = Instant::now();
        wait::gone(&namespaces, &scene.namespace, ENDS).await?;
        show(
            "namespace",
            format!("gone {:?} after its {count} pods", began.elapsed()),
        )?;
        for pool in [&v4, &v6] {
            scene.on_record(pool, &[], LONG).await?;
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_record_deleted_by_hand_is_written_again_while_its_pod_lives() -> Result<()> {
    scene("taken_away", async |scene: &Scene| {
        let pool = scene.serving("edited", 4, ("10", "11"), IPPoolSpec::default()).await?;
        let node = &scene.cluster.first_node()?.name;
        scene.create(&pod("lives", node, &from_pools(&[&pool], &[]))?).await?;
        let lives = runs(scene, "lives").await?;
        scene.distinct_addresses(std::slice::from_ref(&lives), 1).await?;
        scene.edit_records(&pool, serde_json::Map::clear).await?;
        let began = Instant::now();
        scene.on_record(&pool, std::slice::from_ref(&lives), LONG).await?;
        show("deleted by hand", format!("written again after {:?}", began.elapsed()))?;
        // The same address, not just any.
        scene.distinct_addresses(&[lives], 1).await.map(drop)
    })
    .await
}

#[tokio::test]
async fn an_address_on_record_for_another_pod_is_told_with_both() -> Result<()> {
    scene("two_users", async |scene: &Scene| {
        let pool = scene.serving("single", 4, ("10", "10"), IPPoolSpec::default()).await?;
        let wish = from_pools(&[&pool], &[]);
        let [here, there, ..] = scene.cluster.nodes.as_slice() else {
            anyhow::bail!("the test cluster has less than two nodes");
        };
        scene.create(&pod("first", &here.name, &wish)?).await?;
        let first = runs(scene, "first").await?;
        let second = scene.create(&pod("second", &there.name, &wish)?).await?;
        let uid = second.uid().context("a pod without UID")?;
        scene
            .edit_records(&pool, |records| {
                let name = format!("{}/second", scene.namespace);
                let record = json!({"pod": name, "podUid": uid, "nic": "eth0", "node": there.name});
                records.insert(scene.ip(4, "10"), record);
            })
            .await?;
        let second = runs(scene, "second").await?;
        ensure!(first.addresses == second.addresses, "{second:?} got another address");
        let texts = ["second", &scene.ip(4, "10")];
        scene.event("Pod", "first", "AddressLost", &texts, LONG).await?;
        // The end of the one that lost it takes nothing from the other.
        scene.delete::<Pod>("first").await?;
        wait::gone(&scene.api::<Pod>(), "first", LONG).await?;
        no_endpoint(scene, "first").await?;
        scene.on_record(&pool, &[second], LONG).await
    })
    .await
}
