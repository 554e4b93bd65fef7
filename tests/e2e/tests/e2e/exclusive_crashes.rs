//! What dies or stops in the middle of the work, and what must be true afterwards. These tests run alone.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::json;
use spiderpool_crds::SpiderIPPool;
use spiderpool_e2e::cluster::Cluster;
use spiderpool_e2e::node::{AGENT, Node, OPERATOR, Process};
use spiderpool_e2e::operators;
use spiderpool_e2e::scene::{Scene, scene};
use spiderpool_e2e::socket::{self, request};
use spiderpool_e2e::stopped::Stopped;
use spiderpool_e2e::wait::{self, LONG};
use spiderpool_e2e::workload::{deployment, from_subnets};

/// The kubelet starts a container that crashed again after 10 s, 20 s, 40 s and so on.
const RESTART: Duration = Duration::from_secs(120);

/// Kills a program on a node as soon as it is a new process.
async fn kill_next(node: &Node, program: &str, killed: &[Process]) -> Result<Process> {
    let what = format!("a new process {program} on node {}", node.name);
    let process = wait::until(&what, RESTART, async || {
        Ok(node
            .processes(program)?
            .into_iter()
            .find(|process| !killed.contains(process)))
    })
    .await?;
    process.kill()?;
    Ok(process)
}

/// Waits until the agents of all nodes answer again.
async fn agents_serve(cluster: &Cluster) -> Result<()> {
    for node in &cluster.nodes {
        wait::until(&format!("the agent of {} to serve", node.name), RESTART, async || {
            let answer = request(node, "GET", "/v1/ipam/healthy", b"").await;
            Ok(answer.ok().filter(|answer| answer.status == 200))
        })
        .await?;
    }
    Ok(())
}

#[tokio::test]
async fn agents_killed_while_pods_start() -> Result<()> {
    scene("agents_killed", async |scene: &Scene| {
        let wish = from_subnets(&[&scene.v4], &[&scene.v6], "+1");
        scene.create(&deployment("shop", 20, &wish)?).await?;
        let killings = scene.cluster.nodes.iter().map(async |node| {
            let mut killed = Vec::new();
            // The first when addresses are being given out, the others wherever the restart left off.
            scene
                .pool_of("shop", 4, "with records", |pool| {
                    pool.records().is_ok_and(|records| !records.is_empty())
                })
                .await?;
            for _ in 0..3 {
                killed.push(kill_next(node, AGENT, &killed).await?);
            }
            anyhow::Ok(killed)
        });
        let killed = futures::future::try_join_all(killings).await?;
        let pods = scene.running("shop", 20, 2 * LONG).await?;
        let addresses = scene.distinct_addresses(&pods, 2).await?;
        ensure!(addresses.len() == 40, "twenty pods have {} addresses", addresses.len());
        // Again while they end: nothing may be lost.
        scene.scale("shop", 0).await?;
        for (node, killed) in scene.cluster.nodes.iter().zip(killed) {
            kill_next(node, AGENT, &killed).await?;
        }
        agents_serve(&scene.cluster).await?;
        scene.delete_workloads().await?;
        scene.nothing_stays().await
    })
    .await
}

/// No other replica takes over.
async fn with_one_operator(test: impl AsyncFnOnce() -> Result<()>) -> Result<()> {
    operators::with(&Cluster::open().await?, 1, test).await
}

/// The node that the operator's only process runs on, and that process.
async fn operator(cluster: &Cluster) -> Result<(&Node, Process)> {
    wait::until("exactly one process of the operator", RESTART, async || {
        let mut found = Vec::new();
        for node in &cluster.nodes {
            found.extend(node.processes(OPERATOR)?.into_iter().map(|process| (node, process)));
        }
        let last = found.pop();
        Ok(last.filter(|_| found.is_empty()))
    })
    .await
}

