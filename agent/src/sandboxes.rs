//! What this node shows of the sandboxes of pods: whether one may be left that uses what a pod was given.
//!
//! Two things tell. The container runtime keeps the result of each attachment that it set up, until its DEL was done ([`results`]),
//! with the network namespace of the sandbox. And each ADD that this process serves names its namespace, which matters while the
//! runtime has not come to its end yet and so keeps no result. A namespace that is not there any more is that of a sandbox which
//! is gone, as after a restart of the machine: these have no names on a disk.
//!
//! Where something cannot be read or is not understood, nothing is said, and what the pod has is kept.

mod notes;
mod results;

use notes::Notes;
pub use results::Attachment;
use results::Results;
use rustix::fs::statfs;
use spiderpool_ipam::reclaim::Sandboxes as Word;
use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};
use tokio::time::Instant;

/// What the file system of namespaces is called by the kernel.
const NSFS: u64 = 0x6e73_6673;

/// Folders that runtimes name namespaces in. The second is a link to the first.
const NAMED_IN: [&str; 2] = ["/run/netns", "/var/run/netns"];

/// The sandboxes of this node.
pub struct Sandboxes {
    /// Where the runtime and Multus keep their results.
    folders: [PathBuf; 2],
    /// Where namespaces have names, as this process sees it.
    netns: PathBuf,
    /// Namespaces of the ADDs that this process served, by pod UID.
    added: Mutex<HashMap<String, Vec<Added>>>,
    /// Sandboxes and NICs whose DEL came, and which the runtime may not have taken down yet.
    ended: Notes,
    /// How long a runtime may be busy with a sandbox after its ADD was served.
    at_work: Duration,
    /// From when on no ADD can be at work that this process does not know.
    known_from: Instant,
    /// When the machine was started, if that is known.
    booted: Option<SystemTime>,
    /// Results that cannot be read, and of which that was said.
    told: Mutex<HashSet<PathBuf>>,
}

/// An ADD that was served.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Added {
    container: String,
    netns: String,
    at: Instant,
}

/// What is known of a namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Netns {
    Lives,
    Gone,
    Unsaid,
}

/// Which ADDs of this boot of the machine this process knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Memory {
    /// All: no agent ran before it.
    All,
    /// Only its own.
    Own,
}

impl Sandboxes {
    /// The sandboxes whose results are kept in folders under `state`, and whose namespaces have names in `netns`. DELs are noted in the
    /// folder `notes`. A runtime may be busy with a sandbox for the time `at_work` after its ADD was served.
    pub fn new(state: &Path, netns: &Path, notes: &Path, at_work: Duration, memory: Memory) -> Self {
        let now = Instant::now();
        Self {
            folders: [state.join("results"), state.join("multus/results")],
            netns: netns.to_owned(),
            added: Mutex::default(),
            ended: Notes::read(notes),
            known_from: match memory {
                Memory::All => now,
                Memory::Own => now + at_work,
            },
            at_work,
            booted: booted(),
            told: Mutex::default(),
        }
    }

    /// The folders in which something changes when a sandbox goes.
    pub fn folders(&self) -> impl Iterator<Item = &Path> {
        self.folders.iter().chain([&self.netns]).map(PathBuf::as_path)
    }

    /// Notes that an ADD of a sandbox is served.
    pub fn added(&self, uid: &str, container: &str, netns: &str) {
        self.ended.clear(container);
        let mut added = self.added.lock().unwrap_or_else(PoisonError::into_inner);
        let of_pod = added.entry(uid.to_owned()).or_default();
        of_pod.retain(|known| known.container != container || known.netns != netns);
        of_pod.push(Added {
            container: container.to_owned(),
            netns: netns.to_owned(),
            at: Instant::now(),
        });
    }

    /// Notes that the DEL of a sandbox's NIC is served, before anything is freed. What the runtime takes down after it has no address
    /// any more.
    pub fn ended(&self, container: &str, nic: &str) {
        self.ended.add(container, nic);
    }

