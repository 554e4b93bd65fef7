//! `cargo xtask bench`: figures, never asserted in tests.

use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::paths;
use crate::ui::Ui;

/// A group of benchmarks that needs no cluster: a package with benches of its own.
const PACKAGES: [(&str, &str); 2] = [("ipam", "spiderpool-ipam"), ("cni", "spiderpool-cni")];

/// Runs one group, or all.
pub fn run(group: Option<&str>, ui: &Ui) -> Result<()> {
    let chosen: Vec<_> = PACKAGES
        .iter()
        .filter(|(name, _)| group.is_none_or(|wanted| wanted == *name))
        .collect();
    for (name, package) in chosen {
        ui.say(&format!("benchmarks of {name}"));
        let status = Command::new(env!("CARGO"))
            .args(["bench", "-p", package, "--locked", "--benches"])
            .current_dir(paths::checkout())
            .status()
            .context("starting cargo")?;
        ensure!(status.success(), "benchmarks of {name} failed ({status})");
    }
    Ok(())
}
