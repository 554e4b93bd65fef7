//! Who has the addresses of a pool by its records, and records that somebody edits behind everybody's back.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use kube::ResourceExt;
use kube::api::{Patch, PatchParams};
use serde_json::{Map, Value, json};
use spiderpool_crds::SpiderIPPool;

use crate::pod::Running;
use crate::scene::Scene;
use crate::wait;

/// How long an ADD may last. What is on record for a pod that does not exist may be of one that is under way.
pub const IN_FLIGHT: Duration = Duration::from_secs(30);

/// After this a record that nobody has is gone: the operator looks at changed pools every five seconds and at a changed name after
/// five more, which is its first sight; then [`IN_FLIGHT`], and what is left to look again and to write.
pub const FREED: Duration = Duration::from_secs(50);

/// The UIDs that a pool has on record.
fn owners(pool: &SpiderIPPool) -> Option<BTreeSet<String>> {
    let records = pool.records().ok()?;
    Some(records.iter().map(|(_, record)| record.pod_uid.clone()).collect())
}

fn uids(pods: &[Running]) -> BTreeSet<String> {
    pods.iter().map(|pod| pod.uid.clone()).collect()
}

impl Scene {
    /// Waits until a pool has addresses of exactly these pods on record, one of each.
    pub async fn on_record(&self, pool: &str, pods: &[Running], within: Duration) -> Result<()> {
        let names: Vec<&str> = pods.iter().map(|pod| pod.name.as_str()).collect();
        let what = format!("pool {pool} to have an address of each of {names:?} on record, and no other");
        let expected = uids(pods);
        wait::object(&self.pools(), pool, &what, within, |pool| {
            let pool = pool?;
            let exact = owners(pool)? == expected && pool.records().ok()?.len() == expected.len();
            exact.then_some(())
        })
        .await
    }

    /// Requires that a pool has addresses of these pods on record all the time.
    pub async fn stays_on_record(&self, pool: &str, pods: &[Running], time: Duration) -> Result<()> {
        let expected = uids(pods);
        let what = format!("pool {pool} to keep what it has on record");
        let lost = wait::object(&self.pools(), pool, &what, time, |pool| {
            let now = pool.and_then(owners).unwrap_or_default();
            let lost: Vec<String> = expected.difference(&now).cloned().collect();
            (!lost.is_empty()).then_some(lost)
        })
        .await;
        // That nothing was found in the time is what is wanted.
        match lost {
            Ok(lost) => anyhow::bail!("pool {pool} has nothing on record any more for the pods {lost:?}"),
            Err(_) => {
                let now = self.pools().get(pool).await.context("reading the pool")?;
                ensure!(
                    owners(&now).is_some_and(|now| now.is_superset(&expected)),
                    "pool {pool} lost records"
                );
                Ok(())
            }
        }
    }

    /// Edits the records of a pool as nobody should, between two writes of others.
    pub async fn edit_records(&self, pool: &str, edit: impl Fn(&mut Map<String, Value>)) -> Result<()> {
        loop {
            let now = self.pools().get(pool).await.context("reading a pool")?;
            let text = now.status.as_ref().and_then(|status| status.allocated_ips.as_deref());
            let mut records: Map<String, Value> =
                serde_json::from_str(text.unwrap_or("{}")).with_context(|| format!("reading the records of {pool}"))?;
            edit(&mut records);
            let count = records.len();
            let text = (count > 0).then(|| Value::Object(records).to_string());
            let change = json!({
                "metadata": {"resourceVersion": now.resource_version()},
                "status": {"allocatedIPs": text, "allocatedIPCount": count},
            });
            let written = self
                .pools()
                .patch_status(pool, &PatchParams::default(), &Patch::Merge(&change))
                .await;
            match written {
                Err(kube::Error::Api(status)) if status.is_conflict() => {}
                outcome => {
                    return outcome
                        .map(drop)
                        .with_context(|| format!("editing the records of {pool}"));
                }
            }
        }
    }
}
