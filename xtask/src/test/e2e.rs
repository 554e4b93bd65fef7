//! End-to-end tests: on a cluster of their own, through the chart.
//!
//! The tests are an ordinary Rust test binary that runs inside the cluster's network namespace. Tests that disturb the whole
//! cluster have names that begin with `exclusive_` and run one after the other once the parallel ones are done.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::{END_TO_END, Options, Which, lifecycle};
use crate::artifact::{self, Kind};
use crate::cluster::{Cluster, ClusterName, State, UpOptions, status};
use crate::paths;
use crate::ui::Ui;

/// How many tests run at once. They mostly wait, so more than there are cores; bounded by what two nodes hold.
const PARALLEL: usize = 6;

/// Begins the names of tests that disturb others.
const EXCLUSIVE: &str = "exclusive_";

/// Begins the names of tests that take long, and are left out unless somebody names them.
const SOAKED: &str = "soaked::";

/// How often trials are done in a soak, and all else.
const COUNTS: (u32, u32) = (5, 20);

/// Tells the soak of all trials how long it is to be.
const MINUTES: &str = "SPIDERPOOL_MINUTES";

/// Tells tests that can be long how long they are to be.
const SOAK: &str = "SPIDERPOOL_SOAK";
/// Tells tests what their chance is made of.
const SEED: &str = "SPIDERPOOL_SEED";

/// Tells tests what serves OpenKruise's kinds.
const KRUISE: &str = "SPIDERPOOL_E2E_KRUISE";

/// Package and program of the agent.
const AGENT: &str = "spiderpool-agent";

/// Tells tests which program the agents are that they run themselves.
const AGENT_PROGRAM: &str = "SPIDERPOOL_E2E_AGENT";

/// The CNI plugin that gives test pods a second interface.
const SECOND_NIC: &str = "second-nic";

/// How many nodes.
const NODES: usize = 2;

/// Where logs and objects are left when a test fails.
fn logs() -> PathBuf {
    paths::checkout().join("target/e2e-logs")
}

/// What of it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Part<'a> {
    /// Everything.
    All,
    /// Tests whose name contains this.
    Named(&'a str),
    /// The chart's life.
    Chart,
}

/// Runs a part of the tests on a fresh cluster.
pub(super) fn run(options: &Options, part: Part<'_>, ui: &Ui) -> Result<()> {
    let binary = ui.step("end-to-end tests built", |_| {
        artifact::build(Kind::Test, END_TO_END, "e2e")
    })?;
    let second_nic = ui.step("CNI plugin of the tests built", |_| {
        artifact::build(Kind::Bin, END_TO_END, SECOND_NIC)
    })?;
    // Never the one of the images: it can be told to die at named points.
    let agent = ui.step("agent with kill points built", |_| {
        artifact::build_with(Kind::Bin, AGENT, AGENT, &["kill-points"])
    })?;
    let name = match &options.name {
        Some(name) => name.clone(),
        None => ClusterName::of_tests(&paths::checkout()),
    };
    // What an earlier run left, whole or in pieces, must not decide how this one ends.
    Cluster::remove(Some(name.clone()), ui)?;
    let cluster = Cluster::up(
        &UpOptions {
            name: Some(name),
            nodes: NODES,
            fsync: false,
            chained: Some(second_nic),
        },
        ui,
    )?;
    // Third-party kinds come after the product, as they do where somebody decides to use them.
    let kinds = || -> Result<Vec<(&str, OsString)>> {
        cluster.start_rollouts()?;
        let mut told = vec![
            (KRUISE, cluster.start_kruise()?.word().into()),
            (AGENT_PROGRAM, agent.clone().into_os_string()),
        ];
        if let Which::Soak {
            test,
            seed,
            count,
            minutes,
        } = &options.which
        {
            let usual = if test.as_deref().is_none_or(is_trial) {
                COUNTS.0
            } else {
                COUNTS.1
            };
            told.push((SOAK, count.unwrap_or(usual).to_string().into()));
            told.push((MINUTES, minutes.to_string().into()));
            told.extend(seed.map(|seed| (SEED, seed.to_string().into())));
        }
        Ok(told)
    };
    // As for production: whatever holds there has to hold with two replicas.
    let values = paths::checkout()
        .join("charts/spiderpool/values-ha.yaml")
        .display()
        .to_string();
    let result = cluster.install(&["-f", &values]).and_then(|()| match part {
        Part::All => tests(&cluster, &binary, None, &kinds()?, ui).and_then(|()| lifecycle::run(&cluster, ui)),
        Part::Named(name) => tests(&cluster, &binary, Some(name), &kinds()?, ui),
        Part::Chart => lifecycle::run(&cluster, ui),
    });
    if result.is_err() {
        let folder = logs();
        match cluster.collect_logs(&folder) {
            Ok(()) => ui.say(&format!("logs and objects are in {}", folder.display())),
            Err(error) => ui.say(&format!("collecting logs failed: {error:#}")),
        }
    }
    if options.keep {
        ui.answer(&status::how_to_use(&cluster));
    } else {
        cluster.down()?;
    }
    result
}

