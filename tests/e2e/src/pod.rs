//! Pods that run: their addresses, and commands inside them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::AttachParams;
use kube::runtime::watcher;
use spiderpool_crds::{SpiderEndpoint, SpiderIPPool};
use spiderpool_ipam::{Family, addr};
use tokio::io::AsyncReadExt;

use crate::scene::Scene;
use crate::wait;

/// How long one command in a pod may take.
const COMMAND: Duration = Duration::from_secs(90);

/// A pod that runs.
#[derive(Clone, Debug)]
pub struct Running {
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
    /// Its node.
    pub node: String,
    /// Its addresses as Kubernetes reports them.
    pub addresses: Vec<IpAddr>,
}

/// The addresses of pods, by name.
pub fn addresses_by_name(pods: &[Running]) -> BTreeMap<String, Vec<IpAddr>> {
    let all = pods.iter();
    all.map(|pod| (pod.name.clone(), pod.addresses.clone())).collect()
}

impl Running {
    /// A pod, if it runs.
    pub fn of(pod: &Pod) -> Option<Self> {
        let status = pod.status.as_ref()?;
        let ready = |condition: &k8s_openapi::api::core::v1::PodCondition| {
            condition.type_ == "Ready" && condition.status == "True"
        };
        let runs = pod.metadata.deletion_timestamp.is_none() && status.conditions.iter().flatten().any(ready);
        let addresses = status.pod_ips.iter().flatten();
        runs.then(|| Self {
            name: pod.name_any(),
            uid: pod.uid().unwrap_or_default(),
            node: pod
                .spec
                .as_ref()
                .and_then(|spec| spec.node_name.clone())
                .unwrap_or_default(),
            addresses: addresses.filter_map(|ip| ip.ip.parse().ok()).collect(),
        })
    }

    /// The address of a family.
    pub fn address(&self, family: Family) -> Result<IpAddr> {
        let mut own = self.addresses.iter().filter(|ip| addr::to_bits(**ip).0 == family);
        own.next()
            .copied()
            .with_context(|| format!("pod {} has no {family} address", self.name))
    }
}

impl Scene {
    /// Waits until a workload has exactly so many pods and all of them run.
    pub async fn running(&self, app: &str, count: usize, deadline: Duration) -> Result<Vec<Running>> {
        let what = format!("{count} running pods of {app}");
        let config = watcher::Config::default().labels(&format!("app={app}"));
        wait::objects(&self.api::<Pod>(), config, &what, deadline, |pods| {
            let running: Vec<Running> = pods.values().filter_map(Running::of).collect();
            Ok((running.len() == count && pods.len() == count).then_some(running))
        })
        .await
    }

    /// Checks that Kubernetes, the endpoints and the pools agree on what running pods have, and that no address is
    /// there twice. Gives the addresses.
    pub async fn distinct_addresses(&self, pods: &[Running], families: usize) -> Result<BTreeSet<IpAddr>> {
        let pools = self.own_pools().await?;
        let mut all = BTreeSet::new();
        for pod in pods {
            ensure!(
                pod.addresses.len() == families,
                "pod {} has the addresses {:?}",
                pod.name,
                pod.addresses
            );
            let endpoint = self.api::<SpiderEndpoint>().get(&pod.name).await;
            let endpoint = endpoint.with_context(|| format!("reading the endpoint of pod {}", pod.name))?;
            ensure!(
                endpoint.status.current.uid == pod.uid,
                "the endpoint of {} is another pod's",
                pod.name
            );
            ensure!(
                endpoint.status.current.node == pod.node,
                "the endpoint of {} names another node",
                pod.name
            );
            let items = endpoint.status.current.ips.iter();
            let told: BTreeSet<IpAddr> = items
                .flat_map(|item| [item.ipv4.as_deref(), item.ipv6.as_deref()])
                .flatten()
                .filter_map(|text| text.split('/').next()?.parse().ok())
                .collect();
            let own: BTreeSet<IpAddr> = pod.addresses.iter().copied().collect();
            ensure!(
                own == told,
                "pod {} has {own:?} but its endpoint says {told:?}",
                pod.name
            );
            for ip in own {
                ensure!(all.insert(ip), "{ip} is an address of two pods, one is {}", pod.name);
                let holders: Vec<String> = pools
                    .iter()
                    .filter(|pool| records(pool, pod, ip))
                    .map(|p| p.name_any())
                    .collect();
                ensure!(
                    holders.len() == 1,
                    "{ip} of pod {} is recorded by the pools {holders:?}",
                    pod.name
                );
            }
        }
        Ok(all)
    }

