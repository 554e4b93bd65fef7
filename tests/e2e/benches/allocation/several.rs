//! Several agents whose pods get their addresses of one pool: 200 pods of four agents, 1000 pods of ten.

use anyhow::Result;
use spiderpool_e2e::figures::show;

use crate::bill::Meter;
use crate::drive::{Verb, drive};
use crate::place::Place;

const POOL: &str = "bench-several";

/// The peer, version 1.2.1, on such a machine.
const PEER: &str = "the peer: of 200 pods of four agents 7 ADDs and 3 DELs failed";

pub(crate) async fn run(place: &Place) -> Result<()> {
    show("several agents, one pool", PEER)?;
    place.pool(POOL, "10.99.0.0/20", "10.99.0.1-10.99.15.200").await?;
    for (count, each, at_once) in [(4, 50, 4), (4, 50, 50), (10, 100, 4), (10, 100, 100)] {
        let agents = place.agents(count).await?;
        let mut meter = Meter::start(&place.cluster, &agents).await?;
        let each = place.scale.of(each);
        let pods = place.pods(&agents, each, POOL, None).await?;
        meter.restart().await?;
        let what = format!("{} pods of {count} agents, {at_once} at once of each", count * each);
        let wanted = if count == 4 { " (wanted p99 <= 300 ms)" } else { "" };
        let adds = drive(Verb::Add, &agents, &pods, at_once).await?;
        adds.show(&format!("{what}{wanted}"), Verb::Add)?;
        meter.show(&adds).await?;
        place.delete(&pods).await?;
        meter.restart().await?;
        let dels = drive(Verb::Del, &agents, &pods, at_once).await?;
        dels.show(&what, Verb::Del)?;
        meter.show(&dels).await?;
        place.only(POOL, 0).await?;
        meter.end().await?;
        for agent in agents {
            agent.remove().await?;
        }
    }
    place.remove_pool(POOL).await
}
