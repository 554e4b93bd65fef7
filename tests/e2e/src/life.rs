//! Workloads of any kind made, scaled, changed and deleted in a scene, and the pools that are theirs.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::api::core::v1::Node;
use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams, PostParams, PropagationPolicy};
use kube::runtime::watcher;
use kube::{Api, ResourceExt};
use serde_json::{Value, json};
use spiderpool_crds::SpiderIPPool;
use spiderpool_crds::names::{
    LABEL_INTERFACE, LABEL_IP_VERSION, LABEL_OWNER_APP_KIND, LABEL_OWNER_APP_NAME, LABEL_OWNER_APP_NAMESPACE,
};

use crate::scene::Scene;
use crate::shape::{Shape, WorkloadKind};
use crate::wait::{self, LONG, Objects};
use crate::workload::Annotations;

/// A workload of a scene.
#[derive(Clone, Copy)]
pub struct Workload<'a> {
    /// Where it lives.
    pub scene: &'a Scene,
    /// Its kind.
    pub kind: &'a WorkloadKind,
    /// Its name; its pods have it as label `app`.
    pub name: &'a str,
}

/// Name of the Job that a test makes of a CronJob.
fn run_of(name: &str) -> String {
    format!("{name}-run")
}

impl<'a> Workload<'a> {
    /// A workload by kind and name, whether it exists or not.
    pub fn new(scene: &'a Scene, kind: &'a WorkloadKind, name: &'a str) -> Self {
        Self { scene, kind, name }
    }

    fn api(&self, kind: &WorkloadKind) -> Api<DynamicObject> {
        Api::namespaced_with(self.scene.cluster.client.clone(), &self.scene.namespace, &kind.resource)
    }

    /// The label of the nodes that its pods run on, if it is of a kind that follows nodes.
    fn place(&self) -> String {
        format!("e2e.spiderpool.io/n{}-{}", self.scene.number, self.name)
    }

    /// Makes it, and its UID.
    pub async fn make(&self, pods: i32, annotations: &Annotations) -> Result<String> {
        let object = self.kind.workload(self.name, pods, annotations, &self.place())?;
        self.make_as(object, pods).await
    }

    /// Makes it with a spec of the test's own, and its UID.
    pub async fn make_as(&self, object: Value, pods: i32) -> Result<String> {
        if self.kind.shape == Shape::Nodes {
            self.mark_nodes(pods).await?;
        }
        let what = || format!("making {} {}", self.kind, self.name);
        let object: DynamicObject = serde_json::from_value(object).with_context(what)?;
        let made = self
            .api(self.kind)
            .create(&PostParams::default(), &object)
            .await
            .with_context(what)?;
        if self.kind.shape == Shape::Cron {
            self.run(&made).await?;
        }
        made.uid().with_context(|| format!("{} has no UID", self.name))
    }

    /// Makes a Job of a CronJob, as `kubectl create job --from` does.
    async fn run(&self, cron: &DynamicObject) -> Result<()> {
        let job = json!({
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {"name": run_of(self.name), "ownerReferences": [{
                "apiVersion": "batch/v1",
                "kind": "CronJob",
                "name": self.name,
                "uid": cron.uid(),
                "controller": true,
            }]},
            "spec": cron.data["spec"]["jobTemplate"]["spec"],
        });
        let job: DynamicObject = serde_json::from_value(job).context("making a Job of a CronJob")?;
        let jobs = self.api(&WorkloadKind::job());
        jobs.create(&PostParams::default(), &job)
            .await
            .map(drop)
            .context("making a Job of a CronJob")
    }

    /// Changes the number of its pods.
    pub async fn scale(&self, pods: i32) -> Result<()> {
        if self.kind.shape == Shape::Cron {
            let change = json!({"spec": {"parallelism": pods}});
            let jobs = self.api(&WorkloadKind::job());
            jobs.patch(&run_of(self.name), &PatchParams::default(), &Patch::Merge(&change))
                .await
                .with_context(|| format!("scaling the Job of {}", self.name))?;
        }
        match self.kind.sized(pods) {
            Some(change) => self.patch(&change).await,
            None => self.mark_nodes(pods).await,
        }
    }

    /// Changes annotations of its pods; null removes one.
    pub async fn annotate(&self, annotations: &Value) -> Result<()> {
        match self.kind.annotated(annotations) {
            Some(change) => self.patch(&change).await,
            None => bail!("the template of {} cannot be changed", self.kind),
        }
    }

    /// Changes it by a merge patch.
    pub async fn patch(&self, change: &Value) -> Result<()> {
        self.api(self.kind)
            .patch(self.name, &PatchParams::default(), &Patch::Merge(change))
            .await
            .map(drop)
            .with_context(|| format!("changing {} {}", self.kind, self.name))
    }

