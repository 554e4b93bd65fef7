//! The main job: a Deployment gets pools of its own, its pods get addresses of them, and both go together.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams};
use serde_json::json;
use spiderpool_crds::names::{ANNOTATION_IP_NUMBER, FINALIZER};
use spiderpool_crds::{SpiderIPPool, SpiderSubnet};
use spiderpool_e2e::pod::Running;
use spiderpool_e2e::scene::{Scene, scene};
use spiderpool_e2e::wait::{self, LONG, SOON};
use spiderpool_e2e::workload::{deployment, from_subnets};
use spiderpool_ipam::naming::pool_name;
use spiderpool_ipam::{Family, RangeSet, addr};

/// How many addresses a pool has.
fn size(pool: &SpiderIPPool) -> u128 {
    pool.total().map_or(0, |total| total.count())
}

/// Everything about a Deployment's pool that users and their programs rely on.
fn check_pool(scene: &Scene, owner: &Deployment, subnet: &SpiderSubnet, pool: &SpiderIPPool) -> Result<()> {
    let (uid, name) = (owner.uid().unwrap_or_default(), owner.name_any());
    let family = pool.family()?;
    let version = if family == Family::V4 { 4 } else { 6 };
    ensure!(
        pool.name_any() == pool_name(&name, family, "eth0", &uid),
        "the pool is called {}",
        pool.name_any()
    );
    let cidr = pool.cidr()?.label_value().unwrap_or_default();
    let labels = BTreeMap::from(
        [
            ("interface", "eth0"),
            ("ip-version", if version == 4 { "IPv4" } else { "IPv6" }),
            ("ippool-cidr", &cidr),
            ("ippool-reclaim", "true"),
            ("owner-application-gv", "apps_v1"),
            ("owner-application-kind", "Deployment"),
            ("owner-application-name", &name),
            ("owner-application-namespace", &scene.namespace),
            ("owner-application-uid", &uid),
            ("owner-spider-subnet", &subnet.name_any()),
        ]
        .map(|(key, value)| (format!("ipam.spidernet.io/{key}"), value.to_owned())),
    );
    ensure!(
        *pool.labels() == labels,
        "the pool has the labels {:?} and not {labels:?}",
        pool.labels()
    );
    let number = pool.annotations().get(ANNOTATION_IP_NUMBER).map(String::as_str);
    ensure!(
        number == Some("+1"),
        "the pool's number of addresses is noted as {number:?}"
    );
    ensure!(
        pool.finalizers() == [FINALIZER],
        "the pool has the finalizers {:?}",
        pool.finalizers()
    );
    let owners = json!(pool.owner_references());
    let expected = json!([{
        "apiVersion": "spiderpool.spidernet.io/v2beta1",
        "kind": "SpiderSubnet",
        "name": subnet.name_any(),
        "uid": subnet.uid(),
        "controller": true,
        "blockOwnerDeletion": true,
    }]);
    ensure!(
        owners == expected,
        "the pool has the owners {owners} and not {expected}"
    );
    let mut spec = json!(pool.spec);
    let ips = spec["ips"].take();
    ensure!(
        ips.as_array().is_some_and(|ips| !ips.is_empty()),
        "the pool has no addresses"
    );
    let expected = json!({
        "ipVersion": version,
        "subnet": scene.network(version),
        "ips": null,
        "gateway": scene.ip(version, "1"),
        "podAffinity": {"matchLabels": {
            "ipam.spidernet.io/app-api-group": "apps",
            "ipam.spidernet.io/app-api-version": "v1",
            "ipam.spidernet.io/app-kind": "Deployment",
            "ipam.spidernet.io/app-namespace": scene.namespace,
            "ipam.spidernet.io/app-name": name,
        }},
        "default": false,
        "disable": false,
    });
    ensure!(spec == expected, "the pool's spec is {spec} and not {expected}");
    Ok(())
}

/// Two pods on different nodes.
fn apart(pods: &[Running]) -> Result<(&Running, &Running)> {
    let first = pods.first().context("no pods")?;
    let other = pods.iter().find(|pod| pod.node != first.node);
    Ok((first, other.context("all pods are on one node")?))
}

