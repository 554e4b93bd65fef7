//! The disk with an agent's journal is full, and then cannot be written at all. Addresses are given and given back all the same, and
//! what was noted before is not lost.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use spiderpool_crds::IPPoolSpec;
use tokio::process::Command;

use super::field::{Guest, make, owners, settle, with_agents};
use crate::agents::{Agent, Options, del_args, remove_pod};
use crate::node;
use crate::scene::Scene;
use crate::storm::ledger::Ledger;
use crate::storm::note;
use crate::wait::{self, SOON};
use crate::workload::from_pools;

/// Size of the disk.
const SIZE: &str = "size=64k";

/// Pods in each state of the disk.
const PODS: usize = 5;

/// A file system of memory, until it is dropped.
struct Disk(PathBuf);

impl Disk {
    async fn mount(at: &Path) -> Result<Self> {
        std::fs::create_dir_all(at).context("making the folder of the journal")?;
        let disk = Self(at.to_owned());
        disk.run("mount", &["-t", "tmpfs", "-o", SIZE, "tmpfs"]).await?;
        Ok(disk)
    }

    async fn remount(&self, how: &str) -> Result<()> {
        self.run("mount", &["-o", &format!("remount,{how}")]).await
    }

    async fn run(&self, program: &str, args: &[&str]) -> Result<()> {
        let mut command = Command::new(program);
        command.args(args).arg(&self.0);
        let ran = node::output(command, "").await;
        ran.with_context(|| format!("{program} {args:?} {}", self.0.display()))
            .map(drop)
    }

    /// Fills it to the last byte.
    fn fill(&self) -> Result<PathBuf> {
        use std::io::Write;
        let name = self.0.join(".filler");
        let mut file = std::fs::File::create(&name).context("making a file that fills the disk")?;
        let block = [0_u8; 512];
        while file.write_all(&block).is_ok() {}
        Ok(name)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // The folder below is removed with its agent; what cannot be removed is said by that.
        let _ = std::process::Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

pub(super) async fn run(scene: &Scene, seed: u64) -> Result<String> {
    let v4 = scene.serving("disk4", 4, ("10", "40"), IPPoolSpec::default()).await?;
    let v6 = scene.serving("disk6", 6, ("10", "40"), IPPoolSpec::default()).await?;
    let wish = from_pools(&[&v4], &[&v6]);
    with_agents(
        scene,
        1,
        |_| Options::default(),
        async |agents: &[Arc<Agent>]| {
            let agent = agents.first().context("no agent")?;
            let disk = Disk::mount(&agent.journal()).await?;
            let ledger = Ledger::default();
            agent.run(&[]).await?;
            agent.serves().await?;
            let live = async |state: &str| -> Result<Vec<Guest>> {
                let mut guests = Vec::new();
                for number in 0..PODS {
                    let mut guest = make(scene, agent, &format!("{state}-{number}"), &wish).await?;
                    guest.must_add(&ledger).await?;
                    guests.push(guest);
                }
                Ok(guests)
            };
            // A DEL is noted while nobody serves it, and then the disk is full.
            let mut noted = make(scene, agent, "noted", &wish).await?;
            noted.must_add(&ledger).await?;
            let mut kept = live("before").await?;
            agent.kill().await?;
            remove_pod(&scene.cluster.client, &noted.pod).await?;
            let del = del_args(&noted.add);
            ledger.ends(&del.container_id);
            note(agent, &del)?;
            agent.sandboxes.end(&del)?;
            let filler = disk.fill()?;
            agent.run(&[]).await?;
            agent.serves().await?;
            let mut full = live("full").await?;
            for guest in full.drain(..2) {
                let mut guest = guest;
                guest.end(scene, &ledger).await?;
            }
            kept.append(&mut full);
            settle(scene, &ledger, &owners(scene, &kept)).await?;

            // It cannot be written at all, and the agent is started so.
            agent.kill().await?;
            disk.remount("ro").await?;
            agent.run(&[]).await?;
            agent.serves().await?;
            let mut guests = live("read-only").await?;
            for guest in guests.drain(..2) {
                let mut guest = guest;
                guest.end(scene, &ledger).await?;
            }
            kept.append(&mut guests);
            settle(scene, &ledger, &owners(scene, &kept)).await?;

            // All is well again.
            disk.remount("rw").await?;
            std::fs::remove_file(filler).context("emptying the disk")?;
            wait::until("the journal to be empty of DELs", SOON, async || {
                let entries = std::fs::read_dir(agent.journal()).context("reading the journal")?;
                let names = entries
                    .flatten()
                    .map(|entry| entry.file_name().to_string_lossy().into_owned());
                Ok((!names.into_iter().any(|name| name.ends_with(".del"))).then_some(()))
            })
            .await?;
            for guest in &mut kept {
                guest.end(scene, &ledger).await?;
            }
            settle(scene, &ledger, &owners(scene, &[])).await?;
            let log = agent.log()?;
            ensure!(
                log.contains("journal"),
                "nothing tells of a journal that cannot be written:\n{log}"
            );
            Ok(format!(
                "seed {seed}: {} pods came and went while the journal's disk was full or read-only",
                2 * PODS
            ))
        },
    )
    .await
}
