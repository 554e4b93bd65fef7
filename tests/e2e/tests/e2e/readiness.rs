//! A pool that a user made serves once it was looked at beside all others. No webhook hears of these pools, as two of its replicas may
//! not hear of each other's. At no moment two pools serve that have an address
//! in common: the history of each scene is checked for that.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::runtime::watcher;
use serde_json::json;
use spiderpool_crds::conditions::{READY, find};
use spiderpool_crds::{IPPoolSpec, SpiderIPPool};
use spiderpool_e2e::scene::{Scene, scene};
use spiderpool_e2e::wait::{self, LONG, SOON};
use spiderpool_e2e::workload::{deployment, from_pools, from_subnets, pod};
use spiderpool_ipam::{Family, text};
use tokio::time::Instant;

/// How many times two pools are made at once.
const ROUNDS: u8 = 8;

/// An address of a further network of the scene.
fn ip(scene: &Scene, which: u8, last: u8) -> String {
    scene.further_network(4, which).replace("0/24", &last.to_string())
}

/// A pool with addresses of a further network.
fn spec(scene: &Scene, which: u8, first: u8, last: u8) -> IPPoolSpec {
    IPPoolSpec {
        subnet: scene.further_network(4, which),
        ips: Some(vec![format!("{}-{}", ip(scene, which, first), ip(scene, which, last))]),
        ..IPPoolSpec::default()
    }
}

/// What the operator says of the pool in its present form.
async fn verdict(scene: &Scene, pool: &str) -> Result<(String, String, String)> {
    wait::object(&scene.pools(), pool, "a verdict on the pool", SOON, |pool| {
        let pool = pool?;
        let ready = find(pool.status.as_ref()?.conditions.as_deref(), READY)?;
        let present = ready.observed_generation == pool.metadata.generation;
        present.then(|| (ready.status.clone(), ready.reason.clone(), ready.message.clone()))
    })
    .await
}

async fn is_ready(scene: &Scene, pool: &str) -> Result<()> {
    wait::object(&scene.pools(), pool, "the pool to be ready", SOON, |pool| {
        pool.filter(|pool| pool.is_ready()).map(drop)
    })
    .await
}

/// Waits until a pool stands back, and says so with this text.
async fn stands_back(scene: &Scene, pool: &str, text: &str) -> Result<()> {
    let what = format!("the pool to stand back, saying {text:?}");
    wait::object(&scene.pools(), pool, &what, SOON, |pool| {
        pool?.refusal().filter(|why| why.contains(text)).map(drop)
    })
    .await?;
    let (status, reason, _) = verdict(scene, pool).await?;
    ensure!(
        (status.as_str(), reason.as_str()) == ("False", "Overlap"),
        "{pool}: {status} {reason}"
    );
    scene.pool_event(pool, "Overlap", &[text], SOON).await.map(drop)
}

async fn set_ips(scene: &Scene, pool: &str, ips: &[String]) -> Result<SpiderIPPool> {
    let change = json!({"spec": {"ips": ips}});
    let patched = scene
        .unjudged_pools()?
        .patch(pool, &PatchParams::default(), &Patch::Merge(&change))
        .await;
    patched.with_context(|| format!("changing the addresses of {pool}"))
}

async fn delete(scene: &Scene, pool: &str) -> Result<()> {
    scene.pools().delete(pool, &DeleteParams::default()).await?;
    wait::gone(&scene.pools(), pool, SOON).await
}

