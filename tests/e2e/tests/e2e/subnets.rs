//! Subnets beyond the plain case: alternatives, reservations, pools that are to stay, and subnets that are to go.

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::apps::v1::Deployment;
use kube::api::{DeleteParams, PostParams};
use kube::{Api, ResourceExt};
use spiderpool_crds::names::{ANNOTATION_RECLAIM, LABEL_RECLAIM};
use spiderpool_crds::{ReservedIPSpec, SpiderReservedIP};
use spiderpool_e2e::scene::{Scene, scene};
use spiderpool_e2e::wait::{self, LONG, SOON};
use spiderpool_e2e::workload::{deployment, from_pools, from_subnets};

#[tokio::test]
async fn the_first_subnet_of_a_list_that_has_room_is_used() -> Result<()> {
    scene("alternatives", async |scene: &Scene| {
        let missing = scene.own("missing");
        let wish = from_subnets(&[&missing, &scene.v4], &[&scene.v6], "+1");
        scene.create(&deployment("shop", 2, &wish)?).await?;
        let pods = scene.running("shop", 2, LONG).await?;
        scene.distinct_addresses(&pods, 2).await.map(drop)
    })
    .await
}

#[tokio::test]
async fn reserved_addresses_are_given_to_nobody() -> Result<()> {
    scene("reserved", async |scene: &Scene| {
        let all: Api<SpiderReservedIP> = Api::all(scene.cluster.client.clone());
        let spec = ReservedIPSpec {
            ips: Some(vec![
                format!("{}-{}", scene.ip(4, "10"), scene.ip(4, "11")),
                scene.ip(4, "201"),
            ]),
            ..ReservedIPSpec::default()
        };
        let reserved = SpiderReservedIP::new(&scene.own("kept-back"), spec);
        all.create(&PostParams::default(), &reserved).await?;
        let outcome = without_reserved(scene).await;
        all.delete(&reserved.name_any(), &DeleteParams::default()).await?;
        outcome
    })
    .await
}

async fn without_reserved(scene: &Scene) -> Result<()> {
    let wish = from_subnets(&[&scene.v4], &[], "+0");
    scene.create(&deployment("shop", 2, &wish)?).await?;
    let expected = vec![format!("{}-{}", scene.ip(4, "12"), scene.ip(4, "13"))];
    let fits = |pool: &spiderpool_crds::SpiderIPPool| pool.spec.ips.as_ref() == Some(&expected);
    scene.pool_of("shop", 4, "without the reserved addresses", fits).await?;
    scene.running("shop", 2, LONG).await?;
    // A pool that a user made may contain them, and its pods do not get them all the same.
    let spec = scene.range(4, "201", "202");
    let pool = scene.create_pool("with-reserved", 4, spec).await?.name_any();
    scene
        .create(&deployment("named", 1, &from_pools(&[&pool], &[]))?)
        .await?;
    let pods = scene.running("named", 1, LONG).await?;
    let addresses = scene.distinct_addresses(&pods, 1).await?;
    let expected = scene.ip(4, "202").parse()?;
    ensure!(
        addresses.contains(&expected),
        "the pod has {addresses:?} and not {expected}"
    );
    scene.scale("named", 2).await?;
    scene.sandbox_failure("named", &["used out"], LONG).await.map(drop)
}

#[tokio::test]
async fn a_pool_that_is_not_to_be_reclaimed_outlives_its_deployment() -> Result<()> {
    scene("not_reclaimed", async |scene: &Scene| {
        let mut wish = from_subnets(&[&scene.v4], &[], "+1");
        wish.insert(ANNOTATION_RECLAIM.to_owned(), "false".to_owned());
        scene.create(&deployment("shop", 1, &wish)?).await?;
        scene.running("shop", 1, LONG).await?;
        let pool = scene
            .pool_of("shop", 4, "marked to stay", |pool| {
                pool.label(LABEL_RECLAIM) == Some("false")
            })
            .await?;
        scene.delete::<Deployment>("shop").await?;
        wait::object(
            &scene.pools(),
            &pool.name_any(),
            "the pool without records",
            LONG,
            |pool| pool?.records().ok()?.is_empty().then_some(()),
        )
        .await?;
        // When another Deployment of the subnet has come and gone, the operator has long looked at this one.
        let other = from_subnets(&[&scene.v4], &[], "+1");
        scene.create(&deployment("other", 1, &other)?).await?;
        let passing = scene.pool_of("other", 4, "of the other Deployment", |_| true).await?;
        scene.delete::<Deployment>("other").await?;
        wait::gone(&scene.pools(), &passing.name_any(), LONG).await?;
        let left = scene
            .pools()
            .get(&pool.name_any())
            .await
            .context("the pool went with its Deployment")?;
        ensure!(left.metadata.deletion_timestamp.is_none(), "the pool is being deleted");
        ensure!(left.spec == pool.spec, "the pool was changed");
        scene.pools().delete(&pool.name_any(), &DeleteParams::default()).await?;
        wait::gone(&scene.pools(), &pool.name_any(), SOON).await
    })
    .await
}

#[tokio::test]
async fn a_subnet_in_use_goes_after_the_last_pod() -> Result<()> {
    scene("subnet_in_use", async |scene: &Scene| {
        let wish = from_subnets(&[&scene.v4], &[&scene.v6], "+1");
        scene.create(&deployment("shop", 2, &wish)?).await?;
        let pods = scene.running("shop", 2, LONG).await?;
        scene.subnets().delete(&scene.v6, &DeleteParams::default()).await?;
        wait::object(
            &scene.subnets(),
            &scene.v6,
            "the condition Ready to say that it goes",
            SOON,
            |subnet| {
                let conditions = subnet?.status.as_ref()?.conditions.as_deref();
                let ready = spiderpool_crds::conditions::find(conditions, spiderpool_crds::conditions::READY)?;
                (ready.status == "False" && ready.reason == "Terminating").then_some(())
            },
        )
        .await?;
        scene.distinct_addresses(&pods, 2).await?;
        // A second Deployment is refused, and told so.
        let single = from_subnets(&[], &[&scene.v6], "+1");
        scene.create(&deployment("late", 1, &single)?).await?;
        scene
            .event(
                "Deployment",
                "late",
                "SubnetTerminating",
                &[&scene.v6, "being deleted"],
                SOON,
            )
            .await?;
        scene.delete::<Deployment>("late").await?;
        scene.distinct_addresses(&pods, 2).await?;
        scene.delete::<Deployment>("shop").await?;
        wait::gone(&scene.subnets(), &scene.v6, LONG).await
    })
    .await
}
