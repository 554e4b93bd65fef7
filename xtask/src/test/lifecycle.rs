//! The chart's life on a cluster: uninstalling keeps what users made without finalizers on endpoints, installing again finds it, and
//! with the clean-up value nothing stays.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::cluster::Cluster;
use crate::cluster::install::{NAMESPACE, RELEASE};
use crate::sh::{self, Readiness, wait_until};
use crate::ui::Ui;

/// The clean-up hook is a Job that ends within four minutes, or fails.
const DEADLINE: Duration = Duration::from_secs(300);

/// What has an owner goes with it in a moment.
const GONE: Duration = Duration::from_secs(60);

/// How many custom resource definitions there are.
const KINDS: usize = 4;

/// A subnet that nobody uses.
const SUBNET: &str = "
apiVersion: spiderpool.spidernet.io/v2beta1
kind: SpiderSubnet
metadata: {name: lifecycle}
spec: {subnet: 10.95.0.0/24, ips: [10.95.0.10-10.95.0.20]}
";

/// An endpoint, as an agent makes it.
const ENDPOINT: &str = "
apiVersion: spiderpool.spidernet.io/v2beta1
kind: SpiderEndpoint
metadata: {name: lifecycle, namespace: default, finalizers: [spiderpool.spidernet.io]}
status:
  ownerControllerType: Pod
  ownerControllerName: lifecycle
  current: {uid: lifecycle, node: '', ips: []}
";

/// Runs through it. Leaves the cluster without the product.
pub(super) fn run(cluster: &Cluster, ui: &Ui) -> Result<()> {
    ui.step("uninstalled: subnets and their kind stay", |_| {
        cluster.apply(SUBNET)?;
        cluster.apply(ENDPOINT)?;
        uninstall(cluster)?;
        ensure!(kinds(cluster)? == KINDS, "a custom resource definition is gone");
        let held = cluster.kubectl(&["get", "se", "-A", "-o", "jsonpath={.items[*].metadata.finalizers}"])?;
        ensure!(
            held.trim().is_empty(),
            "endpoints have finalizers that nobody takes off: {held}"
        );
        nothing_but(cluster, |name| name.starts_with("customresourcedefinition"))?;
        cluster.kubectl(&["get", "ss", "lifecycle"]).map(drop)
    })?;
    cluster.install(&["--set", "spiderpoolController.cleanup.enable=true"])?;
    ui.step("installed again: the subnet is looked after", |_| {
        let counted = "--for=jsonpath={.status.totalIPCount}=11";
        cluster
            .kubectl_within(&["wait", "ss", "lifecycle", counted, "--timeout=60s"], DEADLINE)
            .map(drop)
    })?;
    ui.step("uninstalled with the clean-up value: nothing stays", |_| {
        uninstall(cluster)?;
        let left = kinds(cluster)?;
        ensure!(left == 0, "{left} custom resource definitions stay");
        nothing_but(cluster, |_| false)
    })
}

/// Kinds that nobody leaves behind: Events tell of the past, an APIService is the API server's own and goes with its last definition,
/// and ComponentStatuses are not stored.
const UNASKED: [&str; 3] = ["events", "apiservices", "componentstatuses"];

/// What the release makes.
const OWN: &str = "app.kubernetes.io/instance=spiderpool";

fn uninstall(cluster: &Cluster) -> Result<()> {
    cluster.helm(
        &["uninstall", RELEASE, "-n", NAMESPACE, "--wait", "--timeout=4m"],
        DEADLINE,
    )?;
    cluster
        .kubectl_within(
            &[
                "wait",
                "pods",
                "-n",
                NAMESPACE,
                "-l",
                OWN,
                "--for=delete",
                "--timeout=2m",
            ],
            DEADLINE + sh::SHORT,
        )
        .map(drop)
}

/// Waits until no object of any kind has our name or mark but those that are to stay.
fn nothing_but(cluster: &Cluster, stays: impl Fn(&str) -> bool) -> Result<()> {
    wait_until("nothing to be left behind", GONE, || {
        let kinds = cluster.kubectl(&["api-resources", "--verbs=list", "-o", "name"])?;
        let kinds: Vec<&str> = kinds
            .lines()
            .filter(|kind| !UNASKED.iter().any(|unasked| kind.starts_with(unasked)))
            .collect();
        let all = ["get", &kinds.join(","), "-A", "-o", "name"];
        // A kind of which the API server told may be gone the next moment.
        let (named, marked) = match (
            cluster.kubectl(&all),
            cluster.kubectl(&[&all[..], &["-l", OWN]].concat()),
        ) {
            (Ok(named), Ok(marked)) => (named, marked),
            (Err(error), _) | (_, Err(error)) => return Ok(Readiness::NotYet(format!("{error:#}"))),
        };
        let ours = |name: &&str| name.rsplit('/').next().is_some_and(|name| name.contains(RELEASE));
        let left: BTreeSet<&str> = named.lines().filter(ours).chain(marked.lines()).collect();
        let left: Vec<&str> = left.into_iter().filter(|name| !stays(name)).collect();
        Ok(match left.is_empty() {
            true => Readiness::Ready(()),
            false => Readiness::NotYet(format!("left behind: {}", left.join(", "))),
        })
    })
}

fn kinds(cluster: &Cluster) -> Result<usize> {
    let names = cluster.kubectl(&["get", "crd", "-o", "name"])?;
    Ok(names
        .lines()
        .filter(|name| name.ends_with(".spiderpool.spidernet.io"))
        .count())
}
