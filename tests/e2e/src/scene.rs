//! A place of its own for each test: a namespace, an IPv4 and an IPv6 subnet, and the check that nothing stays of them.

use std::any::Any;
use std::fmt::Debug;
use std::panic::AssertUnwindSafe;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use futures::FutureExt;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::runtime::watcher;
use kube::{Api, Resource, ResourceExt};
use serde_json::{Value, json};
use spiderpool_crds::{IPPoolSpec, ReservedIPSpec, SpiderIPPool, SpiderReservedIP, SpiderSubnet, SubnetSpec};

use crate::cluster::Cluster;
use crate::dump;
use crate::history::{Edits, History};
use crate::leave::background;
use crate::networks::{MORE, claim, further, network, subnet_name};
use crate::wait::{self, LONG, SOON};

/// How long a whole test may take.
const LIMIT: Duration = Duration::from_secs(900);

/// A namespace and two subnets that only one test uses.
pub struct Scene {
    /// The cluster.
    pub cluster: Cluster,
    /// The namespace.
    pub namespace: String,
    /// The number in the scene's networks.
    pub number: u16,
    /// Name of the IPv4 subnet.
    pub v4: String,
    /// Name of the IPv6 subnet.
    pub v6: String,
    /// States of subnets and pools that the test wrote against the rules.
    pub(crate) edits: Edits,
    /// Pools and further subnets that the test made.
    pub(crate) made: Mutex<Made>,
}

#[derive(Default)]
pub(crate) struct Made {
    pub(crate) pools: Vec<String>,
    pub(crate) subnets: Vec<String>,
    pub(crate) reservations: Vec<String>,
}

/// Runs a test in a scene. When it ends well, its workloads are deleted and nothing may stay; when it does not, all
/// objects are written down first.
pub async fn scene(name: &str, test: impl AsyncFnOnce(&Scene) -> Result<()>) -> Result<()> {
    let (scene, mut history) = Scene::open(name).await?;
    let run = async {
        test(&scene).await?;
        scene.close().await?;
        history.ended(SOON).await
    };
    let outcome = match tokio::time::timeout(LIMIT, AssertUnwindSafe(Box::pin(run)).catch_unwind()).await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(panic)) => Err(anyhow!("the test panicked: {}", words(panic.as_ref()))),
        Err(_) => Err(anyhow!("the test did not end in {LIMIT:?}")),
    };
    let violations = history.violations();
    let outcome = match (outcome, violations.is_empty()) {
        (Ok(()), true) => {
            drop(history);
            return scene.release().await;
        }
        (Ok(()), false) => Err(anyhow!("what must always hold did not:\n{}", violations.join("\n"))),
        (Err(error), true) => Err(error),
        (Err(error), false) => Err(error.context(format!("what must always hold did not:\n{}", violations.join("\n")))),
    };
    let folder = dump::objects(&scene).await;
    scene.abandon().await;
    match folder {
        Some(folder) => outcome.with_context(|| format!("the objects of the test are in {}", folder.display())),
        None => outcome,
    }
}

fn words(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no text")
}

impl Scene {
    async fn open(name: &str) -> Result<(Self, History)> {
        let cluster = Cluster::open().await?;
        let number = claim(&cluster).await?;
        let namespace = format!("e2e-{number}-{}", name.replace('_', "-"))
            .chars()
            .take(63)
            .collect::<String>();
        let namespace = namespace.trim_end_matches('-').to_owned();
        let mut networks = vec![network(number, 4), network(number, 6)];
        networks.extend((1..=MORE).flat_map(|which| [4, 6].map(|version| further(number, version, which))));
        let history = History::of(&cluster.client, &networks).await?;
        let scene = Self {
            edits: history.edits(),
            namespace,
            number,
            v4: subnet_name(number, 4),
            v6: subnet_name(number, 6),
            made: Mutex::default(),
            cluster,
        };
        let object = Namespace {
            metadata: kube::core::ObjectMeta {
                name: Some(scene.namespace.clone()),
                ..Default::default()
            },
            ..Namespace::default()
        };
        let namespaces: Api<Namespace> = Api::all(scene.cluster.client.clone());
        namespaces
            .create(&PostParams::default(), &object)
            .await
            .context("making the namespace")?;
        // Pods are refused until the namespace has it.
        let accounts = scene.api::<k8s_openapi::api::core::v1::ServiceAccount>();
        wait::object(&accounts, "default", "the default service account", SOON, |account| {
            account.map(drop)
        })
        .await?;
        Ok((scene, history))
    }

