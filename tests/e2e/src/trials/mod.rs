//! Trials of everything that dies, hangs or lies: what must hold in each is that no address has two owners, that nothing is lost,
//! and that it ends.
//!
//! Each has a short form, for every run of the tests, and a long one for soaks. All choices come of a seed, which is printed.

mod cooling;
mod cut_off;
mod exact_fit;
mod field;
mod full_disk;
mod points;
mod restored;
mod storms;
mod two_nics;

use anyhow::{Context, Result};

use crate::component::Kept;
use crate::figures::show;
use crate::scene::{Scene, scene};
use crate::soak;

/// A trial.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Trial {
    /// C1: ADDs and DELs of 32 clients at agents that are killed at any point.
    KilledAnywhere,
    /// C2: as many pods as addresses, all replaced at once, again and again.
    ExactFit,
    /// C3: every ADD is sent up to five times at once.
    Repeated,
    /// C5: one of the agents hears what was true long ago, and is killed.
    OldNews,
    /// C6: two interfaces of one pool, and pods that can only get half of what they need.
    TwoNics,
    /// F1 to F4: an agent is killed at each point between a request and its answer.
    EachPoint,
    /// F5: agents are rolled while they work.
    Rolled,
    /// F6: no operator runs.
    WithoutOperator,
    /// F7: the API server is away for a while, and etcd dies.
    Outage,
    /// F8: an API server that has too much to do.
    Overloaded,
    /// F9: an agent is cut off, and its pods are deleted by force.
    CutOff,
    /// F10: etcd is put back to an older state.
    Restored,
    /// F11: the clocks of agents are two hours apart.
    WrongClocks,
    /// F12: watches expire again and again.
    Expired,
    /// F13: the disk with the agent's journal is full, or cannot be written.
    FullDisk,
    /// F14: etcd answers late.
    SlowEtcd,
}

/// How long a trial is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    /// Seconds.
    Short,
    /// A minute or two.
    Long,
}

impl Length {
    /// One of two.
    pub fn of<T>(self, short: T, long: T) -> T {
        match self {
            Self::Short => short,
            Self::Long => long,
        }
    }
}

impl Trial {
    /// All of them, those first that stop what all others need.
    pub const ALL: [Self; 16] = [
        Self::Outage,
        Self::SlowEtcd,
        Self::Restored,
        Self::WithoutOperator,
        Self::KilledAnywhere,
        Self::ExactFit,
        Self::Repeated,
        Self::OldNews,
        Self::TwoNics,
        Self::EachPoint,
        Self::Rolled,
        Self::Overloaded,
        Self::CutOff,
        Self::WrongClocks,
        Self::Expired,
        Self::FullDisk,
    ];

    /// Whether it stops what all programs of the product need, or some of these programs.
    pub const fn is_rough(self) -> bool {
        matches!(
            self,
            Self::Outage | Self::SlowEtcd | Self::Restored | Self::WithoutOperator
        )
    }

    /// Its name in reports and in `tests/README.md`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::KilledAnywhere => "c1-killed-anywhere",
            Self::ExactFit => "c2-exact-fit",
            Self::Repeated => "c3-repeated",
            Self::OldNews => "c5-old-news",
            Self::TwoNics => "c6-two-nics",
            Self::EachPoint => "f1-each-point",
            Self::Rolled => "f5-rolled",
            Self::WithoutOperator => "f6-without-operator",
            Self::Outage => "f7-outage",
            Self::Overloaded => "f8-overloaded",
            Self::CutOff => "f9-cut-off",
            Self::Restored => "f10-restored",
            Self::WrongClocks => "f11-wrong-clocks",
            Self::Expired => "f12-expired",
            Self::FullDisk => "f13-full-disk",
            Self::SlowEtcd => "f14-slow-etcd",
        }
    }
}

/// Runs a trial with each seed that the environment asks for: one in a run of the tests, more in a soak.
pub async fn run(trial: Trial) -> Result<()> {
    let length = if soak::is_soak() { Length::Long } else { Length::Short };
    for seed in soak::seeds()? {
        once(trial, seed, length).await?;
    }
    Ok(())
}

/// Runs a trial with one seed, in a scene of its own.
pub async fn once(trial: Trial, seed: u64, length: Length) -> Result<()> {
    let name = trial.name();
    show(name, format!("seed {seed} begins"))?;
    let outcome = scene(name, async |scene: &Scene| {
        let kept = trial.is_rough().then(|| Kept::look(&scene.cluster)).transpose()?;
        let text = match trial {
            Trial::ExactFit => exact_fit::run(scene, seed, length).await,
            Trial::TwoNics => two_nics::run(scene, seed, length).await,
            Trial::EachPoint => points::run(scene, seed, length).await,
            Trial::CutOff => cut_off::run(scene, seed, length).await,
            Trial::Restored => restored::run(scene, seed, length).await,
            Trial::FullDisk => full_disk::run(scene, seed).await,
            Trial::KilledAnywhere
            | Trial::Repeated
            | Trial::OldNews
            | Trial::Rolled
            | Trial::WithoutOperator
            | Trial::Outage
            | Trial::Overloaded
            | Trial::WrongClocks
            | Trial::Expired
            | Trial::SlowEtcd => storms::run(scene, trial, seed, length).await,
        };
        for daemon in kept.iter().flat_map(|kept| kept.revive(&scene.cluster)) {
            show(name, format!("{} ended by itself and was started again", daemon?))?;
        }
        show(name, text?)
    })
    .await;
    outcome.with_context(|| {
        format!("trial {name}, seed {seed}; `cargo xtask soak {name} --seed {seed} --count 1` repeats it")
    })
}
