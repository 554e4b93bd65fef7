//! One agent, pods with an address of each family, and different numbers of requests at once.

use anyhow::Result;
use spiderpool_e2e::figures::show;

use crate::bill::Meter;
use crate::drive::{Verb, drive};
use crate::place::Place;

const PODS: usize = 200;
const V4: &str = "bench-one-v4";
const V6: &str = "bench-one-v6";

/// The peer, version 1.2.1, measured on such a machine (two cores, etcd with fsync) in the same way.
const PEER: &str = "the peer: 33 ADD/s at any number at once, alone p50 38 ms, 5 requests";

pub(crate) async fn run(place: &Place) -> Result<()> {
    show("one agent, dual stack", PEER)?;
    place.pool(V4, "10.97.0.0/22", "10.97.0.1-10.97.3.200").await?;
    place.pool(V6, "fd97::/64", "fd97::1-fd97::ffff").await?;
    let agents = place.agents(1).await?;
    let mut meter = Meter::start(&place.cluster, &agents).await?;
    let wanted = [
        (1, "wanted p50 <= 15 ms"),
        (4, "no goal"),
        (16, "wanted >= 300 ADD/s"),
        (64, "wanted >= 300 ADD/s"),
    ];
    for (at_once, wanted) in wanted {
        let pods = place.pods(&agents, place.scale.of(PODS), V4, Some(V6)).await?;
        meter.restart().await?;
        let adds = drive(Verb::Add, &agents, &pods, at_once).await?;
        adds.show(&format!("{at_once} at once ({wanted}; <= 3.1 requests)"), Verb::Add)?;
        meter.show(&adds).await?;
        place.delete(&pods).await?;
        meter.restart().await?;
        let dels = drive(Verb::Del, &agents, &pods, at_once).await?;
        dels.show(&format!("{at_once} at once"), Verb::Del)?;
        meter.show(&dels).await?;
        place.only(V4, 0).await?;
        place.only(V6, 0).await?;
    }
    meter.end().await?;
    for agent in agents {
        agent.remove().await?;
    }
    place.remove_pool(V4).await?;
    place.remove_pool(V6).await
}
