//! What a node shows of sandboxes: the folders of a container runtime.

use serde_json::{Value, json};
use spiderpool_agent::sandboxes::{Memory, Sandboxes};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::time::Duration;
use tempfile::TempDir;

/// A configuration that has its addresses from us, as libcni keeps it: `{"ipam":{"type":"spiderpool"}}`.
const CONFIG: &str = "eyJpcGFtIjp7InR5cGUiOiJzcGlkZXJwb29sIn19";

/// A node with an empty folder of results.
pub(crate) struct Host(TempDir);

#[expect(clippy::unwrap_used, reason = "helpers of tests, which fail by it")]
impl Host {
    pub(crate) fn new() -> Self {
        let host = Self(tempfile::tempdir().unwrap());
        fs::create_dir_all(host.results()).unwrap();
        fs::create_dir_all(host.netns()).unwrap();
        host
    }

    fn results(&self) -> PathBuf {
        self.0.path().join("cni/results")
    }

    fn netns(&self) -> PathBuf {
        self.0.path().join("netns")
    }

    pub(crate) fn sandboxes(&self) -> Sandboxes {
        Sandboxes::new(
            &self.0.path().join("cni"),
            &self.netns(),
            &self.0.path().join("ended"),
            Duration::from_secs(240),
            Memory::All,
        )
    }

    /// Gives a sandbox its namespace: that of this process.
    pub(crate) fn make_netns(&self, container: &str) {
        let path = self.netns().join(container);
        if !path.is_symlink() {
            symlink("/proc/self/ns/net", path).unwrap();
        }
    }

    /// Keeps the result of an attachment, as a runtime does.
    pub(crate) fn keep_result(&self, nic: &str, container: &str, addresses: &[String]) {
        let ips: Vec<Value> = addresses.iter().map(|address| json!({"address": address})).collect();
        let result = json!({"kind": "cniCacheV1", "containerId": container, "ifName": nic, "networkName": "lan",
            "netns": format!("/var/run/netns/{container}"), "config": CONFIG, "result": {"ips": ips},
            "cniArgs": [["K8S_POD_NAMESPACE", "retail"], ["K8S_POD_NAME", "shop"], ["K8S_POD_UID", "u"]]});
        let path = self.results().join(format!("lan-{container}-{nic}"));
        fs::write(path, result.to_string()).unwrap();
    }

    /// Notes that another agent of this node began to serve a DEL.
    pub(crate) fn note_ended(&self, container: &str, nic: &str) {
        let folder = self.0.path().join("ended");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(format!("{container}:{nic}")), "").unwrap();
    }

    /// Ends a sandbox without a DEL, as the start of the machine does.
    pub(crate) fn lose_sandbox(&self, container: &str) {
        let path = self.netns().join(container);
        if path.is_symlink() {
            fs::remove_file(path).unwrap();
        }
    }
}
