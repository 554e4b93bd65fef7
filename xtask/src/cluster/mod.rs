//! A real Kubernetes cluster on one Linux machine, for tests, demos and trying things.
//!
//! etcd, the Kubernetes control plane and any number of real nodes (containerd, runc, kubelet, kube-proxy) in namespaces
//! of their own. Outside of them only the limits of `fs.inotify` are raised, and empty folders appear where nodes mount
//! theirs (`/opt/cni/bin`, `/etc/cni/net.d`, `/var/lib/kubelet` and the like).

pub mod certs;
pub mod cgroups;
pub mod control_plane;
pub mod fabric;
pub mod install;
pub mod kruise;
pub mod logs;
pub mod node;
pub mod node_files;
pub mod preflight;
pub mod process;
pub mod removal;
pub mod rollouts;
pub mod spec;
pub mod state;
pub mod status;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

pub use self::spec::ClusterName;
pub use self::state::{NodeState, State};

use self::cgroups::Cgroups;
use self::spec::NodeNumber;
use crate::cache::{Cache, Lock};
use crate::toolchain::Toolchain;
use crate::ui::Ui;
use crate::{images, paths, sh};

/// What [`Cluster::up`] is asked for.
#[derive(Clone, Debug)]
pub struct UpOptions {
    /// The cluster's name; the checkout's if absent.
    pub name: Option<ClusterName>,
    /// How many nodes at least; 0 is a control plane alone.
    pub nodes: usize,
    /// etcd writes through to the disk: slower, and what benchmarks of writes want.
    pub fsync: bool,
    /// CNI plugin, by its program, that the nodes' network has behind macvlan; only tests have one.
    pub chained: Option<PathBuf>,
}

/// A cluster on this machine.
pub struct Cluster {
    state: State,
    ui: Ui,
}

impl Cluster {
    /// The name a command means.
    pub fn name_or_default(name: Option<ClusterName>) -> ClusterName {
        name.unwrap_or_else(|| ClusterName::of_checkout(&paths::checkout()))
    }

    /// Brings a cluster up: starts what does not run of it, adds nodes that it lacks, clears what a killed run left.
    pub fn up(options: &UpOptions, ui: &Ui) -> Result<Self> {
        let cache = Cache::open()?;
        preflight::check(&cache)?;
        let name = Self::name_or_default(options.name.clone());
        let numbers = NodeNumber::first(options.nodes)?;
        let tools = Toolchain::prepare(&cache, ui)?;
        let system_images = images::system::prepare(&cache, &tools)?;
        let _lock = lock(&name, ui)?;
        let cgroups = Cgroups::new(name.cgroup())?;
        let state = Self::state_to_use(&name, &cgroups, tools, options, ui)?;
        let mut cluster = Self { state, ui: ui.clone() };
        for number in numbers.into_iter().skip(cluster.state.nodes.len()) {
            cluster.state.nodes.push(NodeState::new(&name, number));
        }
        cluster.state.save()?;
        raise_inotify_limits()?;
        ui.step("control plane ready", |step| {
            step.note("network");
            fabric::ensure_fabric(&cluster.state)?;
            step.note("etcd, API server, controller manager, scheduler");
            control_plane::ensure(&cluster, &cgroups)
        })?;
        cluster.ensure_nodes(&cgroups, &system_images)?;
        Ok(cluster)
    }

    /// A cluster that is there, whole or in part.
    pub fn open(name: Option<ClusterName>, ui: &Ui) -> Result<Self> {
        let name = Self::name_or_default(name);
        ensure!(
            preflight::is_root(),
            "not root: a cluster's namespaces can only be entered by root; run with sudo"
        );
        let Some(state) = State::load(&name) else {
            bail!("there is no cluster {name}; `cargo xtask cluster up` makes one (`--name` tells which)");
        };
        ensure!(
            state.tools.is_complete(),
            "the cache no longer has the programs of cluster {name}; `cargo xtask cluster up` makes them anew"
        );
        Ok(Self { state, ui: ui.clone() })
    }

    /// Ends a cluster and removes all of it; fine if there is none.
    pub fn remove(name: Option<ClusterName>, ui: &Ui) -> Result<()> {
        ensure!(
            preflight::is_root(),
            "not root: only root can end a cluster; run with sudo"
        );
        let name = Self::name_or_default(name);
        let _lock = lock(&name, ui)?;
        let cgroups = Cgroups::new(name.cgroup())?;
        if !removal::leftovers(&name, &cgroups) {
            ui.say(&format!("there is no cluster {name}"));
            return Ok(());
        }
        ui.step(format!("cluster {name} removed"), |_| {
            removal::remove_cluster(&name, &cgroups)
        })
    }

    /// Ends this cluster.
    pub fn down(self) -> Result<()> {
        Self::remove(Some(self.state.name), &self.ui)
    }

    /// What the cluster consists of.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Where its progress goes.
    pub fn ui(&self) -> &Ui {
        &self.ui
    }

    /// A program in the fabric's network namespace, with the cluster's tools on `PATH` and its kubeconfig.
    pub fn command_in_fabric(&self, program: impl AsRef<std::ffi::OsStr>) -> Result<Command> {
        let mut command = fabric::in_netns(&self.state.fabric, program);
        command
            .env("PATH", self.state.tools.path()?)
            .env("KUBECONFIG", &self.state.kubeconfig);
        Ok(command)
    }

    /// Runs kubectl and returns its stdout.
    pub fn kubectl(&self, args: &[&str]) -> Result<String> {
        self.kubectl_within(args, sh::SHORT)
    }

    /// As [`Self::kubectl`], for calls that wait themselves.
    pub fn kubectl_within(&self, args: &[&str], deadline: Duration) -> Result<String> {
        sh::output(self.command_in_fabric("kubectl")?.args(args), deadline)
    }

