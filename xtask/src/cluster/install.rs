//! The product on a cluster: images built, imported into all nodes, chart installed or upgraded.

use std::time::Duration;

use anyhow::{Context, Result};

use super::Cluster;
use crate::images::product::{self, Registry};
use crate::paths;

/// Pods start in seconds once their images are there.
const DEADLINE: Duration = Duration::from_secs(300);
/// The chart's release name.
pub const RELEASE: &str = "spiderpool";
/// What belongs to the release.
const SELECTOR: &str = "app.kubernetes.io/instance=spiderpool";
/// The namespace of the release.
pub const NAMESPACE: &str = "kube-system";

impl Cluster {
    /// Builds the images, brings them to the nodes and installs or upgrades the chart, with extra arguments for helm.
    pub fn install(&self, helm_args: &[&str]) -> Result<()> {
        let folder = paths::checkout().join("target/images/archives");
        let archives = product::build(&folder, &Registry::default(), self.ui())?;
        let changed = self.ui().step("images imported", |_| self.import_images(&archives))?;
        let existed = self.helm(&["status", RELEASE, "-n", NAMESPACE], DEADLINE).is_ok();
        self.ui().step("chart installed", |_| {
            let chart = paths::checkout().join("charts/spiderpool").display().to_string();
            let mut args = vec![
                "upgrade",
                "--install",
                RELEASE,
                &chart,
                "-n",
                NAMESPACE,
                "--wait",
                "--timeout=4m",
            ];
            args.extend_from_slice(helm_args);
            self.helm(&args, DEADLINE)?;
            if changed && existed {
                self.restart_release()?;
            }
            self.wait_for_release()
        })
    }

    /// The tag does not change with the content of a locally built image, so helm sees no reason to start new pods.
    fn restart_release(&self) -> Result<()> {
        let which = ["deployments,daemonsets", "-n", NAMESPACE, "-l", SELECTOR];
        self.kubectl(&[&["rollout", "restart"][..], &which].concat())?;
        Ok(())
    }

    /// Helm takes a DaemonSet for ready while as many pods are missing as an update may take away, on a small cluster all.
    fn wait_for_release(&self) -> Result<()> {
        let which = ["deployments,daemonsets", "-n", NAMESPACE, "-l", SELECTOR, "-o", "name"];
        let names = self.kubectl(&[&["get"][..], &which].concat())?;
        for name in names.lines() {
            self.kubectl_within(&["rollout", "status", "-n", NAMESPACE, name, "--timeout=4m"], DEADLINE)
                .with_context(|| format!("waiting for the pods of {name}"))?;
        }
        Ok(())
    }
}
