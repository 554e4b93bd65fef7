//! What must be true of the example application, asked of the cluster.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use spiderpool_crds::{SpiderIPPool, names};
use spiderpool_ipam::addr;

use crate::cluster::Cluster;
use crate::paths;
use crate::sh;

const SUBNETS: [&str; 2] = ["lan-v4", "lan-v6"];

/// Pings the address given as first argument until it answers. A neighbour that still knows an earlier owner of the address
/// needs up to eight seconds to notice (5 s of IPv6's DELAY state, then three probes), so one lost packet says nothing.
const PING: &str = "for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15; do ping -c 1 -W 1 $0 && exit 0; done; exit 1";

/// The example Deployment on a cluster.
pub(super) struct Application<'a> {
    cluster: &'a Cluster,
    name: &'static str,
    wait: Duration,
}

impl<'a> Application<'a> {
    /// The Deployment of this name in the namespace `default`. `wait` bounds each expectation.
    pub(super) fn new(cluster: &'a Cluster, name: &'static str, wait: Duration) -> Self {
        Self { cluster, name, wait }
    }

    /// Applies the example files.
    pub(super) fn apply_examples(&self) -> Result<()> {
        for file in ["subnets.yaml", "deployment.yaml"] {
            let path = paths::checkout().join("examples").join(file);
            let text = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
            self.cluster.apply(&text)?;
        }
        Ok(())
    }

    /// Sets the number of replicas.
    pub(super) fn scale(&self, replicas: usize) -> Result<()> {
        self.kubectl(&["scale", "deployment", self.name, &format!("--replicas={replicas}")])
            .map(drop)
    }

    /// Deletes the Deployment and waits for its pods.
    pub(super) fn delete(&self) -> Result<()> {
        self.kubectl(&["delete", "deployment", self.name, "--cascade=foreground"])?;
        self.waits(&["pods", "-l", &self.label(), "--for=delete"])
    }

    /// The pods run, the pools have one address more than there are pods, and no other pods are left.
    pub(super) fn runs(&self, replicas: usize) -> Result<()> {
        let deployment = format!("deployment/{}", self.name);
        let selector = self.pool_selector();
        let total = format!("--for=jsonpath={{.status.totalIPCount}}={}", replicas + 1);
        let used = format!("--for=jsonpath={{.status.allocatedIPCount}}={replicas}");
        self.waits(&["sp", "-l", &selector, "--for=create"])?;
        self.waits(&["sp", "-l", &selector, &total])?;
        for count in ["replicas", "readyReplicas"] {
            self.waits(&[&deployment, &format!("--for=jsonpath={{.status.{count}}}={replicas}")])?;
        }
        self.waits(&["sp", "-l", &selector, &used])?;
        let pools = self.pools()?;
        ensure!(
            pools.len() == 2,
            "expected one pool for each family, found {}",
            pools.len()
        );
        for subnet in SUBNETS {
            let count = format!("--for=jsonpath={{.status.allocatedIPCount}}={}", replicas + 1);
            self.waits(&["ss", subnet, &count])?;
        }
        Ok(())
    }

    /// Every pod has one address of each family, no address twice, each inside its pool.
    pub(super) fn addresses_are_right(&self, replicas: usize) -> Result<()> {
        let addresses = self.addresses()?;
        let distinct: BTreeSet<IpAddr> = addresses.iter().flat_map(|(_, _, ips)| ips.iter().copied()).collect();
        ensure!(
            distinct.len() == 2 * replicas,
            "expected {} distinct addresses, found {distinct:?}",
            2 * replicas
        );
        let pools = self.pools()?;
        for ip in distinct {
            let (family, bits) = addr::to_bits(ip);
            let inside = pools.iter().any(|pool| {
                pool.family().is_ok_and(|own| own == family) && pool.total().is_ok_and(|total| total.contains(bits))
            });
            ensure!(inside, "address {ip} is in no pool of the application");
        }
        Ok(())
    }

