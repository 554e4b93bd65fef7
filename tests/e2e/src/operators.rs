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

/// Scales the operator and waits until all replicas are ready.
pub async fn scale(cluster: &Cluster, replicas: i32) -> Result<()> {
    let deployments: Api<Deployment> = Api::namespaced(cluster.client.clone(), RELEASE_NAMESPACE);
    let change = json!({"spec": {"replicas": replicas}});
    deployments
        .patch(OPERATOR, &PatchParams::default(), &Patch::Merge(&change))
        .await
        .context("scaling the operator")?;
    ready(cluster, replicas).await
}

/// Waits until all replicas are ready.
pub async fn ready(cluster: &Cluster, replicas: i32) -> Result<()> {
    let deployments: Api<Deployment> = Api::namespaced(cluster.client.clone(), RELEASE_NAMESPACE);
    wait::object(
        &deployments,
        OPERATOR,
        "all operators to be ready",
        LONG,
        |deployment| {
            let status = deployment?.status.as_ref()?;
            let settled = status.observed_generation == deployment?.metadata.generation;
            // None at all is left out of the status.
            let counts = status.ready_replicas.unwrap_or(0) == replicas && status.replicas.unwrap_or(0) == replicas;
            (settled && counts).then_some(())
        },
    )
    .await
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
