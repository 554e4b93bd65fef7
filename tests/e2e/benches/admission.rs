//! What admission costs beside ten thousand pools: the webhook's own time for each, its memory, and how soon it is ready.
//! `cargo xtask bench admission` runs it inside the cluster's network.
//!
//! The crowd is written past the webhook while no operator runs, so that nothing but the webhook is measured afterwards.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures::{StreamExt, TryStreamExt, stream};
use kube::api::{DeleteParams, PostParams};
use kube::{Api, ResourceExt};
use spiderpool_crds::{IPPoolSpec, SpiderIPPool, SpiderSubnet, SubnetSpec};
use spiderpool_e2e::cluster::Cluster;
use spiderpool_e2e::figures::{memory, report, show};
use spiderpool_e2e::operators;
use spiderpool_e2e::wait::{self, LONG};
use spiderpool_e2e::webhooks::{self, Times, WEBHOOK};
use tokio::time::Instant;

const SUBNETS: u32 = 1000;
const POOLS_EACH: u32 = 10;
/// Ranges of each subnet, and of each pool.
const RANGES: u32 = 30;
/// Addresses of one range of a subnet; each of its pools has a part of each range, and some are left.
const WIDTH: u32 = 128;
const PART: u32 = 12;
/// Requests under way while the crowd is made, and while it is measured.
const AT_ONCE: usize = 50;
const ASKING: usize = 1;
/// Pools made through the webhook, and pools that it refuses.
const MADE: u32 = 2000;
const REFUSED: u32 = 500;
/// Pools a second that all want one address.
const RIVALS: u32 = 100;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let cluster = Cluster::open().await?;
    let bench = Bench {
        pools: Api::all(cluster.client.clone()),
        cluster,
    };
    memory(&bench.cluster, WEBHOOK, "after the installation")?;
    bench.rivals().await?;
    operators::scale(&bench.cluster, 0).await?;
    bench.crowd().await?;
    let ready = webhooks::restart(&bench.cluster).await?;
    show("start to ready beside 10,000 pools", format!("{ready:?}"))?;
    memory(&bench.cluster, WEBHOOK, "beside 10,000 pools")?;
    bench.made().await?;
    bench.refused().await?;
    bench.large().await?;
    memory(&bench.cluster, WEBHOOK, "at the end")
}

struct Bench {
    cluster: Cluster,
    pools: Api<SpiderIPPool>,
}

/// An address of the network with this number, all of which are in 100.64.0.0/10.
fn address(network: u32, offset: u32) -> String {
    let bits = (100 << 24) + (64 << 16) + network * 4096 + offset;
    std::net::Ipv4Addr::from_bits(bits).to_string()
}

fn network(number: u32) -> String {
    format!("{}/20", address(number, 0))
}

/// A part of each range of a subnet.
fn parts(number: u32, from: u32, length: u32) -> Vec<String> {
    let part = |range: u32| {
        let first = range * WIDTH + from;
        match length {
            1 => address(number, first),
            _ => format!("{}-{}", address(number, first), address(number, first + length - 1)),
        }
    };
    (0..RANGES).map(part).collect()
}

fn pool(name: &str, subnet: String, ips: Vec<String>) -> SpiderIPPool {
    let spec = IPPoolSpec {
        subnet,
        ips: Some(ips),
        ..IPPoolSpec::default()
    };
    SpiderIPPool::new(name, spec)
}

impl Bench {
    /// Subnets and pools that nobody judges.
    async fn crowd(&self) -> Result<()> {
        let client = self.cluster.unjudged()?;
        let (subnets, pools): (Api<SpiderSubnet>, Api<SpiderIPPool>) = (Api::all(client.clone()), Api::all(client));
        let begun = Instant::now();
        stream::iter(0..SUBNETS)
            .map(Ok::<_, anyhow::Error>)
            .try_for_each_concurrent(AT_ONCE, async |number| {
                let spec = SubnetSpec {
                    subnet: network(number),
                    ips: Some(parts(number, 0, WIDTH)),
                    ..SubnetSpec::default()
                };
                let subnet = SpiderSubnet::new(&format!("bench-{number}"), spec);
                subnets
                    .create(&PostParams::default(), &subnet)
                    .await
                    .context("making a subnet")?;
                for which in 0..POOLS_EACH {
                    let ips = parts(number, which * PART, PART - 2);
                    let pool = pool(&format!("bench-{number}-{which}"), network(number), ips);
                    pools
                        .create(&PostParams::default(), &pool)
                        .await
                        .context("making a pool")?;
                }
                Ok(())
            })
            .await?;
        show(
            "made 1000 subnets and 10,000 pools in",
            format!("{:?}", begun.elapsed()),
        )
    }

    /// The webhook's time for what is done meanwhile.
    async fn timed(&self, what: &str, work: impl Future<Output = Result<()>>) -> Result<()> {
        let before = webhooks::metrics(&self.cluster).await?;
        work.await?;
        let after = webhooks::metrics(&self.cluster).await?;
        for stage in ["mutate", "validate"] {
            let times = Times::of(&after, stage).since(&Times::of(&before, stage));
            ensure!(times.count > 0.0, "the webhook heard of no pool");
            let mean = Duration::from_secs_f64(times.sum / times.count);
            let bounds = [50.0, 99.0].map(|percent| format!("p{percent} <= {} ms", times.bound(percent) * 1000.0));
            let figure = format!("mean {mean:?}, {} ({} pools)", bounds.join(", "), times.count);
            show(&format!("{what}, {stage}"), figure)?;
        }
        Ok(())
    }

