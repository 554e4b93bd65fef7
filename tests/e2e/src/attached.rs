//! What the interfaces of a pod hold: in the records of a pool, and in the pod's endpoint.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::Pod;
use spiderpool_crds::records::HeldRecords;
use spiderpool_crds::{SpiderEndpoint, SpiderIPPool};

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

    /// Ends the process of a pod that is terminating, and waits until the kubelet has taken it down. Another deletion would not
    /// cut short the time that the kubelet gave it.
    pub async fn finish(&self, pod: &Running) -> Result<()> {
        let object = self.api::<Pod>().get(&pod.name).await?;
        let statuses = object.status.and_then(|status| status.container_statuses);
        let ids = statuses.into_iter().flatten().filter_map(|status| status.container_id);
        for id in ids {
            let id = id.rsplit('/').next().unwrap_or_default();
            for process in self.cluster.node(&pod.node)?.container(id)? {
                process.kill()?;
            }
        }
        wait::gone(&self.api::<Pod>(), &pod.name, LONG).await
    }
}
