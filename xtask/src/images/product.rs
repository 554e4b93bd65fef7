//! The product's images: static release binaries and nothing else.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::archive::{Image, write_if_changed};
use crate::ui::Ui;
use crate::{cargo, paths, sh};

/// A cold release build on a small machine, other builds beside it.
const BUILD_DEADLINE: Duration = Duration::from_secs(60 * 60);

/// The variable by which a test orders an agent to die. No program that is shipped knows it.
const KILL_POINTS: &[u8] = b"SPIDERPOOL_KILL_AT";

/// First part of the images' names: what the chart calls registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registry(String);

impl Default for Registry {
    fn default() -> Self {
        Self("localhost".to_owned())
    }
}

impl FromStr for Registry {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-._:/".contains(c);
        if text.is_empty() || !text.chars().all(allowed) || text.starts_with('/') || text.ends_with('/') {
            bail!("registry {text:?}: give host, port and path as in localhost:5000/team");
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One image: its name, whether it runs as root, and its programs with the cargo profile of each.
struct Recipe {
    name: &'static str,
    user: Option<&'static str>,
    programs: &'static [(&'static str, &'static str)],
}

const RECIPES: [Recipe; 2] = [
    Recipe {
        name: "spiderpool-controller",
        user: Some("65532:65532"),
        programs: &[("release", "spiderpool-controller"), ("release", "spiderpool-webhook")],
    },
    // The agent serves a socket that only root may open, and puts the plugin on the host.
    Recipe {
        name: "spiderpool-agent",
        user: None,
        programs: &[("release", "spiderpool-agent"), ("cni", "spiderpool")],
    },
];

/// Packages by the profile that they are built with.
const BUILDS: [(&str, &[&str]); 2] = [
    (
        "release",
        &["spiderpool-operator", "spiderpool-webhook", "spiderpool-agent"],
    ),
    ("cni", &["spiderpool-cni"]),
];

/// Builds all images and writes `NAME.tar` files into a folder; those whose content is the same are not touched.
pub fn build(out: &Path, registry: &Registry, ui: &Ui) -> Result<Vec<PathBuf>> {
    paths::make_folder(out)?;
    for (profile, packages) in BUILDS {
        ui.step(format!("static binaries of {} built", packages.join(", ")), |_| {
            sh::output(&mut cargo_build(profile, packages), BUILD_DEADLINE)
        })?;
    }
    let mut archives = Vec::new();
    for recipe in RECIPES {
        let mut image = Image::new();
        for (profile, name) in recipe.programs {
            let binary = program(profile, name);
            let content = std::fs::read(&binary).with_context(|| format!("reading {}", binary.display()))?;
            ensure!(
                !content.windows(KILL_POINTS.len()).any(|part| part == KILL_POINTS),
                "{} was built with kill points, which are for tests only",
                binary.display()
            );
            image.file(&format!("usr/bin/{name}"), 0o755, content);
        }
        if let Some(user) = recipe.user {
            image.user(user);
        }
        if let Some((_, program)) = recipe.programs.first() {
            image.entrypoint(&[&format!("/usr/bin/{program}")]);
        }
        let name = image_name(registry, recipe.name);
        let file = out.join(format!("{}.tar", recipe.name));
        let changed = write_if_changed(&file, &image.archive(&name)?)?;
        ui.say(&format!(
            "     {name} in {}{}",
            file.display(),
            if changed { "" } else { " (unchanged)" }
        ));
        archives.push(file);
    }
    Ok(archives)
}

/// Name and tag of one of the images.
fn image_name(registry: &Registry, name: &str) -> String {
    format!("{registry}/{name}:v{}", env!("CARGO_PKG_VERSION"))
}

/// Where a program of an image is on this machine, once [`build`] has built it.
pub fn program(profile: &str, name: &str) -> PathBuf {
    target_folder().join(target()).join(profile).join(name)
}

fn target() -> String {
    format!("{}-unknown-linux-gnu", std::env::consts::ARCH)
}

/// A folder of its own: the other flags would throw away what development has built.
fn target_folder() -> PathBuf {
    paths::checkout().join("target/images")
}

fn cargo_build(profile: &str, packages: &[&str]) -> Command {
    let mut command = cargo::command();
    command
        .args(["build", "--quiet", "--profile", profile, "--target", &target()])
        .arg("--target-dir")
        .arg(target_folder());
    for package in packages {
        command.args(["--package", package]);
    }
    // Static, since the images hold no C library and the plugin runs on any host.
    command
        .env("RUSTFLAGS", "-C target-feature=+crt-static")
        .env_remove("CARGO_ENCODED_RUSTFLAGS");
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_the_chart_asks_for() {
        let expected = format!("localhost/spiderpool-agent:v{}", env!("CARGO_PKG_VERSION"));
        assert_eq!(image_name(&Registry::default(), "spiderpool-agent"), expected);
    }

    #[test]
    fn registries_are_checked() {
        assert!("localhost:5000/team".parse::<Registry>().is_ok());
        for bad in ["", "/", "a/", "with space", "UPPER"] {
            assert!(bad.parse::<Registry>().is_err(), "{bad}");
        }
    }
}