    /// Forgets the sandboxes of pods that nothing is on record for, and those of the others that count for nothing any more: while the
    /// ADD of a pod keeps failing, the runtime tries each time with a new one.
    pub fn forget(&self, is_known: impl Fn(&str) -> bool) {
        let now = Instant::now();
        let is_at_work = |add: &Added| now < add.at + self.at_work;
        let old: Vec<Added> = {
            let mut added = self.added.lock().unwrap_or_else(PoisonError::into_inner);
            added.retain(|uid, of_pod| is_known(uid) || of_pod.iter().any(is_at_work));
            let all = added.values().flatten();
            all.filter(|add| !is_at_work(add)).cloned().collect()
        };
        // Nobody waits while the file system is asked.
        let has_names = self.netns.is_dir();
        let dead: Vec<Added> = old
            .into_iter()
            .filter(|add| self.netns(&add.netns, has_names) != Netns::Lives)
            .collect();
        if dead.is_empty() {
            return;
        }
        let mut added = self.added.lock().unwrap_or_else(PoisonError::into_inner);
        added.retain(|_, of_pod| {
            of_pod.retain(|add| !dead.contains(add));
            !of_pod.is_empty()
        });
    }

    /// Looks at what there is now.
    pub async fn look(&self) -> Look<'_> {
        let (folders, booted) = (self.folders.clone(), self.booted);
        let read = tokio::task::spawn_blocking(move || Results::of_node(&folders, booted));
        let results = read.await.unwrap_or_else(|error| Results::unknown(error.to_string()));
        if let Some(problem) = &results.problem {
            tracing::debug!(%problem, "results of the container runtime are not known");
        }
        self.tell_unread(&results);
        self.prune_notes(&results);
        Look {
            sandboxes: self,
            results,
            has_names: self.netns.is_dir(),
        }
    }

    /// Forgets the DELs of sandboxes that have had no result for some time: the pod's endpoint may name one for a moment longer, and an
    /// agent that starts must not take what was freed for lost. Where results cannot be read, time tells alone.
    fn prune_notes(&self, results: &Results) {
        let now = Instant::now();
        self.ended.retain(|container, mattered| {
            let is_named = results.names(container);
            if is_named {
                *mattered = now;
            }
            is_named || now < *mattered + self.at_work
        });
    }

    /// Says of each result that cannot be read, once, that this is so.
    fn tell_unread(&self, results: &Results) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.retain(|file| results.unread.contains(file) || results.outlived.contains(file));
        for file in &results.unread {
            if told.insert(file.clone()) {
                tracing::warn!(
                    file = %file.display(),
                    "cannot read a result of the container runtime; addresses that may be in use by its sandbox are kept"
                );
            }
        }
        for file in &results.outlived {
            if told.insert(file.clone()) {
                tracing::warn!(
                    file = %file.display(),
                    "cannot read a result of the container runtime; it is older than this boot of the machine and is ignored"
                );
            }
        }
    }

    /// Whether there is a namespace. One that has no name here may be anywhere.
    fn netns(&self, path: &str, has_names: bool) -> Netns {
        let path = Path::new(path);
        let root = &self.netns;
        let is_named = path
            .parent()
            .is_some_and(|folder| NAMED_IN.iter().any(|named| Path::new(named) == folder) || folder == root);
        let Some(name) = path.file_name().filter(|_| is_named && has_names) else {
            return Netns::Unsaid;
        };
        match statfs(root.join(name)) {
            Ok(found) if u64::try_from(found.f_type).is_ok_and(|kind| kind == NSFS) => Netns::Lives,
            // A name without a namespace is what somebody is about to set up, or has not cleaned up.
            Ok(_) => Netns::Unsaid,
            Err(rustix::io::Errno::NOENT) => Netns::Gone,
            Err(_) => Netns::Unsaid,
        }
    }
}

/// What the node showed at a moment.
pub struct Look<'a> {
    sandboxes: &'a Sandboxes,
    results: Results,
    has_names: bool,
}

/// What a look says of a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Said {
    /// Whether a sandbox is left.
    pub word: Word,
    /// When more will be known, where only time is missing.
    pub again: Option<Instant>,
}

impl From<Word> for Said {
    fn from(word: Word) -> Self {
        Self { word, again: None }
    }
}

