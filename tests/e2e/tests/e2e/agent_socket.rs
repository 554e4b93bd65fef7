//! The agent's socket: closed to others, and unmoved by whatever comes in.

use std::net::IpAddr;

use anyhow::{Context, Result, ensure};
use kube::ResourceExt;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::{Value, json};
use spiderpool_crds::SpiderEndpoint;
use spiderpool_e2e::cluster::Cluster;
use spiderpool_e2e::node::{AGENT, Node};
use spiderpool_e2e::pod::Running;
use spiderpool_e2e::scene::{Scene, scene};
use spiderpool_e2e::socket::{self, Answer, IP, request};
use spiderpool_e2e::wait::LONG;
use spiderpool_e2e::workload::{from_pools, pod};

/// Largest body that the agent reads.
const BODY: usize = 1 << 20;

/// A request as the plugin makes it.
fn arguments(namespace: &str, name: &str, uid: &str, container: &str) -> Value {
    json!({
        "containerID": container,
        "ifName": "eth0",
        "netNamespace": "/run/netns/none",
        "podNamespace": namespace,
        "podName": name,
        "podUID": uid,
    })
}

async fn send(node: &Node, method: &str, path: &str, body: &Value) -> Result<Answer> {
    request(node, method, path, body.to_string().as_bytes()).await
}

/// Requires a failure with this status whose reason contains a text.
fn refused(answer: &Answer, status: u16, text: &str) -> Result<()> {
    let reason = answer.reason()?;
    ensure!(
        answer.status == status && reason.contains(text),
        "the answer is {} {reason:?} and not {status} with {text:?}",
        answer.status
    );
    Ok(())
}

#[tokio::test]
async fn only_root_may_open_the_socket() -> Result<()> {
    let cluster = Cluster::open().await?;
    for node in &cluster.nodes {
        let (mode, owner) = node.mode(socket::PATH)?;
        ensure!(
            (mode, owner) == (0o600, 0),
            "the socket of {} has mode {mode:o} and owner {owner}",
            node.name
        );
        let (mode, owner) = node.mode("/var/run/spidernet")?;
        ensure!(
            (mode, owner) == (0o700, 0),
            "its folder on {} has mode {mode:o} and owner {owner}",
            node.name
        );
    }
    Ok(())
}

#[tokio::test]
async fn bad_requests_are_refused_with_a_reason() -> Result<()> {
    let cluster = Cluster::open().await?;
    let node = cluster.first_node()?;
    let agent = node.process(AGENT)?;
    for method in ["POST", "DELETE"] {
        for malformed in [&b"{"[..], b"", b"null", b"[]", b"\xff\xfe"] {
            refused(&request(node, method, IP, malformed).await?, 400, "not understood")?;
        }
        let mut incomplete = arguments("default", "none", "u", "c");
        incomplete.as_object_mut().context("an object")?.remove("podUID");
        refused(&send(node, method, IP, &incomplete).await?, 400, "podUID")?;
        for size in [BODY + 1, 8 * BODY] {
            refused(
                &request(node, method, IP, &vec![b'x'; size]).await?,
                413,
                "1048576 bytes",
            )?;
        }
    }
    // As long as may be, and still no JSON.
    refused(
        &request(node, "POST", IP, &vec![b' '; BODY]).await?,
        400,
        "not understood",
    )?;
    let unknown = arguments("default", "no-such-pod", "no-such-uid", "c");
    refused(&send(node, "POST", IP, &unknown).await?, 500, "is not known")?;
    let gone = send(node, "DELETE", IP, &unknown).await?;
    ensure!(gone.status == 200, "giving back what nobody has answers {gone:?}");
    refused(
        &send(node, "POST", "/v1/nothing", &unknown).await?,
        501,
        "/v1/nothing is not served",
    )?;
    refused(&send(node, "PUT", IP, &unknown).await?, 501, "PUT")?;
    refused(
        &request(node, "GET", "/v1/workloadendpoint", b"").await?,
        400,
        "podNamespace",
    )?;
    let healthy = request(node, "GET", "/v1/ipam/healthy", b"").await?;
    ensure!(
        healthy.status == 200,
        "afterwards the agent is not healthy: {healthy:?}"
    );
    ensure!(agent.is_alive(), "the agent of {} did not survive", node.name);
    Ok(())
}

