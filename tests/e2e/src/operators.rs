//! The replicas of the operator: how many there are, and who leads.

use anyhow::{Context, Result};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::json;

use crate::RELEASE_NAMESPACE;
use crate::cluster::Cluster;
use crate::node::{OPERATOR, Process};
use crate::wait::{self, LONG, SOON};

const LEASE: &str = "spiderpool-controller-leases";

/// Runs a test with so many replicas of the operator. Afterwards there are as many as before.
pub async fn with(cluster: &Cluster, replicas: i32, test: impl AsyncFnOnce() -> Result<()>) -> Result<()> {
    let before = replicas_of(cluster, OPERATOR).await?;
    scale(cluster, replicas).await?;
    let outcome = test().await;
    let restored = scale(cluster, before).await;
    outcome?;
    restored
}

/// Scales the operator and waits until all replicas are ready.
pub async fn scale(cluster: &Cluster, replicas: i32) -> Result<()> {
    scale_of(cluster, OPERATOR, replicas).await
}

/// Waits until all replicas of the operator are ready.
pub async fn ready(cluster: &Cluster, replicas: i32) -> Result<()> {
    ready_of(cluster, OPERATOR, replicas).await
}

/// How many replicas a Deployment of the release is to have.
pub async fn replicas_of(cluster: &Cluster, name: &str) -> Result<i32> {
    let deployment = deployments(cluster).get(name).await;
    let deployment = deployment.with_context(|| format!("reading the Deployment {name}"))?;
    Ok(deployment.spec.and_then(|spec| spec.replicas).unwrap_or(1))
}

/// Scales a Deployment of the release and waits until all replicas are ready.
pub async fn scale_of(cluster: &Cluster, name: &str, replicas: i32) -> Result<()> {
    let change = json!({"spec": {"replicas": replicas}});
    deployments(cluster)
        .patch(name, &PatchParams::default(), &Patch::Merge(&change))
        .await
        .with_context(|| format!("scaling {name}"))?;
    ready_of(cluster, name, replicas).await
}

/// Waits until all replicas of a Deployment of the release are as its template says, and ready.
pub async fn ready_of(cluster: &Cluster, name: &str, replicas: i32) -> Result<()> {
    let what = format!("all replicas of {name} to be ready");
    wait::object(&deployments(cluster), name, &what, LONG, |deployment| {
        let status = deployment?.status.as_ref()?;
        let settled = status.observed_generation == deployment?.metadata.generation;
        // None at all is left out of the status.
        let counts = [status.ready_replicas, status.updated_replicas, status.replicas];
        let all = counts.into_iter().all(|count| count.unwrap_or(0) == replicas);
        (settled && all).then_some(())
    })
    .await
}

/// Runs a test with other values of some options of the operator, given as `--NAME=`. Afterwards they are as before.
pub async fn with_options(
    cluster: &Cluster,
    options: &[(&str, &str)],
    test: impl AsyncFnOnce() -> Result<()>,
) -> Result<()> {
    let before = arguments(cluster).await?;
    let other = |argument: &String| {
        let changed = options.iter().find(|(name, _)| argument.starts_with(name));
        changed.map_or_else(|| argument.clone(), |(name, value)| format!("{name}{value}"))
    };
    let after: Vec<String> = before.iter().map(other).collect();
    write_options(cluster, &after).await?;
    let outcome = test().await;
    let restored = write_options(cluster, &before).await;
    outcome?;
    restored
}

/// Runs a test with further options of the operator. Afterwards they are as before.
pub async fn with_more(cluster: &Cluster, options: &[&str], test: impl AsyncFnOnce() -> Result<()>) -> Result<()> {
    let before = arguments(cluster).await?;
    let more = options.iter().map(|&option| option.to_owned());
    let after: Vec<String> = before.iter().cloned().chain(more).collect();
    write_options(cluster, &after).await?;
    let outcome = test().await;
    let restored = write_options(cluster, &before).await;
    outcome?;
    restored
}

