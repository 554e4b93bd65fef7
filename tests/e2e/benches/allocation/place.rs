//! Where it happens: a namespace, pools, agents and pods.

use std::cell::Cell;
use std::time::Duration;

use anyhow::{Context, Result};
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::{Namespace, Pod, ServiceAccount};
use kube::api::{DeleteParams, PostParams};
use kube::{Api, ResourceExt};
use spiderpool_crds::{IPPoolSpec, SpiderIPPool};
use spiderpool_e2e::agents::{Agent, Options, remove_pod};
use spiderpool_e2e::cluster::Cluster;
use spiderpool_e2e::ranges;
use spiderpool_e2e::wait::{self, LONG, SOON};
use spiderpool_e2e::workload::from_pools;

use crate::Scale;

/// The namespace of all pods.
pub(crate) const NAMESPACE: &str = "bench-allocation";

/// How many requests this program has under way while it prepares.
pub(crate) const AT_ONCE: usize = 32;

/// A namespace of the cluster, and how large everything is to be.
pub(crate) struct Place {
    pub(crate) cluster: Cluster,
    pub(crate) scale: Scale,
    /// How many agents were started: each has a Node of its own name, also after a part that failed.
    started: Cell<usize>,
}

impl Place {
    pub(crate) async fn make(scale: Scale) -> Result<Self> {
        let cluster = Cluster::open().await?;
        let mut object = Namespace::default();
        object.metadata.name = Some(NAMESPACE.to_owned());
        let namespaces: Api<Namespace> = Api::all(cluster.client.clone());
        let made = namespaces.create(&PostParams::default(), &object).await;
        made.context("making the namespace; an earlier run left it if it is there")?;
        let accounts: Api<ServiceAccount> = Api::namespaced(cluster.client.clone(), NAMESPACE);
        let there = |account: Option<&ServiceAccount>| account.map(drop);
        wait::object(&accounts, "default", "the default service account", SOON, there).await?;
        Ok(Self {
            cluster,
            scale,
            started: Cell::new(0),
        })
    }

    pub(crate) async fn remove(self) -> Result<()> {
        let namespaces: Api<Namespace> = Api::all(self.cluster.client.clone());
        let deleted = namespaces.delete(NAMESPACE, &DeleteParams::default()).await;
        deleted.context("deleting the namespace")?;
        wait::gone(&namespaces, NAMESPACE, LONG).await
    }

    pub(crate) fn pools(&self) -> Api<SpiderIPPool> {
        Api::all(self.cluster.client.clone())
    }

    /// Makes a pool and waits until it may be used.
    pub(crate) async fn pool(&self, name: &str, subnet: &str, ips: &str) -> Result<()> {
        let spec = IPPoolSpec {
            subnet: subnet.to_owned(),
            ips: Some(vec![ips.to_owned()]),
            ..IPPoolSpec::default()
        };
        let made = self
            .pools()
            .create(&PostParams::default(), &SpiderIPPool::new(name, spec))
            .await;
        made.with_context(|| format!("making the pool {name}"))?;
        ranges::serves(&self.pools(), name).await
    }

    pub(crate) async fn remove_pool(&self, name: &str) -> Result<()> {
        let deleted = self.pools().delete(name, &DeleteParams::default()).await;
        deleted.with_context(|| format!("deleting the pool {name}"))?;
        wait::gone(&self.pools(), name, SOON).await
    }

    /// Starts agents, each with a Node of its own.
    pub(crate) async fn agents(&self, count: usize) -> Result<Vec<Agent>> {
        let mut agents = Vec::new();
        for _ in 0..count {
            let node = format!("bench-{}", self.started.get());
            self.started.set(self.started.get() + 1);
            agents.push(Agent::start(&self.cluster, &node, &Options::default()).await?);
        }
        Ok(agents)
    }

    /// Makes as many pods on the Node of each agent.
    pub(crate) async fn pods(
        &self,
        agents: &[Agent],
        each: usize,
        v4: &str,
        v6: Option<&str>,
    ) -> Result<Vec<Vec<Pod>>> {
        let annotations = from_pools(&[v4], v6.as_slice());
        let names = agents
            .iter()
            .enumerate()
            .flat_map(|(number, agent)| (0..each).map(move |at| (number, agent, format!("{}-{at}", agent.node))));
        let made: Vec<(usize, Pod)> = futures::stream::iter(names)
            .map(async |(number, agent, name)| {
                let pod = agent.make_pod(NAMESPACE, &name, &annotations).await?;
                anyhow::Ok((number, pod))
            })
            .buffer_unordered(AT_ONCE)
            .try_collect()
            .await?;
        let mut pods: Vec<Vec<Pod>> = agents.iter().map(|_| Vec::new()).collect();
        for (number, pod) in made {
            if let Some(own) = pods.get_mut(number) {
                own.push(pod);
            }
        }
        pods.iter_mut().for_each(|own| own.sort_by_key(ResourceExt::name_any));
        Ok(pods)
    }

    /// Deletes pods as the kubelet does.
    pub(crate) async fn delete(&self, pods: &[Vec<Pod>]) -> Result<()> {
        futures::stream::iter(pods.iter().flatten())
            .map(|pod| remove_pod(&self.cluster.client, pod))
            .buffer_unordered(AT_ONCE)
            .try_collect()
            .await
    }

    /// Requires that no record is left in a pool, beside those of pods elsewhere.
    pub(crate) async fn only(&self, name: &str, count: usize) -> Result<()> {
        let left = |pool: Option<&SpiderIPPool>| (pool?.records().ok()?.len() == count).then_some(());
        let what = format!("the pool {name} to have {count} records again");
        wait::object(&self.pools(), name, &what, Duration::from_secs(10), left).await
    }
}