    /// Objects of a kind in the scene's namespace.
    pub fn api<K: Resource<DynamicType = (), Scope = NamespaceResourceScope>>(&self) -> Api<K> {
        Api::namespaced(self.cluster.client.clone(), &self.namespace)
    }

    /// All pools.
    pub fn pools(&self) -> Api<SpiderIPPool> {
        Api::all(self.cluster.client.clone())
    }

    /// All subnets.
    pub fn subnets(&self) -> Api<SpiderSubnet> {
        Api::all(self.cluster.client.clone())
    }

    /// All reservations.
    pub fn reservations(&self) -> Api<SpiderReservedIP> {
        Api::all(self.cluster.client.clone())
    }

    /// The CIDR of a subnet of the scene, by IP version.
    pub fn network(&self, version: u8) -> String {
        network(self.number, version)
    }

    /// The CIDR of a further network of the scene, by its number from 1.
    pub fn further_network(&self, version: u8, which: u8) -> String {
        further(self.number, version, which)
    }

    /// Makes an IPv4 subnet in a further network of the scene, with as many addresses as told; its name.
    pub async fn further_subnet(&self, name: &str, which: u8, addresses: u8) -> Result<String> {
        let spec = SubnetSpec {
            subnet: self.further_network(4, which),
            ips: Some(vec![self.further_range(which, addresses)]),
            ..SubnetSpec::default()
        };
        self.create_subnet(name, spec).await.map(|subnet| subnet.name_any())
    }

    /// The first addresses from .10 on of a further IPv4 network.
    pub fn further_range(&self, which: u8, addresses: u8) -> String {
        let head = self.further_network(4, which).replace("0/24", "");
        format!("{head}10-{head}{}", u16::from(addresses) + 9)
    }

    /// An address of a subnet of the scene, by its last part: decimal for IPv4, hexadecimal for IPv6.
    pub fn ip(&self, version: u8, last: &str) -> String {
        let number = self.number;
        if version == 4 {
            format!("10.80.{number}.{last}")
        } else {
            format!("fd80:{number:x}::{last}")
        }
    }

    /// A pool of these addresses of the scene's network, by their last parts.
    pub fn range(&self, version: u8, first: &str, last: &str) -> IPPoolSpec {
        IPPoolSpec {
            ips: Some(vec![format!("{}-{}", self.ip(version, first), self.ip(version, last))]),
            ..IPPoolSpec::default()
        }
    }

    /// The scene's pools as they are now, by name.
    pub async fn own_pools(&self) -> Result<Vec<SpiderIPPool>> {
        let all = self
            .pools()
            .list(&ListParams::default())
            .await
            .context("listing pools")?;
        let networks = [self.network(4), self.network(6)];
        let own = |pool: &SpiderIPPool| {
            let namespace = pool.label(spiderpool_crds::names::LABEL_OWNER_APP_NAMESPACE);
            networks.contains(&pool.spec.subnet)
                || namespace == Some(self.namespace.as_str())
                || pool.name_any().starts_with(&self.own(""))
        };
        Ok(all.items.into_iter().filter(own).collect())
    }

    /// The pool that was made for a workload, once it is as wanted.
    pub async fn pool_of(
        &self,
        workload: &str,
        version: u8,
        what: &str,
        look: impl Fn(&SpiderIPPool) -> bool,
    ) -> Result<SpiderIPPool> {
        use spiderpool_crds::names::{LABEL_IP_VERSION, LABEL_OWNER_APP_NAME, LABEL_OWNER_APP_NAMESPACE, label_value};
        let labels = format!(
            "{LABEL_OWNER_APP_NAMESPACE}={},{LABEL_OWNER_APP_NAME}={},{LABEL_IP_VERSION}=IPv{version}",
            self.namespace,
            label_value(workload)
        );
        let what = format!("the IPv{version} pool of {workload} {what}");
        wait::objects(
            &self.pools(),
            watcher::Config::default().labels(&labels),
            &what,
            LONG,
            |pools| {
                ensure!(pools.len() < 2, "{workload} has several pools of one family");
                Ok(pools.values().find(|pool| look(pool)).cloned())
            },
        )
        .await
    }