    /// Pods of different nodes answer pings of both families.
    pub(super) fn pods_reach_each_other(&self) -> Result<()> {
        let addresses = self.addresses()?;
        let nodes: BTreeSet<&String> = addresses.iter().map(|(_, node, _)| node).collect();
        ensure!(
            nodes.len() > 1,
            "all pods run on one node, so nothing can be shown between nodes"
        );
        for (pod, node, _) in &addresses {
            for (_, _, ips) in addresses.iter().filter(|(_, other, _)| other != node) {
                for ip in ips {
                    self.kubectl(&["exec", pod, "--", "sh", "-c", PING, &ip.to_string()])
                        .with_context(|| format!("pod {pod} does not reach {ip}"))?;
                }
            }
        }
        Ok(())
    }

    /// Nothing is left of the application.
    pub(super) fn is_gone(&self) -> Result<()> {
        self.waits(&["sp", "-l", &self.pool_selector(), "--for=delete"])?;
        self.waits(&["se", "-l", "ipam.spidernet.io/node", "--for=delete"])?;
        for subnet in SUBNETS {
            self.waits(&["ss", subnet, "--for=jsonpath={.status.allocatedIPCount}=0"])?;
        }
        for kind in ["sp", "se"] {
            let left = self.kubectl(&["get", kind, "-A", "-o", "name"])?;
            ensure!(left.trim().is_empty(), "left behind: {left}");
        }
        Ok(())
    }

    /// Deletes the subnets; a finalizer that nobody removes would make this time out.
    pub(super) fn delete_subnets(&self) -> Result<()> {
        let timeout = format!("--timeout={}s", self.wait.as_secs());
        self.kubectl(&[&["delete", "ss"][..], &SUBNETS, &[&timeout]].concat())
            .map(drop)
    }

    fn label(&self) -> String {
        format!("app={}", self.name)
    }

    fn pool_selector(&self) -> String {
        format!(
            "{}={},{}=default",
            names::LABEL_OWNER_APP_NAME,
            self.name,
            names::LABEL_OWNER_APP_NAMESPACE
        )
    }

    fn kubectl(&self, args: &[&str]) -> Result<String> {
        self.cluster.kubectl_within(args, self.wait + sh::SHORT)
    }

    /// `kubectl wait` follows a watch, so it ends at the moment the condition holds.
    fn waits(&self, args: &[&str]) -> Result<()> {
        let timeout = format!("--timeout={}s", self.wait.as_secs());
        self.kubectl(&[&["wait"][..], args, &[&timeout]].concat()).map(drop)
    }

    fn pools(&self) -> Result<Vec<SpiderIPPool>> {
        let list = self.list(&["get", "sp", "-l", &self.pool_selector(), "-o", "json"])?;
        list.into_iter()
            .map(|item| serde_json::from_value(item).context("reading a pool"))
            .collect()
    }

    /// Name, node and addresses of each pod that is not on its way out.
    fn addresses(&self) -> Result<Vec<(String, String, Vec<IpAddr>)>> {
        let pods = self.list(&["get", "pods", "-l", &self.label(), "-o", "json"])?;
        let mut found = Vec::new();
        for pod in pods.iter().filter(|pod| pod["metadata"]["deletionTimestamp"].is_null()) {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let ips = pod["status"]["podIPs"].as_array().into_iter().flatten();
            let ips = ips.map(|ip| text(&ip["ip"]).parse().context("reading a pod's address"));
            found.push((
                text(&pod["metadata"]["name"]),
                text(&pod["spec"]["nodeName"]),
                ips.collect::<Result<Vec<IpAddr>>>()?,
            ));
        }
        Ok(found)
    }

    fn list(&self, args: &[&str]) -> Result<Vec<Value>> {
        let text = self.kubectl(args)?;
        let mut list: Value = serde_json::from_str(&text).context("reading kubectl's JSON")?;
        match list["items"].take() {
            Value::Array(items) => Ok(items),
            _ => bail!("kubectl {} gave no list", args.join(" ")),
        }
    }
}
