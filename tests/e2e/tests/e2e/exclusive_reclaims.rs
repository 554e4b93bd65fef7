//! Addresses while agents, the operator or a whole node are away, with real pods. These tests run alone.
//!
//! `SPIDERPOOL_SOAK` leaves the operator away for five minutes instead of half a minute, as `cargo xtask soak operator_away` does.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::json;
use spiderpool_crds::IPPoolSpec;
use spiderpool_e2e::RELEASE_NAMESPACE;
use spiderpool_e2e::cluster::Cluster;
use spiderpool_e2e::figures::show;
use spiderpool_e2e::life::Workload;
use spiderpool_e2e::lost::{LostNode, serves};
use spiderpool_e2e::node::{AGENT, OPERATOR};
use spiderpool_e2e::operators;
use spiderpool_e2e::plugin::Attachment;
use spiderpool_e2e::pod::Running;
use spiderpool_e2e::recorded::FREED;
use spiderpool_e2e::scene::{Scene, scene};
use spiderpool_e2e::shape::WorkloadKind;
use spiderpool_e2e::soak::number;
use spiderpool_e2e::stopped::Stopped;
use spiderpool_e2e::wait::{self, LONG, SOON};
use spiderpool_e2e::workload::{deployment, from_pools, job, pod};

/// Half of the pods go while the other half comes.
const HALF: i32 = 25;

/// How long the operator is away, and how long in a soak.
const AWAY: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(300));

/// How long nothing may happen to the address of a pod on a lost node. Twice what two looks at it are apart.
const KEPT: Duration = Duration::from_secs(15);

fn by_force() -> DeleteParams {
    DeleteParams::default().grace_period(0)
}

async fn runs(scene: &Scene, name: &str) -> Result<Running> {
    let pods = scene.running(name, 1, LONG).await?;
    pods.into_iter().next().context("no pod")
}

#[tokio::test]
async fn pods_deleted_by_force_while_their_agent_is_down() -> Result<()> {
    scene("agent_down", async |scene: &Scene| {
        let node = scene.cluster.first_node()?;
        let pool = scene.serving("down", 4, ("10", "13"), IPPoolSpec::default()).await?;
        let wish = from_pools(&[&pool], &[]);
        let mut pods = Vec::new();
        for name in ["a", "b", "c", "d"] {
            scene.create(&pod(name, &node.name, &wish)?).await?;
        }
        for name in ["a", "b", "c", "d"] {
            pods.push(runs(scene, name).await?);
        }
        scene.distinct_addresses(&pods, 1).await?;
        let mut sandboxes = Vec::new();
        for pod in &pods {
            sandboxes.push(Attachment::of(scene, pod).await?.container);
        }
        let agent = node.process(AGENT)?;
        let hangs = Stopped::stop(agent)?;
        for pod in &pods {
            scene.api::<Pod>().delete(&pod.name, &by_force()).await?;
        }
        // The kubelet ends them all the same: a DEL that nobody serves waits in the journal.
        wait::until("the sandboxes to be gone", LONG, async || {
            let left = sandboxes
                .iter()
                .map(|id| node.container(id))
                .collect::<Result<Vec<_>>>()?;
            Ok(left.iter().all(Vec::is_empty).then_some(()))
        })
        .await?;
        agent.kill()?;
        drop(hangs);
        scene.on_record(&pool, &[], LONG).await?;
        serves(node).await?;
        scene.create(&pod("next", &node.name, &wish)?).await?;
        let next = runs(scene, "next").await?;
        scene.distinct_addresses(&[next], 1).await.map(drop)
    })
    .await
}

