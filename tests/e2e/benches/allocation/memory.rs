//! The memory of an agent in a cluster with many pods elsewhere, and with their addresses recorded in pools that it sees.

use std::net::Ipv4Addr;

use anyhow::{Context, Result};
use spiderpool_crds::records::PoolRecords;
use spiderpool_e2e::agents::Agent;
use spiderpool_e2e::figures::{memory, resident, show};
use spiderpool_e2e::node::AGENT;

use crate::drive::{Verb, drive};
use crate::elsewhere::{Elsewhere, record};
use crate::place::Place;

const PODS: usize = 10_000;
/// Pools with the addresses of those pods, which each agent sees whole.
const POOLS: usize = 3;
const OWN: &str = "bench-memory-own";
const OWN_PODS: usize = 50;

pub(crate) async fn run(place: &Place) -> Result<()> {
    let count = place.scale.of(PODS);
    place.pool(OWN, "10.100.0.0/24", "10.100.0.1-10.100.0.200").await?;
    let agents = place.agents(1).await?;
    tell(&agents, "of an agent after its start").await?;
    serve(place, &agents).await?;
    tell(&agents, &format!("after {OWN_PODS} ADDs and DELs")).await?;
    let elsewhere = Elsewhere::make(place, count).await?;
    serve(place, &agents).await?;
    tell(
        &agents,
        &format!("with {count} pods elsewhere, after {OWN_PODS} more (wanted <= 30 MB)"),
    )
    .await?;
    memory(&place.cluster, AGENT, &format!("with {count} pods elsewhere"))?;
    let each = count / POOLS;
    for number in 0..POOLS {
        let name = pool(number);
        let third = 16 * (u8::try_from(number)? + 1);
        let subnet = format!("10.100.{third}.0/20");
        place
            .pool(&name, &subnet, &format!("10.100.{third}.0-10.100.{}.250", third + 15))
            .await?;
        let first = Ipv4Addr::new(10, 100, third, 0);
        elsewhere
            .occupy(place, &name, first, number * each..(number + 1) * each)
            .await?;
    }
    serve(place, &agents).await?;
    tell(
        &agents,
        &format!("with their addresses in {POOLS} pools, after {OWN_PODS} more"),
    )
    .await?;
    memory(&place.cluster, AGENT, &format!("with their addresses in {POOLS} pools"))?;
    for agent in &agents {
        agent.stop().await?;
        agent.run(&[]).await?;
        agent.serves().await?;
    }
    serve(place, &agents).await?;
    tell(&agents, "after a start among them").await?;
    for agent in agents {
        agent.remove().await?;
    }
    for number in 0..POOLS {
        record(place, &pool(number), &PoolRecords::new()).await?;
        place.remove_pool(&pool(number)).await?;
    }
    place.remove_pool(OWN).await?;
    elsewhere.remove(place).await
}

fn pool(number: usize) -> String {
    format!("bench-memory-{number}")
}

/// Some work: memory is what an agent has that serves.
async fn serve(place: &Place, agents: &[Agent]) -> Result<()> {
    let pods = place.pods(agents, OWN_PODS, OWN, None).await?;
    let adds = drive(Verb::Add, agents, &pods, 16).await?;
    adds.show("  meanwhile", Verb::Add)?;
    place.delete(&pods).await?;
    let dels = drive(Verb::Del, agents, &pods, 16).await?;
    dels.show("  meanwhile", Verb::Del)?;
    place.only(OWN, 0).await
}

async fn tell(agents: &[Agent], when: &str) -> Result<()> {
    for agent in agents {
        let pid = agent.pid().await.context("an agent ended")?;
        show(&format!("resident memory {when}"), resident(pid.cast_signed())?)?;
    }
    Ok(())
}
