//! Ten agents that write to one pool, empty and with many records.

use std::net::Ipv4Addr;

use anyhow::Result;
use spiderpool_crds::records::PoolRecords;
use spiderpool_e2e::figures::show;

use crate::bill::Meter;
use crate::drive::{Verb, drive};
use crate::elsewhere::{Elsewhere, record};
use crate::place::Place;

const WRITERS: usize = 10;
const POOL: &str = "bench-writers";
const RECORDS: usize = 4000;

/// The peer's ways of writing, version 1.2.1, raced by ten writers on such a machine; and the goal, which is that of a pool
/// whose records are more than one object.
const PEER: &str = "the peer: 89 claims/s and 11 ms empty, 9.6 claims/s and 78 ms with 4000 records";
const WANTED: &str = "goal of later storage: >= 350 claims/s and <= 2.2 ms of API server and etcd";

pub(crate) async fn run(place: &Place) -> Result<()> {
    show("ten writers, one pool", PEER)?;
    show("ten writers, one pool", WANTED)?;
    place.pool(POOL, "10.98.0.0/16", "10.98.0.1-10.98.63.254").await?;
    let elsewhere = Elsewhere::make(place, place.scale.of(RECORDS)).await?;
    let agents = place.agents(WRITERS).await?;
    let mut meter = Meter::start(&place.cluster, &agents).await?;
    for records in [0, place.scale.of(RECORDS)] {
        elsewhere
            .occupy(place, POOL, Ipv4Addr::new(10, 98, 32, 0), 0..records)
            .await?;
        for (at_once, each) in [(1, 20), (8, 40), (40, 40)] {
            let pods = place.pods(&agents, each, POOL, None).await?;
            meter.restart().await?;
            let adds = drive(Verb::Add, &agents, &pods, at_once).await?;
            adds.show(
                &format!("{records} records, {at_once} at once of each writer"),
                Verb::Add,
            )?;
            meter.show(&adds).await?;
            place.delete(&pods).await?;
            meter.restart().await?;
            let dels = drive(Verb::Del, &agents, &pods, at_once).await?;
            dels.show(
                &format!("{records} records, {at_once} at once of each writer"),
                Verb::Del,
            )?;
            meter.show(&dels).await?;
            place.only(POOL, records).await?;
        }
    }
    meter.end().await?;
    for agent in agents {
        agent.remove().await?;
    }
    record(place, POOL, &PoolRecords::new()).await?;
    place.remove_pool(POOL).await?;
    elsewhere.remove(place).await
}
