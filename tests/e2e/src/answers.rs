//! When an agent took up a request, by its log.

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::api::{ListParams, LogParams};
use kube::{Api, ResourceExt};
use serde_json::Value;

use crate::RELEASE_NAMESPACE;
use crate::cluster::Cluster;

/// Agents by their labels.
const AGENTS: &str = "app.kubernetes.io/component=spiderpool-agent";

/// Longest part of a log that is read.
const BYTES: i64 = 8 << 20;

/// An ADD that an agent answered with a failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailedAdd {
    /// `namespace/name` of the pod.
    pub pod: String,
    /// When the agent took it up.
    pub received: Timestamp,
}

/// The failed ADDs that the agents told of since a time, in each node's order.
pub async fn failed_adds(cluster: &Cluster, since: Timestamp) -> Result<Vec<FailedAdd>> {
    let pods: Api<Pod> = Api::namespaced(cluster.client.clone(), RELEASE_NAMESPACE);
    let agents = pods.list(&ListParams::default().labels(AGENTS)).await?;
    let params = LogParams {
        since_time: Some(since),
        limit_bytes: Some(BYTES),
        ..LogParams::default()
    };
    let mut found = Vec::new();
    for agent in agents {
        let name = agent.name_any();
        let log = pods.logs(&name, &params).await;
        let log = log.with_context(|| format!("reading the log of {name}"))?;
        found.extend(log.lines().filter_map(failed_add));
    }
    Ok(found)
}

/// A line that tells of a failed ADD; other lines tell of other things.
fn failed_add(line: &str) -> Option<FailedAdd> {
    let line: Value = serde_json::from_str(line).ok()?;
    if line["message"] != "ADD failed" {
        return None;
    }
    let answered: Timestamp = line["timestamp"].as_str()?.parse().ok()?;
    let ms = line["ms"].as_i64().or_else(|| line["ms"].as_str()?.parse().ok())?;
    Some(FailedAdd {
        pod: line["pod"].as_str()?.to_owned(),
        received: answered.checked_sub(SignedDuration::from_millis(ms)).ok()?,
    })
}
