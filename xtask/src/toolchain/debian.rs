//! containerd, runc, etcd, the CNI plugins and some small tools from Debian packages, unpacked into the cache.
//!
//! Unpacked rather than installed: installing would start services and change a docker or containerd that is in use.
//! The signatures are apt's business. On a machine without apt the programs have to be on `PATH`.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::cache::Cache;
use crate::ui::Ui;
use crate::{paths, sh};

/// Packages that a cluster needs, with the program (or file) that shows that a machine has it.
pub const PACKAGES: &[(&str, &str)] = &[
    ("busybox-static", "busybox"),
    ("conntrack", "conntrack"),
    ("containerd", "containerd"),
    ("containernetworking-plugins", "macvlan"),
    ("etcd-server", "etcd"),
    ("ethtool", "ethtool"),
    ("iproute2", "ip"),
    ("ipset", "ipset"),
    ("iptables", "iptables"),
    ("runc", "runc"),
    ("socat", "socat"),
];

/// Part of every Debian system; a second copy of the C library on the search path would break programs of the first.
const NEVER: &[&str] = &["libc6", "libgcc-s1", "libstdc++6", "libcrypt1", "libc-bin"];

/// `update-alternatives` makes these names when the package iptables is installed.
const IPTABLES_NAMES: &[&str] = &[
    "iptables",
    "iptables-save",
    "iptables-restore",
    "ip6tables",
    "ip6tables-save",
    "ip6tables-restore",
];

const DEADLINE: Duration = Duration::from_secs(10 * 60);

