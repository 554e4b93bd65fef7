//! What benchmarks measure and how they show it.

use std::fmt::Display;
use std::io::Write;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use futures::TryStreamExt;
use kube::api::WatchEvent;
use spiderpool_crds::SpiderIPPool;

use crate::cluster::Cluster;

/// Prints one figure.
pub fn show(what: &str, figure: impl Display) -> Result<()> {
    writeln!(std::io::stdout(), "{what}: {figure}").context("writing the report")
}

/// Prints percentiles of times.
pub fn report(what: &str, mut times: Vec<Duration>) -> Result<()> {
    times.sort_unstable();
    let at = |part: usize| {
        times
            .get((times.len() * part / 100).min(times.len().saturating_sub(1)))
            .copied()
    };
    let shown = [50, 90, 99].map(|part| format!("p{part} {:?}", at(part).unwrap_or_default()));
    show(what, format!("{} ({} rounds)", shown.join(", "), times.len()))
}

/// Prints the resident memory of all processes of a program.
pub fn memory(cluster: &Cluster, program: &str, when: &str) -> Result<()> {
    for node in &cluster.nodes {
        for process in node.processes(program)? {
            let what = format!("resident memory {when}, {program} on {}", node.name);
            show(&what, resident(process.pid)?)?;
        }
    }
    Ok(())
}

/// The resident memory of a process, with its unit.
pub fn resident(pid: i32) -> Result<String> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"));
    let status = status.with_context(|| format!("looking at process {pid}"))?;
    let rss = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    Ok(rss.unwrap_or_default().trim().to_owned())
}

/// The moment at which a pool of so many addresses was seen.
pub async fn sized<S>(events: &mut S, size: u128) -> Result<Instant>
where
    S: futures::Stream<Item = Result<WatchEvent<SpiderIPPool>, kube::Error>> + Unpin,
{
    while let Some(event) = events.try_next().await? {
        if let WatchEvent::Added(pool) | WatchEvent::Modified(pool) = event
            && pool.total().is_ok_and(|total| total.count() == size)
        {
            return Ok(Instant::now());
        }
    }
    bail!("the watch ended")
}
