//! Names and addresses of a cluster: everything it owns on the machine can be found by its name alone.
//!
//! That is what makes two clusters run side by side and lets the leftovers of a killed run be removed without guessing.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Result, bail, ensure};
use serde::{Deserialize, Serialize};

use crate::paths;

/// Prefix of all network namespaces and cgroups.
const PREFIX: &str = "spd";

/// Address of the API server, and of the fabric's end of the node network.
pub const API_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 199, 0, 1);
/// Port of the API server.
pub const API_PORT: u16 = 6443;
/// First address of the Services' range: that of the API server's Service.
pub const API_SERVICE: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 1);
/// The Services' range.
pub const SERVICE_CIDR: &str = "10.96.0.0/16";
/// What the controller manager hands to nodes; no pod gets an address of it unless a test brings such a network.
pub const POD_CIDR: &str = "10.244.0.0/16";
/// Most nodes in a cluster: node addresses end in 11 and up.
pub const MOST_NODES: usize = 20;

/// A cluster's name: lower-case letters, digits and dashes, 16 at most.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ClusterName(String);

impl ClusterName {
    /// The name for a checkout: part of the folder's name to be recognised, and a hash of its path to be unique.
    pub fn of_checkout(checkout: &Path) -> Self {
        Self::derived('c', checkout)
    }

    /// The name of a checkout's test cluster, which runs beside the one that its developer uses.
    pub fn of_tests(checkout: &Path) -> Self {
        Self::derived('t', checkout)
    }

    fn derived(letter: char, checkout: &Path) -> Self {
        let folder = checkout
            .file_name()
            .map(|name| name.to_string_lossy().to_lowercase())
            .unwrap_or_default();
        let readable: String = folder.chars().filter(char::is_ascii_alphanumeric).take(8).collect();
        let digest = paths::hash(checkout.as_os_str().as_encoded_bytes());
        Self(
            format!("{letter}{}-{readable}", &digest[..6])
                .trim_end_matches('-')
                .to_owned(),
        )
    }

    /// Network namespace of the control plane and the bridges.
    pub fn fabric(&self) -> String {
        format!("{PREFIX}-{self}")
    }

    /// Network namespace of a node. The dot cannot be part of a name, so no other cluster's fabric is called so.
    pub fn node_netns(&self, node: &str) -> String {
        format!("{PREFIX}-{self}.{node}")
    }

    /// Whether a network namespace belongs to this cluster.
    pub fn owns_netns(&self, netns: &str) -> bool {
        let rest = netns.strip_prefix(&self.fabric());
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    }

    /// Name of the cluster's cgroup, in each hierarchy.
    pub fn cgroup(&self) -> String {
        format!("{PREFIX}-{self}")
    }

    /// Folder with all state of the cluster.
    pub fn state_folder(&self) -> PathBuf {
        Path::new(paths::STATE_ROOT).join(&self.0)
    }

    /// The file whose lock `up` and `down` take. Beside the state folder, since that one is removed.
    pub fn lock_file(&self) -> PathBuf {
        Path::new(paths::STATE_ROOT).join(format!("{self}.lock"))
    }
}

impl FromStr for ClusterName {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        ensure!(
            (1..=16).contains(&text.len()) && text.chars().all(allowed) && !text.starts_with('-'),
            "cluster name {text:?}: use 1 to 16 lower-case letters, digits and dashes, not beginning with a dash"
        );
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for ClusterName {
    type Error = anyhow::Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<ClusterName> for String {
    fn from(name: ClusterName) -> Self {
        name.0
    }
}

impl fmt::Display for ClusterName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A node by its number, from 1: the source of its name, addresses and folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NodeNumber(usize);

impl NodeNumber {
    /// The numbers of a cluster of this size.
    pub fn first(count: usize) -> Result<Vec<Self>> {
        if count > MOST_NODES {
            bail!("{count} nodes: {MOST_NODES} is the most");
        }
        Ok((1..=count).map(Self).collect())
    }

    /// The node's name.
    pub fn name(self) -> String {
        format!("n{}", self.0)
    }

    /// The node's IPv4 address on `eth0`.
    pub fn ipv4(self) -> IpAddr {
        let last = u8::try_from(10 + self.0).unwrap_or(u8::MAX);
        Ipv4Addr::new(10, 199, 0, last).into()
    }

    /// The node's IPv6 address on `eth0`.
    pub fn ipv6(self) -> IpAddr {
        let last = u16::try_from(0x10 + self.0).unwrap_or(u16::MAX);
        Ipv6Addr::new(0xfd99, 0, 0, 0, 0, 0, 0, last).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked() {
        for good in ["b", "e2e-1", "c0123af-main"] {
            assert_eq!(good.parse::<ClusterName>().unwrap().to_string(), good);
        }
        for bad in ["", "-a", "A", "a.b", "a/b", "..", "seventeen-letters"] {
            assert!(bad.parse::<ClusterName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn checkouts_get_different_valid_names() {
        let (a, b) = (Path::new("/a/spiderpool"), Path::new("/b/spiderpool"));
        assert_ne!(ClusterName::of_checkout(a), ClusterName::of_checkout(b));
        for path in [a, b, Path::new("/"), Path::new("/x/Ünicode and more")] {
            let name = ClusterName::of_checkout(path);
            assert!(name.to_string().parse::<ClusterName>().is_ok(), "{name}");
        }
    }

    #[test]
    fn one_clusters_namespaces_are_not_anothers() {
        let (a, other): (ClusterName, ClusterName) = ("a".parse().unwrap(), "a-n1".parse().unwrap());
        assert!(a.owns_netns(&a.fabric()) && a.owns_netns(&a.node_netns("n1")));
        assert!(!a.owns_netns(&other.fabric()) && !a.owns_netns(&other.node_netns("n1")));
        assert!(!a.owns_netns("unrelated"));
    }

    #[test]
    fn sockets_fit_into_a_unix_address() {
        let longest: ClusterName = "abcdefghijklmnop".parse().unwrap();
        assert!(
            longest
                .state_folder()
                .join("n20/containerd.sock.ttrpc")
                .as_os_str()
                .len()
                < 100
        );
    }

    #[test]
    fn nodes_are_numbered_from_one() {
        let nodes = NodeNumber::first(2).unwrap();
        assert_eq!(nodes[1].name(), "n2");
        assert_eq!(nodes[1].ipv4().to_string(), "10.199.0.12");
        assert_eq!(nodes[1].ipv6().to_string(), "fd99::12");
        assert!(NodeNumber::first(21).is_err());
    }
}
