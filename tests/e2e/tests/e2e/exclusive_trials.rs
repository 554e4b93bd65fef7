//! Trials of agents, the operator and the API server that die, hang or lie, in their short form and with one seed. They run alone.
//!
//! `tests/README.md` says what each is for, and which others there are. `SPIDERPOOL_SEED` is the seed; without it every run has
//! another. C1 is `exclusive_addresses::history_of_agents_killed_at_any_point`.

use anyhow::Result;
use spiderpool_e2e::trials::{Trial, run};

#[tokio::test]
async fn c2_exact_fit() -> Result<()> {
    run(Trial::ExactFit).await
}

#[tokio::test]
async fn c6_two_nics() -> Result<()> {
    run(Trial::TwoNics).await
}

#[tokio::test]
async fn f1_each_point() -> Result<()> {
    run(Trial::EachPoint).await
}

#[tokio::test]
async fn f9_cut_off() -> Result<()> {
    run(Trial::CutOff).await
}

#[tokio::test]
async fn f13_full_disk() -> Result<()> {
    run(Trial::FullDisk).await
}
