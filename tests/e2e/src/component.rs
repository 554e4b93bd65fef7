//! Daemons of the test cluster, killed and started again as `cargo xtask` started them, or with other options.
//!
//! What a daemon is started with is read of the process itself, so whatever the cluster consists of can be put back. A daemon that
//! was killed is started again when its [`Down`] is dropped, whatever becomes of the test.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::json;

use crate::cluster::Cluster;
use crate::node::{Node, Process};
use crate::wait::{self, SOON};

/// Where cgroups are.
const CGROUPS: &str = "/sys/fs/cgroup";

/// Begins the names of the clusters' cgroups.
const OWN: &str = "/spd-";

/// A daemon that runs.
#[derive(Clone, Debug)]
pub struct Daemon {
    /// What `cargo xtask` calls it: `etcd`, or `kubelet-n1`.
    pub name: String,
    /// The process.
    pub process: Process,
    record: PathBuf,
    program: PathBuf,
    args: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    leaf: PathBuf,
    log: PathBuf,
    /// The process whose namespaces it lives in; those of the test if absent.
    holder: Option<i32>,
}

impl Daemon {
    /// A component of the control plane, for example `etcd`.
    pub fn of_control_plane(cluster: &Cluster, name: &str) -> Result<Self> {
        Self::find(cluster, name.to_owned(), None)
    }

    /// A component of a node, for example `kubelet`.
    pub fn of_node(cluster: &Cluster, name: &str, node: &Node) -> Result<Self> {
        Self::find(cluster, format!("{name}-{}", node.name), Some(node.holder()))
    }

    fn find(cluster: &Cluster, name: String, holder: Option<i32>) -> Result<Self> {
        let process = Process::of(cluster.component(&name)?)?;
        let of = |what: &str| PathBuf::from(format!("/proc/{}/{what}", process.pid));
        let read = |what: &str| fs::read(of(what)).with_context(|| format!("reading {what} of {name}"));
        let link = |what: &str| fs::read_link(of(what)).with_context(|| format!("reading {what} of {name}"));
        let mut args = words(&read("cmdline")?);
        ensure!(!args.is_empty(), "{name} has no command line");
        args.remove(0);
        let environment = words(&read("environ")?);
        let pairs = environment.iter().filter_map(|pair| {
            let at = pair.as_bytes().iter().position(|byte| *byte == b'=')?;
            let (key, value) = pair.as_bytes().split_at(at);
            Some((
                OsStr::from_bytes(key).to_owned(),
                OsStr::from_bytes(value.get(1..)?).to_owned(),
            ))
        });
        Ok(Self {
            record: cluster.record(&name),
            program: link("exe")?,
            environment: pairs.collect(),
            leaf: leaf(&String::from_utf8_lossy(&read("cgroup")?)).with_context(|| format!("the cgroup of {name}"))?,
            log: link("fd/1")?,
            args,
            process,
            holder,
            name,
        })
    }

    /// Ends it as a crash would: `kill -9`. It is gone when this returns.
    pub async fn kill(self) -> Result<Down> {
        self.process.kill()?;
        let what = format!("{} to be gone", self.name);
        // Its ports are taken until its last thread has ended, which may be after the first one.
        let tasks = format!("/proc/{}/task", self.process.pid);
        let threads = || fs::read_dir(&tasks).map_or(0, Iterator::count);
        let is_gone = || !self.process.is_alive() && threads() <= 1;
        wait::until(&what, SOON, async || Ok(is_gone().then_some(()))).await?;
        Ok(Down(Some(self)))
    }

    /// With another value of an option, given as `--NAME=`.
    pub fn with(mut self, option: &str, value: &str) -> Result<Self> {
        let found = self
            .args
            .iter_mut()
            .find(|arg| arg.as_bytes().starts_with(option.as_bytes()));
        let arg = found.with_context(|| format!("{} has no option {option}", self.name))?;
        *arg = format!("{option}{value}").into();
        Ok(self)
    }

    /// The value of an option, given as `--NAME=`.
    pub fn option(&self, option: &str) -> Result<String> {
        let mut values = self.args.iter().filter_map(|arg| arg.to_str()?.strip_prefix(option));
        let value = values
            .next()
            .with_context(|| format!("{} has no option {option}", self.name))?;
        Ok(value.to_owned())
    }

