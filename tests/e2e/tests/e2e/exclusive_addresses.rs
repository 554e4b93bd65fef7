//! Storms of ADDs and DELs at agents that are killed, or whose API server cannot be relied on: no address has two owners at any
//! time, and nothing is left in the end. `cargo xtask soak history` and `cargo xtask soak faults` run twenty of each.
//!
//! `SPIDERPOOL_SEED` is the seed of the first storm; without it every run has others. `SPIDERPOOL_SOAK` is the number of storms.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use spiderpool_e2e::figures::show;
use spiderpool_e2e::proxy::Faults;
use spiderpool_e2e::scene::{Scene, scene};
use spiderpool_e2e::soak::seeds;
use spiderpool_e2e::storm::ledger::{Hold, Ledger, overlaps};
use spiderpool_e2e::storm::{Deaths, Plan, blow, points};

/// So many storms together let agents die at every named point.
const MANY: u64 = 20;

/// Lets storms blow, one after the other.
async fn storms(name: &str, plan: &Plan) -> Result<()> {
    let seeds = seeds()?;
    let (first, count) = (seeds.start, seeds.end - seeds.start);
    let mut hit: BTreeMap<&str, usize> = points().map(|point| (point, 0)).collect();
    for seed in seeds {
        show(name, format!("seed {seed} begins"))?;
        let plan = Plan { seed, ..plan.clone() };
        scene(name, async |scene: &Scene| {
            let outcome = blow(scene, &plan).await?;
            for point in outcome.points {
                *hit.entry(point).or_default() += 1;
            }
            show(name, outcome.text)
        })
        .await?;
    }
    if plan.deaths != Deaths::Killed {
        return Ok(());
    }
    show(name, format!("agents died at the named points: {hit:?}"))?;
    let never: Vec<&str> = hit
        .iter()
        .filter(|(_, often)| **often == 0)
        .map(|(point, _)| *point)
        .collect();
    ensure!(
        count < MANY || never.is_empty(),
        "in {count} storms from seed {first} no agent died at {never:?}"
    );
    Ok(())
}

#[tokio::test]
async fn history_of_agents_killed_at_any_point() -> Result<()> {
    let plan = Plan {
        deaths: Deaths::Killed,
        ..Plan::USUAL
    };
    storms("history", &plan).await
}

#[tokio::test]
async fn faults_of_the_api_server() -> Result<()> {
    let faults = Faults {
        requests: 25,
        frozen: 40,
        expired: 25,
        stale: 50,
        ..Faults::NONE
    };
    let plan = Plan {
        faults: Some(faults),
        ..Plan::USUAL
    };
    storms("faults", &plan).await
}

#[test]
fn the_checker_sees_an_address_with_two_owners_however_shortly() -> Result<()> {
    let start = Instant::now();
    let hold = |owner: &str, from: u64, until: Option<u64>| Hold {
        address: IpAddr::from([10, 0, 0, 1]),
        owner: owner.to_owned(),
        sandbox: owner.to_owned(),
        from: start + Duration::from_micros(from),
        until: until.map(|until| start + Duration::from_micros(until)),
    };
    let one_after_the_other = [hold("a", 0, Some(5)), hold("b", 5, Some(9)), hold("a", 9, None)];
    ensure!(overlaps(&one_after_the_other).is_empty());
    for two_at_once in [
        [hold("a", 0, Some(6)), hold("b", 5, Some(9))],
        [hold("a", 0, None), hold("b", 5, Some(9))],
        [hold("b", 3, Some(4)), hold("a", 0, Some(9))],
    ] {
        ensure!(overlaps(&two_at_once).len() == 1, "{two_at_once:?} is not seen");
    }
    Ok(())
}

#[test]
fn the_ledger_sees_changed_addresses_and_lost_records() -> Result<()> {
    let (first, second) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
    let ledger = Ledger::default();
    ledger.answered("a", "s1", &[first]);
    ledger.answered("a", "s1", &[first]);
    ledger.ends("s1");
    ledger.record_gone(first, "a");
    // A copy of the ADD that was answered late is nobody's address.
    ledger.answered("a", "s1", &[first]);
    ledger.answered("b", "s2", &[first]);
    ensure!(ledger.wrongs().is_empty(), "{:?}", ledger.wrongs());
    ledger.record_gone(first, "b");
    ledger.answered("b", "s2", &[second]);
    ensure!(ledger.wrongs().len() == 2, "{:?}", ledger.wrongs());
    Ok(())
}
