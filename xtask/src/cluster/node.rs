//! A real node: network, mount and UTS namespaces and a cgroup subtree of its own, containerd, kubelet, kube-proxy.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use super::cgroups::Cgroups;
use super::process::{Daemon, Ensured};
use super::state::NodeState;
use super::{Cluster, certs, fabric, node_files, removal};
use crate::sh::{self, Readiness};
use crate::{cache, paths};

/// A node is ready in seconds; this is for machines that do much else.
const DEADLINE: Duration = Duration::from_secs(180);

/// The daemons of a node in the order of their start; the first holds the namespaces.
pub const DAEMONS: [&str; 4] = ["holder", "containerd", "kubelet", "kube-proxy"];

/// Folders of a node that programs expect to exist.
const FOLDERS: [&str; 12] = [
    "containerd",
    "state",
    "kubelet",
    "cni/bin",
    "cni/conf",
    "varlog/pods",
    "varlog/containers",
    "varlibcni",
    "volumeplugins",
    "manifests",
    "cgroup",
    "images",
];

/// Whether all daemons of a node run.
pub fn is_running(cluster: &Cluster, node: &NodeState) -> bool {
    DAEMONS
        .iter()
        .all(|name| Daemon::of_node(name, &node.name).running(cluster.state()).is_some())
}

/// Starts what does not run of a node and returns its state; [`wait_ready`] is the other half.
pub fn ensure(cluster: &Cluster, cgroups: &Cgroups, node: &NodeState, images: &[std::path::PathBuf]) -> Result<i32> {
    let state = cluster.state();
    let daemon = |name: &str| Daemon::of_node(name, &node.name);
    if daemon("holder").running(state).is_none() || !fabric::is_node_intact(state, node) {
        // Its namespaces are gone, so nothing of it can be reused.
        removal::remove_node(state, cgroups, node)?;
        prepare_files(cluster, node)?;
    }
    cgroups.make_node(&node.name)?;
    fabric::ensure_node(state, node)?;
    let holder = hold(cluster, cgroups, node)?;
    let inside = |program: &str| -> Result<Command> {
        let mut command = enter(holder);
        command.arg(program);
        state.tools.equip(&mut command)?;
        Ok(command)
    };
    let config = |file: &str| node.path(file).display().to_string();

    let mut containerd = inside("containerd")?;
    containerd.args(["--config", &config("containerd.toml")]);
    daemon("containerd").ensure(state, cgroups, &containerd)?;
    sh::wait_until("waiting for containerd", DEADLINE, || {
        daemon("containerd").check(state)?;
        let answer = ctr(cluster, node, holder).and_then(|mut ctr| sh::output(ctr.arg("version"), sh::SHORT));
        Ok(answer.map_or_else(|err| Readiness::NotYet(format!("{err:#}")), |_| Readiness::Ready(())))
    })
    .with_context(|| sh::tail_of(&state.log_file(&daemon("containerd").name)))?;
    import(cluster, node, holder, images)?;

    let mut kubelet = inside("kubelet")?;
    kubelet.args([
        "--config",
        &config("kubelet.json"),
        "--kubeconfig",
        &config("kubelet.kubeconfig"),
    ]);
    kubelet.args(["--root-dir", &config("kubelet"), "--hostname-override", &node.name]);
    kubelet.args(["--node-ip", &node.ip.to_string(), "--v=2"]);
    daemon("kubelet").ensure(state, cgroups, &kubelet)?;
    let mut proxy = inside("kube-proxy")?;
    proxy.args(["--config", &config("kube-proxy.json"), "--v=2"]);
    daemon("kube-proxy").ensure(state, cgroups, &proxy)?;
    Ok(holder)
}

/// Waits until Kubernetes calls the node ready.
pub fn wait_ready(cluster: &Cluster, node: &NodeState) -> Result<()> {
    let kubelet = Daemon::of_node("kubelet", &node.name);
    let name = format!("node/{}", node.name);
    // Short waits, so that a kubelet that dies is told at once.
    sh::wait_until(&format!("waiting for {name} to be ready"), DEADLINE, || {
        kubelet.check(cluster.state())?;
        Daemon::of_node("kube-proxy", &node.name).check(cluster.state())?;
        let answer = cluster
            .kubectl(&["wait", "--for=create", &name, "--timeout=5s"])
            .and_then(|_| cluster.kubectl(&["wait", "--for=condition=Ready", &name, "--timeout=5s"]));
        Ok(answer.map_or_else(|err| Readiness::NotYet(format!("{err:#}")), |_| Readiness::Ready(())))
    })
    .with_context(|| sh::tail_of(&kubelet.log(cluster.state())))
}

/// Imports image archives into a node's containerd; what it has already of the same content is left out.
///
/// Returns whether anything was imported.
pub fn import(cluster: &Cluster, node: &NodeState, holder: i32, images: &[std::path::PathBuf]) -> Result<bool> {
    let mut imported = false;
    for image in images {
        let bytes = std::fs::read(image).with_context(|| format!("reading the image {}", image.display()))?;
        let file = image
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default();
        let (marker, digest) = (node.path("images").join(file), paths::hash(&bytes));
        if std::fs::read_to_string(&marker).is_ok_and(|known| known == digest) {
            continue;
        }
        let mut ctr = ctr(cluster, node, holder)?;
        ctr.args([
            "--namespace",
            "k8s.io",
            "images",
            "import",
            "--snapshotter",
            &snapshotter(node)?,
        ])
        .arg(image);
        sh::output(&mut ctr, DEADLINE)
            .with_context(|| format!("importing {} into node {}", image.display(), node.name))?;
        paths::write_atomically(&marker, digest.as_bytes())?;
        imported = true;
    }
    Ok(imported)
}

