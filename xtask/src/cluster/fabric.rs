//! The cluster's network: namespaces, bridges, links. The machine's own namespace gets nothing.
//!
//! ```text
//!   fabric   br0 10.199.0.1/24, fd99::1/64   node network, API server
//!            br1                             one layer 2 segment: parents of the pods' macvlan interfaces
//!   node     eth0 on br0, eth1 on br1
//! ```

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::spec::{API_ADDRESS, ClusterName};
use super::state::{NodeState, State};
use crate::sh;

/// Where `ip netns` keeps namespaces.
const NETNS_FOLDER: &str = "/run/netns";

/// The file that stands for a network namespace.
pub fn netns_file(netns: &str) -> PathBuf {
    Path::new(NETNS_FOLDER).join(netns)
}

/// A command that runs in a network namespace and otherwise as if called here.
pub fn in_netns(netns: &str, program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new("nsenter");
    command
        .arg(format!("--net={}", netns_file(netns).display()))
        .arg("--")
        .arg(program);
    command
}

/// Makes the fabric unless it is complete.
pub fn ensure_fabric(state: &State) -> Result<()> {
    let fabric = &state.fabric;
    if is_intact(state) {
        return Ok(());
    }
    delete_netns(fabric)?;
    add_netns(state, fabric)?;
    // br1 last: where it is up, all is there.
    let script = format!(
        "link set lo up\n\
         link add br0 type bridge\n\
         addr add {API_ADDRESS}/24 dev br0\n\
         addr add fd99::1/64 dev br0 nodad\n\
         link set br0 up\n\
         link add br1 type bridge\n"
    );
    batch(state, fabric, &script)?;
    let probe = "link add probe link br1 type macvlan mode bridge\nlink del probe\n";
    batch(state, fabric, probe).context("this kernel cannot make macvlan interfaces (`modprobe macvlan` may help)")?;
    batch(state, fabric, "link set br1 up\n")
}

/// Makes a node's network unless it is complete.
pub fn ensure_node(state: &State, node: &NodeState) -> Result<()> {
    if is_node_intact(state, node) {
        return Ok(());
    }
    delete_netns(&node.netns)?;
    add_netns(state, &node.netns)?;
    let (fabric, netns, name) = (&state.fabric, &node.netns, &node.name);
    // What a killed run left of the pair in the fabric goes with the namespace, but only a moment later.
    for link in ["v0", "v1"] {
        let _ = sh::output(
            ip(state)?.args(["-n", fabric, "link", "del", &format!("{link}{name}")]),
            sh::SHORT,
        );
    }
    batch(
        state,
        fabric,
        &format!(
            "link add v0{name} type veth peer name eth0 netns {netns}\n\
             link set v0{name} master br0 up\n\
             link add v1{name} type veth peer name eth1 netns {netns}\n\
             link set v1{name} master br1 up\n"
        ),
    )?;
    // The default route leads nowhere but makes kubelet and kube-proxy find the node's address.
    batch(
        state,
        netns,
        &format!(
            "link set lo up\n\
             addr add {}/24 dev eth0\n\
             addr add {}/64 dev eth0 nodad\n\
             link set eth0 up\n\
             route add default via {API_ADDRESS} dev eth0\n\
             route add default via fd99::1 dev eth0\n",
            node.ip, node.ipv6
        ),
    )?;
    let forwarding = "echo 1 > /proc/sys/net/ipv4/ip_forward && echo 1 > /proc/sys/net/ipv6/conf/all/forwarding";
    sh::output(in_netns(netns, "sh").args(["-c", forwarding]), sh::SHORT)?;
    batch(state, netns, "link set eth1 up\n")
}

/// Whether the fabric is there; after a reboot, or a run killed early, it is not.
pub fn is_intact(state: &State) -> bool {
    is_complete(state, &state.fabric, "br1")
}

/// Whether a node's network is there.
pub fn is_node_intact(state: &State, node: &NodeState) -> bool {
    is_complete(state, &node.netns, "eth1")
}

/// The cluster's network namespaces that exist.
pub fn netns_of(name: &ClusterName) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(NETNS_FOLDER) else {
        return Vec::new();
    };
    let names = entries
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|netns| name.owns_netns(netns)).collect()
}

/// Removes a network namespace; absent is fine. Does what `ip netns del` does, so that no program has to be found.
pub fn delete_netns(netns: &str) -> Result<()> {
    let file = netns_file(netns);
    if !file.exists() {
        return Ok(());
    }
    // A file without a mount is what a run leaves that was killed between the two.
    let _ = sh::output(sh::command("umount", ["-l"]).arg(&file), sh::SHORT);
    std::fs::remove_file(&file).with_context(|| format!("removing {}", file.display()))
}

fn add_netns(state: &State, netns: &str) -> Result<()> {
    sh::output(ip(state)?.args(["netns", "add", netns]), sh::SHORT)?;
    Ok(())
}

fn ip(state: &State) -> Result<Command> {
    state.tools.command("ip")
}

/// Whether a namespace has its last link, up.
fn is_complete(state: &State, netns: &str, link: &str) -> bool {
    let shown = ip(state).and_then(|mut ip| sh::output(ip.args(["-n", netns, "link", "show", link, "up"]), sh::SHORT));
    shown.is_ok_and(|text| !text.trim().is_empty())
}

/// Runs lines of `ip` in a namespace; the first that fails ends it.
fn batch(state: &State, netns: &str, lines: &str) -> Result<()> {
    sh::output_with_input(ip(state)?.args(["-n", netns, "-batch", "-"]), lines, sh::SHORT)
        .with_context(|| format!("setting up the network namespace {netns} with:\n{lines}"))?;
    Ok(())
}
