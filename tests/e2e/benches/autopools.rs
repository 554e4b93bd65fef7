//! What automatic pools cost when there are many: a hundred Deployments at once, a thousand workloads in twenty subnets, and
//! whether a large subnet costs more than a small one. `cargo xtask bench autopools` runs it inside the cluster's network.
//!
//! Deployments have replicas but their pods fit on no node, so that nothing but the operator is measured.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Event, Namespace};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams};
use kube::{Api, ResourceExt};
use serde_json::json;
use spiderpool_crds::{SpiderIPPool, SpiderSubnet, SubnetSpec, names};
use spiderpool_e2e::cluster::Cluster;
use spiderpool_e2e::figures::{memory, report, show, sized};
use spiderpool_e2e::node::OPERATOR;
use spiderpool_e2e::requests::{Apart, Counted};
use spiderpool_e2e::{operators, property, wait, workload};

/// How many requests this program has under way.
const AT_ONCE: usize = 50;
/// How many times scaling is timed.
const ROUNDS: usize = 50;
/// How long the operator is watched doing nothing.
const IDLE: Duration = Duration::from_secs(60);
const DEADLINE: Duration = Duration::from_secs(180);

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let bench = Bench {
        cluster: Cluster::open().await?,
    };
    bench.crowd().await?;
    bench.thousand().await?;
    bench.sizes().await
}

struct Bench {
    cluster: Cluster,
}

impl Bench {
    fn pools(&self) -> Api<SpiderIPPool> {
        Api::all(self.cluster.client.clone())
    }

    fn subnets(&self) -> Api<SpiderSubnet> {
        Api::all(self.cluster.client.clone())
    }

    fn deployments(&self, namespace: &str) -> Api<Deployment> {
        Api::namespaced(self.cluster.client.clone(), namespace)
    }

    async fn namespace(&self, name: &str) -> Result<()> {
        let mut object = Namespace::default();
        object.metadata.name = Some(name.to_owned());
        let all: Api<Namespace> = Api::all(self.cluster.client.clone());
        all.create(&PostParams::default(), &object)
            .await
            .map(drop)
            .context("making a namespace")
    }

    async fn subnet(&self, name: &str, subnet: &str, ips: &str) -> Result<()> {
        let spec = SubnetSpec {
            subnet: subnet.to_owned(),
            ips: Some(vec![ips.to_owned()]),
            ..SubnetSpec::default()
        };
        let object = SpiderSubnet::new(name, spec);
        self.subnets()
            .create(&PostParams::default(), &object)
            .await
            .context("making a subnet")?;
        wait::object(&self.subnets(), name, "the subnet's count", DEADLINE, |subnet| {
            subnet?.status.as_ref()?.total_ip_count
        })
        .await
        .map(drop)
    }

    async fn deploy(&self, namespace: &str, name: &str, replicas: i32, subnet: &str) -> Result<()> {
        let annotations = workload::from_subnets(&[subnet], &[], "+1");
        let mut object = workload::deployment(name, replicas, &annotations)?;
        if let Some(pod) = object.spec.as_mut().and_then(|spec| spec.template.spec.as_mut()) {
            pod.node_selector = Some([("bench".to_owned(), "no-node".to_owned())].into());
        }
        let made = self
            .deployments(namespace)
            .create(&PostParams::default(), &object)
            .await;
        made.map(drop).with_context(|| format!("making {name}"))
    }

    /// Deletes a namespace's Deployments, and waits until their pools are gone.
    async fn clear(&self, namespace: &str) -> Result<()> {
        let all = ListParams::default();
        self.deployments(namespace)
            .delete_collection(&DeleteParams::background(), &all)
            .await
            .context("deleting Deployments")?;
        self.all_sized(namespace, 0, 0).await
    }

    /// Waits until a namespace has so many pools of so many addresses each, and no others.
    async fn all_sized(&self, namespace: &str, count: usize, size: u128) -> Result<()> {
        let labels = format!("{}={namespace}", names::LABEL_OWNER_APP_NAMESPACE);
        let listed = self
            .pools()
            .list(&ListParams::default().labels(&labels))
            .await
            .context("listing pools")?;
        let fits = |pool: &SpiderIPPool| pool.total().is_ok_and(|total| total.count() == size);
        let mut known: BTreeMap<String, bool> = listed.items.iter().map(|pool| (pool.name_any(), fits(pool))).collect();
        let mut version = listed.metadata.resource_version.unwrap_or_default();
        let wait = async {
            while known.len() != count || known.values().any(|fits| !fits) {
                let params = WatchParams::default().labels(&labels);
                let mut events = self.pools().watch(&params, &version).await?.boxed();
                while (known.len() != count || known.values().any(|fits| !fits))
                    && let Some(event) = events.try_next().await?
                {
                    match event {
                        WatchEvent::Added(pool) | WatchEvent::Modified(pool) => {
                            version = pool.resource_version().unwrap_or_default();
                            known.insert(pool.name_any(), fits(&pool));
                        }
                        WatchEvent::Deleted(pool) => drop(known.remove(&pool.name_any())),
                        WatchEvent::Bookmark(_) => {}
                        WatchEvent::Error(status) => bail!("the watch ended: {status:?}"),
                    }
                }
            }
            Ok(())
        };
        tokio::time::timeout(DEADLINE, wait)
            .await
            .with_context(|| format!("no {count} pools of {size} addresses"))?
    }

