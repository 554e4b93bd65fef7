//! The cluster's cgroup subtree, on cgroup v1 and v2.
//!
//! It serves two ends: kubelets need subtrees of their own (two on one machine would reap each other's pods), and a
//! process in the subtree is ours for certain, which is how leftovers are found and everything is ended.
//!
//! On v1 daemons join the subtree in one hierarchy only (`pids`), enough to be found; the containers' cgroups are made
//! by the kubelet in all hierarchies. On v2 there is one hierarchy, and processes live in leaves only.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::process;
use crate::paths;
use crate::sh::{self, Readiness};

const ROOT: &str = "/sys/fs/cgroup";

/// Controllers that kubelet and runc use on v2.
const V2_CONTROLLERS: &[&str] = &["cpuset", "cpu", "io", "memory", "hugetlb", "pids"];

/// The machine's hierarchies.
#[derive(Clone, Debug)]
pub enum Layout {
    /// One folder per hierarchy.
    V1(Vec<PathBuf>),
    /// The one of v2.
    V2(PathBuf),
}

/// A cluster's part of the hierarchies.
#[derive(Clone, Debug)]
pub struct Cgroups {
    layout: Layout,
    base: String,
}

impl Layout {
    /// Looks at what is mounted.
    pub fn detect() -> Result<Self> {
        Self::detect_at(Path::new(ROOT))
    }

    fn detect_at(root: &Path) -> Result<Self> {
        if root.join("cgroup.controllers").is_file() {
            return Ok(Self::V2(root.to_path_buf()));
        }
        let mut hierarchies = Vec::new();
        for entry in std::fs::read_dir(root).with_context(|| format!("looking for cgroups in {}", root.display()))? {
            let entry = entry.context("looking for cgroups")?;
            // cpu is a link to cpu,cpuacct on many machines: once is enough. `unified` is v2's of a mixed set-up.
            let is_hierarchy = entry.file_type().is_ok_and(|kind| kind.is_dir()) && entry.file_name() != "unified";
            if is_hierarchy && entry.path().join("cgroup.procs").is_file() {
                hierarchies.push(entry.path());
            }
        }
        hierarchies.sort();
        if hierarchies.is_empty() {
            bail!("no cgroup hierarchy is mounted below {}", root.display());
        }
        Ok(Self::V1(hierarchies))
    }

    fn roots(&self) -> Vec<&Path> {
        match self {
            Self::V1(hierarchies) => hierarchies.iter().map(PathBuf::as_path).collect(),
            Self::V2(root) => vec![root],
        }
    }

    /// Where cgroups of ours may be: on v1 also the v2 hierarchy of a mixed set-up, to which runc adds containers.
    fn all_roots(&self) -> Vec<PathBuf> {
        let mut roots: Vec<PathBuf> = self.roots().into_iter().map(Path::to_path_buf).collect();
        if let Self::V1(hierarchies) = self {
            let unified = hierarchies
                .first()
                .and_then(|root| root.parent())
                .map(|root| root.join("unified"));
            roots.extend(unified.filter(|root| root.join("cgroup.procs").is_file()));
        }
        roots
    }

    /// The hierarchy in which daemons are kept together.
    fn tracking(&self) -> &Path {
        let roots = self.roots();
        let pids = roots.iter().find(|root| root.ends_with("pids"));
        pids.or(roots.first()).copied().unwrap_or(Path::new(ROOT))
    }
}

impl Cgroups {
    /// The part called `base`.
    pub fn new(base: String) -> Result<Self> {
        Ok(Self {
            layout: Layout::detect()?,
            base,
        })
    }

    /// Makes the cgroup of a node, in which its kubelet makes those of the pods.
    pub fn make_node(&self, node: &str) -> Result<()> {
        for root in self.layout.roots() {
            let mut folder = root.to_path_buf();
            if let Layout::V2(_) = self.layout {
                enable_controllers(&folder)?;
            }
            for part in [self.base.as_str(), node] {
                let parent = folder.clone();
                folder.push(part);
                paths::make_folder(&folder)?;
                match self.layout {
                    Layout::V1(_) => inherit_cpuset(&parent, &folder)?,
                    Layout::V2(_) => enable_controllers(&folder)?,
                }
            }
        }
        Ok(())
    }

    /// Makes the leaf for a daemon and returns the file into which it writes its process id.
    pub fn make_leaf(&self, leaf: &str) -> Result<PathBuf> {
        let folder = self.layout.tracking().join(&self.base).join(leaf);
        paths::make_folder(&folder)?;
        Ok(folder.join("cgroup.procs"))
    }

    /// All processes in the cluster's cgroups, or in those below `part`.
    pub fn processes(&self, part: Option<&str>) -> BTreeSet<i32> {
        let mut found = BTreeSet::new();
        for folder in self.folders(part) {
            collect_processes(&folder, &mut found);
        }
        found
    }

