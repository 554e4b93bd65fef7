//! `cargo xtask test`: everything that CI runs, in the order from cheap to dear. The first failing step ends the run.

mod e2e;
mod lifecycle;

use anyhow::{Context, Result, bail};

use crate::cluster::ClusterName;
use crate::ui::Ui;

/// Which tests.
#[derive(Clone, Debug)]
pub enum Which {
    /// Formatting, lints, unit and property tests, and the end-to-end tests.
    All,
    /// Only what needs no cluster.
    Unit,
    /// Only end-to-end tests, those whose name contains the text if one is given.
    EndToEnd(Option<String>),
    /// Only the chart's life: uninstalled, installed again, uninstalled without a trace.
    Chart,
    /// End-to-end tests whose name contains the text, as long as they can be.
    Soak {
        /// Part of their name; all trials if absent.
        test: Option<String>,
        /// What chance is made of, if it is to be the same again.
        seed: Option<u64>,
        /// At how many points, or how often.
        count: Option<u32>,
        /// How long all trials take at least.
        minutes: u32,
    },
}

/// What the test run is asked for.
#[derive(Clone, Debug)]
pub struct Options {
    /// Which tests.
    pub which: Which,
    /// The cluster's name; one of its own beside the demo's if absent.
    pub name: Option<ClusterName>,
    /// Leave the cluster running at the end.
    pub keep: bool,
}

/// The test that runs all trials.
const ALL_TRIALS: &str = "soaked::everything";

/// The package with the end-to-end tests: they run inside the cluster's network only.
const END_TO_END: &str = "spiderpool-e2e";

/// Runs the tests.
pub fn run(options: &Options, ui: &Ui) -> Result<()> {
    match &options.which {
        Which::All => {
            unit(ui)?;
            e2e::run(options, e2e::Part::All, ui)?;
        }
        Which::Unit => unit(ui)?,
        Which::EndToEnd(None) => e2e::run(options, e2e::Part::All, ui)?,
        Which::EndToEnd(Some(name)) => e2e::run(options, e2e::Part::Named(name), ui)?,
        Which::Chart => e2e::run(options, e2e::Part::Chart, ui)?,
        Which::Soak { test: None, .. } => e2e::run(options, e2e::Part::Named(ALL_TRIALS), ui)?,
        // The reports call trials by names with dashes.
        Which::Soak { test: Some(test), .. } => e2e::run(options, e2e::Part::Named(&test.replace('-', "_")), ui)?,
    }
    ui.answer("all tests passed");
    Ok(())
}

/// What needs neither root nor a cluster.
fn unit(ui: &Ui) -> Result<()> {
    cargo(ui, "formatting", &["fmt", "--all", "--check"])?;
    cargo(
        ui,
        "lints",
        &[
            "clippy",
            "--workspace",
            "--all-targets",
            "--locked",
            "--quiet",
            "--",
            "-D",
            "warnings",
        ],
    )?;
    cargo(
        ui,
        "unit and property tests",
        &[
            "test",
            "--workspace",
            "--exclude",
            END_TO_END,
            "--locked",
            "--no-fail-fast",
        ],
    )
}

/// Runs cargo as a step, with its output where ours goes.
fn cargo(ui: &Ui, what: &str, args: &[&str]) -> Result<()> {
    ui.say(&format!("     {what}: cargo {}", args.join(" ")));
    ui.step(what, |_| {
        let status = crate::cargo::command().args(args).status().context("starting cargo")?;
        if !status.success() {
            bail!(
                "{what} failed ({status}); run `cargo {}` to see it alone",
                args.join(" ")
            );
        }
        Ok(())
    })
}
