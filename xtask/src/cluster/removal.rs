//! Ending a cluster, and removing what a killed run left of one.
//!
//! Ours is what carries the cluster's name: processes in its cgroups, network namespaces, mounts below its folder.
//! Nothing is looked up by what a process is called.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use super::cgroups::Cgroups;
use super::fabric;
use super::node::DAEMONS;
use super::process::Daemon;
use super::spec::ClusterName;
use super::state::{NodeState, State};
use crate::{cache, sh};

/// For hundreds of containers on a busy machine.
const DEADLINE: Duration = Duration::from_secs(60);

/// Whether anything of a cluster is on the machine.
pub fn leftovers(name: &ClusterName, cgroups: &Cgroups) -> bool {
    name.state_folder().exists() || cgroups.exists() || !fabric::netns_of(name).is_empty()
}

/// Ends and removes all of a cluster.
pub fn remove_cluster(name: &ClusterName, cgroups: &Cgroups) -> Result<()> {
    // First: should this be killed half way, the rest must not be taken for a cluster.
    remove_file(&State::file(name))?;
    cgroups.kill(None, DEADLINE, |_| false)?;
    for netns in fabric::netns_of(name) {
        fabric::delete_netns(&netns)?;
    }
    unmount_below(&name.state_folder())?;
    cgroups.remove(None)?;
    cache::remove_all(&name.state_folder())
}

/// Ends and removes all of one node, its object in Kubernetes excepted.
pub fn remove_node(state: &State, cgroups: &Cgroups, node: &NodeState) -> Result<()> {
    cgroups.kill(Some(&node.name), DEADLINE, |_| false)?;
    fabric::delete_netns(&node.netns)?;
    unmount_below(&node.root)?;
    cgroups.remove(Some(&node.name))?;
    for daemon in DAEMONS {
        remove_file(&state.record_file(&Daemon::of_node(daemon, &node.name).name))?;
    }
    cache::remove_all(&node.root)
}

fn remove_file(file: &Path) -> Result<()> {
    match std::fs::remove_file(file) {
        Err(err) if err.kind() != ErrorKind::NotFound => {
            Err(err).with_context(|| format!("removing {}", file.display()))
        }
        _ => Ok(()),
    }
}

/// Mounts of nodes live in the nodes' namespaces; below the folder here there is one only when a node's process was
/// killed between its first two steps on a machine whose mounts are shared.
fn unmount_below(folder: &Path) -> Result<()> {
    let table = std::fs::read_to_string("/proc/self/mountinfo").context("reading the mount table")?;
    for point in mounts_below(&table, folder).iter().rev() {
        sh::output(sh::command("umount", ["-l"]).arg(point), sh::SHORT)?;
    }
    Ok(())
}

/// Mount points at or below a folder, in the table's order: parents first.
fn mounts_below(table: &str, folder: &Path) -> Vec<PathBuf> {
    let points = table
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(PathBuf::from);
    points.filter(|point| point.starts_with(folder)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_mounts_of_the_folder_are_found() {
        let table = "1 0 8:1 / / rw - ext4 /dev/a rw\n2 1 0:5 / /s/a rw - tmpfs t rw\n3 2 0:6 / /s/a/b rw - tmpfs t rw\n\
                     4 1 0:7 / /s/ab rw - tmpfs t rw\n";
        assert_eq!(
            mounts_below(table, Path::new("/s/a")),
            [PathBuf::from("/s/a"), PathBuf::from("/s/a/b")]
        );
    }
}