#[tokio::test]
async fn agents_rolled_while_fifty_pods_start_and_stop() -> Result<()> {
    scene("rolled", async |scene: &Scene| {
        let v4 = scene.serving("roll4", 4, ("10", "100"), IPPoolSpec::default()).await?;
        let v6 = scene.serving("roll6", 6, ("10", "90"), IPPoolSpec::default()).await?;
        let wish = from_pools(&[&v4], &[&v6]);
        scene.create(&deployment("leaving", HALF, &wish)?).await?;
        scene.running("leaving", HALF as usize, LONG).await?;
        let sets: Api<DaemonSet> = Api::namespaced(scene.cluster.client.clone(), RELEASE_NAMESPACE);
        let mark = json!({"e2e.spiderpool.io/rolled-by": scene.namespace});
        let change = json!({"spec": {"template": {"metadata": {"annotations": mark}}}});
        let rolled = sets.patch(AGENT, &PatchParams::default(), &Patch::Merge(&change)).await;
        rolled.context("rolling the agents")?;
        scene.scale("leaving", 0).await?;
        scene.create(&deployment("coming", HALF, &wish)?).await?;
        wait::object(&sets, AGENT, "all agents to be rolled", LONG, |set| {
            let status = set?.status.as_ref()?;
            let all = status.desired_number_scheduled;
            let new = status.observed_generation == set?.metadata.generation
                && status.updated_number_scheduled == Some(all)
                && status.number_available == Some(all);
            new.then_some(())
        })
        .await?;
        let pods = scene.running("coming", HALF as usize, LONG).await?;
        scene.running("leaving", 0, LONG).await?;
        scene.distinct_addresses(&pods, 2).await?;
        for pool in [&v4, &v6] {
            scene.on_record(pool, &pods, SOON).await?;
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn the_operator_away_while_pods_churn() -> Result<()> {
    let cluster = Cluster::open().await?;
    let replicas = operators::replicas_of(&cluster, OPERATOR).await?;
    let away = if number("SPIDERPOOL_SOAK")?.is_some() {
        AWAY.1
    } else {
        AWAY.0
    };
    operators::with(&cluster, replicas, async || {
        scene("operator_away", async |scene: &Scene| {
            let pool = scene.serving("churn", 4, ("10", "60"), IPPoolSpec::default()).await?;
            let wish = from_pools(&[&pool], &[]);
            let kind = WorkloadKind::stateful_set();
            let web = Workload::new(scene, &kind, "web");
            web.make(2, &wish).await?;
            scene.create(&deployment("shop", 4, &wish)?).await?;
            scene.running("web", 2, LONG).await?;
            scene.running("shop", 4, LONG).await?;
            operators::scale(&cluster, 0).await?;
            let began = Instant::now();
            let (leaked, pods) = (scene.ip(4, "60"), scene.api::<Pod>());
            scene
                .edit_records(&pool, |records| {
                    let pod = format!("{}/nobody", scene.namespace);
                    let uid = "00000000-0000-4000-8000-000000000000";
                    records.insert(leaked.clone(), json!({"pod": pod, "podUid": uid}));
                })
                .await?;
            let mut round = 0;
            while began.elapsed() < away {
                round += 1;
                let shop = scene.running("shop", 4, LONG).await?;
                for (at, pod) in shop.iter().enumerate() {
                    let how = if at.is_multiple_of(2) {
                        by_force()
                    } else {
                        DeleteParams::default()
                    };
                    pods.delete(&pod.name, &how).await.context("deleting a pod")?;
                }
                scene.create(&job(&format!("job-{round}"), "true", &wish)?).await?;
                let shop = scene.running("shop", 4, LONG).await?;
                scene.distinct_addresses(&shop, 1).await?;
            }
            // What it would have freed, since web-1 does not come again.
            web.scale(1).await?;
            let mut running = scene.running("web", 1, LONG).await?;
            running.extend(scene.running("shop", 4, LONG).await?);
            scene.stays_on_record(&pool, &running, Duration::ZERO).await?;
            operators::scale(&cluster, replicas).await?;
            let back = Instant::now();
            scene.on_record(&pool, &running, FREED + SOON).await?;
            let took = back.elapsed();
            show(
                "operator away",
                format!(
                    "{round} rounds of churn in {:?}, all right {took:?} after it was back",
                    began.elapsed()
                ),
            )?;
            // What it finds it may free half a minute later, when no ADD can be under way any more.
            ensure!(took <= FREED, "all was right only {took:?} after the operator was back");
            web.end().await
        })
        .await
    })
    .await
}

#[tokio::test]
async fn a_node_that_is_lost_and_comes_back() -> Result<()> {
    scene("lost_node", async |scene: &Scene| {
        let [here, lost, ..] = scene.cluster.nodes.as_slice() else {
            anyhow::bail!("the test cluster has less than two nodes");
        };
        // One address for each pod below, and no more.
        let pool = scene.serving("lost", 4, ("10", "12"), IPPoolSpec::default()).await?;
        let wish = from_pools(&[&pool], &[]);
        scene.create(&pod("forced", &lost.name, &wish)?).await?;
        let kind = WorkloadKind::stateful_set();
        let web = Workload::new(scene, &kind, "web");
        let mut object = kind.workload("web", 1, &wish, "unused")?;
        object["spec"]["template"]["spec"]["affinity"]["nodeAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"] = json!([{
            "weight": 100,
            "preference": {"matchExpressions": [
                {"key": "kubernetes.io/hostname", "operator": "In", "values": [lost.name]},
            ]},
        }]);
        web.make_as(object, 1).await?;
        scene.create(&pod("stays", &here.name, &wish)?).await?;
        let (forced, stays) = (runs(scene, "forced").await?, runs(scene, "stays").await?);
        let member = runs(scene, "web").await?;
        ensure!(member.node == lost.name, "web-0 runs on {}", member.node);
        let sandbox = Attachment::of(scene, &forced).await?.container;

        // The node stops, as far as anybody can see. What runs there runs on.
        let away = LostNode::lose(&scene.cluster, lost).await?;
        ensure!(!lost.container(&sandbox)?.is_empty(), "the sandbox went with the kubelet");

        // Its user's word that web-0 is dead: the next one has the address at once.
        scene.api::<Pod>().delete("web-0", &by_force()).await?;
        scene.api::<Pod>().delete("forced", &by_force()).await?;
        let again = wait::object(&scene.api::<Pod>(), "web-0", "web-0 to run elsewhere", LONG, |pod| {
            Running::of(pod?).filter(|pod| pod.uid != member.uid)
        })
        .await?;
        ensure!(
            again.addresses == member.addresses && again.node == here.name,
            "web-0 has {:?} on {} and had {:?}",
            again.addresses,
            again.node,
            member.addresses
        );

        // Nobody said that the machine is off, and the sandbox of the other one runs: nobody gets its address.
        scene.create(&pod("next", &here.name, &wish)?).await?;
        scene.stays_on_record(&pool, &[forced.clone(), stays.clone(), again.clone()], KEPT).await?;
        let waits = scene.api::<Pod>().get("next").await?;
        ensure!(
            Running::of(&waits).is_none(),
            "a pod got the address of one that runs on a lost node"
        );
        away.set_out_of_service(true).await?;
        let next = runs(scene, "next").await;
        // Whatever came of it, the taint stays for no other test.
        away.set_out_of_service(false).await?;
        let next = next?;
        ensure!(
            next.addresses == forced.addresses,
            "{:?} was not freed for the next pod, which has {:?}",
            forced.addresses,
            next.addresses
        );

        // It comes back with what ran there, and nothing of that touches those who have the addresses now.
        away.back().await?;
        wait::until("the sandbox of the deleted pod to be gone", LONG, async || {
            Ok(lost.container(&sandbox)?.is_empty().then_some(()))
        })
        .await?;
        let all = [stays, again, next];
        scene.on_record(&pool, &all, LONG).await?;
        scene.distinct_addresses(&all, 1).await?;
        // The taint sent away what else ran there.
        operators::ready(&scene.cluster, operators::replicas_of(&scene.cluster, OPERATOR).await?).await?;
        web.end().await
    })
    .await
}

/// How long a namespace may take to end when its last pod has.
const ENDS: Duration = Duration::from_secs(30);

/// Makes pods on a node, deletes their namespace, and gives them as they were.
async fn doomed(scene: &Scene, node: &str, pool: &str) -> Result<Vec<Running>> {
    let wish = from_pools(&[pool], &[]);
    let names = ["a", "b", "c"];
    for name in names {
        scene.create(&pod(name, node, &wish)?).await?;
    }
    let mut pods = Vec::new();
    for name in names {
        pods.push(runs(scene, name).await?);
    }
    scene.distinct_addresses(&pods, 1).await?;
    Ok(pods)
}

async fn delete_namespace(scene: &Scene) -> Result<Api<Namespace>> {
    let namespaces: Api<Namespace> = Api::all(scene.cluster.client.clone());
    let deleted = namespaces.delete(&scene.namespace, &DeleteParams::default()).await;
    deleted.context("deleting the namespace")?;
    Ok(namespaces)
}

#[tokio::test]
async fn a_namespace_deleted_while_an_agent_hangs_and_while_a_node_is_lost() -> Result<()> {
    scene("namespace_hangs", async |scene: &Scene| {
        let node = scene.cluster.first_node()?;
        let pool = scene.serving("hangs", 4, ("10", "13"), IPPoolSpec::default()).await?;
        doomed(scene, &node.name, &pool).await?;
        let hangs = Stopped::stop(node.process(AGENT)?)?;
        let namespaces = delete_namespace(scene).await?;
        for name in ["a", "b", "c"] {
            wait::gone(&scene.api::<Pod>(), name, LONG).await?;
        }
        wait::gone(&namespaces, &scene.namespace, ENDS).await?;
        drop(hangs);
        scene.on_record(&pool, &[], LONG).await?;
        serves(node).await
    })
    .await?;
    scene("namespace_lost", async |scene: &Scene| {
        let [_, lost, ..] = scene.cluster.nodes.as_slice() else {
            anyhow::bail!("the test cluster has less than two nodes");
        };
        let pool = scene.serving("lost", 4, ("10", "13"), IPPoolSpec::default()).await?;
        let pods = doomed(scene, &lost.name, &pool).await?;
        let away = LostNode::lose(&scene.cluster, lost).await?;
        let namespaces = delete_namespace(scene).await?;
        for pod in &pods {
            scene.api::<Pod>().delete(&pod.name, &by_force()).await?;
        }
        wait::gone(&namespaces, &scene.namespace, ENDS).await?;
        // They run, so nobody may have their addresses.
        scene.stays_on_record(&pool, &pods, KEPT).await?;
        away.back().await?;
        scene.on_record(&pool, &[], LONG).await
    })
    .await
}
