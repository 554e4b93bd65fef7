//! Kubernetes, helm and Argo Rollouts, built from the Go module proxy with the `go.mod` and `go.sum` of `xtask/build/`.
//!
//! The committed sums pin every module; nobody's binary download is trusted.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::cache::Cache;
use crate::ui::Ui;
use crate::{paths, sh};

/// A cold build on a small machine, other builds beside it.
const BUILD_DEADLINE: Duration = Duration::from_secs(45 * 60);

/// The oldest Go that these modules accept (`go` line of their `go.mod`).
pub const OLDEST_GO: (u32, u32) = (1, 24);

/// Folder with a module's manifests, beside its programs.
pub const MANIFESTS: &str = "manifests";

/// A set of programs from one Go module.
#[derive(Clone, Copy, Debug)]
pub struct GoProject {
    /// Name of the folder under `xtask/build/` and in the cache.
    pub name: &'static str,
    /// The module that has the programs.
    pub module: &'static str,
    /// Packages whose `gitVersion` and its like tell the version; empty when the module has none.
    pub version_packages: &'static [&'static str],
    /// Folder of the module with manifests that belong to the programs; kept beside them as [`MANIFESTS`].
    pub manifests: Option<&'static str>,
    /// What a first build costs, for the person waiting.
    pub cost: &'static str,
}

/// API server, controller manager, scheduler, kubelet, kube-proxy, kubectl.
pub const KUBERNETES: GoProject = GoProject {
    name: "kubernetes",
    module: "k8s.io/kubernetes",
    version_packages: &["k8s.io/component-base/version", "k8s.io/client-go/pkg/version"],
    manifests: None,
    cost: "5 to 15 minutes",
};

/// The chart installer.
pub const HELM: GoProject = GoProject {
    name: "helm",
    module: "helm.sh/helm/v3",
    version_packages: &[],
    manifests: None,
    cost: "1 to 3 minutes",
};

/// The controller of a kind of workload that is not Kubernetes' own, for end-to-end tests.
pub const ARGO_ROLLOUTS: GoProject = GoProject {
    name: "argo-rollouts",
    module: "github.com/argoproj/argo-rollouts",
    version_packages: &[],
    manifests: Some("manifests/crds"),
    cost: "2 to 5 minutes",
};

impl GoProject {
    /// The folder with the programs; builds them if they are not in the cache.
    pub fn prepare(&self, cache: &Cache, ui: &Ui) -> Result<PathBuf> {
        let (version, key) = self.version_and_key()?;
        if let Some(folder) = cache.find(self.name, &key) {
            return Ok(folder);
        }
        ui.say(&format!(
            "     building {} {version}: {} when Go's build cache is cold",
            self.name, self.cost
        ));
        ui.step(format!("{} {version} built", self.name), |_| {
            cache.folder(self.name, &key, |into| self.build(&version, into))
        })
    }

    /// Whether a build is needed, and so Go.
    pub fn is_cached(&self, cache: &Cache) -> Result<bool> {
        Ok(cache.find(self.name, &self.version_and_key()?.1).is_some())
    }

    fn source(&self) -> PathBuf {
        paths::checkout().join("xtask/build").join(self.name)
    }

    fn version_and_key(&self) -> Result<(String, String)> {
        let mut all = Vec::new();
        for file in ["go.mod", "go.sum", "tools.go"] {
            let file = self.source().join(file);
            all.extend(std::fs::read(&file).with_context(|| format!("reading {}", file.display()))?);
        }
        let go_mod = std::fs::read_to_string(self.source().join("go.mod")).context("reading go.mod")?;
        let version = required_version(&go_mod, self.module).with_context(|| {
            format!(
                "{} does not require {}",
                self.source().join("go.mod").display(),
                self.module
            )
        })?;
        let key = format!("{version}-{}", &paths::hash(&all)[..12]);
        Ok((version, key))
    }

    fn build(&self, version: &str, into: &Path) -> Result<()> {
        let tools = std::fs::read_to_string(self.source().join("tools.go")).context("reading tools.go")?;
        let mut go = self.go(&["build", "-mod=readonly", "-trimpath", "-buildvcs=false", "-ldflags"]);
        go.arg(linker_flags(version, self.version_packages))
            .arg("-o")
            .arg(folder_argument(into));
        go.args(packages(&tools));
        sh::output(&mut go, BUILD_DEADLINE).with_context(|| {
            format!(
                "building {} {version}; modules come from GOPROXY, see `go env GOPROXY`",
                self.name
            )
        })?;
        match self.manifests {
            Some(folder) => self.copy_manifests(folder, &into.join(MANIFESTS)),
            None => Ok(()),
        }
    }