fn tests(cluster: &Cluster, binary: &Path, filter: Option<&str>, more: &[(&str, OsString)], ui: &Ui) -> Result<()> {
    let folder = logs();
    let _ = std::fs::remove_dir_all(&folder);
    paths::make_folder(&folder)?;
    let phases: [(&str, &[&str]); 2] = [
        (
            "end-to-end tests, in parallel",
            &["--skip", EXCLUSIVE, "--skip", SOAKED],
        ),
        ("end-to-end tests, one by one", &[EXCLUSIVE]),
    ];
    let mut failed = Vec::new();
    for (phase, (what, selection)) in phases.into_iter().enumerate() {
        let exclusive = phase == 1;
        let mut args: Vec<String> = selection.iter().map(|&word| word.to_owned()).collect();
        match filter {
            // libtest joins several filters by "or", so an exclusive test is chosen by its whole condition here.
            Some(name) if exclusive && !name.contains(EXCLUSIVE) => {
                let chosen = names(binary, name)?;
                let alone = |name: &String| name.contains(EXCLUSIVE) || name.contains(SOAKED);
                args = chosen.into_iter().filter(alone).collect();
                if args.is_empty() {
                    continue;
                }
                args.push("--exact".to_owned());
            }
            Some(name) if exclusive => args = vec![name.to_owned()],
            Some(name) => args.push(name.to_owned()),
            None => {}
        }
        let threads = if exclusive { 1 } else { PARALLEL };
        args.push(format!("--test-threads={threads}"));
        let outcome = ui.step(what, |_| {
            let mut command = cluster.command_in_fabric(binary)?;
            command
                .args(&args)
                .env("SPIDERPOOL_E2E_CLUSTER", State::file(&cluster.state().name))
                .env("SPIDERPOOL_E2E_LOGS", &folder)
                .envs(more.iter().map(|(name, value)| (name, value)))
                .current_dir(paths::checkout().join("tests/e2e"));
            let status = command.status().context("starting the end-to-end tests")?;
            ensure!(status.success(), "tests failed ({status})");
            Ok(())
        });
        if outcome.is_err() {
            failed.push(what);
        }
    }
    ensure!(
        failed.is_empty(),
        "failed: {}; run one alone with `cargo xtask test e2e NAME`",
        failed.join(", ")
    );
    Ok(())
}

/// Whether a name is one of a trial: a letter and a number, as `c5-old-news`.
fn is_trial(name: &str) -> bool {
    let mut letters = name.chars();
    letters.next().is_some_and(|letter| matches!(letter, 'c' | 'f'))
        && letters.next().is_some_and(|letter| letter.is_ascii_digit())
}

/// Names of the tests that contain a text.
fn names(binary: &Path, filter: &str) -> Result<Vec<String>> {
    let output = Command::new(binary)
        .args(["--list", "--format=terse", filter])
        .output()
        .context("listing the end-to-end tests")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(text
        .lines()
        .filter_map(|line| line.strip_suffix(": test"))
        .map(str::to_owned)
        .collect())
}