/// Where the programs come from on this machine.
#[derive(Debug, PartialEq, Eq)]
pub enum Source {
    /// The cache has them already.
    Cached(PathBuf),
    /// Packages can be fetched and unpacked.
    Apt,
    /// No apt here, but everything is installed.
    Installed,
    /// No apt here, and these programs are missing.
    Missing(Vec<&'static str>),
}

/// Looks where the programs can come from, without changing anything.
pub fn source(cache: &Cache) -> Result<Source> {
    if let Some(folder) = cache.find("packages", &key()?) {
        return Ok(Source::Cached(folder));
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    if ["apt-get", "apt-cache", "dpkg-deb"]
        .iter()
        .all(|tool| sh::which(tool, &path).is_some())
    {
        return Ok(Source::Apt);
    }
    let missing = missing_from(&path);
    Ok(if missing.is_empty() {
        Source::Installed
    } else {
        Source::Missing(missing)
    })
}

/// Root of the unpacked packages; fetches and unpacks them if they are not in the cache.
pub fn prepare(cache: &Cache, ui: &Ui) -> Result<PathBuf> {
    match source(cache)? {
        Source::Cached(folder) => Ok(folder),
        Source::Installed => Ok(PathBuf::from("/")),
        Source::Missing(programs) => bail!("not found on PATH: {}", programs.join(", ")),
        Source::Apt => {
            let key = key()?;
            ui.step(
                "Debian packages unpacked (containerd, runc, etcd, CNI plugins, iptables, ...)",
                |step| {
                    cache.folder("packages", &key, |into| {
                        let scratch = tempfile::tempdir().context("making a folder for packages")?;
                        step.note("fetching");
                        fetch(scratch.path())?;
                        step.note("unpacking");
                        unpack(scratch.path(), into)
                    })
                },
            )
        }
    }
}

fn missing_from(path: &OsStr) -> Vec<&'static str> {
    let has = |needed: &str| {
        if needed != "macvlan" {
            return sh::which(needed, path).is_some();
        }
        ["/usr/lib/cni", "/opt/cni/bin"]
            .iter()
            .any(|folder| Path::new(folder).join(needed).is_file())
    };
    PACKAGES
        .iter()
        .filter(|(_, needed)| !has(needed))
        .map(|(package, _)| *package)
        .collect()
}

/// The release the packages are from and which ones they are.
fn key() -> Result<String> {
    let release = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    let names: Vec<&str> = PACKAGES.iter().map(|(package, _)| *package).collect();
    let digest = paths::hash(names.join(" ").as_bytes());
    Ok(format!(
        "{}-{}-{}",
        release_name(&release),
        std::env::consts::ARCH,
        &digest[..8]
    ))
}

/// `debian-12` from the text of `/etc/os-release`.
fn release_name(text: &str) -> String {
    let value = |key: &str| {
        let found = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        found.unwrap_or("unknown").trim_matches('"').replace('/', "_")
    };
    format!("{}-{}", value("ID"), value("VERSION_ID"))
}

fn fetch(into: &Path) -> Result<()> {
    let attempt = || -> Result<()> {
        let names = with_libraries()?;
        // The sandbox user of apt may not write to a folder of ours.
        let mut apt = sh::command("apt-get", ["-qq", "-o", "APT::Sandbox::User=root", "download"]);
        sh::output(apt.args(&names).current_dir(into), DEADLINE)?;
        Ok(())
    };
    let Err(first) = attempt() else { return Ok(()) };
    // Package lists may be absent or older than the mirror.
    sh::output(&mut sh::command("apt-get", ["-qq", "update"]), DEADLINE)
        .with_context(|| format!("refreshing apt's lists after this failed: {first:#}"))?;
    attempt()
}

/// The packages and every library they need, except the C library.
fn with_libraries() -> Result<BTreeSet<String>> {
    let mut all: BTreeSet<String> = PACKAGES.iter().map(|(package, _)| (*package).to_owned()).collect();
    let mut fresh: Vec<String> = all.iter().cloned().collect();
    while !fresh.is_empty() {
        let mut apt = sh::command("apt-cache", ["depends", "--important"]);
        let answer = sh::output(apt.args(&fresh), sh::SHORT)?;
        fresh = libraries_in(&answer)
            .into_iter()
            .filter(|library| all.insert(library.clone()))
            .collect();
    }
    Ok(all)
}

/// The libraries that the answer of `apt-cache depends` names.
fn libraries_in(answer: &str) -> BTreeSet<String> {
    let named = answer.lines().filter_map(|line| {
        let line = line.trim_start_matches([' ', '|']);
        line.strip_prefix("Depends: ")
            .or_else(|| line.strip_prefix("PreDepends: "))
    });
    named
        .filter(|name| name.starts_with("lib") && !NEVER.contains(name))
        .map(str::to_owned)
        .collect()
}

fn unpack(packages: &Path, into: &Path) -> Result<()> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(packages).context("listing the fetched packages")? {
        let file = entry.context("listing the fetched packages")?.path();
        sh::output(sh::command("dpkg-deb", ["-x"]).arg(&file).arg(into), DEADLINE)?;
        names.extend(file.file_name().map(|name| name.to_string_lossy().into_owned()));
    }
    names.sort();
    paths::write_atomically(&into.join("versions.txt"), names.join("\n").as_bytes())?;
    let links = into.join("alternatives");
    paths::make_folder(&links)?;
    for name in IPTABLES_NAMES {
        std::os::unix::fs::symlink("../usr/sbin/xtables-nft-multi", links.join(name))
            .with_context(|| format!("linking {name}"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_followed_and_the_c_library_is_not() {
        let answer = "socat\n  Depends: libc6\n |Depends: libssl3\n  PreDepends: libwrap0\n  Depends: debconf\n";
        let found: Vec<String> = libraries_in(answer).into_iter().collect();
        assert_eq!(found, ["libssl3", "libwrap0"]);
    }

    #[test]
    fn release_names() {
        assert_eq!(release_name("ID=debian\nVERSION_ID=\"12\"\n"), "debian-12");
        assert_eq!(release_name(""), "unknown-unknown");
    }

    #[test]
    fn an_empty_path_misses_programs() {
        assert!(missing_from(OsStr::new("")).contains(&"etcd-server"));
    }
}