/// A command inside the node's namespaces; the program is still to be added.
pub fn enter(holder: i32) -> Command {
    sh::command("nsenter", ["-t", &holder.to_string(), "-n", "-m", "-u", "--"])
}

fn ctr(cluster: &Cluster, node: &NodeState, holder: i32) -> Result<Command> {
    let mut command = enter(holder);
    cluster.state().tools.equip(&mut command)?;
    command.arg("ctr").arg("--address").arg(&node.containerd_socket);
    Ok(command)
}

/// Everything below the node's folder that is written once.
fn prepare_files(cluster: &Cluster, node: &NodeState) -> Result<()> {
    let state = cluster.state();
    for folder in FOLDERS {
        paths::make_folder(&node.path(folder))?;
    }
    certs::Authority::open(&state.pki)?.equip_node(node)?;
    let plugins = state.tools.cni_plugins()?;
    for entry in std::fs::read_dir(&plugins).with_context(|| format!("listing {}", plugins.display()))? {
        let entry = entry.context("listing the CNI plugins")?;
        // A copy and no link: the folder is mounted where the cache may not be.
        let into = node.path("cni/bin").join(entry.file_name());
        std::fs::copy(entry.path(), &into).with_context(|| format!("copying to {}", into.display()))?;
    }
    let chained = match &state.chained {
        Some(program) => Some(install_plugin(program, node)?),
        None => None,
    };
    let snapshotter = if overlay_works(&node.path("state")) {
        "overlayfs"
    } else {
        "native"
    };
    let write = |file: &str, text: String| paths::write_atomically(&node.path(file), text.as_bytes());
    write("snapshotter", snapshotter.to_owned())?;
    write("containerd.toml", node_files::containerd(node, snapshotter))?;
    write("kubelet.json", format!("{:#}\n", node_files::kubelet(state, node)))?;
    write(
        "kube-proxy.json",
        format!("{:#}\n", node_files::kube_proxy(state, node)),
    )?;
    write("resolv.conf", String::new())?;
    // Renamed within its folder: containerd does not see files that are moved in from elsewhere.
    write(
        "cni/conf/10-underlay.conflist",
        format!("{:#}\n", node_files::cni_network(chained.as_deref())),
    )
}

/// Copies a CNI plugin into the node; its file name is the plugin's type.
fn install_plugin(program: &Path, node: &NodeState) -> Result<String> {
    let name = program.file_name().and_then(|name| name.to_str());
    let name = name.with_context(|| format!("{} is no CNI plugin", program.display()))?;
    let into = node.path("cni/bin").join(name);
    std::fs::copy(program, &into).with_context(|| format!("copying to {}", into.display()))?;
    Ok(name.to_owned())
}

fn snapshotter(node: &NodeState) -> Result<String> {
    std::fs::read_to_string(node.path("snapshotter")).with_context(|| format!("reading the files of {}", node.name))
}

/// Whether a folder's file system can carry overlayfs (that of a container often cannot).
fn overlay_works(folder: &Path) -> bool {
    let attempt = || -> Result<()> {
        let probe = tempfile::tempdir_in(folder)?;
        let sub = |name: &str| probe.path().join(name);
        for name in ["lower", "upper", "work", "merged"] {
            paths::make_folder(&sub(name))?;
        }
        // In a namespace of its own, so that no mount can stay.
        let options = format!(
            "lowerdir={},upperdir={},workdir={}",
            sub("lower").display(),
            sub("upper").display(),
            sub("work").display()
        );
        let mut mount = sh::command(
            "unshare",
            ["--mount", "mount", "-t", "overlay", "overlay", "-o", &options],
        );
        sh::output(mount.arg(sub("merged")), sh::SHORT)?;
        cache::remove_all(probe.path())
    };
    attempt().is_ok()
}

/// The process that keeps the node's namespaces, started if it does not run.
fn hold(cluster: &Cluster, cgroups: &Cgroups, node: &NodeState) -> Result<i32> {
    let state = cluster.state();
    let daemon = Daemon::of_node("holder", &node.name);
    let mut command = fabric::in_netns(&node.netns, "unshare");
    command.args([
        "--mount",
        "--uts",
        "--propagation",
        "slave",
        "sh",
        "-c",
        node_files::ENTER_SCRIPT,
        "sh",
    ]);
    command.arg(&node.root).arg(&node.name);
    let marker = node.path("entered");
    let ensured = daemon.ensure(state, cgroups, &command)?;
    if let Ensured::Started(_) = ensured {
        sh::wait_until("waiting for the node's mounts", sh::SHORT, || {
            daemon.check(state)?;
            let entered = marker.is_file();
            Ok(if entered {
                Readiness::Ready(())
            } else {
                Readiness::NotYet("not finished".to_owned())
            })
        })
        .with_context(|| sh::tail_of(&daemon.log(state)))?;
    }
    Ok(ensured.record().pid)
}
