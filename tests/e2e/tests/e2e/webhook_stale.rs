//! What the webhook knows by its watch may be old. It refuses nothing because of what is not so any more, and whoever is first of many
//! that want the same address is served.

use anyhow::{Context, Result, bail, ensure};
use futures::future::join_all;
use kube::ResourceExt;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::json;
use spiderpool_crds::SpiderIPPool;
use spiderpool_e2e::scene::{Scene, scene};
use spiderpool_e2e::wait::{self, SOON};

/// How many pools are made at once.
const RIVALS: u8 = 50;
/// How often a pool takes the place of another.
const ROUNDS: u8 = 20;

/// Asks for a pool of the one address as a user does, who tries again when the webhook takes longer than the API server waits.
async fn want(scene: &Scene, name: &str) -> Result<SpiderIPPool> {
    wait::until("an answer of the webhook", SOON, async || {
        match scene.create_pool(name, 4, scene.range(4, "20", "20")).await {
            Err(error) if format!("{error:#}").contains("failed calling webhook") => Ok(None),
            answer => Ok(Some(answer)),
        }
    })
    .await?
}

#[tokio::test]
async fn of_many_pools_that_want_one_address_one_is_usable_and_none_is_refused_when_it_is_free() -> Result<()> {
    scene("rivals", async |scene: &Scene| {
        let names: Vec<String> = (0..RIVALS).map(|number| format!("r{number}")).collect();
        let made = join_all(
            names
                .iter()
                .map(|name| scene.create_pool(name, 4, scene.range(4, "20", "20"))),
        )
        .await;
        let mut taken = Vec::new();
        for outcome in made {
            match outcome {
                Ok(pool) => taken.push(pool.name_any()),
                Err(error) => {
                    let text = format!("{error:#}");
                    ensure!(text.contains("overlap with SpiderIPPool"), "{text}");
                }
            }
        }
        let pools = scene.pools();
        let usable = wait::until("one usable pool", SOON, async || {
            let all = scene.own_pools().await?;
            let ready: Vec<String> = all
                .iter()
                .filter(|pool| pool.is_ready())
                .map(ResourceExt::name_any)
                .collect();
            ensure!(ready.len() < 2, "{ready:?} are usable at once");
            let judged = all.iter().all(|pool| pool.is_ready() || pool.refusal().is_some());
            Ok(ready.first().filter(|_| judged).cloned())
        })
        .await?;
        ensure!(taken.contains(&usable), "{usable} was refused");
        for name in &taken {
            pools.delete(name, &DeleteParams::default()).await?;
        }
        for name in &taken {
            wait::gone(&pools, name, SOON).await?;
        }
        want(scene, "late").await.map(drop).context("the address is free again")
    })
    .await
}

#[tokio::test]
async fn an_address_that_became_free_this_moment_can_be_taken() -> Result<()> {
    scene("moment", async |scene: &Scene| {
        let pools = scene.pools();
        let range = |last: &str| scene.range(4, "20", last);
        for round in 0..ROUNDS {
            let (first, second) = (format!("a{round}"), format!("b{round}"));
            let first = scene.create_pool(&first, 4, range("24")).await?.name_any();
            match scene.create_pool(&second, 4, range("20")).await {
                Err(error) if format!("{error:#}").contains(&first) => {}
                // Another replica may not have heard of the first one. Only one serves then.
                Ok(made) => {
                    pools.delete(&made.name_any(), &DeleteParams::default()).await?;
                    wait::gone(&pools, &made.name_any(), SOON).await?;
                }
                Err(error) => bail!("{error:#}"),
            }
            let smaller = json!({"spec": {"ips": [format!("{}-{}", scene.ip(4, "21"), scene.ip(4, "24"))]}});
            pools
                .patch(&first, &PatchParams::default(), &Patch::Merge(&smaller))
                .await?;
            let third = scene.create_pool(&format!("c{round}"), 4, range("20")).await;
            let third = third.context("the other pool gave the address up")?.name_any();
            for name in [&first, &third] {
                pools.delete(name, &DeleteParams::default()).await?;
            }
            for name in [&first, &third] {
                wait::gone(&pools, name, SOON).await?;
            }
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_subnet_that_grew_this_moment_has_room() -> Result<()> {
    scene("grew", async |scene: &Scene| {
        let subnet = scene.further_subnet("grows", 1, 5).await?;
        for addresses in 6..6 + ROUNDS {
            let change = json!({"spec": {"ips": [scene.further_range(1, addresses)]}});
            scene
                .subnets()
                .patch(&subnet, &PatchParams::default(), &Patch::Merge(&change))
                .await?;
            let spec = spiderpool_crds::IPPoolSpec {
                subnet: scene.further_network(4, 1),
                ips: Some(vec![
                    scene
                        .further_network(4, 1)
                        .replace("0/24", &(addresses + 9).to_string()),
                ]),
                ..spiderpool_crds::IPPoolSpec::default()
            };
            let name = format!("g{addresses}");
            scene
                .create_pool(&name, 4, spec)
                .await
                .context("the subnet has the address")?;
        }
        Ok(())
    })
    .await
}
