//! What a container runtime leaves on a node for each sandbox: its network namespace, and what libcni noted of it. Pods that a test
//! runs itself have neither unless the test makes them.

use std::ffi::OsString;
use std::fs;
use std::io::ErrorKind;
use std::net::IpAddr;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use k8s_openapi::ByteString;
use serde_json::json;
use spiderpool_wire::{IpamAddArgs, IpamDelArgs};

/// Tells the agent where libcni notes attachments.
const STATE: &str = "SPIDERPOOL_CNI_STATE_PATH";

/// Tells the agent where network namespaces are.
const NAMESPACES: &str = "SPIDERPOOL_NETNS_PATH";

/// Tells an agent how long after its start an ADD that the one before it served may not be noted yet, in seconds. The test notes it
/// before it sends the next request.
const NOTED: (&str, &str) = ("SPIDERPOOL_RESULTS_AFTER", "10");

/// Network of attachments that name none.
const NETWORK: &str = "underlay";

/// The folders of one node.
#[derive(Clone, Debug)]
pub struct Sandboxes {
    state: PathBuf,
    namespaces: PathBuf,
}

impl Sandboxes {
    /// Makes them, without a sandbox.
    pub fn make(folder: &Path) -> Result<Self> {
        let made = Self {
            state: folder.join("cni"),
            namespaces: folder.join("netns"),
        };
        for folder in [&made.state.join("results"), &made.namespaces] {
            fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
        }
        Ok(made)
    }

    /// The environment of an agent that looks at them.
    pub fn environment(&self) -> [(&'static str, OsString); 3] {
        [
            (NOTED.0, NOTED.1.into()),
            (STATE, self.state.clone().into_os_string()),
            (NAMESPACES, self.namespaces.clone().into_os_string()),
        ]
    }

    /// A sandbox is made, before anybody asks for its addresses.
    pub fn begin(&self, container: &str) -> Result<()> {
        // Any namespace is one: what is looked at is whether it is there.
        let target = format!("/proc/{}/ns/net", std::process::id());
        match symlink(target, self.namespaces.join(container)) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
            made => made.context("making the network namespace of a sandbox"),
        }
    }

    /// An interface is set up: the runtime notes it when all plugins are done.
    pub fn attached(&self, add: &IpamAddArgs, addresses: &[IpAddr]) -> Result<()> {
        self.begin(&add.container_id)?;
        let config = json!({
            "cniVersion": "1.0.0",
            "name": network(&add.network_name),
            "plugins": [{"type": "macvlan", "ipam": {"type": "spiderpool"}}],
        });
        let length = |ip: &IpAddr| if ip.is_ipv4() { 24 } else { 64 };
        let ips = addresses
            .iter()
            .map(|ip| json!({"address": format!("{ip}/{}", length(ip))}));
        let network = network(&add.network_name);
        let text = json!({
            "kind": "cniCacheV1",
            "containerId": add.container_id,
            "ifName": add.if_name,
            "networkName": network,
            "netns": add.net_namespace,
            "config": ByteString(config.to_string().into_bytes()),
            "cniArgs": [
                ["IgnoreUnknown", "1"],
                ["K8S_POD_NAMESPACE", add.pod_namespace],
                ["K8S_POD_NAME", add.pod_name],
                ["K8S_POD_INFRA_CONTAINER_ID", add.container_id],
                ["K8S_POD_UID", add.pod_uid],
            ],
            "result": {"cniVersion": "1.0.0", "ips": ips.collect::<Vec<_>>()},
        });
        let entry = self.entry(&add.network_name, &add.container_id, &add.if_name);
        fs::write(entry, text.to_string()).context("noting an attachment")
    }

    /// A DEL has succeeded: the runtime forgets the attachment and removes the sandbox.
    pub fn end(&self, del: &IpamDelArgs) -> Result<()> {
        remove(&self.entry(&del.network_name, &del.container_id, &del.if_name))?;
        remove(&self.namespaces.join(&del.container_id))
    }

    fn entry(&self, of: &str, container: &str, nic: &str) -> PathBuf {
        let name = format!("{}-{container}-{nic}", network(of));
        self.state.join("results").join(name)
    }
}

fn network(name: &str) -> &str {
    if name.is_empty() { NETWORK } else { name }
}

fn remove(file: &Path) -> Result<()> {
    match fs::remove_file(file) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        removed => removed.with_context(|| format!("removing {}", file.display())),
    }
}