    /// It as it is now.
    pub async fn get(&self) -> Result<DynamicObject> {
        let object = self.api(self.kind).get(self.name).await;
        object.with_context(|| format!("reading {} {}", self.kind, self.name))
    }

    /// Deletes it and waits until it is gone. What it owns goes after it, or stays with `Orphan`.
    pub async fn delete(&self, propagation: PropagationPolicy) -> Result<()> {
        let what = || format!("deleting {} {}", self.kind, self.name);
        let params = DeleteParams {
            propagation_policy: Some(propagation),
            ..DeleteParams::default()
        };
        let uid = self.get().await?.uid().unwrap_or_default();
        let api = self.api(self.kind);
        api.delete(self.name, &params).await.with_context(what)?;
        let gone = kube::runtime::wait::conditions::is_deleted(&uid);
        let gone = kube::runtime::wait::await_condition(api, self.name, gone);
        tokio::time::timeout(LONG, gone)
            .await
            .with_context(|| format!("{} took more than {LONG:?}", what()))?
            .with_context(what)?;
        if self.kind.shape == Shape::Nodes {
            self.mark_nodes(0).await?;
        }
        Ok(())
    }

    /// Deletes it and waits until it and its pods are gone.
    pub async fn end(&self) -> Result<()> {
        self.delete(PropagationPolicy::Background).await?;
        self.scene.running(self.name, 0, LONG).await.map(drop)
    }

    /// Makes exactly so many nodes fit.
    async fn mark_nodes(&self, count: i32) -> Result<()> {
        let nodes: Api<Node> = Api::all(self.scene.cluster.client.clone());
        let wanted = usize::try_from(count).unwrap_or(0);
        let all = &self.scene.cluster.nodes;
        ensure!(wanted <= all.len(), "the test cluster has no {count} nodes");
        for (at, node) in all.iter().enumerate() {
            let value = if at < wanted { json!("true") } else { Value::Null };
            let change = json!({"metadata": {"labels": {self.place(): value}}});
            nodes
                .patch(&node.name, &PatchParams::default(), &Patch::Merge(&change))
                .await
                .with_context(|| format!("labelling node {}", node.name))?;
        }
        Ok(())
    }

    fn pool_labels(&self, nic: &str, version: u8) -> String {
        format!(
            "{LABEL_OWNER_APP_NAMESPACE}={},{LABEL_OWNER_APP_NAME}={},{LABEL_OWNER_APP_KIND}={},{LABEL_INTERFACE}={nic},\
             {LABEL_IP_VERSION}=IPv{version}",
            self.scene.namespace, self.name, self.kind.resource.kind
        )
    }

    /// Waits until its pools for a NIC and family are as wanted.
    pub async fn pools<T>(
        &self,
        nic: &str,
        version: u8,
        what: &str,
        deadline: Duration,
        look: impl Fn(&Objects<SpiderIPPool>) -> Option<T>,
    ) -> Result<T> {
        let labels = self.pool_labels(nic, version);
        let what = format!("the IPv{version} pool of {} {} for {nic} {what}", self.kind, self.name);
        let config = watcher::Config::default().labels(&labels);
        wait::objects(&self.scene.pools(), config, &what, deadline, |pools| Ok(look(pools))).await
    }

    /// Waits until the only pool for a NIC and family that is not being deleted is as wanted.
    pub async fn pool(
        &self,
        nic: &str,
        version: u8,
        what: &str,
        deadline: Duration,
        look: impl Fn(&SpiderIPPool) -> bool,
    ) -> Result<SpiderIPPool> {
        self.pools(nic, version, what, deadline, |pools| {
            let mut alive = pools.values().filter(|pool| pool.metadata.deletion_timestamp.is_none());
            let first = alive.next()?;
            (alive.next().is_none() && look(first)).then(|| first.clone())
        })
        .await
    }

    /// Waits until the pool of `eth0` and a family has so many addresses.
    pub async fn sized(&self, version: u8, addresses: u128) -> Result<SpiderIPPool> {
        let what = format!("with {addresses} addresses");
        self.pool("eth0", version, &what, LONG, |pool| size(pool) == addresses)
            .await
    }

    /// Waits until it has no pool for a NIC and family.
    pub async fn no_pool(&self, nic: &str, version: u8) -> Result<()> {
        self.pools(nic, version, "to be gone", LONG, |pools| pools.is_empty().then_some(()))
            .await
    }
}

/// How many addresses a pool has.
pub fn size(pool: &SpiderIPPool) -> u128 {
    pool.total().map_or(0, |total| total.count())
}
