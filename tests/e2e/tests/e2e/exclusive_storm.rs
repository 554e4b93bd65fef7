//! The leading operator killed at random points of a storm of fifty workloads, while another stands by.
//!
//! `SPIDERPOOL_SOAK` is the number of points; two without it.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::jiff::SignedDuration;
use kube::api::{DeleteParams, PostParams, PropagationPolicy};
use kube::runtime::watcher;
use kube::{Api, ResourceExt};
use serde_json::json;
use spiderpool_crds::names::LABEL_OWNER_APP_NAMESPACE;
use spiderpool_crds::{ReservedIPSpec, SpiderIPPool, SpiderReservedIP};
use spiderpool_e2e::life::{Workload, size};
use spiderpool_e2e::scene::{Scene, scene};
use spiderpool_e2e::shape::WorkloadKind;
use spiderpool_e2e::wait::{self, LONG, SOON};
use spiderpool_e2e::workload::from_subnets;
use spiderpool_e2e::{operators, property};

/// How many workloads.
const STORM: usize = 50;
/// How many requests at once.
const AT_ONCE: usize = 10;
/// Replicas of the operator.
const OPERATORS: i32 = 2;
/// How long after the end of the lost Lease the other one has taken over.
const TAKEN_OVER: SignedDuration = SignedDuration::from_secs(5);
/// How many points fit into the time of one scene.
const POINTS_OF_A_SCENE: usize = 5;
/// The storm blows about so long, so somewhere in it the leader is killed.
const POINTS: Duration = Duration::from_millis(1500);

fn points() -> usize {
    let soak = std::env::var("SPIDERPOOL_SOAK").ok();
    soak.map_or(2, |text| text.parse().unwrap_or(20))
}

/// A moment of the storm, another one each time.
fn moment() -> Duration {
    let random = RandomState::new().build_hasher().finish();
    POINTS.mul_f64((random % 1000) as f64 / 1000.0)
}

/// One gust of the storm: what is done to all workloads, and what has to come of it.
#[derive(Clone, Copy, Debug)]
enum Gust {
    Make,
    Grow,
    Shrink,
    Delete,
}

struct Storm<'a> {
    scene: &'a Scene,
    kinds: Vec<WorkloadKind>,
    names: Vec<String>,
}

impl<'a> Storm<'a> {
    fn new(scene: &'a Scene) -> Self {
        Self {
            scene,
            kinds: vec![
                WorkloadKind::deployment(),
                WorkloadKind::stateful_set(),
                WorkloadKind::replica_set(),
                WorkloadKind::job(),
                WorkloadKind::deployment(),
            ],
            names: (0..STORM).map(|at| format!("app{at}")).collect(),
        }
    }

    fn workloads(&self) -> impl Iterator<Item = Workload<'_>> {
        let kinds = self.kinds.iter().cycle();
        self.names
            .iter()
            .zip(kinds)
            .map(|(name, kind)| Workload::new(self.scene, kind, name))
    }

    async fn blow(&self, gust: Gust) -> Result<()> {
        let wish = from_subnets(&[&self.scene.v4], &[&self.scene.v6], "+2");
        futures::stream::iter(self.workloads())
            .map(async |workload| match gust {
                Gust::Make => {
                    let mut object = workload.kind.workload(workload.name, 0, &wish, "")?;
                    // No node takes its pods.
                    object["spec"]["template"]["spec"]["nodeSelector"] = json!({"e2e.spiderpool.io/nowhere": "true"});
                    if workload.kind.resource.kind == "Job" {
                        object["spec"]["parallelism"] = json!(1);
                    } else {
                        object["spec"]["replicas"] = json!(1);
                    }
                    workload.make_as(object, 0).await.map(drop)
                }
                Gust::Grow => workload.scale(2).await,
                Gust::Shrink => workload.scale(1).await,
                Gust::Delete => workload.delete(PropagationPolicy::Background).await,
            })
            .buffer_unordered(AT_ONCE)
            .try_collect::<Vec<()>>()
            .await
            .map(drop)
    }

    /// Waits until all pools are as the gust asks for, and checks the accounting.
    async fn settled(&self, gust: Gust) -> Result<()> {
        let (count, addresses) = match gust {
            Gust::Make | Gust::Shrink => (2 * STORM, 3),
            Gust::Grow => (2 * STORM, 4),
            Gust::Delete => (0, 0),
        };
        let labels = format!("{LABEL_OWNER_APP_NAMESPACE}={}", self.scene.namespace);
        let config = watcher::Config::default().labels(&labels);
        let what = format!("{count} pools of {addresses} addresses");
        wait::objects(&self.scene.pools(), config, &what, LONG, |pools| {
            let right = |pool: &&SpiderIPPool| pool.metadata.deletion_timestamp.is_none() && size(pool) == addresses;
            Ok((pools.len() == count && pools.values().filter(right).count() == count).then_some(()))
        })
        .await?;
        for subnet in [&self.scene.v4, &self.scene.v6] {
            let mut last = Vec::new();
            let right = wait::until("the accounting to be right", SOON, async || {
                last = property::wrongs(&self.scene.cluster.client, subnet).await?;
                Ok(last.is_empty().then_some(()))
            })
            .await;
            right.with_context(|| format!("{subnet}: {}", last.join("\n")))?;
        }
        Ok(())
    }
}

