//! The replicas of the webhook: which there are, and what they count.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, ListParams};
use kube::{Api, ResourceExt};
use tokio::time::Instant;

use crate::RELEASE_NAMESPACE;
use crate::cluster::Cluster;
use crate::node::Process;
use crate::wait::{self, LONG};

/// Program of the webhook, and the name of its Deployment.
pub const WEBHOOK: &str = "spiderpool-webhook";
/// Port of its probes and metrics.
const PORT: u16 = 5726;
/// How often it is asked if a process is there or ready.
const LOOK: Duration = Duration::from_millis(5);

/// The pods that are not on their way out.
pub async fn pods(cluster: &Cluster) -> Result<Vec<String>> {
    let pods: Api<Pod> = Api::namespaced(cluster.client.clone(), RELEASE_NAMESPACE);
    let of = ListParams::default().labels(&format!("app.kubernetes.io/component={WEBHOOK}"));
    let listed = pods.list(&of).await.context("listing the webhook's pods")?;
    let alive = listed
        .into_iter()
        .filter(|pod| pod.metadata.deletion_timestamp.is_none());
    Ok(alive.map(|pod| pod.name_any()).collect())
}

/// What a pod answers at a path.
async fn ask(cluster: &Cluster, pod: &str, path: &str) -> Result<String> {
    let path = format!("/api/v1/namespaces/{RELEASE_NAMESPACE}/pods/{pod}:{PORT}/proxy{path}");
    let request = http::Request::get(path).body(Vec::new()).context("asking a pod")?;
    let answer = cluster.client.request_text(request).await;
    answer.with_context(|| format!("asking {pod}"))
}

/// The metrics of all replicas.
pub async fn metrics(cluster: &Cluster) -> Result<String> {
    let mut all = String::new();
    for pod in pods(cluster).await? {
        all.push_str(&ask(cluster, &pod, "/metrics").await?);
    }
    Ok(all)
}

fn processes(cluster: &Cluster) -> Result<Vec<Process>> {
    let of = cluster.nodes.iter().map(|node| node.processes(WEBHOOK));
    Ok(of.collect::<Result<Vec<_>>>()?.into_iter().flatten().collect())
}

/// Starts all replicas anew. Gives the time from the start of the last process until all are ready.
pub async fn restart(cluster: &Cluster) -> Result<Duration> {
    let before: BTreeSet<i32> = processes(cluster)?.iter().map(|process| process.pid).collect();
    let old = pods(cluster).await?;
    let api: Api<Pod> = Api::namespaced(cluster.client.clone(), RELEASE_NAMESPACE);
    for pod in &old {
        api.delete(pod, &DeleteParams::default()).await?;
    }
    let wait = async {
        loop {
            let new = processes(cluster)?
                .iter()
                .filter(|process| !before.contains(&process.pid))
                .count();
            if new >= old.len() {
                break;
            }
            tokio::time::sleep(LOOK).await;
        }
        let started = Instant::now();
        loop {
            let new = pods(cluster).await?;
            let mut ready = new.len() == old.len();
            for pod in &new {
                ready &= ask(cluster, pod, "/v1/runtime/readiness").await.is_ok();
            }
            if ready {
                return Ok::<_, anyhow::Error>(started.elapsed());
            }
            tokio::time::sleep(LOOK).await;
        }
    };
    let ready = tokio::time::timeout(LONG, wait)
        .await
        .context("waiting for the webhook to be ready")??;
    // The API server finds them only when the cluster says so, too.
    let deployments: Api<k8s_openapi::api::apps::v1::Deployment> =
        Api::namespaced(cluster.client.clone(), RELEASE_NAMESPACE);
    let count = i32::try_from(old.len()).unwrap_or_default();
    wait::object(&deployments, WEBHOOK, "the webhook to be ready", LONG, |deployment| {
        let status = deployment?.status.as_ref()?;
        (status.ready_replicas == Some(count) && status.unavailable_replicas.is_none()).then_some(())
    })
    .await?;
    Ok(ready)
}

/// Times that replicas counted: how many were not longer than a bound, for each bound, and all in all.
#[derive(Clone, Debug, Default)]
pub struct Times {
    /// Bounds in seconds, ascending; the last is infinite.
    bounds: Vec<(f64, f64)>,
    /// All seconds.
    pub sum: f64,
    /// How many.
    pub count: f64,
}

impl Times {
    /// Reads what is counted of a stage, of the creation of pools.
    pub fn of(metrics: &str, stage: &str) -> Self {
        let own = |labels: &str| {
            let wanted = [("stage", stage), ("kind", "SpiderIPPool"), ("operation", "create")];
            wanted
                .iter()
                .all(|(name, value)| labels.contains(&format!("{name}=\"{value}\"")))
        };
        let mut times = Self::default();
        for line in metrics.lines() {
            let sample = line.strip_prefix("spiderpool_admission_seconds_");
            let Some((what, rest)) = sample.and_then(|sample| sample.split_once('{')) else {
                continue;
            };
            let Some((labels, value)) = rest.rsplit_once("} ") else {
                continue;
            };
            let (true, Ok(value)) = (own(labels), value.parse::<f64>()) else {
                continue;
            };
            match what {
                "sum" => times.sum += value,
                "count" => times.count += value,
                _ => times.add(labels, value),
            }
        }
        times.bounds.sort_by(|a, b| a.0.total_cmp(&b.0));
        times
    }

    fn add(&mut self, labels: &str, value: f64) {
        let bound = labels.split("le=\"").nth(1).and_then(|rest| rest.split('"').next());
        let bound = bound.and_then(|bound| bound.parse().ok()).unwrap_or(f64::INFINITY);
        match self.bounds.iter_mut().find(|(known, _)| *known == bound) {
            Some((_, count)) => *count += value,
            None => self.bounds.push((bound, value)),
        }
    }

    /// What was counted since.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        let known = |bound: f64| before.bounds.iter().find(|(known, _)| *known == bound);
        let bounds = self.bounds.iter();
        Self {
            bounds: bounds
                .map(|(bound, count)| (*bound, count - known(*bound).map_or(0.0, |(_, count)| *count)))
                .collect(),
            sum: self.sum - before.sum,
            count: self.count - before.count,
        }
    }

    /// The lowest bound in seconds that so many of a hundred kept to.
    pub fn bound(&self, percent: f64) -> f64 {
        let enough = self.count * percent / 100.0;
        let mut kept = self.bounds.iter().filter(|(_, count)| *count >= enough);
        kept.next().map_or(f64::INFINITY, |(bound, _)| *bound)
    }
}
