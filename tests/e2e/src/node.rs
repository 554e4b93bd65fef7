//! A node of the test cluster: its processes, files as it sees them, and commands inside it.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::process::{Pid, PidfdFlags, Signal};
use serde::Deserialize;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// How long a command on a node may take.
const COMMAND: Duration = Duration::from_secs(60);

/// Program of the agent.
pub const AGENT: &str = "spiderpool-agent";
/// Program of the operator.
pub const OPERATOR: &str = "spiderpool-controller";

/// A node: a process tree with a network and file systems of its own.
#[derive(Clone, Debug, Deserialize)]
pub struct Node {
    /// Its name in Kubernetes.
    pub name: String,
    /// The process that keeps its namespaces.
    holder_pid: i32,
    /// Its cgroup below each hierarchy's root.
    cgroup: String,
    /// Folder with all its files.
    root: PathBuf,
}

/// A process that was found running.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Process {
    /// Its process id.
    pub pid: i32,
    /// When it started, which tells it from a later process of the same id.
    started: u64,
}

impl Node {
    /// The processes of this node whose program has this name.
    pub fn processes(&self, program: &str) -> Result<Vec<Process>> {
        self.find(|pid, _| {
            let exe = fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
            exe.file_name().is_some_and(|name| name == program)
        })
    }

    /// The only process of a program.
    pub fn process(&self, program: &str) -> Result<Process> {
        match self.processes(program)?.as_slice() {
            [process] => Ok(*process),
            found => bail!("node {} has {} processes {program} and not one", self.name, found.len()),
        }
    }

    /// The processes of a container, by its ID.
    pub fn container(&self, id: &str) -> Result<Vec<Process>> {
        self.find(|_, cgroup| cgroup.split('/').any(|part| part == id))
    }

    fn find(&self, wanted: impl Fn(i32, &str) -> bool) -> Result<Vec<Process>> {
        let inside = format!("/{}/", self.cgroup);
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc").context("listing processes")? {
            let name = entry.context("listing processes")?.file_name();
            let Some(pid) = name.to_str().and_then(|name| name.parse::<i32>().ok()) else {
                continue;
            };
            // A process that ends meanwhile is none.
            let Ok(cgroups) = fs::read_to_string(format!("/proc/{pid}/cgroup")) else {
                continue;
            };
            let mut paths = cgroups.lines().filter_map(|line| line.splitn(3, ':').nth(2));
            let matching = paths.any(|path| format!("{path}/").contains(&inside) && wanted(pid, path));
            if matching && let Some(started) = start_of(pid) {
                found.push(Process { pid, started });
            }
        }
        found.sort_unstable();
        Ok(found)
    }

    /// The process that keeps its namespaces.
    pub(crate) fn holder(&self) -> i32 {
        self.holder_pid
    }

    /// A command in the node's namespaces; the program is still to be added. It ends when it is dropped, or with the test.
    pub fn enter(&self) -> Command {
        enter(self.holder_pid, &["--net", "--mount", "--uts"])
    }

    /// Runs a shell script on the node, with this on its standard input, and gives what it prints.
    pub async fn sh(&self, script: &str, input: &str) -> Result<String> {
        let mut command = self.enter();
        command.args(["sh", "-euc", script]);
        output(command, input)
            .await
            .with_context(|| format!("running {script:?} on node {}", self.name))
    }

    /// The folder with the configuration of its networks. Its runtime takes the first file, and sees a change at once if the file
    /// was renamed within the folder.
    pub fn networks(&self) -> PathBuf {
        self.root.join("cni/conf")
    }

    /// The folder of its static pods' definitions. The kubelet sees a change at once if the file was renamed within the folder, and
    /// passes over names that begin with a dot.
    pub fn manifests(&self) -> PathBuf {
        self.root.join("manifests")
    }

    /// A file of the node, whatever links lead to it there.
    pub fn open(&self, path: &str) -> Result<OwnedFd> {
        let root = format!("/proc/{}/root", self.holder_pid);
        let what = || format!("opening {path} of node {}", self.name);
        let root = rustix::fs::open(root, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).with_context(what)?;
        let relative = path.trim_start_matches('/');
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        rustix::fs::openat2(root, relative, flags, Mode::empty(), ResolveFlags::IN_ROOT).with_context(what)
    }

    /// Permission bits and owner of a file of the node.
    pub fn mode(&self, path: &str) -> Result<(u32, u32)> {
        let stat = rustix::fs::fstat(self.open(path)?).with_context(|| format!("looking at {path}"))?;
        Ok((stat.st_mode & 0o7777, stat.st_uid))
    }
}

