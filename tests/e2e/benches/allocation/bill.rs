//! What a run cost: processor time of everybody who worked, and requests to the API server.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context, Result};
use spiderpool_e2e::agents::Agent;
use spiderpool_e2e::cluster::Cluster;
use spiderpool_e2e::figures::show;
use spiderpool_e2e::node::AGENT;
use spiderpool_e2e::requests::{Counted, metrics, samples};

use crate::drive::Run;

/// The kernel's unit of processor time: a hundredth of a second on every architecture that it tells.
const TICK_MS: u64 = 10;

/// What is written by agents.
const KINDS: [&str; 3] = ["spiderippools", "spiderendpoints", "pods"];

/// What runs cost, from here to [`Meter::show`].
pub(crate) struct Meter<'a> {
    cluster: &'a Cluster,
    agents: &'a [Agent],
    counted: Counted<'a>,
    kinds: BTreeMap<String, u64>,
    processor: Processor,
}

/// Processor time in milliseconds.
#[derive(Clone, Copy, Debug, Default)]
struct Processor {
    server: u64,
    etcd: u64,
    agents: u64,
    own: u64,
    /// Of the whole machine.
    busy: u64,
    /// Of the whole machine, busy or not.
    whole: u64,
}

impl<'a> Meter<'a> {
    /// Begins to count.
    pub(crate) async fn start(cluster: &'a Cluster, agents: &'a [Agent]) -> Result<Self> {
        let mut meter = Self {
            counted: Counted::start(cluster, AGENT, None).await?,
            cluster,
            agents,
            kinds: BTreeMap::new(),
            processor: Processor::default(),
        };
        meter.restart().await?;
        Ok(meter)
    }

    /// Forgets what was so far.
    pub(crate) async fn restart(&mut self) -> Result<()> {
        self.kinds = kinds(self.cluster).await?;
        self.counted.since().await?;
        // Last, since asking for counts costs processor time as well.
        self.processor = self.processor().await?;
        Ok(())
    }

    /// Prints what was since the last start: a run that has just ended.
    pub(crate) async fn show(&mut self, run: &Run) -> Result<()> {
        let (before, now) = (self.processor, self.processor().await?);
        let sent = self.counted.since().await?;
        let after = kinds(self.cluster).await?;
        let count = (run.times.len() + run.failures.len()).max(1) as f64;
        let each = |before: u64, now: u64| now.saturating_sub(before) as f64 / count;
        let busy = (now.busy - before.busy) as f64 / (now.whole - before.whole).max(1) as f64;
        let figure = format!(
            "{:.2} ms API server, {:.2} ms etcd, {:.2} ms agents, {:.2} ms this program; the machine was {:.0} % busy",
            each(before.server, now.server),
            each(before.etcd, now.etcd),
            each(before.agents, now.agents),
            each(before.own, now.own),
            busy * 100.0
        );
        show("  processor time of each", figure)?;
        let mut kinds = Vec::new();
        for (kind, count) in &after {
            let more = count - self.kinds.get(kind).copied().unwrap_or_default();
            if more > 0 {
                kinds.push(format!("{more} {kind}"));
            }
        }
        let figure = format!("{:.2} ({})", sent.requests as f64 / count, kinds.join(", "));
        show("  requests of agents for each (and those of everybody)", figure)?;
        self.restart().await
    }

    /// Ends counting.
    pub(crate) async fn end(self) -> Result<()> {
        self.counted.end().await.map(drop)
    }

    async fn processor(&self) -> Result<Processor> {
        let mut agents = 0;
        for agent in self.agents {
            let pid = agent.pid().await.context("an agent ended")?;
            agents += of_process(&pid.to_string())?;
        }
        let component = |name| of_process(&self.cluster.component(name)?.to_string());
        let (busy, whole) = of_machine()?;
        Ok(Processor {
            server: component("kube-apiserver")?,
            etcd: component("etcd")?,
            agents,
            own: of_process("self")?,
            busy,
            whole,
        })
    }
}

/// Requests that changed objects, or read single ones, by verb, kind and answer.
async fn kinds(cluster: &Cluster) -> Result<BTreeMap<String, u64>> {
    let text = metrics(cluster).await?;
    let mut counts = BTreeMap::new();
    for (labels, count) in samples(&text, "apiserver_request_total") {
        let label = |name: &str| {
            let (_, rest) = labels.split_once(&format!("{name}=\""))?;
            rest.split('"').next()
        };
        let (kind, verb) = (label("resource").unwrap_or_default(), label("verb").unwrap_or_default());
        if KINDS.contains(&kind) && verb != "WATCH" && verb != "LIST" {
            let part = label("subresource").filter(|part| !part.is_empty());
            let part = part.map(|part| format!("/{part}")).unwrap_or_default();
            let code = label("code").unwrap_or_default();
            *counts.entry(format!("{verb} {kind}{part} {code}")).or_default() += count;
        }
    }
    Ok(counts)
}

/// Processor time that a process has used.
fn of_process(pid: &str) -> Result<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).with_context(|| format!("looking at process {pid}"))?;
    // The program's name is in parentheses and may contain any of them.
    let (_, rest) = stat.rsplit_once(") ").context("the process has no name")?;
    let ticks: u64 = rest
        .split(' ')
        .skip(11)
        .take(2)
        .filter_map(|text| text.parse::<u64>().ok())
        .sum();
    Ok(ticks * TICK_MS)
}

/// Processor time that the machine has used, and that it had.
fn of_machine() -> Result<(u64, u64)> {
    let stat = fs::read_to_string("/proc/stat").context("looking at the machine's processors")?;
    let line = stat.lines().next().unwrap_or_default();
    // user nice system idle iowait irq softirq steal; what follows is counted in these.
    let ticks: Vec<u64> = line
        .split_whitespace()
        .skip(1)
        .take(8)
        .filter_map(|text| text.parse().ok())
        .collect();
    let whole: u64 = ticks.iter().sum();
    let idle: u64 = ticks.iter().skip(3).take(2).sum();
    Ok(((whole - idle) * TICK_MS, whole * TICK_MS))
}
