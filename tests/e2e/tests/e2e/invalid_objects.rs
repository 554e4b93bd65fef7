//! Objects that are wrong in a way that the API server cannot see, and got in while no webhook judged them: the operator says so,
//! nothing comes of them, and once they are mended all goes on.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::apps::v1::Deployment;
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde::Serialize;
use serde_json::{Value, json};
use spiderpool_crds::conditions::{INVALID, READY, find};
use spiderpool_crds::{IPPoolSpec, SpiderIPPool, SpiderSubnet};
use spiderpool_e2e::scene::{Scene, scene};
use spiderpool_e2e::wait::{self, LONG, SOON};
use spiderpool_e2e::workload::{deployment, from_pools, from_subnets};

/// How long a mended object may be out of use. The machine is shared with all other tests.
const MENDED: Duration = Duration::from_secs(5);

/// The operator's word on an object: whether it is in use, the reason, and why.
type Word = (bool, String, String);

fn word(object: &impl Serialize, generation: Option<i64>) -> Option<Word> {
    let object = serde_json::to_value(object).ok()?;
    let conditions = object.pointer("/status/conditions")?;
    let conditions: Vec<_> = serde_json::from_value(conditions.clone()).ok()?;
    let ready = find(Some(&conditions), READY)?;
    let present = ready.observed_generation == generation;
    present.then(|| (ready.status == "True", ready.reason.clone(), ready.message.clone()))
}

/// Waits until the operator says of the present form of an object that it is wrong, in these words.
async fn marked<K: wait::Watched>(api: &Api<K>, name: &str, words: &str) -> Result<()> {
    let what = format!("{name} to be marked as {INVALID} with {words:?}");
    wait::object(api, name, &what, SOON, |object| {
        let (ready, reason, message) = word(object?, object?.meta().generation)?;
        (!ready && reason == INVALID && message.contains(words)).then_some(())
    })
    .await
}

/// Mends an object and waits until it is in use again.
async fn mend<K: wait::Watched>(api: &Api<K>, name: &str, spec: &Value) -> Result<()> {
    let began = Instant::now();
    api.patch(name, &PatchParams::default(), &Patch::Merge(&json!({"spec": spec})))
        .await
        .with_context(|| format!("mending {name}"))?;
    wait::object(api, name, "the mended object to be in use", SOON, |object| {
        word(object?, object?.meta().generation)?.0.then_some(())
    })
    .await?;
    let took = began.elapsed();
    ensure!(took <= MENDED, "{name} was in use only {took:?} after it was mended");
    Ok(())
}

