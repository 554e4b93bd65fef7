//! What was stored before there were rules, or by an older version: its addresses are given out all the same. Runs alone, because
//! while it prepares that, the API server takes what it should refuse.

use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};
use spiderpool_crds::{IPPoolSpec, MAX_RANGES, SpiderIPPool};
use spiderpool_e2e::DRY_RUN;
use spiderpool_e2e::scene::{Scene, scene};
use spiderpool_e2e::wait::{self, LONG, SOON};
use spiderpool_e2e::workload::{deployment, from_pools};

const NAME: &str = "spiderippools.spiderpool.spidernet.io";

/// Replaces the schema of pools.
async fn write_schema(crds: &Api<CustomResourceDefinition>, schema: &Value) -> Result<()> {
    let current = crds.get(NAME).await?;
    let mut written = serde_json::to_value(&current)?;
    written["spec"]["versions"][0]["schema"] = schema.clone();
    let written: CustomResourceDefinition = serde_json::from_value(written)?;
    crds.replace(NAME, &PostParams::default(), &written)
        .await
        .context("replacing the CRD of pools")
        .map(drop)
}

/// Waits until the API server takes a pool, or refuses it.
async fn wait_until_taken(pools: &Api<SpiderIPPool>, pool: &SpiderIPPool, taken: bool) -> Result<()> {
    wait::until("the API server to know the schema", SOON, async || {
        match pools.create(&DRY_RUN, pool).await {
            Ok(_) => Ok(taken.then_some(())),
            Err(kube::Error::Api(status)) if status.code == 422 => Ok((!taken).then_some(())),
            Err(error) => bail!("{error}"),
        }
    })
    .await
}

/// Stores a pool that the rules refuse, with the rules out of the way for that moment.
async fn store_in_spite_of_rules(scene: &Scene, name: &str, spec: IPPoolSpec) -> Result<String> {
    let crds: Api<CustomResourceDefinition> = Api::all(scene.cluster.client.clone());
    let (current, pools) = (crds.get(NAME).await?, scene.unjudged_pools()?);
    let with_rules = serde_json::to_value(&current)?["spec"]["versions"][0]["schema"].clone();
    let mut without = with_rules.clone();
    let members = &mut without["openAPIV3Schema"]["properties"]["spec"];
    members["x-kubernetes-validations"] = Value::Null;
    members["properties"]["ips"]["maxItems"] = Value::Null;
    let probe = SpiderIPPool::new(&scene.own("probe"), spec.clone());
    let stored = async {
        write_schema(&crds, &without).await?;
        wait_until_taken(&pools, &probe, true).await?;
        scene.create_pool_unjudged(name, 4, spec).await
    };
    let stored = stored.await;
    write_schema(&crds, &with_rules).await?;
    wait_until_taken(&pools, &probe, false).await?;
    Ok(stored?.name_any())
}

#[tokio::test]
async fn a_pool_stored_with_ten_times_the_bound_gives_out_addresses() -> Result<()> {
    scene("over_the_bound", async |scene: &Scene| {
        // All 100 addresses, again and again: to name one twice is legal.
        let ips: Vec<String> = (0..10 * MAX_RANGES)
            .map(|number| scene.ip(4, &(10 + number % 100).to_string()))
            .collect();
        let spec = IPPoolSpec {
            subnet: scene.network(4),
            ips: Some(ips.clone()),
            // Wrong in other ways too.
            gateway: Some("gateway".to_owned()),
            node_name: Some(vec!["n1".to_owned(), "n2".to_owned(), "No Name".to_owned()]),
            ..IPPoolSpec::default()
        };
        let name = store_in_spite_of_rules(scene, "large", spec).await?;
        let pools = scene.pools();

        // The status is written by agents, the operator and administrators.
        for count in 0..3 {
            let status = json!({"status": {"totalIPCount": 100 + count}});
            pools
                .patch_status(&name, &PatchParams::default(), &Patch::Merge(&status))
                .await
                .context("writing the status of a pool that breaks rules")?;
        }
        // What is wrong may stay while other fields are changed; it cannot be made wrong in another way. The webhook would put the list
        // in order.
        let unjudged = scene.unjudged_pools()?;
        let patch = async |change: Value| {
            unjudged
                .patch(&name, &PatchParams::default(), &Patch::Merge(change))
                .await
        };
        patch(json!({"spec": {"gateway": null}, "metadata": {"labels": {"a": "b"}}}))
            .await
            .context("repairing one field and leaving the others")?;
        let more: Vec<&String> = ips.iter().skip(1).collect();
        match patch(json!({"spec": {"ips": more}})).await {
            Err(kube::Error::Api(status)) if status.code == 422 => {
                ensure!(status.message.contains("must have at most"), "{}", status.message);
            }
            other => bail!("a long list was exchanged for another: {:?}", other.map(drop)),
        }
        // Three pods, one after another given addresses by writes of the status.
        let wish = from_pools(&[&name], &[]);
        scene.create(&deployment("shop", 3, &wish)?).await?;
        scene.running("shop", 3, LONG).await?;
        let pool = pools.get(&name).await?;
        ensure!(
            pool.records()?.len() == 3,
            "3 pods run, but the records are {:?}",
            pool.status
        );
        Ok(())
    })
    .await
}
