//! Pods elsewhere in the cluster: objects on Nodes that have neither kubelet nor agent.

use std::net::Ipv4Addr;

use anyhow::{Context, Result};
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{DeleteParams, PostParams};
use kube::{Api, ResourceExt};
use spiderpool_crds::records::{PoolRecords, Record};
use spiderpool_e2e::agents::{pod, remove_pod, without_kubelet};
use spiderpool_e2e::wait::{self, SOON};
use spiderpool_e2e::workload::Annotations;

use crate::place::{AT_ONCE, NAMESPACE, Place};

/// As many as a large node has.
const PODS_A_NODE: usize = 1000;

/// Pods that no agent of this benchmark serves, and their Nodes.
pub(crate) struct Elsewhere {
    nodes: Vec<String>,
    pods: Vec<Pod>,
}

impl Elsewhere {
    pub(crate) async fn make(place: &Place, count: usize) -> Result<Self> {
        let all: Api<Node> = Api::all(place.cluster.client.clone());
        let nodes: Vec<String> = (0..count.div_ceil(PODS_A_NODE))
            .map(|number| format!("bench-elsewhere-{count}-{number}"))
            .collect();
        for node in &nodes {
            let made = all.create(&PostParams::default(), &without_kubelet(node)?).await;
            made.with_context(|| format!("making the Node {node}"))?;
        }
        let own: Api<Pod> = Api::namespaced(place.cluster.client.clone(), NAMESPACE);
        let names = (0..count).zip(nodes.iter().cycle());
        let pods = futures::stream::iter(names)
            .map(async |(number, node)| {
                // As long as names of pods are, for the sake of records.
                let name = format!("some-app-{count}-5d8f7c9b4d-{number:05}");
                let object = pod(&name, node, &Annotations::new())?;
                let made = own.create(&PostParams::default(), &object).await;
                made.with_context(|| format!("making the pod {name}"))
            })
            .buffer_unordered(AT_ONCE)
            .try_collect()
            .await?;
        Ok(Self { nodes, pods })
    }

    /// Records addresses in a pool, from an address on, as those of the pods of a range.
    pub(crate) async fn occupy(
        &self,
        place: &Place,
        pool: &str,
        first: Ipv4Addr,
        pods: std::ops::Range<usize>,
    ) -> Result<()> {
        let mut records = PoolRecords::new();
        for (pod, ip) in self.pods.get(pods).unwrap_or_default().iter().zip(u32::from(first)..) {
            let record = Record {
                pod: format!("{NAMESPACE}/{}", pod.name_any()),
                pod_uid: pod.uid().unwrap_or_default(),
                nic: Some("eth0".to_owned()),
                ..Record::default()
            };
            records.insert(Ipv4Addr::from(ip).into(), record);
        }
        record(place, pool, &records).await
    }

    pub(crate) async fn remove(self, place: &Place) -> Result<()> {
        futures::stream::iter(&self.pods)
            .map(|pod| remove_pod(&place.cluster.client, pod))
            .buffer_unordered(AT_ONCE)
            .try_collect::<()>()
            .await?;
        let all: Api<Node> = Api::all(place.cluster.client.clone());
        for node in &self.nodes {
            let deleted = all.delete(node, &DeleteParams::default()).await;
            deleted.with_context(|| format!("deleting the Node {node}"))?;
        }
        Ok(())
    }
}

/// Writes the records of a pool.
pub(crate) async fn record(place: &Place, name: &str, records: &PoolRecords) -> Result<()> {
    let pools = place.pools();
    // The operator writes counts and conditions meanwhile.
    wait::until("the records to be written", SOON, async || {
        let mut pool = pools.get(name).await.context("reading a pool")?;
        let status = pool.status.get_or_insert_default();
        status.allocated_ip_count = Some(i64::try_from(records.len()).context("too many records")?);
        status.allocated_ips = records.to_status();
        match pools.replace_status(name, &PostParams::default(), &pool).await {
            Err(kube::Error::Api(status)) if status.is_conflict() => Ok(None),
            written => written.map(|_| Some(())).context("writing records"),
        }
    })
    .await
}