    /// Applies manifests given as text.
    pub fn apply(&self, manifests: &str) -> Result<()> {
        sh::output_with_input(
            self.command_in_fabric("kubectl")?.args(["apply", "-f", "-"]),
            manifests,
            sh::SHORT,
        )?;
        Ok(())
    }

    /// Runs helm and returns its stdout.
    pub fn helm(&self, args: &[&str], deadline: Duration) -> Result<String> {
        sh::output(self.command_in_fabric("helm")?.args(args), deadline)
    }

    /// A program inside a node's namespaces.
    pub fn command_in_node(&self, node: &str, program: impl AsRef<std::ffi::OsStr>) -> Result<Command> {
        let node = self.state.node(node)?;
        let mut command = node::enter(self.holder(node)?);
        self.state.tools.equip(&mut command)?;
        command
            .env("CONTAINERD_ADDRESS", &node.containerd_socket)
            .env("CONTAINERD_NAMESPACE", "k8s.io");
        command.arg(program);
        Ok(command)
    }

    /// Runs a program inside a node and returns its stdout.
    pub fn exec(&self, node: &str, args: &[&str]) -> Result<String> {
        let [program, rest @ ..] = args else {
            bail!("no command for node {node}")
        };
        sh::output(self.command_in_node(node, program)?.args(rest), Duration::from_secs(60))
    }

    /// Imports image archives into all nodes; whether any node lacked one.
    pub fn import_images(&self, archives: &[PathBuf]) -> Result<bool> {
        let mut imported = false;
        for node in &self.state.nodes {
            imported |= node::import(self, node, self.holder(node)?, archives)?;
        }
        Ok(imported)
    }

    /// Whether everything of the cluster runs.
    pub fn is_running(&self) -> bool {
        control_plane::is_running(&self.state) && self.state.nodes.iter().all(|node| node::is_running(self, node))
    }

    /// The process whose namespaces are the node, looked at again: the state's process id may be somebody else's by now.
    fn holder(&self, node: &NodeState) -> Result<i32> {
        let record = process::Daemon::of_node("holder", &node.name).running(&self.state);
        let record = record.with_context(|| format!("node {} does not run; `cargo xtask cluster up`", node.name))?;
        Ok(record.pid)
    }

    /// The state of the cluster that runs, or of a new one in its place.
    fn state_to_use(
        name: &ClusterName,
        cgroups: &Cgroups,
        tools: Toolchain,
        options: &UpOptions,
        ui: &Ui,
    ) -> Result<State> {
        if let Some(state) = State::load(name).filter(|state| state.tools == tools && fabric::is_intact(state)) {
            ensure!(
                state.fsync == options.fsync,
                "cluster {name} runs {} --fsync; `cargo xtask cluster down` first",
                if state.fsync { "with" } else { "without" }
            );
            return Ok(state);
        }
        if removal::leftovers(name, cgroups) {
            ui.step(
                "what was there under this name, unfinished or of other versions, removed",
                |_| removal::remove_cluster(name, cgroups),
            )?;
        }
        let mut state = State::new(name, tools, options.fsync);
        state.chained = options.chained.clone();
        for folder in [state.folder().join("processes"), state.logs.clone()] {
            paths::make_folder(&folder)?;
        }
        Ok(state)
    }

    fn ensure_nodes(&mut self, cgroups: &Cgroups, images: &[PathBuf]) -> Result<()> {
        let this = &*self;
        let started: Vec<Result<i32>> = std::thread::scope(|scope| {
            let threads: Vec<_> = this
                .state
                .nodes
                .iter()
                .map(|node| {
                    scope.spawn(move || {
                        this.ui.step(format!("node {} ready", node.name), |step| {
                            step.note("containerd and kubelet");
                            let holder = node::ensure(this, cgroups, node, images)?;
                            step.note("waiting for the kubelet");
                            node::wait_ready(this, node)?;
                            Ok(holder)
                        })
                    })
                })
                .collect();
            let join = |thread: std::thread::ScopedJoinHandle<'_, Result<i32>>| {
                thread.join().unwrap_or_else(|_| bail!("starting a node panicked"))
            };
            threads.into_iter().map(join).collect()
        });
        for (node, holder) in self.state.nodes.iter_mut().zip(started) {
            node.holder_pid = holder.with_context(|| format!("node {}", node.name))?;
        }
        self.state.save()
    }
}

/// The lock of a cluster's name: one `up` or `down` at a time.
fn lock(name: &ClusterName, ui: &Ui) -> Result<Lock> {
    let folder = Path::new(paths::STATE_ROOT);
    paths::make_folder(folder)?;
    let ours = std::fs::symlink_metadata(folder)
        .is_ok_and(|meta| meta.is_dir() && std::os::unix::fs::MetadataExt::uid(&meta) == 0);
    // Anybody may write to the folder around it: root must not follow what somebody put there.
    ensure!(ours, "{} is not a folder of root; remove it", folder.display());
    Lock::take(&name.lock_file(), || {
        ui.say(&format!("     waiting for another run on cluster {name}"))
    })
}

/// Kubelets and containerds watch many files; the default of some machines is enough for one. Only ever raised.
fn raise_inotify_limits() -> Result<()> {
    for (name, least) in [("max_user_instances", 8192_u64), ("max_user_watches", 1 << 20)] {
        let file = Path::new("/proc/sys/fs/inotify").join(name);
        let now = std::fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
        if now.trim().parse::<u64>().is_ok_and(|now| now < least) {
            std::fs::write(&file, least.to_string()).with_context(|| format!("raising {}", file.display()))?;
        }
    }
    Ok(())
}
