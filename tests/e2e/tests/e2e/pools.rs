//! Pools that users make: what is filled in, who gets their addresses, and what is said where nobody does.

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::json;
use spiderpool_crds::conditions::{READY, TERMINATING, find};
use spiderpool_crds::names::{FINALIZER, LABEL_IPPOOL_CIDR, LABEL_SUBNET_CIDR};
use spiderpool_crds::{IPPoolSpec, SpiderIPPool};
use spiderpool_e2e::scene::{Scene, scene};
use spiderpool_e2e::wait::{self, LONG, SOON};
use spiderpool_e2e::workload::{deployment, from_pools, from_subnets};
use spiderpool_ipam::{Family, addr};

/// Addresses of a network of the scene by their last parts, with its gateway.
fn range(scene: &Scene, version: u8, first: &str, last: &str) -> IPPoolSpec {
    IPPoolSpec {
        gateway: Some(scene.ip(version, "1")),
        ..scene.range(version, first, last)
    }
}

#[tokio::test]
async fn what_users_leave_out_is_filled_in() -> Result<()> {
    scene("filled_in", async |scene: &Scene| {
        for (version, name) in [(4, &scene.v4), (6, &scene.v6)] {
            let cidr = scene.network(version).replace(['.', ':', '/'], "-");
            wait::object(&scene.subnets(), name, "the subnet's identity", SOON, |subnet| {
                let subnet = subnet?;
                let label = subnet.labels().get(LABEL_SUBNET_CIDR) == Some(&cidr);
                let family = subnet.spec.ip_version == Some(i64::from(version));
                (label && family && subnet.finalizers() == [FINALIZER]).then_some(())
            })
            .await?;
            let pool = scene
                .create_pool(&format!("bare{version}"), version, IPPoolSpec::default())
                .await?;
            wait::object(&scene.pools(), &pool.name_any(), "the pool's identity", SOON, |pool| {
                let pool = pool?;
                let label = pool.label(LABEL_IPPOOL_CIDR) == Some(cidr.as_str());
                let family = pool.spec.ip_version == Some(i64::from(version));
                (label && family && pool.finalizers() == [FINALIZER]).then_some(())
            })
            .await?;
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn pods_get_addresses_of_the_pools_they_name() -> Result<()> {
    scene("named_pools", async |scene: &Scene| {
        let v4 = scene.create_pool("named4", 4, range(scene, 4, "10", "11")).await?;
        let v6 = scene.create_pool("named6", 6, range(scene, 6, "10", "11")).await?;
        let wish = from_pools(&[&v4.name_any()], &[&v6.name_any()]);
        scene.create(&deployment("shop", 2, &wish)?).await?;
        let pods = scene.running("shop", 2, LONG).await?;
        let addresses = scene.distinct_addresses(&pods, 2).await?;
        for pool in [&v4, &v6] {
            let total = pool.total()?;
            let family = pool.family()?;
            let own = addresses
                .iter()
                .map(|ip| addr::to_bits(*ip))
                .filter(|(of, bits)| *of == family && total.contains(*bits));
            ensure!(
                own.count() == 2,
                "{addresses:?} are not the addresses of {}",
                pool.name_any()
            );
        }
        let (first, second) = (pods.first().context("no pod")?, pods.last().context("no pod")?);
        scene.ping(first, second, Family::V4).await?;
        scene.ping(first, second, Family::V6).await?;
        // Full: the third pod is told, and gets the address that another leaves.
        scene.scale("shop", 3).await?;
        scene
            .sandbox_failure("shop", &["all IP addresses used out"], LONG)
            .await?;
        scene.delete::<Pod>(&first.name).await?;
        scene.scale("shop", 2).await?;
        let pods = scene.running("shop", 2, LONG).await?;
        scene.distinct_addresses(&pods, 2).await.map(drop)
    })
    .await
}

#[tokio::test]
async fn a_pool_in_use_outlives_its_deletion_until_the_last_pod() -> Result<()> {
    scene("in_use", async |scene: &Scene| {
        let pool = scene
            .create_pool("busy", 4, range(scene, 4, "10", "19"))
            .await?
            .name_any();
        scene
            .create(&deployment("shop", 1, &from_pools(&[&pool], &[]))?)
            .await?;
        let pods = scene.running("shop", 1, LONG).await?;
        wait::object(&scene.pools(), &pool, "the finalizer", SOON, |pool| {
            (pool?.finalizers() == [FINALIZER]).then_some(())
        })
        .await?;
        scene.pools().delete(&pool, &DeleteParams::default()).await?;
        scene.distinct_addresses(&pods, 1).await?;
        let holder = pods.first().map(|pod| pod.name.as_str()).unwrap_or_default();
        wait::object(
            &scene.pools(),
            &pool,
            "it to say whose addresses hold it up",
            SOON,
            |pool| {
                let conditions = pool?.status.as_ref()?.conditions.as_deref();
                let told = find(conditions, TERMINATING)?;
                (told.status == "True" && told.message.contains(holder)).then_some(())
            },
        )
        .await?;
        scene.scale("shop", 2).await?;
        scene.sandbox_failure("shop", &[&pool, "deleted"], LONG).await?;
        let left = scene.pools().get(&pool).await?;
        ensure!(
            left.records()?.len() == 1,
            "a pool that is being deleted gave out addresses"
        );
        scene.delete::<Deployment>("shop").await?;
        wait::gone(&scene.pools(), &pool, LONG).await
    })
    .await
}

#[tokio::test]
async fn a_disabled_pool_says_that_it_is_disabled() -> Result<()> {
    scene("disabled", async |scene: &Scene| {
        let spec = IPPoolSpec {
            disable: Some(true),
            ..range(scene, 4, "10", "19")
        };
        let pool = scene.create_pool("off", 4, spec).await?.name_any();
        scene
            .create(&deployment("shop", 1, &from_pools(&[&pool], &[]))?)
            .await?;
        scene.sandbox_failure("shop", &[&pool, "disable"], LONG).await?;
        let enable = json!({"spec": {"disable": false}});
        scene
            .pools()
            .patch(&pool, &PatchParams::default(), &Patch::Merge(&enable))
            .await?;
        let pods = scene.running("shop", 1, LONG).await?;
        scene.distinct_addresses(&pods, 1).await.map(drop)
    })
    .await
}

#[tokio::test]
async fn a_pool_that_does_not_exist_is_named() -> Result<()> {
    scene("no_such_pool", async |scene: &Scene| {
        let missing = scene.own("missing");
        scene
            .create(&deployment("shop", 1, &from_pools(&[&missing], &[]))?)
            .await?;
        scene
            .sandbox_failure("shop", &[&missing, "does not exist"], LONG)
            .await?;
        scene.create_pool("missing", 4, range(scene, 4, "10", "19")).await?;
        scene.running("shop", 1, LONG).await.map(drop)
    })
    .await
}

#[tokio::test]
async fn a_pool_with_unreadable_records_stops_only_itself() -> Result<()> {
    scene("unreadable", async |scene: &Scene| {
        let broken = scene
            .create_pool("broken", 4, range(scene, 4, "200", "209"))
            .await?
            .name_any();
        let corrupt = |records: &str| json!({"status": {"allocatedIPs": records}});
        let params = PatchParams::default();
        scene
            .pools()
            .patch_status(&broken, &params, &Patch::Merge(&corrupt("{\"10.80")))
            .await?;
        wait::object(
            &scene.pools(),
            &broken,
            "the condition of the broken pool",
            SOON,
            |pool| {
                let status = pool?.status.as_ref()?;
                let ready = find(status.conditions.as_deref(), READY)?;
                (ready.status == "False" && ready.reason == "Invalid" && ready.message.contains("allocatedIPs"))
                    .then_some(())
            },
        )
        .await?;
        scene
            .create(&deployment("waiting", 1, &from_pools(&[&broken], &[]))?)
            .await?;
        scene
            .sandbox_failure(
                "waiting",
                &["NotReady", &broken, "status.allocatedIPs is corrupted"],
                LONG,
            )
            .await?;
        let wish = from_subnets(&[&scene.v4], &[&scene.v6], "+1");
        scene.create(&deployment("sound", 2, &wish)?).await?;
        let pods = scene.running("sound", 2, LONG).await?;
        scene.distinct_addresses(&pods, 2).await?;
        let text = scene
            .pools()
            .get(&broken)
            .await?
            .status
            .and_then(|status| status.allocated_ips);
        ensure!(
            text.as_deref() == Some("{\"10.80"),
            "records that nobody could read were changed to {text:?}"
        );
        scene
            .pools()
            .patch_status(&broken, &params, &Patch::Merge(&corrupt("{}")))
            .await?;
        scene.running("waiting", 1, LONG).await.map(drop)
    })
    .await
}

#[tokio::test]
async fn what_newer_versions_write_into_records_survives() -> Result<()> {
    scene("newer_records", async |scene: &Scene| {
        let wish = from_subnets(&[&scene.v4], &[], "+3");
        scene.create(&deployment("shop", 1, &wish)?).await?;
        let first = scene.running("shop", 1, LONG).await?.pop().context("no pod")?;
        let pool = scene
            .pool_of("shop", 4, "with a record", |pool| {
                pool.records().is_ok_and(|r| r.len() == 1)
            })
            .await?;
        mark(scene, &pool).await?;
        // The pod with the marked record is the one to stay.
        let keep = json!({"metadata": {"annotations": {"controller.kubernetes.io/pod-deletion-cost": "100"}}});
        scene.patch::<Pod>(&first.name, &keep).await?;
        // The agent writes the records, and the operator the counts, the spec and the accounting.
        scene.scale("shop", 4).await?;
        scene.running("shop", 4, LONG).await?;
        scene.scale("shop", 1).await?;
        let small = |pool: &SpiderIPPool| pool.total().is_ok_and(|total| total.count() == 4);
        let full = |pool: &SpiderIPPool| pool.records().is_ok_and(|records| records.len() == 1);
        let pool = scene
            .pool_of("shop", 4, "small again", |pool| small(pool) && full(pool))
            .await?;
        let records = pool.records()?;
        let kept = records
            .iter()
            .all(|(_, record)| record.other.get("newer") == Some(&json!({"a": [1]})));
        ensure!(kept, "the members of a newer version are lost: {:?}", pool.status);
        Ok(())
    })
    .await
}

/// Adds a member that this version does not know to all records of a pool, as long as nobody else writes in between.
async fn mark(scene: &Scene, pool: &SpiderIPPool) -> Result<()> {
    let name = pool.name_any();
    wait::until("the records to be marked", SOON, async || {
        let mut pool = scene.pools().get(&name).await?;
        let status = pool.status.get_or_insert_default();
        let text = status.allocated_ips.as_deref().unwrap_or("{}");
        let mut records: serde_json::Value = serde_json::from_str(text)?;
        for record in records
            .as_object_mut()
            .into_iter()
            .flat_map(|records| records.values_mut())
        {
            record["newer"] = json!({"a": [1]});
        }
        status.allocated_ips = Some(records.to_string());
        match scene.pools().replace_status(&name, &Default::default(), &pool).await {
            Ok(_) => Ok(Some(())),
            Err(kube::Error::Api(status)) if status.is_conflict() => Ok(None),
            Err(error) => Err(error.into()),
        }
    })
    .await
}
