//! `cargo xtask demo`: the main job on a real cluster, from a bare machine to the result.
//!
//! Every step states what it expects and fails if it is not so; the exit status is that of the expectations, not of the
//! commands.

mod expect;
mod show;

use std::time::{Duration, Instant};

use anyhow::Result;

use crate::cluster::{Cluster, ClusterName, UpOptions, status};
use crate::paths;
use crate::ui::{Ui, duration_text};

/// How many nodes.
const NODES: usize = 2;

/// How long pods, pools and deletions may take on a busy machine with two cores.
const WAIT: Duration = Duration::from_secs(120);

/// The Deployment of `examples/deployment.yaml`.
const APPLICATION: &str = "shop";

/// What the demo is asked for.
#[derive(Clone, Debug)]
pub struct Options {
    /// The cluster's name; the checkout's if absent.
    pub name: Option<ClusterName>,
    /// Leave the cluster and the application running at the end.
    pub keep: bool,
}

/// Runs the demo.
pub fn run(options: &Options, ui: &Ui) -> Result<()> {
    let mut diary = Diary::default();
    let up = UpOptions {
        name: options.name.clone(),
        nodes: NODES,
        fsync: false,
        chained: None,
    };
    let cluster = diary.note("cluster with two nodes", || Cluster::up(&up, ui))?;
    let result = on_cluster(&cluster, options.keep, &mut diary, ui);
    diary.show(ui);
    if let Err(error) = result {
        let folder = paths::checkout().join("target/e2e-logs/demo");
        ui.say(&match cluster.collect_logs(&folder) {
            Ok(()) => format!("logs and objects are in {}", folder.display()),
            Err(error) => format!("collecting logs failed: {error:#}"),
        });
        ui.say("the cluster is left as it is; `cargo xtask cluster down` removes it");
        return Err(error);
    }
    if options.keep {
        ui.answer(&status::how_to_use(&cluster));
    } else {
        cluster.down()?;
    }
    ui.answer("demo passed: every expectation held");
    Ok(())
}

fn on_cluster(cluster: &Cluster, keep: bool, diary: &mut Diary, ui: &Ui) -> Result<()> {
    diary.note("images built, chart installed", || cluster.install(&[]))?;
    let shop = expect::Application::new(cluster, APPLICATION, WAIT);
    diary.note("subnets and Deployment applied, pools made, 2 pods running", || {
        ui.step("examples applied", |_| shop.apply_examples())?;
        ui.step(
            "2 pods run with addresses of pools of 3 (2 replicas and 1 spare)",
            |_| shop.runs(2),
        )
    })?;
    show::tables(cluster, ui)?;
    diary.note("scaled to 5: pools grew to 6, pods reach each other", || {
        ui.step("scaled to 5", |_| shop.scale(5))?;
        ui.step("5 pods run, pools hold 6 addresses", |_| shop.runs(5))?;
        ui.step("ten distinct addresses, all inside the pools", |_| {
            shop.addresses_are_right(5)
        })?;
        ui.step("every pod answers every pod of the other node, IPv4 and IPv6", |_| {
            shop.pods_reach_each_other()
        })
    })?;
    show::tables(cluster, ui)?;
    diary.note("scaled back to 2: pools shrank to 3", || {
        ui.step("scaled to 2", |_| shop.scale(2))?;
        ui.step("2 pods run, pools hold 3 addresses", |_| shop.runs(2))
    })?;
    show::tables(cluster, ui)?;
    if keep {
        return Ok(());
    }
    diary.note("deleted: pools, endpoints and counts gone", || {
        ui.step("Deployment deleted", |_| shop.delete())?;
        ui.step("no pool, no endpoint, subnet counts 0", |_| shop.is_gone())
    })?;
    show::tables(cluster, ui)?;
    ui.step("subnets deleted, nothing held by a finalizer", |_| {
        shop.delete_subnets()
    })
}

/// What happened and how long it took.
#[derive(Default)]
struct Diary {
    lines: Vec<(String, Duration, bool)>,
}

impl Diary {
    fn note<T>(&mut self, what: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let started = Instant::now();
        let result = work();
        self.lines.push((what.to_owned(), started.elapsed(), result.is_ok()));
        result
    }

    fn show(&self, ui: &Ui) {
        ui.answer("\nWhat happened:");
        for (what, took, held) in &self.lines {
            let mark = if *held { "ok  " } else { "FAIL" };
            ui.answer(&format!("  {mark} {:>12}  {what}", duration_text(*took)));
        }
    }
}
