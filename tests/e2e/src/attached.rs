//! What the interfaces of a pod hold: in the records of a pool, and in the pod's endpoint.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::Pod;
use spiderpool_crds::records::HeldRecords;
use spiderpool_crds::{SpiderEndpoint, SpiderIPPool};

use crate::node::Node;
use crate::pod::Running;
use crate::scene::Scene;
use crate::wait::{self, LONG, SOON};

/// The addresses of a pod in a pool, by interface.
pub fn held_by(pool: &SpiderIPPool, pod: &Running) -> Result<BTreeMap<String, IpAddr>> {
    let records = pool.records()?;
    let own = records.iter().filter(|(_, record)| record.pod_uid == pod.uid);
    Ok(own
        .map(|(ip, record)| (record.nic.clone().unwrap_or_default(), ip))
        .collect())
}

/// The addresses that a pool keeps back, or gives out last.
pub fn held_back(pool: &SpiderIPPool) -> Result<HeldRecords> {
    let text = pool.status.as_ref().and_then(|status| status.held_ips.as_deref());
    HeldRecords::parse_opt(text).context("reading status.heldIPs")
}

impl Scene {
    /// Waits until a pool has addresses on record for exactly these interfaces of a pod; gives the pool as it was then.
    pub async fn nics_on_record(
        &self,
        pool: &str,
        pod: &Running,
        nics: &[&str],
        within: Duration,
    ) -> Result<SpiderIPPool> {
        let what = format!(
            "pool {pool} to have addresses of {nics:?} of pod {} on record",
            pod.name
        );
        wait::object(&self.pools(), pool, &what, within, |pool| {
            let own = held_by(pool?, pod).ok()?;
            own.keys()
                .map(String::as_str)
                .eq(nics.iter().copied())
                .then(|| pool.cloned())?
        })
        .await
    }

    /// The interfaces that a pod's endpoint has.
    pub async fn nics_of_endpoint(&self, pod: &Running) -> Result<BTreeSet<String>> {
        let endpoint = self.api::<SpiderEndpoint>().get(&pod.name).await?;
        let items = endpoint.status.current.ips.into_iter();
        Ok(items.map(|item| item.interface).collect())
    }

    /// Deletes a pod that goes on in spite of it, and waits until it is terminating.
    pub async fn terminate(&self, pod: &Running) -> Result<()> {
        self.delete::<Pod>(&pod.name).await?;
        wait::object(
            &self.api::<Pod>(),
            &pod.name,
            "the pod to be terminating",
            SOON,
            |found| found?.metadata.deletion_timestamp.as_ref().map(drop),
        )
        .await
    }

    /// Ends the processes of a pod that is terminating until the kubelet has taken it down: one that ended before the kubelet saw
    /// the deletion is started again. Another deletion would not cut short the time that the kubelet gave it.
    pub async fn finish(&self, pod: &Running) -> Result<()> {
        let node = self.cluster.node(&pod.node)?;
        let mut ended = BTreeSet::new();
        let what = "its processes to be ended and the pod to be gone";
        wait::object(&self.api::<Pod>(), &pod.name, what, LONG, |found| {
            let Some(found) = found else { return Some(Ok(())) };
            let statuses = found
                .status
                .iter()
                .flat_map(|status| &status.container_statuses)
                .flatten();
            let running = statuses.filter(|status| status.state.as_ref().is_some_and(|state| state.running.is_some()));
            for id in running.filter_map(|status| status.container_id.as_deref()) {
                if ended.insert(id.to_owned())
                    && let Err(error) = end(node, id)
                {
                    return Some(Err(error));
                }
            }
            None
        })
        .await?
    }
}

/// Kills the processes of a container, which the kubelet names with its runtime.
fn end(node: &Node, container: &str) -> Result<()> {
    for process in node.container(container.rsplit('/').next().unwrap_or_default())? {
        process.kill()?;
    }
    Ok(())
}