    async fn made(&self) -> Result<()> {
        let mut clients = Vec::new();
        let work = async {
            let mut answers = stream::iter(0..MADE)
                .map(async |index| {
                    let (number, offset) = (index % SUBNETS, POOLS_EACH * PART + index / SUBNETS);
                    let new = pool(&format!("bench-new-{index}"), network(number), parts(number, offset, 1));
                    let begun = Instant::now();
                    let made = self
                        .pools
                        .create(&PostParams::default(), &new)
                        .await
                        .context("making a pool")?;
                    ensure!(
                        !made.owner_references().is_empty(),
                        "the webhook did not complete {}",
                        made.name_any()
                    );
                    Ok(begun.elapsed())
                })
                .buffer_unordered(ASKING);
            while let Some(time) = answers.try_next().await? {
                clients.push(time);
            }
            Ok(())
        };
        self.timed("webhook time of a pool beside 10,000", work).await?;
        report("the same as a client sees it, stored", clients)
    }

    /// Each refusal reads the pool that is its reason.
    async fn refused(&self) -> Result<()> {
        let work = stream::iter(0..REFUSED)
            .map(Ok)
            .try_for_each_concurrent(ASKING, async |index| {
                let number = index % SUBNETS;
                let new = pool(&format!("bench-no-{index}"), network(number), vec![address(number, 3)]);
                match self.pools.create(&PostParams::default(), &new).await {
                    Err(kube::Error::Api(status)) if status.code == 422 => Ok(()),
                    other => other.map(drop).context("a pool with an address of another"),
                }
            });
        self.timed("webhook time of a pool that is refused", work).await
    }

    async fn large(&self) -> Result<()> {
        for (what, subnet, ips) in [
            ("2^20 addresses", "10.0.0.0/8", "10.16.0.0-10.31.255.255"),
            ("a whole /64", "fd77::/64", "fd77::-fd77::ffff:ffff:ffff:ffff"),
        ] {
            let name = if subnet.contains(':') { "bench-v6" } else { "bench-v4" };
            let new = pool(name, subnet.to_owned(), vec![ips.to_owned()]);
            let work = async {
                let made = self.pools.create(&PostParams::default(), &new).await;
                made.map(drop).context("making a large pool")
            };
            self.timed(&format!("webhook time of a pool of {what}"), work).await?;
        }
        Ok(())
    }

    /// Pools that all want one address of one subnet: one ends usable, and when it is free nobody is refused.
    async fn rivals(&self) -> Result<()> {
        let subnets: Api<SpiderSubnet> = Api::all(self.cluster.client.clone());
        let spec = SubnetSpec {
            subnet: "192.168.90.0/24".to_owned(),
            ips: Some(vec!["192.168.90.10-192.168.90.250".to_owned()]),
            ..SubnetSpec::default()
        };
        let subnet = SpiderSubnet::new("bench-rivals", spec);
        subnets
            .create(&PostParams::default(), &subnet)
            .await
            .context("making a subnet")?;
        let want = |index: u32| {
            let new = pool(
                &format!("bench-rival-{index}"),
                "192.168.90.0/24".to_owned(),
                vec!["192.168.90.10".to_owned()],
            );
            let pools = self.pools.clone();
            async move { pools.create(&PostParams::default(), &new).await }
        };
        let mut every = tokio::time::interval(Duration::from_secs(1) / RIVALS);
        let mut asked = Vec::new();
        for index in 0..RIVALS {
            every.tick().await;
            asked.push(tokio::spawn(want(index)));
        }
        let mut taken = Vec::new();
        for answer in asked {
            match answer.await? {
                Ok(made) => taken.push(made.name_any()),
                Err(kube::Error::Api(status)) if status.code == 422 => {}
                Err(error) => return Err(error).context("making a rival"),
            }
        }
        let usable = wait::until("one usable pool, and no other", LONG, async || {
            let mut usable = 0;
            for name in &taken {
                let pool = self.pools.get(name).await?;
                match (pool.is_ready(), pool.refusal()) {
                    (true, _) => usable += 1,
                    (false, Some(_)) => {}
                    (false, None) => return Ok(None),
                }
            }
            Ok((usable == 1).then_some(usable))
        })
        .await?;
        show(
            "100 pools a second that want one address",
            format!("{} stored, {usable} usable", taken.len()),
        )?;
        for name in &taken {
            self.pools.delete(name, &DeleteParams::default()).await?;
        }
        for name in &taken {
            wait::gone(&self.pools, name, LONG).await?;
        }
        let last = want(RIVALS).await.context("the address is free")?.name_any();
        self.pools.delete(&last, &DeleteParams::default()).await?;
        wait::gone(&self.pools, &last, LONG).await
    }
}