#[tokio::test]
async fn the_operator_killed_while_deployments_come_and_go() -> Result<()> {
    with_one_operator(async || {
        scene("operator_killed", async |scene: &Scene| {
            let wish = from_subnets(&[&scene.v4], &[&scene.v6], "+2");
            let (node, first) = operator(&scene.cluster).await?;
            let names: Vec<String> = (0..8).map(|n| format!("app{n}")).collect();
            for (at, name) in names.iter().enumerate() {
                scene.create(&deployment(name, 1, &wish)?).await?;
                if at == 4 {
                    first.kill()?;
                }
            }
            for name in &names {
                let pods = scene.running(name, 1, LONG).await?;
                scene.distinct_addresses(&pods, 2).await?;
            }
            for name in &names {
                scene.scale(name, 2).await?;
            }
            kill_next(node, OPERATOR, &[first]).await?;
            for name in &names {
                scene.running(name, 2, LONG).await?;
                scene
                    .pool_of(name, 4, "with 4 addresses", |pool| {
                        pool.total().is_ok_and(|total| total.count() == 4)
                    })
                    .await?;
            }
            scene.delete_workloads().await?;
            scene.nothing_stays().await
        })
        .await
    })
    .await
}

#[tokio::test]
async fn the_api_server_away_for_half_a_minute() -> Result<()> {
    with_one_operator(async || {
        const AWAY: Duration = Duration::from_secs(30);
        scene("api_server_away", async |scene: &Scene| {
            let wish = from_subnets(&[&scene.v4], &[&scene.v6], "+1");
            scene.create(&deployment("shop", 2, &wish)?).await?;
            let pod = scene.running("shop", 2, LONG).await?.pop().context("no pod")?;
            let node = scene.cluster.node(&pod.node)?;
            let mut processes = vec![operator(&scene.cluster).await?.1];
            for node in &scene.cluster.nodes {
                processes.push(node.process(AGENT)?);
            }
            let server = Process::of(scene.cluster.component("kube-apiserver")?)?;
            // As the kubelet asks for a new sandbox of the pod.
            let add = json!({
                "containerID": "a-sandbox-made-while-nobody-answers",
                "ifName": "eth0",
                "netNamespace": "/run/netns/none",
                "podNamespace": scene.namespace,
                "podName": pod.name,
                "podUID": pod.uid,
            });
            // Its pods are being set up when the server stops answering.
            scene.create(&deployment("during", 10, &wish)?).await?;
            let some = |pool: &SpiderIPPool| pool.records().is_ok_and(|records| !records.is_empty());
            scene.pool_of("during", 4, "with records", some).await?;
            let began = Instant::now();
            let stopped = Stopped::stop(server)?;
            let answer = request(node, "POST", socket::IP, add.to_string().as_bytes()).await?;
            let took = began.elapsed();
            let reason = answer.reason()?;
            ensure!(
                answer.status == 500 && reason.contains("API server"),
                "the ADD is answered by {answer:?}"
            );
            ensure!(took < Duration::from_secs(35), "the ADD failed only after {took:?}");
            tokio::time::sleep(AWAY.saturating_sub(began.elapsed())).await;
            drop(stopped);
            // As the runtime clears a sandbox that it could not set up. A write of that ADD may have landed all the same.
            wait::until("the DEL of the sandbox to be served", LONG, async || {
                let answer = request(node, "DELETE", socket::IP, add.to_string().as_bytes()).await?;
                Ok((answer.status == 200).then_some(()))
            })
            .await?;
            // A patient client waits for the server by itself.
            scene.create(&deployment("after", 2, &wish)?).await?;
            let pods = scene.running("after", 2, LONG).await?;
            scene.distinct_addresses(&pods, 2).await?;
            let pods = scene.running("during", 10, LONG).await?;
            scene.distinct_addresses(&pods, 2).await?;
            for process in processes {
                ensure!(
                    process.is_alive(),
                    "process {} did not survive the absence of the API server",
                    process.pid
                );
            }
            let pods = scene.running("shop", 2, LONG).await?;
            scene.distinct_addresses(&pods, 2).await.map(drop)
        })
        .await
    })
    .await
}

#[tokio::test]
async fn the_leading_operator_killed_while_another_stands_by() -> Result<()> {
    let cluster = Cluster::open().await?;
    operators::with(&cluster, 2, async || {
        scene("leader_killed", async |scene: &Scene| {
            let leader = operators::leader(&scene.cluster).await?;
            let wish = from_subnets(&[&scene.v4], &[&scene.v6], "+1");
            leader.process.kill()?;
            scene.create(&deployment("shop", 2, &wish)?).await?;
            let pods = scene.running("shop", 2, LONG).await?;
            scene.distinct_addresses(&pods, 2).await.map(drop)
        })
        .await
    })
    .await
}
