//! `cargo xtask bench`: figures, never asserted in tests.

use anyhow::{Context, Result, ensure};

use crate::artifact::{self, Kind};
use crate::cluster::{Cluster, ClusterName, State, UpOptions};
use crate::images::product;
use crate::ui::Ui;
use crate::{cargo, paths};

/// A group of figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Group {
    /// Range sets, ledgers, plans; and what giving out addresses costs, as group allocation
    Ipam,
    /// One agent, many on one pool, real pods, memory: on a cluster whose etcd writes through to the disk
    Allocation,
    /// Start of the CNI plugin
    Cni,
    /// The installed product on a cluster whose etcd writes through to the disk
    Cluster,
    /// Automatic pools of a thousand workloads, on such a cluster
    Autopools,
    /// The webhook beside ten thousand pools, on such a cluster
    Admission,
}

impl Group {
    /// Everything, each once.
    const ALL: [Self; 5] = [Self::Ipam, Self::Cni, Self::Cluster, Self::Autopools, Self::Admission];
}

/// Tells benchmarks which program the agents are that they run themselves.
const AGENT_PROGRAM: &str = "SPIDERPOOL_E2E_AGENT";

/// Runs one group, or all.
pub fn run(group: Option<Group>, ui: &Ui) -> Result<()> {
    for group in group.map_or(Group::ALL.to_vec(), |wanted| vec![wanted]) {
        match group {
            Group::Ipam => {
                package("spiderpool-ipam")?;
                on_cluster("allocation", ui)?;
            }
            Group::Allocation => on_cluster("allocation", ui)?,
            Group::Cni => package("spiderpool-cni")?,
            Group::Cluster => on_cluster("cluster", ui)?,
            Group::Autopools => on_cluster("autopools", ui)?,
            Group::Admission => on_cluster("admission", ui)?,
        }
    }
    Ok(())
}

/// Benches of a package that need nothing but the machine.
fn package(name: &str) -> Result<()> {
    let status = cargo::command()
        .args(["bench", "-p", name, "--locked", "--benches"])
        .status()
        .context("starting cargo")?;
    ensure!(status.success(), "benchmarks of {name} failed ({status})");
    Ok(())
}

/// A benchmark of the end-to-end package, on a fresh cluster.
fn on_cluster(bench: &str, ui: &Ui) -> Result<()> {
    let binary = ui.step("benchmark built", |_| {
        artifact::build(Kind::Bench, "spiderpool-e2e", bench)
    })?;
    let name = ClusterName::of_tests(&paths::checkout());
    Cluster::remove(Some(name.clone()), ui)?;
    let cluster = Cluster::up(
        &UpOptions {
            name: Some(name),
            nodes: 2,
            fsync: true,
            chained: None,
        },
        ui,
    )?;
    let result = cluster.install(&[]).and_then(|()| {
        let status = cluster
            .command_in_fabric(binary)?
            .env("SPIDERPOOL_E2E_CLUSTER", State::file(&cluster.state().name))
            .env(AGENT_PROGRAM, product::program("release", "spiderpool-agent"))
            .status()
            .context("starting the benchmark")?;
        ensure!(status.success(), "the benchmark failed ({status})");
        Ok(())
    });
    cluster.down()?;
    result
}
