//! Programs, test and benchmark binaries that run elsewhere than cargo would run them: inside the cluster's network.

use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::cargo;

/// Which kind of target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An integration test.
    Test,
    /// A benchmark. It measures other processes, so it is built like a test.
    Bench,
    /// A program.
    Bin,
}

impl Kind {
    /// The word for it in cargo's options and messages.
    const fn word(self) -> &'static str {
        match self {
            Self::Test => "test",
            Self::Bench => "bench",
            Self::Bin => "bin",
        }
    }
}

/// What cargo says about an artifact.
#[derive(Deserialize)]
struct Artifact {
    #[serde(default)]
    executable: Option<PathBuf>,
    #[serde(default)]
    target: Target,
}

#[derive(Default, Deserialize)]
struct Target {
    #[serde(default)]
    name: String,
    #[serde(default)]
    kind: Vec<String>,
}

/// Builds one target of a package and returns the path of its binary.
pub fn build(kind: Kind, package: &str, target: &str) -> Result<PathBuf> {
    build_with(kind, package, target, &[])
}

/// As [`build`], with features of the package.
pub fn build_with(kind: Kind, package: &str, target: &str, features: &[&str]) -> Result<PathBuf> {
    let task: &[&str] = match kind {
        Kind::Test | Kind::Bench => &["test", "--no-run"],
        Kind::Bin => &["build"],
    };
    let output = cargo::command()
        .args(task)
        .args(["-p", package, &format!("--{}", kind.word()), target, "--locked"])
        .args(["--features", &features.join(",")])
        .arg("--message-format=json-render-diagnostics")
        .stderr(Stdio::inherit())
        .output()
        .context("starting cargo")?;
    if !output.status.success() {
        bail!("building {target} of {package} failed ({})", output.status);
    }
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| serde_json::from_str::<Artifact>(line).ok())
        .filter(|artifact| {
            artifact.target.name == target && artifact.target.kind.iter().any(|word| word == kind.word())
        })
        .find_map(|artifact| artifact.executable)
        .with_context(|| format!("cargo named no binary of {target} in {package}"))
}
