//! Real pods: how long until a hundred of them run on two nodes, beside the same pods with addresses from `host-local`.
//!
//! Both kinds are macvlan on the same segment with an address of each family; only the address management differs. Every node's
//! runtime is switched from one to the other by a configuration that comes before its own.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{DeleteParams, PostParams};
use kube::runtime::watcher;
use serde_json::{Value, json};
use spiderpool_e2e::figures::show;
use spiderpool_e2e::node::Node;
use spiderpool_e2e::wait::{self, LONG, SOON};
use spiderpool_e2e::workload::{deployment, from_pools, pod};

use crate::place::{NAMESPACE, Place};

const PODS: usize = 100;
/// How often each is timed. The order changes from round to round.
const ROUNDS: usize = 3;
const V4: &str = "bench-real-v4";
const V6: &str = "bench-real-v6";
const DEADLINE: Duration = Duration::from_secs(600);

/// Before the node's own configuration.
const FILE: &str = "05-bench.conflist";

/// Who gives the addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ipam {
    Spiderpool,
    HostLocal,
}

impl Ipam {
    /// The configuration for a node.
    fn configuration(self, number: usize) -> Value {
        let ipam = match self {
            Self::Spiderpool => json!({"type": "spiderpool"}),
            Self::HostLocal => json!({"type": "host-local", "ranges": [
                [{"subnet": format!("10.95.{number}.0/24")}],
                [{"subnet": format!("fd95:{number}::/64")}],
            ]}),
        };
        let plugin = json!({"type": "macvlan", "master": "eth1", "mode": "bridge", "ipam": ipam});
        json!({"cniVersion": "1.0.0", "name": "bench", "plugins": [plugin]})
    }

    fn gave(self, address: IpAddr) -> bool {
        let head = match self {
            Self::Spiderpool => "10.101.",
            Self::HostLocal => "10.95.",
        };
        address.to_string().starts_with(head)
    }
}

pub(crate) async fn run(place: &Place) -> Result<()> {
    let count = place.scale.of(PODS);
    place.pool(V4, "10.101.0.0/22", "10.101.0.1-10.101.3.200").await?;
    place.pool(V6, "fd98::/64", "fd98::1-fd98::ffff").await?;
    let timed = rounds(place, count).await;
    // Whatever happened: the nodes get their own network back.
    for node in &place.cluster.nodes {
        let file = node.networks().join(FILE);
        if file.exists() {
            std::fs::remove_file(&file).with_context(|| format!("removing {}", file.display()))?;
        }
    }
    let (ours, other) = timed?;
    let nodes = place.cluster.nodes.len();
    show(
        &format!("{count} pods on {nodes} nodes, macvlan, dual stack: Deployment made to all ready"),
        format!("{ours:?}, with host-local {other:?}"),
    )?;
    let ratio = median(&ours).as_secs_f64() / median(&other).as_secs_f64();
    show(
        "  ratio of the medians (an address management that costs nothing has 1)",
        format!("{ratio:.3}"),
    )?;
    place.remove_pool(V4).await?;
    place.remove_pool(V6).await
}

fn median(times: &[Duration]) -> Duration {
    let mut times = times.to_vec();
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

async fn rounds(place: &Place, count: usize) -> Result<(Vec<Duration>, Vec<Duration>)> {
    let (mut ours, mut other) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let mut order = [Ipam::Spiderpool, Ipam::HostLocal];
        if round % 2 == 1 {
            order.reverse();
        }
        for ipam in order {
            switch(place, ipam).await?;
            let took = one(place, count).await?;
            match ipam {
                Ipam::Spiderpool => ours.push(took),
                Ipam::HostLocal => other.push(took),
            }
        }
    }
    Ok((ours, other))
}

/// Makes every node's runtime use one way, and waits until it does.
async fn switch(place: &Place, ipam: Ipam) -> Result<()> {
    for (number, node) in place.cluster.nodes.iter().enumerate() {
        let text = format!("{:#}\n", ipam.configuration(number + 1));
        let (fresh, file): (PathBuf, PathBuf) = (node.networks().join("bench.new"), node.networks().join(FILE));
        std::fs::write(&fresh, text).with_context(|| format!("writing {}", fresh.display()))?;
        std::fs::rename(&fresh, &file).with_context(|| format!("renaming to {}", file.display()))?;
    }
    for node in &place.cluster.nodes {
        wait::until("a node to use its new network", SOON, async || {
            Ok(ipam.gave(probe(place, node).await?).then_some(()))
        })
        .await?;
    }
    Ok(())
}

/// The address that a pod gets on a node now.
async fn probe(place: &Place, node: &Node) -> Result<IpAddr> {
    let pods: Api<Pod> = Api::namespaced(place.cluster.client.clone(), NAMESPACE);
    let name = format!("bench-probe-{}", node.name);
    let object = pod(&name, &node.name, &from_pools(&[V4], &[V6]))?;
    let made = pods.create(&PostParams::default(), &object).await;
    made.context("making a pod to try a network")?;
    let address = |pod: Option<&Pod>| pod?.status.as_ref()?.pod_ip.clone();
    let address = wait::object(&pods, &name, "a pod's address", SOON, address).await?;
    let deleted = pods.delete(&name, &DeleteParams::default()).await;
    deleted.context("deleting a pod that tried a network")?;
    wait::gone(&pods, &name, SOON).await?;
    address.parse().context("reading a pod's address")
}

/// Times the pods of a Deployment until all are ready, and waits until they are gone.
async fn one(place: &Place, count: usize) -> Result<Duration> {
    let client = &place.cluster.client;
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), NAMESPACE);
    let pods: Api<Pod> = Api::namespaced(client.clone(), NAMESPACE);
    let object = deployment("bench-real", i32::try_from(count)?, &from_pools(&[V4], &[V6]))?;
    let began = Instant::now();
    let made = deployments.create(&PostParams::default(), &object).await;
    made.context("making a Deployment")?;
    let config = watcher::Config::default().labels("app=bench-real");
    wait::objects(&pods, config.clone(), "all pods to be ready", DEADLINE, |pods| {
        Ok((pods.values().filter(|pod| is_ready(pod)).count() == count).then_some(()))
    })
    .await?;
    let took = began.elapsed();
    let deleted = deployments.delete("bench-real", &DeleteParams::background()).await;
    deleted.context("deleting a Deployment")?;
    wait::objects(&pods, config, "all pods to be gone", DEADLINE, |pods| {
        Ok(pods.is_empty().then_some(()))
    })
    .await?;
    wait::gone(&deployments, "bench-real", LONG).await?;
    place.only(V4, 0).await?;
    Ok(took)
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let mut ready = conditions.filter(|condition| condition.type_ == "Ready");
    ready.any(|condition| condition.status == "True")
}