    /// The address of an IP version that an interface of a pod has by its endpoint, and the pool it is of.
    pub async fn given(&self, pod: &str, nic: &str, version: u8) -> Result<Option<(IpAddr, String)>> {
        let endpoint = self.api::<SpiderEndpoint>().get(pod).await;
        let endpoint = endpoint.with_context(|| format!("reading the endpoint of pod {pod}"))?;
        let mut items = endpoint.status.current.ips.into_iter();
        let Some(item) = items.find(|item| item.interface == nic) else {
            return Ok(None);
        };
        let (address, pool) = match version {
            4 => (item.ipv4, item.ipv4_pool),
            _ => (item.ipv6, item.ipv6_pool),
        };
        let Some(address) = address.filter(|address| !address.is_empty()) else {
            return Ok(None);
        };
        let bare = address.split('/').next().unwrap_or_default();
        let ip = bare
            .parse()
            .with_context(|| format!("the endpoint of pod {pod} has the address {address:?}"))?;
        Ok(Some((ip, pool.unwrap_or_default())))
    }

    /// Checks that an interface of a pod has its address of an IP version out of a pool, which is given by its whole name.
    pub async fn given_by(&self, pool: &str, pod: &str, nic: &str, version: u8) -> Result<IpAddr> {
        match self.given(pod, nic, version).await? {
            Some((ip, of)) if of == pool => Ok(ip),
            other => bail!("interface {nic} of pod {pod} has {other:?} and not an IPv{version} address of {pool}"),
        }
    }

    /// Runs a command in a pod and gives its output; an exit status other than 0 is an error.
    pub async fn exec(&self, pod: &str, command: &[&str]) -> Result<String> {
        let what = || format!("running {command:?} in pod {pod}");
        let run = async {
            let params = AttachParams::default().stdout(true).stderr(true);
            let mut process = self.api::<Pod>().exec(pod, command.to_vec(), &params).await?;
            let status = process.take_status().context("no status of the command")?;
            let mut out = process.stdout().context("no output of the command")?;
            let mut err = process.stderr().context("no error output of the command")?;
            let (mut stdout, mut stderr) = (String::new(), String::new());
            let (read_out, read_err) =
                futures::future::join(out.read_to_string(&mut stdout), err.read_to_string(&mut stderr)).await;
            read_out.context("reading the output")?;
            read_err.context("reading the error output")?;
            let status = status.await.context("the command has no exit status")?;
            if status.status.as_deref() != Some("Success") {
                bail!("{}\n{stdout}{stderr}", status.message.unwrap_or_default());
            }
            Ok(stdout)
        };
        match tokio::time::timeout(COMMAND, run).await {
            Ok(outcome) => outcome.with_context(what),
            Err(_) => bail!("no answer in {COMMAND:?} {}", what()),
        }
    }

    /// Pings one pod from another, by the address of a family.
    pub async fn ping(&self, from: &Running, to: &Running, family: Family) -> Result<()> {
        let target = to.address(family)?;
        // Addresses are announced when a pod gets them, but an announcement may be lost; then a pod that knew an earlier owner
        // trusts its old entry for up to 45 seconds and needs some more to look anew.
        let script = format!("for try in $(seq 28); do ping -c 1 -W 2 {target} && exit 0; done; exit 1");
        self.exec(&from.name, &["sh", "-c", &script]).await.map(drop)
    }
}

fn records(pool: &SpiderIPPool, pod: &Running, ip: IpAddr) -> bool {
    let Ok(records) = pool.records() else { return false };
    let mut own = records.iter().filter(|(recorded, _)| *recorded == ip);
    own.any(|(_, record)| record.pod_uid == pod.uid)
}