    fn start(&self) -> Result<Process> {
        let log = fs::File::options().create(true).append(true).open(&self.log);
        let log = log.with_context(|| format!("opening {}", self.log.display()))?;
        let mut command = Command::new("setsid");
        // The shell joins the cgroup before it becomes the daemon, as it was at its first start.
        command.args(["sh", "-c", "echo $$ > \"$0\" && exec \"$@\""]);
        command.arg(self.leaf.join("cgroup.procs"));
        if let Some(holder) = self.holder {
            command.args(["nsenter", "-t", &holder.to_string(), "-n", "-m", "-u", "--"]);
        }
        command.arg(&self.program).args(&self.args).current_dir("/");
        command
            .env_clear()
            .envs(self.environment.iter().map(|(key, value)| (key, value)));
        command.stdin(Stdio::null());
        command
            .stdout(log.try_clone().context("opening a log twice")?)
            .stderr(log);
        let child = command.spawn().with_context(|| format!("starting {}", self.name))?;
        let process = Process::of(i32::try_from(child.id()).context("a process id beyond 31 bits")?)?;
        // `cargo xtask` finds the new one by it, too.
        let record = json!({"pid": process.pid, "start": process.started()});
        let new = self.record.with_extension("new");
        fs::write(&new, record.to_string()).context("writing a process record")?;
        fs::rename(&new, &self.record).context("writing a process record")?;
        Ok(process)
    }
}

/// A daemon that was killed. It is started when this is dropped.
#[derive(Debug)]
pub struct Down(Option<Daemon>);

impl Down {
    /// Starts it again as it was.
    pub fn start(self) -> Result<Daemon> {
        self.start_as(Ok)
    }

    /// Starts it again, changed.
    pub fn start_as(mut self, change: impl FnOnce(Daemon) -> Result<Daemon>) -> Result<Daemon> {
        let daemon = self.0.clone().context("a daemon that was started already")?;
        let mut daemon = change(daemon)?;
        daemon.process = daemon.start()?;
        self.0 = None;
        Ok(daemon)
    }
}

impl Drop for Down {
    fn drop(&mut self) {
        if let Some(daemon) = &self.0 {
            // There is nobody to tell; the next test would fail loudly.
            let _ = daemon.start();
        }
    }
}

/// Daemons that nobody starts again when they end by themselves, as a kubelet would: the scheduler ends when a pod that it was about to
/// bind turns out to be bound elsewhere, which the end of an API server in that moment leads to.
pub struct Kept(Vec<Daemon>);

impl Kept {
    /// Those that run now.
    pub fn look(cluster: &Cluster) -> Result<Self> {
        let names = ["kube-controller-manager", "kube-scheduler"];
        let all = names.map(|name| Daemon::of_control_plane(cluster, name));
        Ok(Self(all.into_iter().collect::<Result<_>>()?))
    }

    /// Starts those that have ended, and tells their names.
    pub fn revive(&self, cluster: &Cluster) -> Vec<Result<String>> {
        let ended = |daemon: &&Daemon| Daemon::of_control_plane(cluster, &daemon.name).is_err();
        let ended = self.0.iter().filter(ended);
        ended
            .map(|daemon| daemon.start().map(|_| daemon.name.clone()))
            .collect()
    }
}

/// The texts between zero bytes.
fn words(bytes: &[u8]) -> Vec<OsString> {
    let parts = bytes.split(|byte| *byte == 0);
    parts
        .filter(|part| !part.is_empty())
        .map(|part| OsString::from_vec(part.to_vec()))
        .collect()
}

/// The folder of the cluster's own cgroup in `/proc/PID/cgroup`. Inside a container the kernel's path has more before it.
fn leaf(cgroups: &str) -> Option<PathBuf> {
    let paths = cgroups.lines().filter_map(|line| line.splitn(3, ':').nth(2));
    let own = paths.filter_map(|path| Some(path.get(path.find(OWN)? + 1..)?.to_owned()));
    let hierarchies = || {
        fs::read_dir(CGROUPS)
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path())
    };
    own.flat_map(|path| {
        let roots = std::iter::once(Path::new(CGROUPS).to_owned()).chain(hierarchies());
        roots.map(move |root| root.join(&path))
    })
    .find(|folder| folder.join("cgroup.procs").is_file())
}
