//! `cluster.json` in the state folder: what a cluster consists of, for later commands and for the e2e tests.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::spec::{ClusterName, NodeNumber};
use crate::paths;
use crate::toolchain::Toolchain;

/// Raised when a running cluster of an older layout cannot be reused.
pub const FORMAT: u32 = 1;

/// A cluster as it is on the machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// [`FORMAT`] of the run that made it.
    pub format: u32,
    /// The cluster's name.
    pub name: ClusterName,
    /// Network namespace with the control plane; enter it to reach the API server.
    pub fabric: String,
    /// Admin kubeconfig; its server is reachable from the fabric only.
    pub kubeconfig: PathBuf,
    /// Folder with certificates and keys.
    pub pki: PathBuf,
    /// Folder with the logs of all components.
    pub logs: PathBuf,
    /// etcd writes through to the disk.
    pub fsync: bool,
    /// CNI plugin that the nodes' network has behind macvlan, for tests.
    #[serde(default)]
    pub chained: Option<PathBuf>,
    /// The programs it runs.
    pub tools: Toolchain,
    /// Its nodes, in order.
    pub nodes: Vec<NodeState>,
}

/// A node as it is on the machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeState {
    /// The node's name in Kubernetes.
    pub name: String,
    /// Its network namespace (`/run/netns/NAME`).
    pub netns: String,
    /// The process whose mount, UTS and network namespaces are the node; 0 while it does not run.
    pub holder_pid: i32,
    /// Its cgroup below each hierarchy's root.
    pub cgroup: String,
    /// Folder with all its files.
    pub root: PathBuf,
    /// containerd's socket.
    pub containerd_socket: PathBuf,
    /// Node address.
    pub ip: IpAddr,
    /// Second address of the node network.
    pub ipv6: IpAddr,
}

impl State {
    /// The state of a new cluster without nodes.
    pub fn new(name: &ClusterName, tools: Toolchain, fsync: bool) -> Self {
        let folder = name.state_folder();
        Self {
            format: FORMAT,
            fabric: name.fabric(),
            kubeconfig: folder.join("admin.kubeconfig"),
            pki: folder.join("pki"),
            logs: folder.join("logs"),
            fsync,
            chained: None,
            tools,
            nodes: Vec::new(),
            name: name.clone(),
        }
    }

    /// Where a cluster's state is written.
    pub fn file(name: &ClusterName) -> PathBuf {
        name.state_folder().join("cluster.json")
    }

    /// The state of a cluster; `None` when there is none that this version understands.
    pub fn load(name: &ClusterName) -> Option<Self> {
        let text = std::fs::read(Self::file(name)).ok()?;
        let state: Self = serde_json::from_slice(&text).ok()?;
        (state.format == FORMAT && state.name == *name).then_some(state)
    }

    /// Writes the state.
    pub fn save(&self) -> Result<()> {
        let text = serde_json::to_vec_pretty(self).context("writing the cluster's state as JSON")?;
        paths::write_atomically(&Self::file(&self.name), &text)
    }

    /// The folder of the whole cluster.
    pub fn folder(&self) -> PathBuf {
        self.name.state_folder()
    }

    /// A node by its name.
    pub fn node(&self, name: &str) -> Result<&NodeState> {
        self.nodes.iter().find(|node| node.name == name).with_context(|| {
            let names: Vec<&str> = self.nodes.iter().map(|node| node.name.as_str()).collect();
            format!("cluster {} has no node {name}; it has {}", self.name, names.join(", "))
        })
    }

    /// A file of the process records.
    pub fn record_file(&self, process: &str) -> PathBuf {
        self.folder().join("processes").join(format!("{process}.json"))
    }

    /// A component's log.
    pub fn log_file(&self, process: &str) -> PathBuf {
        self.logs.join(format!("{process}.log"))
    }
}

impl NodeState {
    /// The state of a node that does not run yet.
    pub fn new(cluster: &ClusterName, number: NodeNumber) -> Self {
        let name = number.name();
        let root = cluster.state_folder().join(&name);
        Self {
            netns: cluster.node_netns(&name),
            holder_pid: 0,
            cgroup: format!("{}/{name}", cluster.cgroup()),
            containerd_socket: root.join("containerd.sock"),
            root,
            ip: number.ipv4(),
            ipv6: number.ipv6(),
            name,
        }
    }

    /// A file below the node's folder.
    pub fn path(&self, sub: impl AsRef<Path>) -> PathBuf {
        self.root.join(sub)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn state_round_trips() {
        let name: ClusterName = "t".parse().unwrap();
        let tools = Toolchain {
            kubernetes: "/k".into(),
            helm: "/h".into(),
            packages: "/p".into(),
        };
        let mut state = State::new(&name, tools, false);
        state.nodes = NodeNumber::first(2)
            .unwrap()
            .into_iter()
            .map(|n| NodeState::new(&name, n))
            .collect();
        let text = serde_json::to_string(&state).unwrap();
        assert_eq!(serde_json::from_str::<State>(&text).unwrap(), state);
        assert_eq!(state.node("n2").unwrap().cgroup, "spd-t/n2");
        assert!(state.node("n3").unwrap_err().to_string().contains("n1, n2"));
    }
}
