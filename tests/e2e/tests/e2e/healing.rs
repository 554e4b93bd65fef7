//! Accounting that was lost or edited is right again at once, and nothing is given twice meanwhile.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::json;
use spiderpool_e2e::life::Workload;
use spiderpool_e2e::property;
use spiderpool_e2e::scene::{Scene, scene};
use spiderpool_e2e::shape::WorkloadKind;
use spiderpool_e2e::wait::{self, LONG, SOON};
use spiderpool_e2e::workload::from_subnets;

/// How long the accounting may be wrong.
const WRONG: Duration = Duration::from_secs(5);

/// Waits until a subnet's accounting is what its pools are.
async fn healed(scene: &Scene, began: Instant) -> Result<()> {
    wait::until("the accounting to be right again", SOON, async || {
        // Accounting that nobody can read is wrong, too.
        let wrongs = property::wrongs(&scene.cluster.client, &scene.v4).await;
        Ok(wrongs.ok().filter(Vec::is_empty).map(drop))
    })
    .await?;
    let took = began.elapsed();
    ensure!(took <= WRONG, "the accounting was right only after {took:?}");
    Ok(())
}

#[tokio::test]
async fn lost_accounting_is_derived_from_the_pools() -> Result<()> {
    scene("lost_accounting", async |scene: &Scene| {
        let kind = WorkloadKind::deployment();
        let spec = scene.range(4, "20", "24");
        scene.create_pool("manual", 4, spec).await?;
        let wish = from_subnets(&[&scene.v4], &[], "+1");
        let shop = Workload::new(scene, &kind, "shop");
        shop.make(2, &wish).await?;
        let pods = scene.running("shop", 2, LONG).await?;
        let addresses = scene.distinct_addresses(&pods, 1).await?;
        wait::object(
            &scene.subnets(),
            &scene.v4,
            "both pools in the accounting",
            SOON,
            |subnet| (subnet?.controlled().ok()?.len() == 2).then_some(()),
        )
        .await?;
        let began = Instant::now();
        scene.edit_accounting(&scene.v4, None).await?;
        // Who comes at that very moment gets addresses that nobody has.
        let late = Workload::new(scene, &kind, "late");
        late.make(2, &wish).await?;
        healed(scene, began).await?;
        late.sized(4, 3).await?;
        let more = scene.running("late", 2, LONG).await?;
        let both: Vec<_> = pods.iter().chain(&more).cloned().collect();
        let all = scene.distinct_addresses(&both, 1).await?;
        ensure!(all.len() == 4 && all.is_superset(&addresses), "the pods have {all:?}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn edited_accounting_is_put_right() -> Result<()> {
    scene("edited_accounting", async |scene: &Scene| {
        let kind = WorkloadKind::deployment();
        let wish = from_subnets(&[&scene.v4], &[], "+1");
        let shop = Workload::new(scene, &kind, "shop");
        shop.make(0, &wish).await?;
        shop.sized(4, 1).await?;
        let application = format!("apps_v1_Deployment_{}_gone", scene.namespace);
        for text in [
            // An entry without pool, and the shop's lost.
            json!({"auto4-gone-eth0-00000": {"ips": [scene.ip(4, "50")], "application": application}}),
            // Another range than the pool's.
            json!({kube::ResourceExt::name_any(&shop.sized(4, 1).await?): {"ips": [scene.ip(4, "60")], "application": application}}),
            // Nothing anybody can read.
            json!(["?"]),
        ] {
            let began = Instant::now();
            scene.edit_accounting(&scene.v4, Some(&text)).await?;
            healed(scene, began).await.with_context(|| format!("after the edit {text}"))?;
        }
        shop.scale(2).await?;
        shop.sized(4, 3).await?;
        scene.running("shop", 2, LONG).await.map(drop)
    })
    .await
}