    /// Makes an object in the scene's namespace.
    pub async fn create<K>(&self, object: &K) -> Result<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + Debug
            + serde::Serialize
            + serde::de::DeserializeOwned,
    {
        let what = || format!("making {} {}", K::kind(&()), object.name_any());
        self.api()
            .create(&PostParams::default(), object)
            .await
            .with_context(what)
    }

    /// Changes an object of the scene's namespace by a merge patch.
    pub async fn patch<K>(&self, name: &str, change: &Value) -> Result<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + serde::de::DeserializeOwned,
    {
        let what = || format!("changing {} {name}", K::kind(&()));
        self.api()
            .patch(name, &PatchParams::default(), &Patch::Merge(change))
            .await
            .with_context(what)
    }

    /// Scales a Deployment.
    pub async fn scale(&self, name: &str, replicas: i32) -> Result<()> {
        self.patch::<Deployment>(name, &json!({"spec": {"replicas": replicas}}))
            .await
            .map(drop)
    }

    /// Changes the annotations of a Deployment's pods; null removes one.
    pub async fn annotate_pods(&self, deployment: &str, annotations: &Value) -> Result<()> {
        let change = json!({"spec": {"template": {"metadata": {"annotations": annotations}}}});
        self.patch::<Deployment>(deployment, &change).await.map(drop)
    }

    /// Deletes an object of the scene's namespace, and what it owns afterwards.
    pub async fn delete<K>(&self, name: &str) -> Result<()>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + serde::de::DeserializeOwned,
    {
        let what = || format!("deleting {} {name}", K::kind(&()));
        self.api::<K>()
            .delete(name, &background())
            .await
            .with_context(what)
            .map(drop)
    }

    /// Makes a pool as a user would, in the network it names or else in that of the scene's subnet; its name gets the
    /// scene's number.
    pub async fn create_pool(&self, name: &str, version: u8, spec: IPPoolSpec) -> Result<SpiderIPPool> {
        self.create_pool_by(&self.pools(), name, version, spec).await
    }

    /// As [`Self::create_pool`], while no webhook ran: it may have what others have.
    pub async fn create_pool_unjudged(&self, name: &str, version: u8, spec: IPPoolSpec) -> Result<SpiderIPPool> {
        self.create_pool_by(&self.unjudged_pools()?, name, version, spec).await
    }

    /// All pools, written as if no webhook ran.
    pub fn unjudged_pools(&self) -> Result<Api<SpiderIPPool>> {
        Ok(Api::all(self.cluster.unjudged()?))
    }

    async fn create_pool_by(
        &self,
        pools: &Api<SpiderIPPool>,
        name: &str,
        version: u8,
        mut spec: IPPoolSpec,
    ) -> Result<SpiderIPPool> {
        let name = format!("e2e-{}-{name}", self.number);
        if spec.subnet.is_empty() {
            spec.subnet = self.network(version);
        }
        self.made
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pools
            .push(name.clone());
        let pool = SpiderIPPool::new(&name, spec);
        pools
            .create(&PostParams::default(), &pool)
            .await
            .with_context(|| format!("making the pool {name}"))
    }

    /// Makes a further subnet; its name gets the scene's number.
    pub async fn create_subnet(&self, name: &str, spec: SubnetSpec) -> Result<SpiderSubnet> {
        let subnet = SpiderSubnet::new(&self.own(name), spec);
        self.made
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .subnets
            .push(subnet.name_any());
        let what = || format!("making the subnet {}", subnet.name_any());
        self.subnets()
            .create(&PostParams::default(), &subnet)
            .await
            .with_context(what)
    }

    /// Reserves addresses, which all are of one IP version.
    pub async fn reserve(&self, name: &str, ips: Vec<String>) -> Result<()> {
        self.reserve_by(&self.reservations(), name, ips).await
    }

    /// As [`Self::reserve`], written by a client of the test's own.
    pub async fn reserve_by(&self, by: &Api<SpiderReservedIP>, name: &str, ips: Vec<String>) -> Result<()> {
        let spec = ReservedIPSpec {
            ips: Some(ips),
            ..ReservedIPSpec::default()
        };
        let reservation = SpiderReservedIP::new(&self.own(name), spec);
        self.made
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .reservations
            .push(reservation.name_any());
        let what = || format!("making the reservation {}", reservation.name_any());
        by.create(&PostParams::default(), &reservation)
            .await
            .with_context(what)
            .map(drop)
    }

    /// A cluster-wide name that no other scene has.
    pub fn own(&self, name: &str) -> String {
        format!("e2e-{}-{name}", self.number)
    }
}