#[tokio::test]
async fn of_two_pools_with_the_same_address_one_serves() -> Result<()> {
    scene("twins", async |scene: &Scene| {
        let mut pair = None;
        for round in 0..ROUNDS {
            let (first, last) = (10 + 5 * round, 14 + 5 * round);
            let (low, high) = (format!("a{round}"), format!("b{round}"));
            let low = scene.create_pool_unjudged(&low, 4, spec(scene, 1, first, first + 2));
            let high = scene.create_pool_unjudged(&high, 4, spec(scene, 1, first + 2, last));
            let (low, high) = if round % 2 == 0 {
                tokio::try_join!(low, high)?
            } else {
                let (high, low) = tokio::try_join!(high, low)?;
                (low, high)
            };
            let (low, high) = (low.name_any(), high.name_any());
            let (of_low, of_high) = tokio::try_join!(verdict(scene, &low), verdict(scene, &high))?;
            let (serves, other) = match (of_low.0.as_str(), of_high.0.as_str()) {
                ("True", "False") => (low, high),
                ("False", "True") => (high, low),
                _ => anyhow::bail!("round {round}: {of_low:?} {of_high:?}"),
            };
            let why = format!("{} in SpiderIPPool {serves};", ip(scene, 1, first + 2));
            stands_back(scene, &other, &why).await?;
            if let Some((serves, other)) = pair.replace((serves, other)) {
                delete(scene, &serves).await?;
                is_ready(scene, &other).await?;
                delete(scene, &other).await?;
            }
        }
        let (serves, other) = pair.context("no round")?;
        let both = scene.pools();
        let (serving, waiting) = (both.get(&serves).await?, both.get(&other).await?);
        let wish = from_pools(&[&other, &serves], &[]);
        scene.create(&deployment("shop", 3, &wish)?).await?;
        let pods = scene.running("shop", 3, LONG).await?;
        scene.distinct_addresses(&pods, 1).await?;
        ensure!(
            both.get(&other).await?.records()?.is_empty(),
            "{other} gave out addresses"
        );

        // A pod of the pool that stands back is told, and runs when the other gives up what both have, and its pod goes.
        let node = scene.cluster.first_node()?;
        scene
            .create(&pod("late", &node.name, &from_pools(&[&other], &[]))?)
            .await?;
        let told = format!("NotReady: IPPool {other} is not ready: no address of this pool is given out");
        let asked = Instant::now();
        scene
            .event(
                "Pod",
                "late",
                "IPAllocationFailed",
                &[&told, &format!("in SpiderIPPool {serves}")],
                SOON,
            )
            .await?;
        ensure!(
            asked.elapsed() < Duration::from_secs(30),
            "told after {:?}",
            asked.elapsed()
        );
        let common = serving.total()?.intersection(&waiting.total()?);
        let rest = serving.total()?.difference(&common);
        let rest = text::print_ranges(serving.family()?, &rest);
        set_ips(scene, &serves, &rest).await?;
        is_ready(scene, &serves).await?;
        ensure!(
            verdict(scene, &other).await?.0 == "False",
            "{other} serves while a pod of {serves} has an address of it"
        );
        scene.delete::<Deployment>("shop").await?;
        is_ready(scene, &other).await?;
        scene.running("late", 1, LONG).await?;
        scene.delete::<Pod>("late").await
    })
    .await
}