    /// Manifests come with the module's sources, which Go has by now.
    fn copy_manifests(&self, folder: &str, into: &Path) -> Result<()> {
        let mut go = self.go(&["list", "-mod=readonly", "-m", "-f", "{{.Dir}}", self.module]);
        let sources = PathBuf::from(sh::output(&mut go, sh::SHORT)?.trim()).join(folder);
        paths::make_folder(into)?;
        for entry in std::fs::read_dir(&sources).with_context(|| format!("listing {}", sources.display()))? {
            let file = entry.context("listing manifests")?.path();
            let Some(name) = file.file_name() else { continue };
            let content = std::fs::read(&file).with_context(|| format!("reading {}", file.display()))?;
            // Written and not copied: the module's files are read-only, and the cache is to be removable.
            paths::write_atomically(&into.join(name), &content)?;
        }
        Ok(())
    }

    /// Go in the folder of the project, whatever the caller's environment says.
    fn go(&self, args: &[&str]) -> Command {
        let mut go = sh::command("go", args);
        go.current_dir(self.source())
            .env("CGO_ENABLED", "0")
            .env("GOWORK", "off")
            .env("GOFLAGS", "")
            .env("GO111MODULE", "on");
        go
    }
}

/// `go build -o` takes a path as a folder only when it ends in a slash.
fn folder_argument(folder: &Path) -> String {
    format!("{}/", folder.display())
}

/// The version a `go.mod` requires of a module.
fn required_version(go_mod: &str, module: &str) -> Option<String> {
    go_mod.lines().find_map(|line| {
        let mut words = line.trim().trim_start_matches("require ").split_whitespace();
        (words.next()? == module).then(|| words.next().map(str::to_owned))?
    })
}

/// The packages that a `tools.go` imports.
fn packages(tools: &str) -> Vec<&str> {
    tools
        .lines()
        .filter_map(|line| line.trim().strip_prefix("_ \"")?.strip_suffix('"'))
        .collect()
}

fn linker_flags(version: &str, version_packages: &[&str]) -> String {
    let mut flags = "-s -w".to_owned();
    let minor = version.split('.').nth(1).unwrap_or("0");
    for package in version_packages {
        for (key, value) in [
            ("gitVersion", version),
            ("gitMajor", "1"),
            ("gitMinor", minor),
            ("gitTreeState", "clean"),
        ] {
            flags.push_str(&format!(" -X {package}.{key}={value}"));
        }
    }
    flags
}

/// The version in the answer of `go version`.
pub fn go_version(answer: &str) -> Option<(u32, u32)> {
    let version = answer.split_whitespace().find_map(|word| word.strip_prefix("go1."))?;
    Some((1, version.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_come_from_go_mod() {
        let text = "module m\n\nrequire k8s.io/kubernetes v1.34.4\n\nrequire (\n\tk8s.io/api v0.34.4 // indirect\n)\n";
        assert_eq!(required_version(text, "k8s.io/kubernetes").as_deref(), Some("v1.34.4"));
        assert_eq!(required_version(text, "k8s.io/api").as_deref(), Some("v0.34.4"));
        assert_eq!(required_version(text, "k8s.io/other"), None);
    }

    #[test]
    fn packages_come_from_tools_go() {
        let text = "import (\n\t_ \"a.io/b/cmd/c\"\n\t_ \"a.io/b/cmd/d\"\n)\n";
        assert_eq!(packages(text), ["a.io/b/cmd/c", "a.io/b/cmd/d"]);
    }

    #[test]
    fn the_committed_projects_are_readable() {
        for project in [KUBERNETES, HELM, ARGO_ROLLOUTS] {
            let (version, key) = project.version_and_key().unwrap();
            assert!(version.starts_with('v') && key.starts_with(&version), "{version} {key}");
        }
    }

    #[test]
    fn linker_flags_tell_the_version() {
        let flags = linker_flags("v1.34.4", &["p"]);
        assert!(
            flags.contains("-X p.gitVersion=v1.34.4") && flags.contains("-X p.gitMinor=34"),
            "{flags}"
        );
    }

    #[test]
    fn go_versions_are_understood() {
        assert_eq!(go_version("go version go1.26.8 linux/amd64"), Some((1, 26)));
        assert_eq!(go_version("go version go1.24rc1 linux/amd64"), Some((1, 24)));
        assert_eq!(go_version("nonsense"), None);
    }
}
