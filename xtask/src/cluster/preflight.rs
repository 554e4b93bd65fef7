//! What a cluster needs of the machine, looked at before anything is started; each lack is told with its remedy.

use std::path::Path;

use anyhow::{Result, bail};

use crate::cache::Cache;
use crate::sh;
use crate::toolchain::{debian, golang};

/// Programs of every Linux system (util-linux and a shell).
const BASICS: [&str; 6] = ["sh", "nsenter", "unshare", "setsid", "mount", "umount"];
const FEWEST_CORES: usize = 2;
const LEAST_MEMORY: u64 = 2 << 30;
/// Kubernetes' sources, Go's build cache, images.
const LEAST_DISK: u64 = 6 << 30;

/// Fails with everything that is missing, not only the first.
pub fn check(cache: &Cache) -> Result<()> {
    let mut lacks = Vec::new();
    if !is_root() {
        lacks.push("not root: namespaces, cgroups and mounts need it; run with sudo (sudo -E keeps the caches)".into());
    }
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    if cores < FEWEST_CORES {
        lacks.push(format!(
            "{cores} core: a control plane and nodes need {FEWEST_CORES} or more"
        ));
    }
    let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    if available_memory(&meminfo).is_some_and(|bytes| bytes < LEAST_MEMORY) {
        lacks.push("less than 2 GiB of free memory: end something else first".into());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let missing: Vec<&str> = BASICS
        .into_iter()
        .filter(|tool| sh::which(tool, &path).is_none())
        .collect();
    if !missing.is_empty() {
        lacks.push(format!(
            "not on PATH: {}; install the package util-linux",
            missing.join(", ")
        ));
    }
    if let debian::Source::Missing(packages) = debian::source(cache)? {
        lacks.push(format!(
            "no apt on this machine to fetch packages with, and not installed: what Debian calls {}; install them with \
             the system's package manager",
            packages.join(", ")
        ));
    }
    let needs_build = !golang::KUBERNETES.is_cached(cache)? || !golang::HELM.is_cached(cache)?;
    if needs_build {
        lacks.extend(lacks_for_building(cache));
    }
    if !Path::new("/sys/fs/cgroup").is_dir() {
        lacks.push("no cgroups at /sys/fs/cgroup; mount them".into());
    }
    if lacks.is_empty() {
        return Ok(());
    }
    bail!("this machine cannot run a cluster yet:\n  - {}", lacks.join("\n  - "))
}

/// Fails when a Go project has to be built and cannot be.
pub fn check_build(cache: &Cache, project: &golang::GoProject) -> Result<()> {
    if project.is_cached(cache)? {
        return Ok(());
    }
    let lacks = lacks_for_building(cache);
    if lacks.is_empty() {
        return Ok(());
    }
    bail!(
        "{} cannot be built here yet:\n  - {}",
        project.name,
        lacks.join("\n  - ")
    )
}

fn lacks_for_building(cache: &Cache) -> Vec<String> {
    let mut lacks = Vec::new();
    lacks.extend(lack_of_go());
    if rustix::fs::statvfs(cache.root()).is_ok_and(|fs| fs.f_bavail * fs.f_frsize < LEAST_DISK) {
        lacks.push(format!(
            "less than 6 GiB of free disk for building at {}",
            cache.root().display()
        ));
    }
    lacks
}

/// Whether the caller may do what clusters need.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn lack_of_go() -> Option<String> {
    let (major, minor) = golang::OLDEST_GO;
    let remedy = format!(
        "Go {major}.{minor} or newer builds Kubernetes and what belongs to it once; get it from https://go.dev/dl/"
    );
    let Ok(answer) = sh::output(&mut sh::command("go", ["version"]), sh::SHORT) else {
        return Some(format!("go is not on PATH: {remedy}"));
    };
    match golang::go_version(&answer) {
        Some(version) if version >= golang::OLDEST_GO => None,
        _ => Some(format!("{} is too old: {remedy}", answer.trim())),
    }
}

fn available_memory(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read() {
        assert_eq!(
            available_memory("MemTotal: 9 kB\nMemAvailable:    2048 kB\n"),
            Some(2 << 20)
        );
        assert_eq!(available_memory(""), None);
    }
}
