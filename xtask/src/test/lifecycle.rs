//! The chart's life on a cluster: uninstalling keeps what users made without finalizers on endpoints, installing again finds it, and with the clean-up value
//! nothing stays.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::cluster::Cluster;
use crate::cluster::install::{NAMESPACE, RELEASE};
use crate::sh;
use crate::ui::Ui;

/// The clean-up hook is a Job that ends within four minutes, or fails.
const DEADLINE: Duration = Duration::from_secs(300);

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
        let hooks = cluster.kubectl(&[
            "get",
            "job,sa,clusterrole,clusterrolebinding",
            "-n",
            NAMESPACE,
            "-l",
            OWN,
            "-o",
            "name",
        ])?;
        ensure!(hooks.trim().is_empty(), "left behind: {hooks}");
        nothing_of_the_webhook(cluster)?;
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
        nothing_of_the_webhook(cluster)?;
        let pods = cluster.kubectl(&["get", "all,cm,sa,secret", "-n", NAMESPACE, "-l", OWN, "-o", "name"])?;
        ensure!(pods.trim().is_empty(), "left behind: {pods}");
        Ok(())
    })
}

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

/// A webhook configuration without a webhook would keep users from making pools; a Secret that stays is a key that nobody looks after.
fn nothing_of_the_webhook(cluster: &Cluster) -> Result<()> {
    for kind in ["mutatingwebhookconfigurations", "validatingwebhookconfigurations"] {
        let left = cluster.kubectl(&["get", kind, "-l", OWN, "-o", "name"])?;
        ensure!(left.trim().is_empty(), "left behind: {left}");
    }
    // The garbage collector takes them.
    let gone = [
        "wait",
        "secrets",
        "-n",
        NAMESPACE,
        "-l",
        OWN,
        "--for=delete",
        "--timeout=60s",
    ];
    cluster
        .kubectl_within(&gone, DEADLINE)
        .context("waiting for the Secrets of the webhook to go")
        .map(drop)
}

fn kinds(cluster: &Cluster) -> Result<usize> {
    let names = cluster.kubectl(&["get", "crd", "-o", "name"])?;
    Ok(names
        .lines()
        .filter(|name| name.ends_with(".spiderpool.spidernet.io"))
        .count())
}