#[tokio::test]
async fn a_deployment_gets_pools_and_its_pods_reach_each_other() -> Result<()> {
    scene("gets_pools", async |scene: &Scene| {
        let wish = from_subnets(&[&scene.v4], &[&scene.v6], "+1");
        let shop = scene.create(&deployment("shop", 5, &wish)?).await?;
        let pods = scene.running("shop", 5, LONG).await?;
        let addresses = scene.distinct_addresses(&pods, 2).await?;
        ensure!(addresses.len() == 10, "five pods have {} addresses", addresses.len());
        for version in [4, 6] {
            let pool = scene
                .pool_of("shop", version, "with 6 addresses", |pool| size(pool) == 6)
                .await?;
            let name = if version == 4 { &scene.v4 } else { &scene.v6 };
            let subnet = scene.subnets().get(name).await?;
            check_pool(scene, &shop, &subnet, &pool)?;
            let total = pool.total()?;
            let family = pool.family()?;
            let own = addresses
                .iter()
                .map(|ip| addr::to_bits(*ip))
                .filter(|(of, _)| *of == family);
            let used: RangeSet = own.map(|(_, bits)| bits).collect();
            ensure!(
                used.count() == 5 && used.is_subset_of(&total),
                "{used:?} are used and {total:?} are the pool"
            );
            counts(scene, &pool, name, 6, 5).await?;
        }
        let (first, second) = apart(&pods)?;
        for family in [Family::V4, Family::V6] {
            scene.ping(first, second, family).await?;
            scene.ping(second, first, family).await?;
        }

        scene.scale("shop", 2).await?;
        scene.running("shop", 2, LONG).await?;
        for version in [4, 6] {
            scene
                .pool_of("shop", version, "with 3 addresses", |pool| size(pool) == 3)
                .await?;
        }
        scene.scale("shop", 4).await?;
        let pods = scene.running("shop", 4, LONG).await?;
        scene.distinct_addresses(&pods, 2).await?;
        for version in [4, 6] {
            scene
                .pool_of("shop", version, "with 5 addresses", |pool| size(pool) == 5)
                .await?;
        }
        let (first, second) = apart(&pods)?;
        scene.ping(first, second, Family::V4).await?;
        scene.ping(first, second, Family::V6).await?;

        scene.delete::<Deployment>("shop").await?;
        scene.nothing_stays().await?;
        for name in [&scene.v4, &scene.v6] {
            let status = scene.subnets().get(name).await?.status.unwrap_or_default();
            ensure!(
                status.allocated_ip_count == Some(0),
                "{name} counts {:?}",
                status.allocated_ip_count
            );
            ensure!(
                status.controlled_ippools.is_none(),
                "{name} has {:?}",
                status.controlled_ippools
            );
        }
        Ok(())
    })
    .await
}

/// Waits until a pool and its subnet count what is there.
async fn counts(scene: &Scene, pool: &SpiderIPPool, subnet: &str, given: i64, used: i64) -> Result<()> {
    wait::object(&scene.pools(), &pool.name_any(), "the pool's counts", SOON, |pool| {
        let status = pool?.status.clone()?;
        (status.total_ip_count == Some(given) && status.allocated_ip_count == Some(used)).then_some(())
    })
    .await?;
    wait::object(&scene.subnets(), subnet, "the subnet's counts", SOON, |subnet| {
        let total = i64::try_from(subnet?.total().ok()?.count()).ok()?;
        let status = subnet?.status.clone()?;
        (status.total_ip_count == Some(total) && status.allocated_ip_count == Some(given)).then_some(())
    })
    .await
}

