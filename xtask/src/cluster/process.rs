//! Daemons of a cluster: started in a session and a cgroup of their own, recorded so that no stranger is ever killed.
//!
//! A record is process id and start time: a process id alone may by now be somebody else's.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};

use super::cgroups::Cgroups;
use super::state::State;
use crate::{paths, sh};

/// Which process, for all time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessRecord {
    /// Process id.
    pub pid: i32,
    /// Start time in clock ticks since boot (field 22 of `/proc/PID/stat`).
    pub start: u64,
}

impl ProcessRecord {
    /// The record of a living process.
    pub fn of(pid: i32) -> Option<Self> {
        let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let (state, start) = parse_stat(&text)?;
        // A zombie is dead; its parent has not looked yet.
        (!matches!(state, 'Z' | 'X')).then_some(Self { pid, start })
    }

    /// Whether this very process still runs.
    pub fn is_alive(&self) -> bool {
        Self::of(self.pid) == Some(*self)
    }

    fn load(file: &Path) -> Option<Self> {
        serde_json::from_slice(&std::fs::read(file).ok()?).ok()
    }
}

/// State and start time in `/proc/PID/stat`. The program's name in parentheses may hold anything, also spaces and `)`.
fn parse_stat(text: &str) -> Option<(char, u64)> {
    let (_, rest) = text.rsplit_once(')')?;
    let mut fields = rest.split_whitespace();
    let state = fields.next()?.chars().next()?;
    Some((state, fields.nth(18)?.parse().ok()?))
}

/// A daemon of a cluster: what it is called and where it is kept.
#[derive(Clone, Debug)]
pub struct Daemon {
    /// Name of record and log, unique in the cluster.
    pub name: String,
    /// Its leaf in the cluster's cgroups.
    pub leaf: String,
}

/// What [`Daemon::ensure`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ensured {
    /// It ran already.
    Running(ProcessRecord),
    /// It was started.
    Started(ProcessRecord),
}

impl Ensured {
    /// The process, in either case.
    pub fn record(self) -> ProcessRecord {
        match self {
            Self::Running(record) | Self::Started(record) => record,
        }
    }
}

impl Daemon {
    /// A component of the control plane.
    pub fn of_control_plane(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            leaf: format!("control-plane/{name}"),
        }
    }

    /// A component of a node.
    pub fn of_node(name: &str, node: &str) -> Self {
        Self {
            name: format!("{name}-{node}"),
            leaf: format!("{node}/system/{name}"),
        }
    }

    /// The recorded process if it is alive.
    pub fn running(&self, state: &State) -> Option<ProcessRecord> {
        ProcessRecord::load(&state.record_file(&self.name)).filter(ProcessRecord::is_alive)
    }

    /// The file with what it writes.
    pub fn log(&self, state: &State) -> PathBuf {
        state.log_file(&self.name)
    }

    /// Starts the daemon unless it runs. What a killed run left of it unrecorded is ended first.
    pub fn ensure(&self, state: &State, cgroups: &Cgroups, command: &Command) -> Result<Ensured> {
        if let Some(record) = self.running(state) {
            return Ok(Ensured::Running(record));
        }
        // Containers outlive their containerd: its successor finds their shims again.
        cgroups.kill(Some(&self.leaf), sh::SHORT, is_shim)?;
        let log = self.log(state);
        let open = |file: &Path| std::fs::File::options().create(true).append(true).open(file);
        let out = open(&log).with_context(|| format!("opening {}", log.display()))?;
        // setsid forks only for the leader of a process group, which a fresh child is not: the process id stays.
        // The shell joins the cgroup before it becomes the daemon, so that there is no moment outside of it.
        let mut wrapped = Command::new("setsid");
        wrapped
            .args(["sh", "-c", "echo $$ > \"$0\" && exec \"$@\""])
            .arg(cgroups.make_leaf(&self.leaf)?);
        wrapped
            .arg(command.get_program())
            .args(command.get_args())
            .current_dir("/");
        for (key, value) in command.get_envs() {
            match value {
                Some(value) => wrapped.env(key, value),
                None => wrapped.env_remove(key),
            };
        }
        let child = wrapped
            .stdin(Stdio::null())
            .stdout(out.try_clone()?)
            .stderr(out)
            .spawn()
            .with_context(|| format!("starting {}", self.name))?;
        let pid = i32::try_from(child.id()).context("a process id beyond 31 bits")?;
        let record =
            ProcessRecord::of(pid).with_context(|| format!("{} ended at once; {}", self.name, sh::tail_of(&log)))?;
        let text = serde_json::to_vec(&record).context("writing a process record")?;
        paths::write_atomically(&state.record_file(&self.name), &text)?;
        Ok(Ensured::Started(record))
    }

    /// For waits: an error with the log's end when the daemon has died.
    pub fn check(&self, state: &State) -> Result<()> {
        let alive = self.running(state).is_some();
        anyhow::ensure!(alive, "{} has ended; {}", self.name, sh::tail_of(&self.log(state)));
        Ok(())
    }
}

/// Kills a process if it is (still) in a cgroup of ours.
pub fn kill_in_cgroup(pid: i32, cgroup: &str) {
    let Some(number) = Pid::from_raw(pid) else { return };
    // The handle pins the process: whatever is read of it afterwards is of the one that gets the signal.
    let Ok(pidfd) = pidfd_open(number, PidfdFlags::empty()) else {
        return;
    };
    let text = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    if is_in_cgroup(&text, cgroup) {
        let _ = pidfd_send_signal(&pidfd, Signal::KILL);
    }
}

/// Whether one of the lines of `/proc/PID/cgroup` is the cgroup or below it. It may have parents: inside a container
/// the mounted hierarchy's root is not the kernel's.
fn is_in_cgroup(text: &str, cgroup: &str) -> bool {
    let is_end = |rest: &str| rest.is_empty() || rest.starts_with('/');
    text.lines().any(|line| {
        let path = line.splitn(3, ':').nth(2).unwrap_or_default();
        path.match_indices(cgroup)
            .any(|(at, found)| is_end(&path[at + found.len()..]))
    })
}

fn is_shim(pid: i32) -> bool {
    let program = std::fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
    program
        .file_name()
        .is_some_and(|name| name.to_string_lossy().starts_with("containerd-shim"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_of_an_odd_program_name() {
        let text = "42 (a) b (c) S 1 42 42 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 987654 10 20\n";
        assert_eq!(parse_stat(text), Some(('S', 987_654)));
        assert_eq!(parse_stat("nonsense"), None);
    }

    #[test]
    fn a_recycled_process_id_is_not_the_process() {
        let own = ProcessRecord::of(i32::try_from(std::process::id()).unwrap()).unwrap();
        assert!(own.is_alive());
        assert!(
            !ProcessRecord {
                start: own.start + 1,
                ..own
            }
            .is_alive()
        );
    }

    #[test]
    fn a_zombie_is_dead() {
        let mut child = Command::new("true").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let pidfd = pidfd_open(Pid::from_raw(pid).unwrap(), PidfdFlags::empty()).unwrap();
        assert!(sh::ends_within(&pidfd, sh::SHORT).unwrap());
        assert_eq!(ProcessRecord::of(pid), None);
        child.wait().unwrap();
    }

    #[test]
    fn cgroup_membership_is_exact() {
        let text = "8:pids:/spd-a/control-plane/etcd\n0::/\n";
        assert!(is_in_cgroup(text, "/spd-a"));
        assert!(is_in_cgroup(text, "/spd-a/control-plane"));
        assert!(!is_in_cgroup(text, "/spd"));
        assert!(!is_in_cgroup(text, "/spd-a/n1"));
    }
}