/// One point: the leader is killed in the gust, the other takes over, and all is right in the end.
async fn point(storm: &Storm<'_>, gust: Gust) -> Result<()> {
    let cluster = &storm.scene.cluster;
    let leader = operators::leader(cluster).await?;
    let kill = async {
        tokio::time::sleep(moment()).await;
        operators::kill(cluster, &leader).await
    };
    let ((), change) = futures::future::try_join(storm.blow(gust), kill).await?;
    let late = change.taken.duration_since(change.ended);
    ensure!(
        late <= TAKEN_OVER,
        "the other operator took over {late:#} after the Lease had ended"
    );
    storm.settled(gust).await?;
    operators::ready(cluster, OPERATORS).await
}

async fn rage(scene: &Scene, mut left: usize) -> Result<()> {
    let storm = Storm::new(scene);
    let mut standing = false;
    let gusts = [Gust::Make, Gust::Grow, Gust::Shrink, Gust::Delete];
    for (at, gust) in gusts.into_iter().cycle().enumerate() {
        if left == 0 && !standing {
            return Ok(());
        }
        let gust = if left == 0 { Gust::Delete } else { gust };
        let what = || format!("gust {at}, {gust:?}");
        if left > 0 {
            left -= 1;
            point(&storm, gust).await.with_context(what)?;
        } else {
            storm.blow(gust).await.with_context(what)?;
            storm.settled(gust).await.with_context(what)?;
        }
        standing = !matches!(gust, Gust::Delete);
    }
    Ok(())
}

async fn storms(mut left: usize) -> Result<()> {
    // A scene has a deadline, so a long run has several.
    while left > 0 {
        let now = left.min(POINTS_OF_A_SCENE);
        left -= now;
        scene("storm", async |scene: &Scene| {
            let all: Api<SpiderReservedIP> = Api::all(scene.cluster.client.clone());
            let spec = ReservedIPSpec {
                ips: Some(vec![format!("{}-{}", scene.ip(4, "15"), scene.ip(4, "29"))]),
                ..ReservedIPSpec::default()
            };
            let reserved = SpiderReservedIP::new(&scene.own("kept-back"), spec);
            all.create(&PostParams::default(), &reserved)
                .await
                .context("reserving addresses")?;
            let outcome = rage(scene, now).await;
            all.delete(&reserved.name_any(), &DeleteParams::default()).await?;
            outcome
        })
        .await?;
    }
    Ok(())
}

#[tokio::test]
async fn the_leader_killed_amid_a_storm_of_workloads() -> Result<()> {
    let cluster = spiderpool_e2e::cluster::Cluster::open().await?;
    operators::with(&cluster, OPERATORS, async || storms(points()).await).await
}