#[tokio::test]
async fn shrinking_takes_the_highest_free_addresses_first() -> Result<()> {
    scene("shrinking", async |scene: &Scene| {
        let wish = from_subnets(&[&scene.v4], &[], "+4");
        scene.create(&deployment("shop", 2, &wish)?).await?;
        scene.running("shop", 2, LONG).await?;
        let ips = async |text: &str, what: &str| {
            let expected = vec![text.to_owned()];
            scene
                .pool_of("shop", 4, what, |pool| pool.spec.ips.as_ref() == Some(&expected))
                .await
        };
        let to = |last: u8| format!("{}-{}", scene.ip(4, "10"), scene.ip(4, &last.to_string()));
        ips(&to(15), "with the six lowest addresses").await?;
        scene.scale("shop", 1).await?;
        ips(&to(14), "without the highest address").await?;
        scene.scale("shop", 0).await?;
        ips(&to(13), "without the two highest addresses").await?;
        scene.scale("shop", 3).await?;
        ips(&to(16), "with the lowest addresses that were free").await.map(drop)
    })
    .await
}

#[tokio::test]
async fn a_pod_made_again_gets_an_address_while_the_pool_is_full() -> Result<()> {
    scene("rolling", async |scene: &Scene| {
        // Three addresses for two pods: each new pod of the rolling update finds one that an old pod left.
        let wish = from_subnets(&[&scene.v4], &[&scene.v6], "+1");
        scene.create(&deployment("shop", 2, &wish)?).await?;
        scene.running("shop", 2, LONG).await?;
        scene.annotate_pods("shop", &json!({"example.com/round": "2"})).await?;
        let updated = |deployment: Option<&Deployment>| {
            let status = deployment?.status.clone()?;
            let generation = deployment?.metadata.generation;
            let seen = status.observed_generation == generation;
            let done = status.updated_replicas == Some(2) && status.available_replicas == Some(2);
            (seen && done && status.replicas == Some(2)).then_some(())
        };
        wait::object(
            &scene.api::<Deployment>(),
            "shop",
            "the rolling update to end",
            LONG,
            updated,
        )
        .await?;
        let pods = scene.running("shop", 2, LONG).await?;
        scene.distinct_addresses(&pods, 2).await?;
        for version in [4, 6] {
            scene
                .pool_of("shop", version, "with 3 addresses", |pool| size(pool) == 3)
                .await?;
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn fifty_pods_at_once_do_not_get_into_each_others_way() -> Result<()> {
    scene("fifty_pods", async |scene: &Scene| {
        let wish = from_subnets(&[&scene.v4], &[&scene.v6], "+1");
        scene.create(&deployment("crowd", 50, &wish)?).await?;
        let pods = scene.running("crowd", 50, 2 * LONG).await?;
        let addresses = scene.distinct_addresses(&pods, 2).await?;
        ensure!(addresses.len() == 100, "fifty pods have {} addresses", addresses.len());
        let failures = failed_sandboxes(scene).await?;
        ensure!(failures.is_empty(), "setting up sandboxes failed: {failures:#?}");
        Ok(())
    })
    .await
}

/// What the kubelets told about sandboxes that could not be set up.
async fn failed_sandboxes(scene: &Scene) -> Result<Vec<String>> {
    let events = scene.api::<Event>().list(&ListParams::default()).await?;
    let failed = events
        .items
        .into_iter()
        .filter(|event| event.reason.as_deref() == Some("FailedCreatePodSandBox"));
    Ok(failed.filter_map(|event| event.message).collect())
}

#[tokio::test]
async fn many_deployments_share_a_subnet() -> Result<()> {
    scene("many_deployments", async |scene: &Scene| {
        let wish = from_subnets(&[&scene.v4], &[&scene.v6], "+2");
        let names: Vec<String> = (0..10).map(|n| format!("app{n}")).collect();
        for name in &names {
            scene.create(&deployment(name, 0, &wish)?).await?;
        }
        for name in &names {
            scene
                .pool_of(name, 4, "with 2 addresses", |pool| size(pool) == 2)
                .await?;
            scene
                .pool_of(name, 6, "with 2 addresses", |pool| size(pool) == 2)
                .await?;
        }
        let subnet = scene.subnets().get(&scene.v4).await?;
        let given = subnet.status.and_then(|status| status.allocated_ip_count);
        ensure!(
            given == Some(20),
            "the subnet counts {given:?} addresses given to ten pools of two"
        );
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_fixed_number_of_addresses_stays_when_the_deployment_is_scaled() -> Result<()> {
    scene("fixed_number", async |scene: &Scene| {
        let wish = from_subnets(&[&scene.v4], &[], "3");
        scene.create(&deployment("shop", 1, &wish)?).await?;
        scene.running("shop", 1, LONG).await?;
        scene.scale("shop", 2).await?;
        scene.running("shop", 2, LONG).await?;
        scene
            .pool_of("shop", 4, "with 3 addresses", |pool| size(pool) == 3)
            .await?;
        scene.annotate_pods("shop", &json!({ANNOTATION_IP_NUMBER: "5"})).await?;
        scene
            .pool_of("shop", 4, "with 5 addresses", |pool| size(pool) == 5)
            .await
            .map(drop)
    })
    .await
}

#[tokio::test]
async fn a_deployment_made_again_under_its_name_gets_pools_of_its_own() -> Result<()> {
    scene("made_again", async |scene: &Scene| {
        let wish = from_subnets(&[&scene.v4], &[&scene.v6], "+1");
        let first = scene.create(&deployment("shop", 2, &wish)?).await?;
        scene.running("shop", 2, LONG).await?;
        scene.delete::<Deployment>("shop").await?;
        wait::gone(&scene.api::<Deployment>(), "shop", SOON).await?;
        let second = scene.create(&deployment("shop", 2, &wish)?).await?;
        ensure!(first.uid() != second.uid(), "the Deployment is the old one");
        let pods = scene.running("shop", 2, LONG).await?;
        scene.distinct_addresses(&pods, 2).await?;
        let uid = second.uid();
        let own = |pool: &SpiderIPPool| {
            let label = pool.label(spiderpool_crds::names::LABEL_OWNER_APP_UID);
            label == uid.as_deref() && size(pool) == 3
        };
        // The old pool goes when its last pod is gone, or is taken over: both leave one of the new Deployment's.
        let pools = wait::objects(&scene.pools(), Default::default(), "one pool a family", LONG, |pools| {
            let networks = [scene.network(4), scene.network(6)];
            let of_scene = pools.values().filter(|pool| networks.contains(&pool.spec.subnet));
            let all: Vec<&SpiderIPPool> = of_scene.collect();
            Ok((all.len() == 2 && all.iter().all(|pool| own(pool))).then_some(all.len()))
        })
        .await?;
        ensure!(pools == 2, "{pools} pools");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn deployments_scaled_without_pause_end_as_they_should() -> Result<()> {
    scene("without_pause", async |scene: &Scene| {
        let wish = from_subnets(&[&scene.v4], &[&scene.v6], "+1");
        let churn = (0..4).map(async |n: usize| {
            let name = format!("app{n}");
            scene.create(&deployment(&name, 2, &wish)?).await?;
            let by_force = DeleteParams {
                grace_period_seconds: Some(0),
                ..DeleteParams::default()
            };
            for replicas in [4, 1, 5, 0, 3, 6, 2] {
                // Nobody waits for pods here, so that some are being set up when the next change comes.
                scene.pool_of(&name, 4, "that is there", |_| true).await?;
                scene.scale(&name, replicas).await?;
                let pods = ListParams::default().labels(&format!("app={name}"));
                scene.api::<Pod>().delete_collection(&by_force, &pods).await?;
            }
            let pods = scene.running(&name, 2, LONG).await?;
            for version in [4, 6] {
                scene
                    .pool_of(&name, version, "with 3 addresses", |pool| size(pool) == 3)
                    .await?;
            }
            anyhow::Ok(pods)
        });
        let pods: Vec<Running> = futures::future::try_join_all(churn)
            .await?
            .into_iter()
            .flatten()
            .collect();
        let addresses = scene.distinct_addresses(&pods, 2).await?;
        ensure!(addresses.len() == 16, "eight pods have {} addresses", addresses.len());
        Ok(())
    })
    .await
}