    /// Kills all processes in a part of the subtree, except those that `spare` names, and waits until they are gone.
    pub fn kill(&self, part: Option<&str>, deadline: Duration, spare: impl Fn(i32) -> bool) -> Result<()> {
        let cgroup = format!(
            "/{}",
            part.map_or(self.base.clone(), |part| format!("{}/{part}", self.base))
        );
        sh::wait_until("ending the cluster's processes", deadline, || {
            let left: Vec<i32> = self.processes(part).into_iter().filter(|pid| !spare(*pid)).collect();
            for pid in &left {
                process::kill_in_cgroup(*pid, &cgroup);
            }
            Ok(if left.is_empty() {
                Readiness::Ready(())
            } else {
                Readiness::NotYet(format!("{left:?} still there"))
            })
        })
    }

    /// Removes the (empty) cgroups of a part of the subtree.
    pub fn remove(&self, part: Option<&str>) -> Result<()> {
        for folder in self.folders(part) {
            // The kernel lets go of a cgroup a moment after its last process.
            sh::wait_until("removing cgroups", sh::SHORT, || match remove_tree(&folder) {
                Ok(()) => Ok(Readiness::Ready(())),
                Err(err) => Ok(Readiness::NotYet(format!("{}: {err}", folder.display()))),
            })?;
        }
        Ok(())
    }

    /// Whether anything of the subtree exists.
    pub fn exists(&self) -> bool {
        self.folders(None).iter().any(|folder| folder.is_dir())
    }

    fn folders(&self, part: Option<&str>) -> Vec<PathBuf> {
        let below = |root: &Path| {
            let base = root.join(&self.base);
            part.map_or(base.clone(), |part| base.join(part))
        };
        self.layout.all_roots().iter().map(|root| below(root)).collect()
    }
}

fn collect_processes(folder: &Path, found: &mut BTreeSet<i32>) {
    let text = std::fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
    found.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()));
    for sub in subfolders(folder) {
        collect_processes(&sub, found);
    }
}

fn subfolders(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Vec::new();
    };
    let folders = entries
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    folders.map(|entry| entry.path()).collect()
}

fn remove_tree(folder: &Path) -> std::io::Result<()> {
    for sub in subfolders(folder) {
        remove_tree(&sub)?;
    }
    match std::fs::remove_dir(folder) {
        Err(err) if err.kind() != ErrorKind::NotFound => Err(err),
        _ => Ok(()),
    }
}

/// A v1 cpuset starts empty, and a process cannot enter an empty one.
fn inherit_cpuset(parent: &Path, folder: &Path) -> Result<()> {
    for file in ["cpuset.cpus", "cpuset.mems"] {
        if !parent.join(file).is_file() {
            return Ok(());
        }
        std::fs::read(parent.join(file))
            .and_then(|value| std::fs::write(folder.join(file), value))
            .with_context(|| format!("setting {}", folder.join(file).display()))?;
    }
    let file = folder.join("cgroup.clone_children");
    std::fs::write(&file, "1").with_context(|| format!("setting {}", file.display()))
}

/// Hands the controllers that exist here on to the children.
fn enable_controllers(folder: &Path) -> Result<()> {
    let file = folder.join("cgroup.controllers");
    let present = std::fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
    for controller in V2_CONTROLLERS
        .iter()
        .filter(|name| present.split_whitespace().any(|word| word == **name))
    {
        let file = folder.join("cgroup.subtree_control");
        std::fs::write(&file, format!("+{controller}"))
            .with_context(|| format!("enabling the controller {controller} in {}", file.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn v2_and_v1_are_told_apart() {
        let scratch = tempfile::tempdir().unwrap();
        for name in ["pids", "cpu", "unified", "empty"] {
            std::fs::create_dir(scratch.path().join(name)).unwrap();
        }
        for name in ["pids", "cpu", "unified"] {
            std::fs::write(scratch.path().join(name).join("cgroup.procs"), "").unwrap();
        }
        let v1 = Layout::detect_at(scratch.path()).unwrap();
        assert_eq!(v1.roots(), [scratch.path().join("cpu"), scratch.path().join("pids")]);
        assert_eq!(v1.tracking(), scratch.path().join("pids"));
        assert!(v1.all_roots().contains(&scratch.path().join("unified")));
        std::fs::write(scratch.path().join("cgroup.controllers"), "cpu memory").unwrap();
        let v2 = Layout::detect_at(scratch.path()).unwrap();
        assert_eq!(v2.tracking(), scratch.path());
    }

    #[test]
    fn processes_are_collected_from_all_levels() {
        let scratch = tempfile::tempdir().unwrap();
        let deep = scratch.path().join("a/b");
        std::fs::create_dir_all(&deep).unwrap();
        std::fs::write(scratch.path().join("cgroup.procs"), "1\n2\n").unwrap();
        std::fs::write(deep.join("cgroup.procs"), "3\n").unwrap();
        let mut found = BTreeSet::new();
        collect_processes(scratch.path(), &mut found);
        assert_eq!(found.into_iter().collect::<Vec<_>>(), [1, 2, 3]);
    }
}
