//! What the installed product costs on the test cluster: from Deployment to pool, from replicas to resized pool, and the
//! memory of agent and operator. `cargo xtask bench cluster` runs it inside the cluster's network.
//!
//! Deployments have replicas but their pods fit on no node, so that nothing but the operator is measured.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use futures::StreamExt;
use k8s_openapi::api::apps::v1::Deployment;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, WatchParams};
use serde_json::json;
use spiderpool_crds::{SpiderIPPool, SpiderSubnet, SubnetSpec, names};
use spiderpool_e2e::cluster::Cluster;
use spiderpool_e2e::figures::{memory, report, sized};
use spiderpool_e2e::node::{AGENT, OPERATOR};
use spiderpool_e2e::{wait, workload};

/// How many Deployments are timed, one after the other.
const ROUNDS: usize = 50;

const SUBNET: &str = "bench-v4";
const DEADLINE: Duration = Duration::from_secs(30);

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let cluster = Cluster::open().await?;
    for program in [AGENT, OPERATOR] {
        memory(&cluster, program, "after the installation")?;
    }
    let subnets: Api<SpiderSubnet> = Api::all(cluster.client.clone());
    let spec = SubnetSpec {
        subnet: "10.90.0.0/16".to_owned(),
        ips: Some(vec!["10.90.1.1-10.90.250.254".to_owned()]),
        ..SubnetSpec::default()
    };
    subnets
        .create(&PostParams::default(), &SpiderSubnet::new(SUBNET, spec))
        .await
        .context("making the subnet")?;
    let (mut created, mut resized) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let (first, second) = one(&cluster, &format!("bench-{round}")).await?;
        created.push(first);
        resized.push(second);
    }
    report("Deployment created to pool present", created)?;
    report("replicas changed to pool resized", resized)?;
    for program in [AGENT, OPERATOR] {
        memory(&cluster, program, "at the end")?;
    }
    subnets
        .delete(SUBNET, &DeleteParams::default())
        .await
        .context("deleting the subnet")?;
    wait::gone(&subnets, SUBNET, DEADLINE).await
}

/// Times one Deployment, from the API server's answer to the event of its pool.
async fn one(cluster: &Cluster, name: &str) -> Result<(Duration, Duration)> {
    let deployments: Api<Deployment> = Api::default_namespaced(cluster.client.clone());
    let pools: Api<SpiderIPPool> = Api::all(cluster.client.clone());
    let annotations = workload::from_subnets(&[SUBNET], &[], "+1");
    let mut deployment = workload::deployment(name, 2, &annotations)?;
    if let Some(pod) = deployment.spec.as_mut().and_then(|spec| spec.template.spec.as_mut()) {
        pod.node_selector = Some([("bench".to_owned(), "no-node".to_owned())].into());
    }
    let watch = WatchParams::default().labels(&format!("{}={name}", names::LABEL_OWNER_APP_NAME));
    let start = pools
        .list(&Default::default())
        .await?
        .metadata
        .resource_version
        .unwrap_or_default();
    let mut events = pools.watch(&watch, &start).await?.boxed();
    let started = Instant::now();
    deployments.create(&PostParams::default(), &deployment).await?;
    let created = tokio::time::timeout(DEADLINE, sized(&mut events, 3))
        .await
        .context("no pool in time")??;
    let change = json!({"spec": {"replicas": 5}});
    let scaled = Instant::now();
    deployments
        .patch(name, &PatchParams::default(), &Patch::Merge(&change))
        .await?;
    let resized = tokio::time::timeout(DEADLINE, sized(&mut events, 6))
        .await
        .context("not resized in time")??;
    deployments.delete(name, &DeleteParams::background()).await?;
    Ok((created - started, resized - scaled))
}
