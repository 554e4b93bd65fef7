//! Pods that ask for one exact address.

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use serde_json::json;
use spiderpool_crds::IPPoolSpec;
use spiderpool_crds::names::ANNOTATION_IP;
use spiderpool_e2e::golden::{Golden, Values};
use spiderpool_e2e::scene::{Scene, scene};
use spiderpool_e2e::told::{self, FAILED};
use spiderpool_e2e::wait::{self, LONG, SOON};
use spiderpool_e2e::workload::{Annotations, from_pools, pod};

const GOLDEN: &str = include_str!("golden/exact.txt");

async fn pool(scene: &Scene, version: u8, name: &str, first: &str, last: &str) -> Result<String> {
    scene
        .pool_of_range(name, version, (first, last), IPPoolSpec::default())
        .await
}

/// Asks for exact addresses as well.
fn exactly(mut wish: Annotations, addresses: &[&str]) -> Annotations {
    wish.insert(ANNOTATION_IP.to_owned(), json!({"eth0": addresses}).to_string());
    wish
}

#[tokio::test]
async fn an_exact_address_is_given_or_refused_with_its_holder() -> Result<()> {
    scene("exact", async |scene: &Scene| {
        let node = &scene.cluster.first_node()?;
        let low = pool(scene, 4, "low", "10", "19").await?;
        let high = pool(scene, 4, "high", "30", "39").await?;
        let six = pool(scene, 6, "six", "30", "39").await?;
        let (v4, v6) = (scene.ip(4, "33"), scene.ip(6, "33"));
        scene.reserve("reserved", vec![scene.ip(4, "35")]).await?;
        // It is in the second pool of the list.
        let wish = from_pools(&[&low, &high], &[&six]);
        let exact = exactly(wish.clone(), &[&v4, &v6]);
        scene.create(&pod("holder", &node.name, &exact)?).await?;
        let holder = scene.running("holder", 1, LONG).await?.pop().context("no pod runs")?;
        let given: Vec<String> = holder.addresses.iter().map(ToString::to_string).collect();
        ensure!(
            given == [v4.as_str(), v6.as_str()],
            "{given:?} instead of {v4} and {v6}"
        );
        scene.distinct_addresses(&[holder], 2).await?;

        let outside = from_pools(&[&high], &[]);
        let refused = [
            ("next", exact),
            // One family alone may be exact; the other is refused with it.
            ("half", exactly(wish, &[&v4])),
            ("outside", exactly(outside.clone(), &[&scene.ip(4, "11")])),
            ("reserved", exactly(outside.clone(), &[&scene.ip(4, "35")])),
            ("no-ipv6", exactly(outside, &[&v6])),
        ];
        for (name, wish) in &refused {
            scene.create(&pod(name, &node.name, wish)?).await?;
        }
        let names = refused.map(|(name, _)| name);
        let arrived = scene.told(FAILED, &names, LONG).await?;
        let described = scene.described().await?;
        let values = Values::of(scene);
        for name in names {
            Golden::parse(GOLDEN).check(name, &values, described.of(name, FAILED)?)?;
            let message = &arrived.get(name).context("no Event")?.message;
            told::same(&scene.explained(node, name).await?, message)?;
        }
        // What this one could have had was given back each time.
        scene.delete::<Pod>("half").await?;
        wait::object(&scene.pools(), &six, "one record", SOON, |pool| {
            (pool?.records().ok()?.len() == 1).then_some(())
        })
        .await?;
        scene.delete::<Pod>("holder").await?;
        let next = scene.running("next", 1, LONG).await?.pop().context("no pod runs")?;
        let given: Vec<String> = next.addresses.iter().map(ToString::to_string).collect();
        ensure!(
            given == [v4.as_str(), v6.as_str()],
            "{given:?} instead of {v4} and {v6}"
        );
        scene.distinct_addresses(&[next], 2).await.map(drop)
    })
    .await
}
