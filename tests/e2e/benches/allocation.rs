//! What giving out addresses costs: one agent alone, many on one pool, real pods beside the same pods with `host-local`, and
//! the memory of an agent in a large cluster. `cargo xtask bench allocation` runs it inside the cluster's network.
//!
//! Agents are the released program, and all of them run on this machine together with the control plane. Their pods are objects
//! on Nodes without kubelet; this program sends their ADDs and DELs. Names of parts as arguments choose some of them; `--tenth`
//! makes them small, to try the benchmark itself.

use anyhow::{Context, Result, bail, ensure};
use futures::FutureExt;
use futures::future::LocalBoxFuture;
use spiderpool_e2e::figures::show;

#[path = "allocation/bill.rs"]
mod bill;
#[path = "allocation/drive.rs"]
mod drive;
#[path = "allocation/elsewhere.rs"]
mod elsewhere;
#[path = "allocation/line.rs"]
mod line;
#[path = "allocation/memory.rs"]
mod memory;
#[path = "allocation/one.rs"]
mod one;
#[path = "allocation/place.rs"]
mod place;
#[path = "allocation/real.rs"]
mod real;
#[path = "allocation/several.rs"]
mod several;
#[path = "allocation/writers.rs"]
mod writers;

use place::Place;

/// How much of everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scale {
    /// What the figures are of.
    Full,
    /// A tenth.
    Tenth,
}

impl Scale {
    pub(crate) const fn of(self, full: usize) -> usize {
        match self {
            Self::Full => full,
            Self::Tenth => full / 10,
        }
    }
}

/// A part: it makes what it needs and takes it away again.
type Part = for<'a> fn(&'a Place) -> LocalBoxFuture<'a, Result<()>>;

const PARTS: [(&str, Part); 5] = [
    ("one", |place| one::run(place).boxed_local()),
    ("writers", |place| writers::run(place).boxed_local()),
    ("several", |place| several::run(place).boxed_local()),
    ("memory", |place| memory::run(place).boxed_local()),
    ("real", |place| real::run(place).boxed_local()),
];

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let mut scale = Scale::Full;
    let mut wanted = Vec::new();
    for word in std::env::args().skip(1) {
        match word.as_str() {
            // cargo passes it to every benchmark.
            "--bench" => {}
            "--tenth" => scale = Scale::Tenth,
            part if PARTS.iter().any(|(name, _)| *name == part) => wanted.push(word),
            other => bail!(
                "{other} is no part; there are {}",
                PARTS.map(|(name, _)| name).join(", ")
            ),
        }
    }
    let place = Place::make(scale).await?;
    let mut failed = Vec::new();
    for (name, part) in PARTS {
        if !wanted.is_empty() && !wanted.iter().any(|word| word == name) {
            continue;
        }
        // One part's failure is no reason to lose the figures of the others.
        if let Err(error) = part(&place).await.with_context(|| format!("part {name}")) {
            show(&format!("part {name} failed"), format!("{error:#}"))?;
            failed.push(name);
        }
    }
    place.remove().await?;
    ensure!(failed.is_empty(), "failed: {}", failed.join(", "));
    Ok(())
}
