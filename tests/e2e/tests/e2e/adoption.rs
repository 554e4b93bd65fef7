//! Pools that users make become parts of the subnet with their network, and subnets say when little is left.

use anyhow::{Result, ensure};
use kube::ResourceExt;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use serde_json::json;
use spiderpool_crds::conditions::{EXHAUSTED, NEARLY_EXHAUSTED, READY, find};
use spiderpool_crds::names::{API_VERSION, LABEL_OWNER_SUBNET};
use spiderpool_crds::{IPPoolSpec, Route, SpiderIPPool, SubnetSpec};
use spiderpool_e2e::scene::{Scene, scene};
use spiderpool_e2e::wait::{self, LONG, SOON};
use spiderpool_e2e::workload::{deployment, from_subnets};

/// A pool in the first further network, from .10 to .`last`.
fn spec(scene: &Scene, last: u8) -> IPPoolSpec {
    IPPoolSpec {
        subnet: scene.further_network(4, 1),
        ips: Some(vec![scene.further_range(1, last - 9)]),
        ..IPPoolSpec::default()
    }
}

fn is_part_of(pool: &SpiderIPPool, subnet: &str, uid: &str) -> bool {
    let owned = pool
        .owner_references()
        .iter()
        .any(|owner| owner.uid == uid && owner.controller == Some(true) && owner.block_owner_deletion == Some(true));
    owned && pool.label(LABEL_OWNER_SUBNET) == Some(subnet)
}

#[tokio::test]
async fn a_pool_made_before_its_subnet_becomes_a_part_of_it() -> Result<()> {
    scene("adopted", async |scene: &Scene| {
        let pools = scene.pools();
        let pool = scene.create_pool("early", 4, spec(scene, 12)).await?.name_any();
        wait::object(&pools, &pool, "the pool to be ready without a subnet", SOON, |pool| {
            let conditions = pool?.status.as_ref()?.conditions.as_deref();
            (find(conditions, READY)?.status == "True" && pool?.owner_references().is_empty()).then_some(())
        })
        .await?;
        let gateway = scene.further_network(4, 1).replace("0/24", "1");
        let subnet = scene
            .create_subnet(
                "late",
                SubnetSpec {
                    subnet: scene.further_network(4, 1),
                    ips: Some(vec![scene.further_range(1, 11)]),
                    gateway: Some(gateway.clone()),
                    routes: Some(vec![Route {
                        dst: "192.168.200.0/24".to_owned(),
                        gw: gateway.clone(),
                        ..Route::default()
                    }]),
                    ..SubnetSpec::default()
                },
            )
            .await?;
        let (name, uid) = (subnet.name_any(), subnet.uid().unwrap_or_default());
        wait::object(&pools, &pool, "the pool to be a part of the subnet", SOON, |pool| {
            let pool = pool?;
            let inherited = pool.spec.gateway.as_ref() == Some(&gateway) && pool.routes() == subnet.routes();
            (inherited && is_part_of(pool, &name, &uid)).then_some(())
        })
        .await?;

        // Who takes the gateway out does not want it.
        let change = json!({"spec": {"gateway": null, "ips": [scene.further_range(1, 4)]}});
        pools
            .patch(&pool, &PatchParams::default(), &Patch::Merge(&change))
            .await?;
        wait::object(
            &scene.subnets(),
            &name,
            "the larger pool in the accounting",
            SOON,
            |subnet| (subnet?.status.as_ref()?.allocated_ip_count == Some(4)).then_some(()),
        )
        .await?;
        let now = pools.get(&pool).await?;
        ensure!(now.spec.gateway.is_none(), "the pool inherited the gateway again");

        scene.subnets().delete(&name, &DeleteParams::default()).await?;
        wait::gone(&pools, &pool, SOON).await?;
        wait::gone(&scene.subnets(), &name, SOON).await
    })
    .await
}

#[tokio::test]
async fn a_pool_that_something_else_controls_is_left_to_it_and_holds_up_nobody() -> Result<()> {
    scene("controlled_by_others", async |scene: &Scene| {
        let other = scene.subnets().get(&scene.v6).await?;
        let mut pool = SpiderIPPool::new(
            &scene.own("foreign"),
            IPPoolSpec {
                subnet: scene.network(4),
                ips: Some(vec![format!("{}-{}", scene.ip(4, "20"), scene.ip(4, "24"))]),
                ..IPPoolSpec::default()
            },
        );
        let owners = json!([{
            "apiVersion": API_VERSION, "kind": "SpiderSubnet", "name": scene.v6, "uid": other.uid(), "controller": true,
        }]);
        pool.metadata.owner_references = serde_json::from_value(owners)?;
        let pool = scene.pools().create(&PostParams::default(), &pool).await?;
        let name = pool.name_any();
        wait::object(
            &scene.pools(),
            &name,
            "a condition that names who controls it",
            SOON,
            |now| {
                let ready = find(now?.status.as_ref()?.conditions.as_deref(), READY)?;
                let told = ready.message.contains(&scene.v4) && ready.message.contains(&scene.v6);
                (ready.status == "True" && told).then_some(())
            },
        )
        .await?;
        wait::object(
            &scene.subnets(),
            &scene.v4,
            "the pool in the accounting",
            SOON,
            |subnet| (subnet?.status.as_ref()?.allocated_ip_count == Some(5)).then_some(()),
        )
        .await?;
        let wish = from_subnets(&[&scene.v4], &[], "+1");
        scene.create(&deployment("shop", 1, &wish)?).await?;
        scene.running("shop", 1, LONG).await?;
        let now = scene.pools().get(&name).await?;
        ensure!(
            now.owner_references() == pool.owner_references(),
            "the pool has another owner"
        );
        scene.pools().delete(&name, &DeleteParams::default()).await?;
        wait::gone(&scene.pools(), &name, SOON).await
    })
    .await
}

#[tokio::test]
async fn a_subnet_says_when_little_and_when_nothing_is_left() -> Result<()> {
    scene("nearly_exhausted", async |scene: &Scene| {
        let subnet = scene.further_subnet("small", 1, 10).await?;
        let pool = scene.create_pool("most", 4, spec(scene, 18)).await?.name_any();
        let says = async |nearly: &str, exhausted: &str| {
            let what = format!("{NEARLY_EXHAUSTED} {nearly} and {EXHAUSTED} {exhausted}");
            wait::object(&scene.subnets(), &subnet, &what, SOON, |subnet| {
                let conditions = subnet?.status.as_ref()?.conditions.as_deref();
                let is = |type_, status| find(conditions, type_).is_some_and(|known| known.status == status);
                (is(NEARLY_EXHAUSTED, nearly) && is(EXHAUSTED, exhausted)).then_some(())
            })
            .await
        };
        let resize = async |addresses: u8| {
            let change = json!({"spec": {"ips": [scene.further_range(1, addresses)]}});
            let params = PatchParams::default();
            scene.pools().patch(&pool, &params, &Patch::Merge(&change)).await
        };
        says("True", "False").await?;
        resize(10).await?;
        says("False", "True").await?;
        resize(9).await?;
        says("True", "False").await?;
        resize(5).await?;
        says("False", "False").await
    })
    .await
}