#[tokio::test]
async fn an_invalid_pool_gives_out_nothing_and_pods_keep_what_they_have() -> Result<()> {
    scene("invalid_pool", async |scene: &Scene| {
        let spec = IPPoolSpec {
            gateway: Some(scene.ip(4, "1")),
            ..scene.range(4, "10", "14")
        };
        let name = scene.create_pool("wrong", 4, spec).await?.name_any();
        let pools = scene.pools();
        scene
            .create(&deployment("shop", 1, &from_pools(&[&name], &[]))?)
            .await?;
        let pods = scene.running("shop", 1, LONG).await?;
        let addresses = scene.distinct_addresses(&pods, 1).await?;

        let gateway = scene.ip(4, "12");
        scene.spoil::<SpiderIPPool>(&name, &json!({"gateway": gateway})).await?;
        let words = format!("the gateway {gateway} is among the addresses for pods");
        marked(&pools, &name, &words).await?;
        scene.pool_event(&name, "PoolInvalid", &[&words], SOON).await?;
        scene.scale("shop", 2).await?;
        scene
            .sandbox_failure("shop", &["NotReady", &name, &words], LONG)
            .await?;
        let held = pools.get(&name).await?.records()?;
        ensure!(held.len() == 1, "an invalid pool gave out addresses: {held:?}");
        ensure!(
            addresses.iter().all(|address| held.get(*address).is_some()),
            "{addresses:?} is not what the pool has on record: {held:?}"
        );

        mend(&pools, &name, &json!({"gateway": scene.ip(4, "1")})).await?;
        let pods = scene.running("shop", 2, LONG).await?;
        let more = scene.distinct_addresses(&pods, 1).await?;
        ensure!(more.is_superset(&addresses), "{addresses:?} became {more:?}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn an_invalid_pool_can_be_deleted() -> Result<()> {
    scene("invalid_deleted", async |scene: &Scene| {
        let name = scene
            .create_pool("wrong", 6, scene.range(6, "10", "14"))
            .await?
            .name_any();
        let (first, last) = (scene.ip(6, "10"), scene.ip(6, "14"));
        scene
            .spoil::<SpiderIPPool>(&name, &json!({"ips": [format!("{last}-{first}")]}))
            .await?;
        let words = format!("is reversed; write {first}-{last}");
        marked(&scene.pools(), &name, &words).await?;
        scene.pools().delete(&name, &DeleteParams::default()).await?;
        wait::gone(&scene.pools(), &name, SOON).await
    })
    .await
}

#[tokio::test]
async fn an_invalid_subnet_gives_nothing_and_its_pools_serve_on() -> Result<()> {
    scene("invalid_subnet", async |scene: &Scene| {
        let subnets = scene.subnets();
        let wish = from_subnets(&[&scene.v4], &[], "+1");
        scene.create(&deployment("shop", 1, &wish)?).await?;
        scene.running("shop", 1, LONG).await?;

        let gateway = scene.ip(4, "200");
        scene
            .spoil::<SpiderSubnet>(&scene.v4, &json!({"gateway": gateway}))
            .await?;
        let words = format!("the gateway {gateway} is among the addresses for pods");
        marked(&subnets, &scene.v4, &words).await?;
        scene
            .cluster_event("SpiderSubnet", &scene.v4, "SubnetInvalid", &[&words], SOON)
            .await?;
        // Its pool has an address to spare, and no more.
        scene.scale("shop", 3).await?;
        let told = [scene.v4.as_str(), "cannot be used", &words];
        scene.event("Deployment", "shop", "SubnetInvalid", &told, SOON).await?;
        let two =
            |deployment: Option<&Deployment>| deployment?.status.as_ref()?.ready_replicas.filter(|ready| *ready == 2);
        wait::object(&scene.api(), "shop", "the pod with the spare address", LONG, two).await?;
        // Who names another one, too, has its pool there.
        let other = scene.further_subnet("other", 1, 5).await?;
        let wish = from_subnets(&[&scene.v4, &other], &[], "+0");
        scene.create(&deployment("elsewhere", 1, &wish)?).await?;
        let pool = scene.pool_of("elsewhere", 4, "somewhere", |_| true).await?;
        ensure!(
            pool.owner_subnet() == Some(other.as_str()),
            "made in {:?}",
            pool.owner_subnet()
        );
        scene.running("elsewhere", 1, LONG).await?;

        mend(&subnets, &scene.v4, &json!({"gateway": scene.ip(4, "1")})).await?;
        scene.running("shop", 3, LONG).await.map(drop)
    })
    .await
}

#[tokio::test]
async fn what_can_be_read_of_an_invalid_reservation_is_kept_back() -> Result<()> {
    scene("invalid_reserved", async |scene: &Scene| {
        let reversed = format!("{}-{}", scene.ip(6, "12"), scene.ip(6, "10"));
        let ips = vec![scene.ip(6, "14"), reversed.clone()];
        scene.reserve_by(&scene.unjudged()?, "wrong", ips).await?;
        let texts = [reversed.as_str(), "is reversed"];
        scene
            .cluster_event(
                "SpiderReservedIP",
                &scene.own("wrong"),
                "ReservedIPInvalid",
                &texts,
                SOON,
            )
            .await?;
        let v4 = scene.create_pool("v4", 4, scene.range(4, "10", "14")).await?.name_any();
        let v6 = scene.create_pool("v6", 6, scene.range(6, "10", "14")).await?.name_any();
        scene
            .create(&deployment("shop", 2, &from_pools(&[&v4], &[&v6]))?)
            .await?;
        // Of five addresses one is left.
        scene
            .sandbox_failure("shop", &["all IP addresses used out", &v6], LONG)
            .await?;
        let held = scene.pools().get(&v6).await?.records()?;
        let held: Vec<String> = held.iter().map(|(address, _)| address.to_string()).collect();
        ensure!(held == [scene.ip(6, "13")], "given out were {held:?}");
        Ok(())
    })
    .await
}