    /// A hundred Deployments of ten pods at once, on one subnet.
    async fn crowd(&self) -> Result<()> {
        const DEPLOYMENTS: usize = 100;
        self.namespace("bench-crowd").await?;
        self.subnet("bench-crowd", "10.92.0.0/16", "10.92.1.1-10.92.250.250")
            .await?;
        let start = self
            .subnets()
            .get("bench-crowd")
            .await?
            .resource_version()
            .unwrap_or_default();
        let began = Instant::now();
        let names: Vec<String> = (0..DEPLOYMENTS).map(|at| format!("crowd-{at}")).collect();
        let made = futures::stream::iter(&names)
            .map(|name| self.deploy("bench-crowd", name, 10, "bench-crowd"))
            .buffer_unordered(DEPLOYMENTS)
            .try_collect::<Vec<()>>();
        let sent = async {
            made.await?;
            anyhow::Ok(began.elapsed())
        };
        let ((), sent) = futures::future::try_join(self.all_sized("bench-crowd", DEPLOYMENTS, 11), sent).await?;
        show(
            "100 Deployments x 10 pods created at once: all pools at full size (wanted < 5 s)",
            format!("{:?}", began.elapsed()),
        )?;
        show(
            "  of this, until the API server had taken all Deployments",
            format!("{sent:?}"),
        )?;
        show(
            "  writes to the subnet's status (wanted <= 20)",
            self.writes("bench-crowd", &start).await?,
        )?;
        let events: Api<Event> = Api::namespaced(self.cluster.client.clone(), "bench-crowd");
        let told = events.list(&ListParams::default()).await?.items;
        let ours = told
            .iter()
            .filter(|event| event.involved_object.kind.as_deref() == Some("Deployment"));
        let warnings = ours.filter(|event| event.type_.as_deref() == Some("Warning")).count();
        show("  warnings told to users (wanted 0)", warnings)?;
        show(
            "  wrong in the accounting (wanted 0)",
            property::wrongs(&self.cluster.client, "bench-crowd").await?.len(),
        )?;
        self.clear("bench-crowd").await
    }

    /// How often a subnet was written since a resourceVersion. The watch tells every state.
    async fn writes(&self, name: &str, since: &str) -> Result<usize> {
        let last = self.subnets().get(name).await?.resource_version().unwrap_or_default();
        let params = WatchParams::default().fields(&format!("metadata.name={name}"));
        let mut events = self.subnets().watch(&params, since).await?.boxed();
        let mut seen = BTreeSet::new();
        let read = async {
            while last != since && !seen.contains(&last) {
                match events.try_next().await?.context("the watch ended")? {
                    WatchEvent::Modified(subnet) => drop(seen.insert(subnet.resource_version().unwrap_or_default())),
                    WatchEvent::Added(_) | WatchEvent::Deleted(_) | WatchEvent::Bookmark(_) => {}
                    WatchEvent::Error(status) => bail!("the watch ended: {status:?}"),
                }
            }
            Ok(seen.len())
        };
        tokio::time::timeout(DEADLINE, read)
            .await
            .context("reading the subnet's states")?
    }

    /// A thousand workloads in twenty subnets: start, memory, rest, and scaling one of them.
    async fn thousand(&self) -> Result<()> {
        const SUBNETS: usize = 20;
        const EACH: usize = 50;
        let space = "bench-thousand";
        self.namespace(space).await?;
        for at in 0..SUBNETS {
            let subnet = format!("10.93.{at}.0/24");
            self.subnet(&format!("bench-{at}"), &subnet, &format!("10.93.{at}.1-10.93.{at}.250"))
                .await?;
        }
        operators::scale(&self.cluster, 0).await?;
        let all: Vec<(String, String)> = (0..SUBNETS * EACH)
            .map(|at| (format!("app-{at}"), format!("bench-{}", at % SUBNETS)))
            .collect();
        futures::stream::iter(&all)
            .map(|(name, subnet)| self.deploy(space, name, 0, subnet))
            .buffer_unordered(AT_ONCE)
            .try_collect::<Vec<()>>()
            .await?;
        let took = self.start(self.all_sized(space, all.len(), 1)).await?;
        show(
            "1000 workloads in 20 subnets, no pools yet: operator start to all pools made",
            format!("{took:?}"),
        )?;
        operators::scale(&self.cluster, 0).await?;
        // One of each subnet changed meanwhile, so that all is in sync when these are.
        let changed = all.iter().take(SUBNETS);
        for (name, _) in changed.clone() {
            self.resize(space, name, 1).await?;
        }
        let resized = futures::future::try_join_all(changed.map(|(name, _)| self.one_sized(name, 2)));
        let took = self.start(async { resized.await.map(drop) }).await?;
        show(
            "1000 workloads in 20 subnets: operator start to all in sync (wanted <= 10 s)",
            format!("{took:?}"),
        )?;
        self.scaling(
            space,
            "app-20",
            "replicas changed to pool resized among 1000 workloads (wanted p50 < 100 ms)",
        )
        .await?;
        let lease = Apart {
            group: "coordination.k8s.io",
            resource: "leases",
        };
        let counted = Counted::start(&self.cluster, OPERATOR, Some(lease)).await?;
        tokio::time::sleep(IDLE).await;
        let sent = counted.end().await?;
        let (requests, leases) = (sent.requests, sent.apart);
        let rate = requests as f64 / IDLE.as_secs_f64();
        show(
            "idle requests a second beside the lease (wanted <= 0.2)",
            format!("{rate:.2} ({requests} in {IDLE:?}; {leases} for the lease)"),
        )?;
        memory(&self.cluster, OPERATOR, "with 1000 workloads (wanted <= 120 MB)")?;
        self.clear(space).await
    }

