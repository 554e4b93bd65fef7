//! What the webhook fills in is in the API server's very answer, and every example is taken.

use anyhow::{Context, Result, ensure};
use kube::api::{DynamicObject, PostParams};
use kube::core::GroupVersionKind;
use kube::{Api, ResourceExt, discovery};
use serde::Deserialize;
use serde_json::{Value, json};
use spiderpool_crds::names::{FINALIZER, LABEL_IPPOOL_CIDR, LABEL_OWNER_SUBNET, LABEL_SUBNET_CIDR};
use spiderpool_e2e::cluster::Cluster;
use spiderpool_e2e::scene::{Scene, scene};
use spiderpool_e2e::wait::{self, SOON};

use crate::admission::api;
use spiderpool_e2e::DRY_RUN;

/// Kind and spec of an object, and the members that are filled in.
type Case = (&'static str, Value, Value);

fn cases(scene: &Scene) -> Vec<Case> {
    let (v4, further) = (scene.network(4), scene.further_network(6, 1));
    let label = |cidr: &str| cidr.replace(['.', ':', '/'], "-");
    let ip = |last: &str| scene.ip(4, last);
    vec![
        (
            "SpiderSubnet",
            json!({"subnet": further}),
            json!({"metadata": {"finalizers": [FINALIZER], "labels": {LABEL_SUBNET_CIDR: label(&further)}},
                "spec": {"subnet": further, "ipVersion": 6}}),
        ),
        (
            "SpiderIPPool",
            json!({"subnet": further, "excludeIPs": [further.replace("/64", "2"), further.replace("/64", "1")]}),
            json!({"metadata": {"finalizers": [FINALIZER], "labels": {LABEL_IPPOOL_CIDR: label(&further)}},
                "spec": {"ipVersion": 6, "excludeIPs": [further.replace("/64", "1-") + &further.replace("/64", "2")],
                    "default": false, "disable": false}}),
        ),
        (
            "SpiderIPPool",
            json!({"subnet": v4, "ips": [ip("30"), format!("{}-{}", ip("27"), ip("29")), ip("31")]}),
            json!({"metadata": {"labels": {LABEL_OWNER_SUBNET: scene.v4}},
                "spec": {"ipVersion": 4, "gateway": ip("1"), "ips": [format!("{}-{}", ip("27"), ip("31"))]}}),
        ),
        (
            "SpiderIPPool",
            json!({"subnet": v4, "ips": [format!("{}-{}", ip("30"), ip("30"))], "gateway": ip("254")}),
            json!({"spec": {"gateway": ip("254"), "ips": [format!("{}-{}", ip("30"), ip("30"))]}}),
        ),
        (
            "SpiderReservedIP",
            json!({"ips": [ip("9"), ip("8")]}),
            json!({"metadata": {"finalizers": null, "labels": null},
                "spec": {"ipVersion": 4, "ips": [format!("{}-{}", ip("8"), ip("9"))]}}),
        ),
    ]
}

/// Whether an object has all these members; null is one that it has not.
fn has(object: &Value, members: &Value) -> bool {
    match members {
        Value::Object(members) => members.iter().all(|(name, member)| has(&object[name], member)),
        other => object == other,
    }
}

#[tokio::test]
async fn what_is_left_out_is_filled_in_before_it_is_stored() -> Result<()> {
    scene("completed", async |scene: &Scene| {
        for (index, (kind, spec, expected)) in cases(scene).into_iter().enumerate() {
            let value = json!({"apiVersion": "spiderpool.spidernet.io/v2beta1", "kind": kind,
                "metadata": {"name": scene.own(&format!("c{index}"))}, "spec": spec});
            let object: DynamicObject = serde_json::from_value(value)?;
            let api = api(&scene.cluster.client, kind);
            // The webhook hears of the scene's subnets by its watch.
            let what = format!("{kind} {spec} to be made {expected}");
            wait::until(&what, SOON, async || {
                let made = serde_json::to_value(api.create(&DRY_RUN, &object).await?)?;
                Ok(has(&made, &expected).then_some(()))
            })
            .await?;
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_finalizer_that_somebody_takes_off_is_there_again() -> Result<()> {
    scene("finalizer_stays", async |scene: &Scene| {
        let made = scene.create_pool("kept", 4, scene.range(4, "20", "29")).await?;
        ensure!(made.finalizers() == [FINALIZER], "{:?}", made.metadata);
        let subnet = made.owner_references().iter().any(|owner| owner.name == scene.v4);
        ensure!(
            subnet || made.spec.gateway.is_none(),
            "what inherits from a subnet belongs to it: {:?}",
            made.metadata
        );
        wait::until("a change that meets no other", SOON, async || {
            let mut bare = scene.pools().get(&made.name_any()).await?;
            bare.metadata.finalizers = None;
            bare.spec.disable = Some(true);
            match scene
                .pools()
                .replace(&made.name_any(), &PostParams::default(), &bare)
                .await
            {
                Err(kube::Error::Api(status)) if status.is_conflict() => Ok(None),
                changed => {
                    ensure!(changed?.finalizers() == [FINALIZER], "the finalizer is gone");
                    Ok(Some(()))
                }
            }
        })
        .await
    })
    .await
}

#[tokio::test]
async fn every_example_is_taken() -> Result<()> {
    let client = Cluster::open().await?.client;
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples");
    let mut taken = 0;
    for file in std::fs::read_dir(folder).context("the examples are there")? {
        let path = file?.path();
        if path.extension().is_none_or(|kind| kind != "yaml") {
            continue;
        }
        let text = std::fs::read_to_string(&path)?;
        for document in text.split("\n---") {
            let value: Value = serde_saphyr::from_str(document).with_context(|| path.display().to_string())?;
            if value.is_null() {
                continue;
            }
            let object = DynamicObject::deserialize(value).with_context(|| path.display().to_string())?;
            let types = object.types.clone().context("an object without a kind")?;
            let kind = GroupVersionKind::try_from(&types)?;
            // Two of them are of kinds that the cluster need not have.
            let Ok((resource, _)) = discovery::pinned_kind(&client, &kind).await else {
                ensure!(!kind.group.ends_with("spidernet.io"), "{kind:?} is not served");
                continue;
            };
            let namespace = object
                .metadata
                .namespace
                .clone()
                .unwrap_or_else(|| "default".to_owned());
            let api: Api<DynamicObject> = match object.metadata.namespace.is_some() || !is_cluster_wide(&types.kind) {
                true => Api::namespaced_with(client.clone(), &namespace, &resource),
                false => Api::all_with(client.clone(), &resource),
            };
            match api.create(&DRY_RUN, &object).await {
                Err(kube::Error::Api(status)) if status.is_already_exists() => {}
                answer => drop(answer.with_context(|| format!("{} {}", path.display(), object.name_any()))?),
            }
            taken += 1;
        }
    }
    ensure!(taken >= 10, "only {taken} objects are in the examples");
    Ok(())
}

fn is_cluster_wide(kind: &str) -> bool {
    kind.starts_with("Spider") && kind != "SpiderEndpoint" || kind.starts_with("ClusterRole") || kind == "Namespace"
}
