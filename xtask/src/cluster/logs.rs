//! Everything that explains a failure, in one folder: components' logs, events, object dumps, logs of system pods.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};

use super::Cluster;
use crate::paths;

const DEADLINE: Duration = Duration::from_secs(60);

/// Questions to the API server and the files that the answers go to.
const DUMPS: &[(&str, &[&str])] = &[
    (
        "events.txt",
        &["get", "events", "-A", "--sort-by=.lastTimestamp", "-o", "wide"],
    ),
    ("pods.txt", &["get", "pods", "-A", "-o", "wide"]),
    ("nodes.yaml", &["get", "nodes", "-o", "yaml"]),
    ("pods.yaml", &["get", "pods", "-A", "-o", "yaml"]),
    (
        "workloads.yaml",
        &[
            "get",
            "deployments,replicasets,daemonsets,statefulsets,jobs",
            "-A",
            "-o",
            "yaml",
        ],
    ),
    ("leases.yaml", &["get", "leases", "-A", "-o", "yaml"]),
];

/// Collects as much as can be had; only not being able to write is an error.
pub fn collect(cluster: &Cluster, into: &Path) -> Result<()> {
    let state = cluster.state();
    let components = into.join("components");
    paths::make_folder(&components)?;
    for entry in std::fs::read_dir(&state.logs).into_iter().flatten().flatten() {
        let copy = components.join(entry.file_name());
        std::fs::copy(entry.path(), &copy).with_context(|| format!("copying a log to {}", copy.display()))?;
    }
    let ask = |file: &str, args: &[&str]| {
        let answer = cluster
            .kubectl_within(args, DEADLINE)
            .unwrap_or_else(|err| format!("{err:#}\n"));
        paths::write_atomically(&into.join(file), answer.as_bytes())
    };
    for (file, args) in DUMPS {
        ask(file, args)?;
    }
    let resources = ["api-resources", "--api-group=spiderpool.spidernet.io", "-o", "name"];
    for resource in cluster.kubectl(&resources).unwrap_or_default().lines() {
        ask(&format!("{resource}.yaml"), &["get", resource, "-A", "-o", "yaml"])?;
    }
    let pods = cluster
        .kubectl(&["get", "pods", "-n", "kube-system", "-o", "name"])
        .unwrap_or_default();
    for pod in pods.lines() {
        let name = pod.trim_start_matches("pod/");
        let logs = [
            "logs",
            "-n",
            "kube-system",
            pod,
            "--all-containers",
            "--prefix",
            "--tail=20000",
        ];
        ask(&format!("kube-system-{name}.log"), &logs)?;
        let mut previous = logs.to_vec();
        previous.push("--previous");
        if let Ok(text) = cluster.kubectl_within(&previous, DEADLINE) {
            paths::write_atomically(&into.join(format!("kube-system-{name}.previous.log")), text.as_bytes())?;
        }
    }
    Ok(())
}

impl Cluster {
    /// Collects logs and object dumps into a folder.
    pub fn collect_logs(&self, into: &Path) -> Result<()> {
        collect(self, into)
    }
}
