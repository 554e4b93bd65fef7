//! Argo Rollouts: its custom resources and its controller, beside the control plane.

use anyhow::{Context, Result};

use super::cgroups::Cgroups;
use super::process::Daemon;
use super::{Cluster, fabric, preflight};
use crate::cache::Cache;
use crate::sh;
use crate::toolchain::golang::{ARGO_ROLLOUTS, MANIFESTS};

/// Name of its program, its process record and its log.
const CONTROLLER: &str = "rollouts-controller";

impl Cluster {
    /// Defines the custom resources and starts the controller, unless it runs; builds it if the cache does not have it.
    pub fn start_rollouts(&self) -> Result<()> {
        let cache = Cache::open()?;
        preflight::check_build(&cache, &ARGO_ROLLOUTS)?;
        let folder = ARGO_ROLLOUTS.prepare(&cache, self.ui())?;
        self.ui().step("Argo Rollouts started", |_| {
            let state = self.state();
            let mut files = Vec::new();
            let manifests = folder.join(MANIFESTS);
            for entry in std::fs::read_dir(&manifests).with_context(|| format!("listing {}", manifests.display()))? {
                let file = entry.context("listing manifests")?.path();
                // The other file is for kustomize.
                if file.to_string_lossy().ends_with("-crd.yaml") {
                    files.push(file);
                }
            }
            self.define(&files)?;
            let mut command = fabric::in_netns(&state.fabric, folder.join(CONTROLLER));
            command.arg("--kubeconfig").arg(&state.kubeconfig);
            command.args(["--leader-elect=false", "--loglevel=warn"]);
            let daemon = Daemon::of_control_plane(CONTROLLER);
            daemon.ensure(state, &Cgroups::new(state.name.cgroup())?, &command)?;
            Ok(())
        })
    }

    /// Applies files with custom resource definitions and waits until they are served.
    pub(super) fn define(&self, files: &[std::path::PathBuf]) -> Result<()> {
        // Client-side apply keeps a copy in an annotation, for which these are too large.
        let mut apply = self.command_in_fabric("kubectl")?;
        apply.args(["apply", "--server-side", "--force-conflicts", "--output=name"]);
        for file in files {
            apply.arg("-f").arg(file);
        }
        let names = sh::output(&mut apply, sh::SHORT)?;
        let mut wait = vec!["wait", "--for=condition=Established", "--timeout=20s"];
        wait.extend(
            names
                .lines()
                .filter(|name| name.starts_with("customresourcedefinition")),
        );
        self.kubectl(&wait).map(drop)
    }
}