impl Look<'_> {
    /// The attachments with addresses of ours whose sandbox is there, and that nobody has begun to take down.
    pub fn attachments(&self) -> Vec<&Attachment> {
        let all = self.results.ours.iter();
        all.filter(|attachment| self.is_there(attachment)).collect()
    }

    /// Whether an attachment is there at this moment.
    pub fn is_there(&self, attachment: &Attachment) -> bool {
        let netns = attachment.netns.as_deref();
        netns.is_some_and(|netns| self.netns(netns) == Netns::Lives)
            && !self.is_ended(&attachment.container, &attachment.nic)
    }

    /// Whether the runtime's results show that a NIC of a pod has `other`, and no sandbox of the pod has `ip`. What cannot be read may
    /// be of one that has.
    pub fn shows_instead(&self, uid: &str, nic: &str, ip: IpAddr, other: IpAddr) -> bool {
        let of_pod = || self.results.ours.iter().filter(|attachment| attachment.uid == uid);
        let has_other = |attachment: &Attachment| attachment.nic == nic && attachment.addresses.contains(&other);
        let is_gone = |attachment: &Attachment| {
            let netns = attachment.netns.as_deref();
            netns.is_some_and(|netns| self.netns(netns) == Netns::Gone)
        };
        let mut with_ip = of_pod().filter(|attachment| attachment.addresses.contains(&ip));
        self.is_complete()
            && of_pod().any(|attachment| has_other(attachment) && self.is_there(attachment))
            && with_ip.all(is_gone)
    }

    /// Whether all results of the runtime could be read.
    pub fn is_complete(&self) -> bool {
        self.results.problem.is_none() && self.results.unread.is_empty()
    }

    /// Whether the DEL of a sandbox's NIC came, also if it never came to its end.
    pub fn is_ended(&self, container: &str, nic: &str) -> bool {
        self.sandboxes.ended.has(container, nic)
    }

    /// Whether the runtime keeps a result of a pod, whatever became of its sandbox.
    pub fn knows(&self, uid: &str) -> bool {
        self.results.of(uid).next().is_some()
    }

    /// Whether a sandbox of a pod is left, of which some are called `containers`.
    pub fn of(&self, uid: &str, containers: &[&str]) -> Said {
        let mut unsaid = self.results.problem.is_some() || self.results.is_unread(containers);
        for netns in self.results.of(uid) {
            match netns.map_or(Netns::Unsaid, |netns| self.netns(netns)) {
                Netns::Lives => return Word::Some.into(),
                Netns::Unsaid => unsaid = true,
                Netns::Gone => {}
            }
        }
        let now = Instant::now();
        let mut again = (now < self.sandboxes.known_from).then_some(self.sandboxes.known_from);
        let added = self.sandboxes.added.lock().unwrap_or_else(PoisonError::into_inner);
        for add in added.get(uid).into_iter().flatten() {
            match self.netns(&add.netns) {
                Netns::Lives => return Word::Some.into(),
                Netns::Unsaid if now < add.at + self.sandboxes.at_work => {
                    again = again.max(Some(add.at + self.sandboxes.at_work));
                }
                // The runtime has come to its end, and would have a result.
                Netns::Unsaid | Netns::Gone => {}
            }
        }
        match again {
            _ if unsaid => Word::Unsaid.into(),
            Some(_) => Said {
                word: Word::Unsaid,
                again,
            },
            None => Word::None.into(),
        }
    }

    fn netns(&self, path: &str) -> Netns {
        self.sandboxes.netns(path, self.has_names)
    }
}

/// When the machine was started, by the clock that files are written by.
fn booted() -> Option<SystemTime> {
    booted_by(&fs::read_to_string("/proc/stat").ok()?)
}

fn booted_by(stat: &str) -> Option<SystemTime> {
    let seconds = stat.lines().find_map(|line| line.strip_prefix("btime "))?;
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds.trim().parse().ok()?))
}

/// Finds out whether this is the first agent since the machine started, and notes that it ran. `folder` is on a disk.
pub fn memory(folder: &Path) -> io::Result<Memory> {
    memory_of(folder, fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim())
}

fn memory_of(folder: &Path, boot: &str) -> io::Result<Memory> {
    let path = folder.join("boot");
    let before = match fs::read_to_string(&path) {
        Ok(before) => Some(before),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    if before.as_deref() == Some(boot) {
        return Ok(Memory::Own);
    }
    fs::create_dir_all(folder)?;
    let unfinished = folder.join(".boot");
    fs::write(&unfinished, boot)?;
    fs::rename(&unfinished, &path)?;
    // An agent that left no note may have run before.
    Ok(if before.is_some() { Memory::All } else { Memory::Own })
}

#[cfg(test)]
mod tests;