    /// Starts the operator and times from its process on until something holds.
    async fn start(&self, until: impl Future<Output = Result<()>>) -> Result<Duration> {
        let deployments: Api<Deployment> =
            Api::namespaced(self.cluster.client.clone(), spiderpool_e2e::RELEASE_NAMESPACE);
        let change = json!({"spec": {"replicas": 1}});
        deployments
            .patch(OPERATOR, &PatchParams::default(), &Patch::Merge(&change))
            .await
            .context("starting the operator")?;
        let process = wait::until("the operator's process", DEADLINE, async || {
            for node in &self.cluster.nodes {
                if !node.processes(OPERATOR)?.is_empty() {
                    return Ok(Some(Instant::now()));
                }
            }
            Ok(None)
        });
        let (began, ended) = futures::future::try_join(process, async {
            until.await?;
            Ok(Instant::now())
        })
        .await?;
        Ok(ended.saturating_duration_since(began))
    }

    async fn resize(&self, namespace: &str, name: &str, replicas: i32) -> Result<()> {
        let change = json!({"spec": {"replicas": replicas}});
        let changed = self
            .deployments(namespace)
            .patch(name, &PatchParams::default(), &Patch::Merge(&change))
            .await;
        changed.map(drop).with_context(|| format!("scaling {name}"))
    }

    /// Waits until the pool of a workload has so many addresses.
    async fn one_sized(&self, name: &str, size: u128) -> Result<()> {
        let config =
            kube::runtime::watcher::Config::default().labels(&format!("{}={name}", names::LABEL_OWNER_APP_NAME));
        wait::objects(&self.pools(), config, "a pool to be resized", DEADLINE, |pools| {
            Ok(pools
                .values()
                .any(|pool| pool.total().is_ok_and(|total| total.count() == size))
                .then_some(()))
        })
        .await
    }

    /// Times scaling one workload up and down, from the API server's answer to the event of its pool.
    async fn scaling(&self, namespace: &str, name: &str, what: &str) -> Result<()> {
        let labels = format!("{}={name}", names::LABEL_OWNER_APP_NAME);
        let start = self
            .pools()
            .list(&ListParams::default())
            .await?
            .metadata
            .resource_version
            .unwrap_or_default();
        let mut events = self
            .pools()
            .watch(&WatchParams::default().labels(&labels), &start)
            .await?
            .boxed();
        let mut times = Vec::new();
        for round in 0..ROUNDS {
            let replicas = if round % 2 == 0 { 5 } else { 0 };
            let began = Instant::now();
            self.resize(namespace, name, replicas).await?;
            let size = u128::try_from(replicas)? + 1;
            let resized = tokio::time::timeout(DEADLINE, sized(&mut events, size))
                .await
                .context("not resized in time")??;
            times.push(resized - began);
        }
        report(what, times)
    }

    /// The same scaling in a subnet of 250 and in one of 16 million addresses.
    async fn sizes(&self) -> Result<()> {
        self.namespace("bench-sizes").await?;
        self.subnet("bench-small", "10.94.0.0/24", "10.94.0.1-10.94.0.250")
            .await?;
        self.subnet("bench-large", "11.0.0.0/8", "11.0.0.1-11.255.255.254")
            .await?;
        for (name, subnet) in [("small", "bench-small"), ("large", "bench-large")] {
            self.deploy("bench-sizes", name, 0, subnet).await?;
            self.one_sized(name, 1).await?;
        }
        self.scaling("bench-sizes", "small", "replicas changed to pool resized in a /24")
            .await?;
        self.scaling("bench-sizes", "large", "replicas changed to pool resized in a /8")
            .await?;
        self.clear("bench-sizes").await
    }
}