impl Process {
    /// When it started, in clock ticks since boot.
    pub(crate) fn started(&self) -> u64 {
        self.started
    }

    /// The process of an id.
    pub fn of(pid: i32) -> Result<Self> {
        let started = start_of(pid).with_context(|| format!("no process {pid} runs"))?;
        Ok(Self { pid, started })
    }

    /// Whether one of its cgroups' names contains this, as a pod's UID.
    pub fn is_of(&self, part: &str) -> bool {
        let cgroups = fs::read_to_string(format!("/proc/{}/cgroup", self.pid)).unwrap_or_default();
        cgroups.contains(part) || cgroups.contains(&part.replace('-', "_"))
    }

    /// Whether it still runs.
    pub fn is_alive(&self) -> bool {
        start_of(self.pid) == Some(self.started)
    }

    /// Sends a signal; that it ended meanwhile is told by `false`.
    pub fn signal(&self, signal: Signal) -> Result<bool> {
        let pid = Pid::from_raw(self.pid).with_context(|| format!("{} is no process id", self.pid))?;
        // The handle pins the process: what is compared is what gets the signal.
        let Ok(handle) = rustix::process::pidfd_open(pid, PidfdFlags::empty()) else {
            return Ok(false);
        };
        if !self.is_alive() {
            return Ok(false);
        }
        rustix::process::pidfd_send_signal(&handle, signal)
            .with_context(|| format!("sending {signal:?} to process {}", self.pid))?;
        Ok(true)
    }

    /// Ends it as a crash would: `kill -9`.
    pub fn kill(&self) -> Result<bool> {
        self.signal(Signal::KILL)
    }
}

/// A command in namespaces of a process, given as options of nsenter(1).
pub(crate) fn enter(pid: i32, namespaces: &[&str]) -> Command {
    // With the test's thread everything that it started goes, also when the test is killed.
    let mut command = Command::new("setpriv");
    command
        .args(["--pdeathsig", "KILL", "nsenter", "--target", &pid.to_string()])
        .args(namespaces)
        .arg("--")
        .kill_on_drop(true);
    command
}

/// Runs a command and gives what it prints; an exit status other than 0 is an error.
pub(crate) async fn output(mut command: Command, input: &str) -> Result<String> {
    let ended = run(&mut command, input).await?;
    let stdout = String::from_utf8_lossy(&ended.stdout).into_owned();
    if !ended.status.success() {
        bail!("{}\n{stdout}{}", ended.status, String::from_utf8_lossy(&ended.stderr));
    }
    Ok(stdout)
}

/// Runs a command to its end.
pub(crate) async fn run(command: &mut Command, input: &str) -> Result<std::process::Output> {
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().context("starting it")?;
    let mut stdin = child.stdin.take().context("no standard input")?;
    let run = async {
        // Who does not read its input has no use for it.
        let _ = stdin.write_all(input.as_bytes()).await;
        drop(stdin);
        child.wait_with_output().await.context("waiting for its end")
    };
    match tokio::time::timeout(COMMAND, run).await {
        Ok(ended) => ended,
        Err(_) => bail!("it did not end in {COMMAND:?}"),
    }
}

/// Start time in clock ticks since boot; none if the process is gone or dead.
fn start_of(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat")).ok()?;
    // The program's name is in parentheses and may contain any of them.
    let rest = stat.get(stat.rfind(')')? + 2..)?;
    let mut fields = rest.split(' ');
    let state = fields.next()?;
    (state != "Z" && state != "X").then(|| fields.nth(18)?.parse().ok())?
}