/// The operator's arguments.
async fn arguments(cluster: &Cluster) -> Result<Vec<String>> {
    let deployment = deployments(cluster)
        .get(OPERATOR)
        .await
        .context("reading the operator")?;
    let containers = deployment
        .spec
        .and_then(|spec| spec.template.spec)
        .map(|spec| spec.containers);
    let container = containers.and_then(|containers| containers.into_iter().next());
    container
        .and_then(|container| container.args)
        .context("the operator has no arguments")
}

async fn write_options(cluster: &Cluster, args: &[String]) -> Result<()> {
    let change = json!({"spec": {"template": {"spec": {"containers": [{"name": OPERATOR, "args": args}]}}}});
    deployments(cluster)
        .patch(OPERATOR, &PatchParams::default(), &Patch::Strategic(&change))
        .await
        .context("changing the operator's arguments")?;
    ready(cluster, replicas_of(cluster, OPERATOR).await?).await
}

fn deployments(cluster: &Cluster) -> Api<Deployment> {
    Api::namespaced(cluster.client.clone(), RELEASE_NAMESPACE)
}

/// The replica that leads.
#[derive(Clone, Debug)]
pub struct Leader {
    /// What the Lease calls it.
    pub holder: String,
    /// Its pod.
    pub pod: String,
    /// Its process.
    pub process: Process,
}

/// Who leads, by the Lease.
pub async fn leader(cluster: &Cluster) -> Result<Leader> {
    let leases: Api<Lease> = Api::namespaced(cluster.client.clone(), RELEASE_NAMESPACE);
    let holder = wait::object(&leases, LEASE, "somebody to lead", SOON, |lease| {
        let holder = lease?.spec.as_ref()?.holder_identity.clone();
        holder.filter(|holder| !holder.is_empty())
    })
    .await?;
    let pods: Api<Pod> = Api::namespaced(cluster.client.clone(), RELEASE_NAMESPACE);
    let all = pods
        .list(&ListParams::default())
        .await
        .context("listing the release's pods")?;
    let pod = all.items.iter().find(|pod| holder.contains(&pod.name_any()));
    let pod = pod.with_context(|| format!("the leader {holder} is no pod"))?;
    let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
    let node = cluster.node(node.context("a leader without node")?)?;
    let own = format!("pod{}", pod.uid().unwrap_or_default());
    let process = node
        .processes(OPERATOR)?
        .into_iter()
        .find(|process| process.is_of(&own));
    Ok(Leader {
        pod: pod.name_any(),
        process: process.with_context(|| format!("the leader {holder} has no process"))?,
        holder,
    })
}

/// A change of the leader.
#[derive(Clone, Debug)]
pub struct Change {
    /// When the Lease of the one before ended.
    pub ended: Timestamp,
    /// When the next one took it.
    pub taken: Timestamp,
}

/// Kills the leader as a crash of its node would, and waits until another one leads.
pub async fn kill(cluster: &Cluster, leader: &Leader) -> Result<Change> {
    leader.process.kill()?;
    // The kubelet would start the container again at once, and it would go on with the Lease of its pod.
    let pods: Api<Pod> = Api::namespaced(cluster.client.clone(), RELEASE_NAMESPACE);
    let by_force = DeleteParams {
        grace_period_seconds: Some(0),
        ..DeleteParams::default()
    };
    pods.delete(&leader.pod, &by_force)
        .await
        .context("deleting the killed pod")?;
    let leases: Api<Lease> = Api::namespaced(cluster.client.clone(), RELEASE_NAMESPACE);
    let last = leases
        .get(LEASE)
        .await
        .context("reading the Lease")?
        .spec
        .unwrap_or_default();
    let renewed = last.renew_time.context("a Lease that was never renewed")?.0;
    let duration = SignedDuration::from_secs(i64::from(last.lease_duration_seconds.unwrap_or(0)));
    let ended = renewed.checked_add(duration).context("the end of the Lease")?;
    let taken = wait::object(&leases, LEASE, "another one to lead", SOON, |lease| {
        let spec = lease?.spec.as_ref()?;
        let other = spec.holder_identity.as_ref().filter(|holder| !holder.is_empty())? != &leader.holder;
        other.then(|| spec.acquire_time.as_ref().map(|time| time.0)).flatten()
    })
    .await?;
    Ok(Change { ended, taken })
}
