//! The results that libcni keeps: one file for each attachment that was set up and whose DEL is not done.

use k8s_openapi::ByteString;
use serde::Deserialize;
use serde_json::Value;
use std::collections::HashMap;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// What the runtime calls the pod's UID, namespace and name.
const POD_UID: &str = "K8S_POD_UID";
const POD_NAMESPACE: &str = "K8S_POD_NAMESPACE";
const POD_NAME: &str = "K8S_POD_NAME";

/// How configurations name our plugin.
const PLUGIN: &str = "spiderpool";

/// Longest file that is read. A result has a few kilobytes.
const LONGEST: u64 = 1 << 20;

/// What it means that a folder is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Missing {
    /// There are no results.
    Empty,
    /// The results are kept somewhere else.
    SaysNothing,
}

/// The results of all folders.
#[derive(Debug, Default)]
pub(super) struct Results {
    /// Network namespaces by pod UID. Older versions of libcni name none.
    by_uid: HashMap<String, Vec<Option<String>>>,
    /// Those whose addresses were given by our plugin.
    pub(super) ours: Vec<Attachment>,
    /// Files that could not be read and may be about a sandbox: one that is being written, or another program's.
    pub(super) unread: Vec<PathBuf>,
    /// Files that could not be read and are older than this boot of the machine, which no sandbox outlives.
    pub(super) outlived: Vec<PathBuf>,
    /// Why a folder could not be read.
    pub(super) problem: Option<String>,
}

/// An attachment whose addresses were given by our plugin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attachment {
    /// Namespace of the pod.
    pub namespace: String,
    /// Name of the pod.
    pub pod: String,
    /// UID of the pod.
    pub uid: String,
    /// The sandbox.
    pub container: String,
    /// The interface.
    pub nic: String,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// The network namespace, if it is known.
    pub netns: Option<String>,
}

/// The part of a result that matters.
#[derive(Debug, Deserialize)]
struct Cached {
    #[serde(default)]
    netns: Option<String>,
    #[serde(default, rename = "cniArgs")]
    args: Vec<(String, String)>,
    #[serde(default, rename = "containerId")]
    container: String,
    #[serde(default, rename = "ifName")]
    nic: String,
    #[serde(default)]
    config: Option<ByteString>,
    #[serde(default)]
    result: Value,
    #[expect(dead_code, reason = "a file without it is none of libcni's")]
    kind: String,
}

impl Results {
    /// Reads the folders of the runtime and of Multus, on a machine that was started at the time `booted`, if that is known.
    pub(super) fn of_node([runtime, multus]: &[PathBuf; 2], booted: Option<SystemTime>) -> Self {
        let mut results = Self::default();
        results.read(runtime, Missing::SaysNothing, booted);
        // Not every node has it.
        results.read(multus, Missing::Empty, booted);
        results
    }

    /// Results that could not be read.
    pub(super) fn unknown(problem: String) -> Self {
        Self {
            problem: Some(problem),
            ..Self::default()
        }
    }

    /// Reads a folder.
    fn read(&mut self, folder: &Path, missing: Missing, booted: Option<SystemTime>) {
        if let Err(error) = self.read_all(folder, booted)
            && (missing == Missing::SaysNothing || error.kind() != io::ErrorKind::NotFound)
        {
            self.problem = Some(format!("cannot read {}: {error}", folder.display()));
        }
    }

    fn read_all(&mut self, folder: &Path, booted: Option<SystemTime>) -> io::Result<()> {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let file = entry.metadata();
            let written = file.as_ref().ok().and_then(|file| file.modified().ok());
            let text = file.and_then(|file| {
                if file.len() > LONGEST {
                    Ok(Vec::new())
                } else {
                    fs::read(entry.path())
                }
            });
            let cached = match text {
                Ok(text) => serde_json::from_slice::<Cached>(&text).ok(),
                // Its DEL is done meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(_) => None,
            };
            match cached {
                Some(cached) => self.take(cached),
                None if written.zip(booted).is_some_and(|(written, booted)| written < booted) => {
                    self.outlived.push(entry.path());
                }
                None => self.unread.push(entry.path()),
            }
        }
        Ok(())
    }

    fn take(&mut self, cached: Cached) {
        // Other users of libcni on the node have no pods.
        let Some(uid) = cached.arg(POD_UID) else { return };
        let netns = cached.netns.clone().filter(|netns| !netns.is_empty());
        if cached.is_ours() {
            self.ours.push(Attachment {
                namespace: cached.arg(POD_NAMESPACE).unwrap_or_default(),
                pod: cached.arg(POD_NAME).unwrap_or_default(),
                uid: uid.clone(),
                addresses: cached.addresses(),
                container: cached.container,
                nic: cached.nic,
                netns: netns.clone(),
            });
        }
        self.by_uid.entry(uid).or_default().push(netns);
    }

    /// The namespaces of a pod's attachments.
    pub(super) fn of(&self, uid: &str) -> impl Iterator<Item = Option<&str>> {
        let all = self.by_uid.get(uid).into_iter().flatten();
        all.map(Option::as_deref)
    }

    /// Whether there is a result of a sandbox.
    pub(super) fn names(&self, container: &str) -> bool {
        self.ours.iter().any(|attachment| attachment.container == container)
    }

    /// Whether a file that could not be read may be about one of these sandboxes; where none is named, about any.
    pub(super) fn is_unread(&self, containers: &[&str]) -> bool {
        let named = |file: &PathBuf| {
            let name = file.file_name().unwrap_or_default().to_string_lossy();
            containers.is_empty() || containers.iter().any(|container| name.contains(container))
        };
        self.unread.iter().any(named)
    }
}

impl Cached {
    /// An argument of the runtime. The last one wins, as with the plugins.
    fn arg(&self, wanted: &str) -> Option<String> {
        let found = self.args.iter().rev().find(|(name, _)| name == wanted);
        found.map(|(_, value)| value.clone())
    }

    /// Whether the configuration, of one plugin or a list, has the addresses from our plugin.
    fn is_ours(&self) -> bool {
        let config = self.config.as_ref().map(|config| serde_json::from_slice(&config.0));
        let Some(Ok(config)) = config else { return false };
        let config: Value = config;
        let asks = |plugin: &Value| plugin["ipam"]["type"] == PLUGIN;
        let plugins = config["plugins"].as_array();
        asks(&config) || plugins.is_some_and(|plugins| plugins.iter().any(asks))
    }

    fn addresses(&self) -> Vec<IpAddr> {
        let ips = self.result["ips"].as_array();
        let ips = ips.into_iter().flatten().filter_map(|ip| ip["address"].as_str());
        ips.filter_map(|ip| ip.split('/').next()?.parse().ok()).collect()
    }
}
