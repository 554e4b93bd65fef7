//! The real programs a cluster consists of: built or unpacked into the cache, never installed on the machine.

pub mod debian;
pub mod golang;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::cache::Cache;
use crate::sh;
use crate::ui::Ui;

/// Where the programs are. Part of a cluster's state, so that it can be used and ended without asking the cache.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Toolchain {
    /// Folder with kube-apiserver, kubelet, kubectl and their like.
    pub kubernetes: PathBuf,
    /// Folder with helm.
    pub helm: PathBuf,
    /// Root of the unpacked Debian packages; `/` when the machine's own programs are used.
    pub packages: PathBuf,
}

impl Toolchain {
    /// Finds everything in the cache, or builds and unpacks it: some minutes the first time.
    pub fn prepare(cache: &Cache, ui: &Ui) -> Result<Self> {
        let packages = debian::prepare(cache, ui)?;
        let helm = golang::HELM.prepare(cache, ui)?;
        let kubernetes = golang::KUBERNETES.prepare(cache, ui)?;
        Ok(Self {
            kubernetes,
            helm,
            packages,
        })
    }

    /// `PATH` for what runs in a cluster: ours first, then the machine's.
    pub fn path(&self) -> Result<OsString> {
        let mut folders = vec![
            self.kubernetes.clone(),
            self.helm.clone(),
            self.packages.join("alternatives"),
        ];
        folders.extend(["usr/sbin", "usr/bin", "sbin", "bin"].map(|sub| self.packages.join(sub)));
        let inherited = std::env::var_os("PATH").unwrap_or_default();
        folders.extend(std::env::split_paths(&inherited));
        folders.extend(["/usr/local/sbin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"].map(PathBuf::from));
        std::env::join_paths(folders).context("composing PATH")
    }

    /// Gives a command `PATH` and, for unpacked packages, the folders of their shared libraries.
    pub fn equip(&self, command: &mut Command) -> Result<()> {
        command.env("PATH", self.path()?);
        if self.packages != Path::new("/") {
            let triplet = format!("{}-linux-gnu", std::env::consts::ARCH);
            let folders = ["usr/lib", "lib"].map(|sub| self.packages.join(sub).join(&triplet));
            command.env("XTABLES_LIBDIR", folders[0].join("xtables"));
            command.env(
                "LD_LIBRARY_PATH",
                std::env::join_paths(&folders).context("composing LD_LIBRARY_PATH")?,
            );
        }
        Ok(())
    }

    /// A program of the cluster with its environment.
    pub fn command(&self, program: &str) -> Result<Command> {
        let path = self.path()?;
        let Some(file) = sh::which(program, &path) else {
            bail!("{program} is neither in the cache nor on PATH")
        };
        let mut command = Command::new(file);
        self.equip(&mut command)?;
        Ok(command)
    }

    /// Folder of the CNI project's plugins (macvlan, bridge, host-local, ...).
    pub fn cni_plugins(&self) -> Result<PathBuf> {
        let places = [self.packages.join("usr/lib/cni"), PathBuf::from("/opt/cni/bin")];
        let found = places.iter().find(|folder| folder.join("macvlan").is_file());
        found
            .cloned()
            .context("the CNI plugins are neither in the cache nor in /usr/lib/cni or /opt/cni/bin")
    }

    /// The static busybox that test images are made of.
    pub fn busybox(&self) -> Result<PathBuf> {
        let places = ["bin/busybox", "usr/bin/busybox"].map(|sub| self.packages.join(sub));
        let found = places.iter().find(|file| file.is_file());
        found
            .cloned()
            .context("busybox is not there; install the package busybox-static")
    }

    /// Whether all folders still exist: somebody may have emptied the cache.
    pub fn is_complete(&self) -> bool {
        self.kubernetes.join("kubectl").is_file() && self.helm.join("helm").is_file() && self.packages.is_dir()
    }
}