#[tokio::test]
async fn an_edited_pool_serves_only_what_no_other_has() -> Result<()> {
    scene("edited", async |scene: &Scene| {
        let old = scene
            .create_pool_unjudged("old", 4, spec(scene, 2, 10, 12))
            .await?
            .name_any();
        let new = scene
            .create_pool_unjudged("new", 4, spec(scene, 2, 20, 22))
            .await?
            .name_any();
        tokio::try_join!(is_ready(scene, &old), is_ready(scene, &new))?;
        let own = format!("{}-{}", ip(scene, 2, 20), ip(scene, 2, 22));
        let shared = ip(scene, 2, 12);
        // Whoever serves already comes first, also before an older one.
        for (edited, other, addresses, common) in [
            (&new, &old, vec![own.clone(), shared.clone()], &shared),
            (
                &old,
                &new,
                vec![format!("{}-{}", ip(scene, 2, 10), ip(scene, 2, 20))],
                &ip(scene, 2, 20),
            ),
        ] {
            let before = scene.pools().get(edited).await?.spec.ips.unwrap_or_default();
            set_ips(scene, edited, &addresses).await?;
            stands_back(scene, edited, &format!("{common} in SpiderIPPool {other};")).await?;
            is_ready(scene, other).await?;
            set_ips(scene, edited, &before).await?;
            is_ready(scene, edited).await?;
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn an_address_that_a_pod_has_is_its_pools_also_when_an_older_pool_is_to_have_it() -> Result<()> {
    scene("moved", async |scene: &Scene| {
        let node = scene.cluster.first_node()?;
        // Older, or at least first by name.
        let old = scene
            .create_pool_unjudged("a-old", 4, spec(scene, 1, 10, 12))
            .await?
            .name_any();
        let new = scene
            .create_pool_unjudged("b-new", 4, spec(scene, 1, 20, 22))
            .await?
            .name_any();
        for (name, pool) in [("first", &old), ("holder", &new)] {
            let pod = pod(name, &node.name, &from_pools(&[pool], &[]))?;
            scene.create(&pod).await?;
            scene.running(name, 1, LONG).await?;
        }
        let records = scene.pools().get(&new).await?.records()?;
        let held = records.iter().next().context("no address on record")?.0.to_string();
        let whole = [format!("{}-{}", ip(scene, 1, 10), ip(scene, 1, 12)), held.clone()];
        set_ips(scene, &old, &whole).await?;
        stands_back(scene, &old, &format!("{held} in SpiderIPPool {new};")).await?;
        // The younger pool does as the other was told. It goes on, and the other waits for the pod.
        let rest = [20, 21, 22].map(|last| ip(scene, 1, last));
        let rest: Vec<String> = rest.into_iter().filter(|address| *address != held).collect();
        set_ips(scene, &new, &rest).await?;
        is_ready(scene, &new).await?;
        let why = format!("{held} in use by pods of SpiderIPPool {new};");
        stands_back(scene, &old, &why).await?;
        // So it does after an edit of its own.
        set_ips(scene, &old, &whole[1..]).await?;
        let (status, reason, message) = verdict(scene, &old).await?;
        ensure!(
            status == "False" && reason == "Overlap" && message.contains(&why),
            "{old}: {status} {reason} {message}"
        );
        scene.delete::<Pod>("holder").await?;
        is_ready(scene, &old).await?;
        scene
            .create(&pod("next", &node.name, &from_pools(&[&old], &[]))?)
            .await?;
        scene.running("next", 1, LONG).await?;
        ensure!(scene.pools().get(&new).await?.is_ready(), "{new} stopped");
        for name in ["first", "next"] {
            scene.delete::<Pod>(name).await?;
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_pool_made_beside_an_automatic_one_serves_only_what_that_has_not() -> Result<()> {
    scene("beside", async |scene: &Scene| {
        let subnet = scene.further_subnet("lan", 3, 60).await?;
        let mut free = scene.subnets().get(&subnet).await?.total()?;
        for round in 0..ROUNDS {
            // The lowest free addresses are what an automatic pool gets.
            let ips = text::print_ranges(Family::V4, &free.first_n(2));
            let spec = IPPoolSpec {
                subnet: scene.further_network(4, 3),
                ips: Some(ips),
                ..IPPoolSpec::default()
            };
            let (app, own) = (format!("app{round}"), format!("own{round}"));
            let wish = deployment(&app, 0, &from_subnets(&[&subnet], &[], "3"))?;
            let (_, own) = tokio::try_join!(scene.create(&wish), scene.create_pool_unjudged(&own, 4, spec))?;
            let automatic = scene.pool_of(&app, 4, "with 3 addresses", |pool| {
                pool.total().is_ok_and(|total| total.count() == 3)
            });
            let name = own.name_any();
            let (automatic, _) = tokio::try_join!(automatic, verdict(scene, &name))?;
            // Which of them has the addresses may change until the operator has seen both.
            let what = format!(
                "round {round}: {name} to serve just if {} has other addresses",
                automatic.name_any()
            );
            let every = watcher::Config::default();
            let common = wait::objects(&scene.pools(), every, &what, SOON, |pools| {
                let of = |name: &str| pools.values().find(|pool| pool.name_any() == name);
                let (Some(own), Some(automatic)) = (of(&name), of(&automatic.name_any())) else {
                    return Ok(None);
                };
                let common = own.total()?.intersects(&automatic.total()?);
                Ok((own.is_ready() != common).then_some(common))
            })
            .await?;
            let automatic = scene.pools().get(&automatic.name_any()).await?;
            if common {
                stands_back(scene, &name, &automatic.name_any()).await?;
            }
            delete(scene, &name).await?;
            free = free.difference(&automatic.total()?);
        }
        Ok(())
    })
    .await
}
