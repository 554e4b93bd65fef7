//! How much memory and how many file descriptors the programs of the product have, over time.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::cluster::Cluster;
use crate::figures::show;
use crate::node::{AGENT, OPERATOR, Process};

/// Program of the webhook.
const WEBHOOK: &str = "spiderpool-webhook";

/// A process that was looked at for less than this says nothing about what it would grow to.
const LEAST: Duration = Duration::from_secs(600);

/// How much more memory a process may have in its last looks than in its middle ones, in a hundred, and beyond that in KiB: what an
/// allocator keeps of a moment in which there was more to do.
const GROWTH: (u64, u64) = (5, 2048);

/// How many more file descriptors: the connections that happen to be open.
const DESCRIPTORS: u64 = 8;

/// What a process had at one moment.
#[derive(Clone, Copy, Debug)]
struct Look {
    at: Instant,
    /// Resident memory in KiB.
    memory: u64,
    descriptors: u64,
}

/// Looks at all processes of the product on the nodes.
pub struct Usage<'a> {
    cluster: &'a Cluster,
    looks: BTreeMap<(String, Process), Vec<Look>>,
}

impl<'a> Usage<'a> {
    /// Nothing was looked at yet.
    pub fn new(cluster: &'a Cluster) -> Self {
        Self {
            cluster,
            looks: BTreeMap::new(),
        }
    }

    /// Looks once.
    pub fn look(&mut self) -> Result<()> {
        for node in &self.cluster.nodes {
            for program in [AGENT, OPERATOR, WEBHOOK] {
                for process in node.processes(program)? {
                    // One that ends meanwhile has nothing any more.
                    if let Ok(look) = Look::at(process.pid) {
                        let name = format!("{program} on {}", node.name);
                        self.looks.entry((name, process)).or_default().push(look);
                    }
                }
            }
        }
        Ok(())
    }

    /// Prints what each process had over time.
    pub fn report(&self) -> Result<()> {
        for ((name, process), looks) in &self.looks {
            let Some((first, last)) = looks.first().zip(looks.last()) else {
                continue;
            };
            let quarters: Vec<String> = (0..5)
                .filter_map(|quarter| looks.get((looks.len() - 1) * quarter / 4))
                .map(|look| format!("{} KiB, {} descriptors", look.memory, look.descriptors))
                .collect();
            let what = format!("{name}, process {}, over {:?}", process.pid, last.at - first.at);
            show(&what, quarters.join("; "))?;
        }
        Ok(())
    }

    /// Requires that no process grew that was looked at for long enough.
    pub fn is_flat(&self) -> Result<()> {
        let mut grown = Vec::new();
        let mut judged = 0;
        for ((name, _), looks) in &self.looks {
            let Some((first, last)) = looks.first().zip(looks.last()) else {
                continue;
            };
            if last.at - first.at < LEAST {
                continue;
            }
            judged += 1;
            let third = looks.len().div_ceil(3);
            let middle = mean(looks.iter().skip(third).take(third));
            let late = mean(looks.iter().rev().take(third));
            if late.0 > middle.0 + middle.0 * GROWTH.0 / 100 + GROWTH.1 {
                grown.push(format!("{name}: {} KiB of memory became {}", middle.0, late.0));
            }
            if late.1 > middle.1 + DESCRIPTORS {
                grown.push(format!("{name}: {} file descriptors became {}", middle.1, late.1));
            }
        }
        show("processes that were seen long enough to say whether they grow", judged)?;
        ensure!(grown.is_empty(), "processes grow: {}", grown.join(", "));
        Ok(())
    }
}

/// Mean memory and descriptors.
fn mean<'a>(looks: impl Iterator<Item = &'a Look>) -> (u64, u64) {
    let looks: Vec<&Look> = looks.collect();
    let count = (looks.len() as u64).max(1);
    let memory: u64 = looks.iter().map(|look| look.memory).sum();
    let descriptors: u64 = looks.iter().map(|look| look.descriptors).sum();
    (memory / count, descriptors / count)
}

impl Look {
    fn at(pid: i32) -> Result<Self> {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).context("looking at a process")?;
        let memory = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let memory = memory.and_then(|text| text.split_whitespace().next()?.parse().ok());
        let descriptors = std::fs::read_dir(format!("/proc/{pid}/fd"))
            .context("looking at a process")?
            .count();
        Ok(Self {
            at: Instant::now(),
            memory: memory.context("a process without memory")?,
            descriptors: descriptors as u64,
        })
    }
}
