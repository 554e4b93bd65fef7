//! Networks that ask for pools in the subnet of the interface that the pod's is made of.

use anyhow::{Context, Result, ensure};
use kube::ResourceExt;
use serde_json::json;
use spiderpool_crds::IPPoolSpec;
use spiderpool_e2e::node::Node;
use spiderpool_e2e::ranges;
use spiderpool_e2e::scene::{Scene, scene};
use spiderpool_e2e::told::FAILED;
use spiderpool_e2e::wait::LONG;
use spiderpool_e2e::workload::{Annotations, pod};

/// Asks the test cluster's network for a second interface, and for these members of its `ipam`.
const SECOND_NIC: &str = "e2e.spiderpool.io/second-nic";
const SECOND_NIC_IPAM: &str = "e2e.spiderpool.io/second-nic-ipam";

/// The interface of a node that those of its pods are made of.
const MASTER: &str = "eth1";

/// What a pod asks for whose first interface has a pool of its own, and whose second one has to be in the master's subnet.
fn matching(pools: &[&str]) -> Annotations {
    Annotations::from([
        (SECOND_NIC.to_owned(), "true".to_owned()),
        (
            SECOND_NIC_IPAM.to_owned(),
            json!({"match_master_subnet": true, "default_ipv4_ippool": pools}).to_string(),
        ),
    ])
}

async fn master_decides(scene: &Scene, node: &Node, address: &str) -> Result<()> {
    let default = IPPoolSpec {
        default: Some(true),
        namespace_name: Some(vec![scene.namespace.clone()]),
        ..IPPoolSpec::default()
    };
    scene.serving("default", 4, ("10", "19"), default).await?;
    let own = scene.serving("own", 4, ("20", "29"), IPPoolSpec::default()).await?;
    let elsewhere = IPPoolSpec {
        subnet: scene.further_network(4, 1),
        ips: Some(vec![scene.further_range(1, 5)]),
        ..IPPoolSpec::default()
    };
    let elsewhere = scene.create_pool("elsewhere", 4, elsewhere).await?.name_any();
    ranges::serves(&scene.pools(), &elsewhere).await?;
    scene
        .create(&pod("fits", &node.name, &matching(&[&elsewhere, &own]))?)
        .await?;
    scene
        .create(&pod("fits-not", &node.name, &matching(&[&elsewhere]))?)
        .await?;
    scene.running("fits", 1, LONG).await?;
    // The other pool comes first, and is not asked.
    scene.given_by(&own, "fits", "net1", 4).await?;
    let arrived = scene.told(FAILED, &["fits-not"], LONG).await?;
    let message = &arrived.get("fits-not").context("no Event")?.message;
    let line = message
        .lines()
        .find(|line| line.starts_with("AffinityRejected match_master_subnet: no address of the master ["));
    let line = line.with_context(|| format!("the master is not what the pod is told: {message}"))?;
    let end = format!("is in the subnet of IPPool {elsewhere}");
    ensure!(
        line.contains(address) && line.ends_with(&end),
        "of the master with {address}, the pod is told {line}"
    );
    Ok(())
}

#[tokio::test]
async fn the_masters_subnet_decides_where_the_network_asks_for_it() -> Result<()> {
    scene("masters", async |scene: &Scene| {
        let node = scene.cluster.first_node()?;
        // No other scene has this subnet.
        let address = scene.ip(4, "250");
        node.sh(&format!("ip addr add {address}/24 dev {MASTER}"), "").await?;
        let outcome = Box::pin(master_decides(scene, node, &address)).await;
        let removed = node.sh(&format!("ip addr del {address}/24 dev {MASTER}"), "").await;
        outcome?;
        removed.map(drop)
    })
    .await
}