/// A pool of the scene and a pod that runs with an address of it.
async fn running_pod(scene: &Scene, node: &Node, name: &str) -> Result<Running> {
    let spec = scene.range(4, "10", "20");
    let pool = scene.create_pool(name, 4, spec).await?.name_any();
    scene
        .create(&pod(name, &node.name, &from_pools(&[&pool], &[]))?)
        .await?;
    scene.running(name, 1, LONG).await?.pop().context("no pod runs")
}

/// The sandbox that has a pod's addresses.
async fn sandbox(scene: &Scene, pod: &Running) -> Result<String> {
    let endpoint = scene.api::<SpiderEndpoint>().get(&pod.name).await?;
    let item = endpoint
        .status
        .current
        .ips
        .into_iter()
        .next()
        .context("an endpoint without NIC")?;
    item.container_id.context("the endpoint names no sandbox")
}

#[tokio::test]
async fn a_thousand_idle_connections_hold_up_nobody() -> Result<()> {
    const IDLE: usize = 1000;
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    setrlimit(Resource::Nofile, raised).context("raising the limit of open files")?;
    scene("idle_connections", async |scene: &Scene| {
        let node = scene.cluster.first_node()?;
        let agent = node.process(AGENT)?;
        let mut idle = Vec::with_capacity(IDLE);
        for _ in 0..IDLE {
            idle.push(socket::connect(node).await?);
        }
        let healthy = request(node, "GET", "/v1/ipam/healthy", b"").await?;
        ensure!(
            healthy.status == 200,
            "beside {} idle connections the agent answers {healthy:?}",
            idle.len()
        );
        running_pod(scene, node, "beside").await?;
        ensure!(
            agent.is_alive(),
            "the agent did not survive {} idle connections",
            idle.len()
        );
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_repeated_add_gives_the_same_addresses() -> Result<()> {
    scene("repeated_add", async |scene: &Scene| {
        let node = scene.cluster.first_node()?;
        let pod = running_pod(scene, node, "again").await?;
        let container = sandbox(scene, &pod).await?;
        let body = arguments(&scene.namespace, &pod.name, &pod.uid, &container);
        for _ in 0..3 {
            let answer = send(node, "POST", IP, &body).await?;
            ensure!(answer.status == 200, "the repeated ADD failed: {answer:?}");
            let ips = answer.json()?["ips"].clone();
            let given: Vec<IpAddr> = ips
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(|ip| ip["address"].as_str()?.split('/').next()?.parse().ok())
                .collect();
            ensure!(
                given == pod.addresses,
                "the pod has {:?} but a repeated ADD gave {given:?}",
                pod.addresses
            );
        }
        scene.distinct_addresses(&[pod], 1).await.map(drop)
    })
    .await
}

#[tokio::test]
async fn an_add_for_the_uid_of_an_earlier_pod_is_refused() -> Result<()> {
    scene("earlier_uid", async |scene: &Scene| {
        let node = scene.cluster.first_node()?;
        let pod = running_pod(scene, node, "renewed").await?;
        let body = arguments(&scene.namespace, &pod.name, "11111111-2222-4333-8444-555555555555", "c");
        let answer = send(node, "POST", IP, &body).await?;
        refused(&answer, 500, &format!("has UID {}", pod.uid))?;
        scene.distinct_addresses(&[pod], 1).await.map(drop)
    })
    .await
}

#[tokio::test]
async fn the_agent_of_another_node_gives_nothing() -> Result<()> {
    scene("other_node", async |scene: &Scene| {
        let [first, second] = scene.cluster.nodes.as_slice() else {
            anyhow::bail!("the test cluster has not two nodes");
        };
        let pod = running_pod(scene, first, "elsewhere").await?;
        let body = arguments(&scene.namespace, &pod.name, &pod.uid, "c");
        refused(&send(second, "POST", IP, &body).await?, 500, &first.name)?;
        scene.distinct_addresses(&[pod], 1).await.map(drop)
    })
    .await
}

#[tokio::test]
async fn a_del_of_a_living_pod_frees_nothing() -> Result<()> {
    scene("living_pod", async |scene: &Scene| {
        let node = scene.cluster.first_node()?;
        let pod = running_pod(scene, node, "living").await?;
        let container = sandbox(scene, &pod).await?;
        for container in ["an-older-sandbox", &container] {
            let body = arguments(&scene.namespace, &pod.name, &pod.uid, container);
            let answer = send(node, "DELETE", IP, &body).await?;
            ensure!(answer.status == 200, "the DEL failed: {answer:?}");
            scene.distinct_addresses(std::slice::from_ref(&pod), 1).await?;
        }
        Ok(())
    })
    .await
}
