//! The webhook's certificate renewed, deleted and damaged; the webhook away; and its configurations away. These tests run alone.
//!
//! `SPIDERPOOL_SOAK` is the number of lives of a certificate: `cargo xtask soak certificates` has twenty, which is ten minutes.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::api::admissionregistration::v1::{MutatingWebhookConfiguration, ValidatingWebhookConfiguration};
use k8s_openapi::api::core::v1::Secret;
use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use kube::{Api, Resource, ResourceExt};
use serde_json::json;
use spiderpool_crds::{IPPoolSpec, SpiderIPPool};
use spiderpool_e2e::DRY_RUN;
use spiderpool_e2e::RELEASE_NAMESPACE;
use spiderpool_e2e::cluster::Cluster;
use spiderpool_e2e::figures::show;
use spiderpool_e2e::operators::{self, ready_of, replicas_of, scale_of};
use spiderpool_e2e::scene::{Scene, scene};
use spiderpool_e2e::trust::{
    AUTHORITY, CONFIGURATION, Load, SECRET, ask, bundles, good_pool, handshake, keep_asking, replicas,
};
use spiderpool_e2e::wait::{self, LONG, SOON};
use spiderpool_e2e::webhooks::WEBHOOK;
use spiderpool_e2e::workload::{deployment, from_pools, from_subnets, pod};

use crate::admission::{api, object, refused, table};

/// Life of a certificate while they are watched turning over. The CA's is twice as long.
const LIFE: Duration = Duration::from_secs(30);
/// Twenty requests a second.
const PACE: Duration = Duration::from_millis(50);
/// How long healing may take.
const HEALED: Duration = Duration::from_secs(30);

fn lives() -> u32 {
    let soak = std::env::var("SPIDERPOOL_SOAK").ok();
    soak.map_or(1, |text| text.parse().unwrap_or(20))
}

/// Shakes hands with all replicas again and again, trusting what the configurations say. Ends with an error only.
async fn shake_hands(cluster: &Cluster, served: &mut BTreeSet<Vec<u8>>) -> Result<()> {
    let mut pace = tokio::time::interval(Duration::from_millis(500));
    loop {
        pace.tick().await;
        let trusted = bundles(cluster).await?;
        for replica in replicas(cluster).await? {
            for bundle in &trusted {
                let certificate = handshake(replica, bundle).await;
                let certificate = certificate.with_context(|| format!("after {} certificates", served.len()))?;
                served.insert(certificate.to_vec());
            }
        }
    }
}

#[tokio::test]
async fn certificates_of_half_a_minute_refuse_nobody() -> Result<()> {
    let cluster = Cluster::open().await?;
    let short = [
        ("--certificate-authority-lifetime=", "60s"),
        ("--certificate-lifetime=", "30s"),
    ];
    let (mut load, mut served) = (Load::default(), BTreeSet::new());
    let time = LIFE * lives() + LIFE / 2;
    operators::with_options(&cluster, &short, async || {
        tokio::select! {
            () = tokio::time::sleep(time) => Ok(()),
            outcome = shake_hands(&cluster, &mut served) => outcome,
            () = keep_asking(&cluster, PACE, &mut load) => Ok(()),
        }
    })
    .await?;
    show(
        "certificates",
        format!("{} requests, {} certificates", load.asked, served.len()),
    )?;
    ensure!(
        load.refusals.is_empty(),
        "{} of {} requests failed, first: {:?}",
        load.refusals.len(),
        load.asked,
        load.refusals.first()
    );
    // One is replaced when two thirds of its life are over.
    let wanted = time.as_secs() / LIFE.as_secs();
    ensure!(
        served.len() as u64 > wanted,
        "only {} certificates in {time:?}",
        served.len()
    );
    let asked = time.as_millis() / PACE.as_millis() / 2;
    ensure!(load.asked as u128 > asked, "only {} requests in {time:?}", load.asked);
    Ok(())
}

/// Waits until everybody trusts what every replica serves, and a request goes through.
async fn healed(cluster: &Cluster, what: &str, secrets: &[(&str, String)]) -> Result<()> {
    let own: Api<Secret> = Api::namespaced(cluster.client.clone(), RELEASE_NAMESPACE);
    let pools: Api<SpiderIPPool> = Api::all(cluster.client.clone());
    wait::until(&format!("{what} to be healed"), HEALED, async || {
        for (name, uid) in secrets {
            let secret = own.get_opt(name).await?;
            if secret.is_none_or(|secret| secret.uid().as_deref() == Some(uid)) {
                return Ok(None);
            }
        }
        let Ok(trusted) = bundles(cluster).await else {
            return Ok(None);
        };
        for replica in replicas(cluster).await? {
            for bundle in &trusted {
                if handshake(replica, bundle).await.is_err() {
                    return Ok(None);
                }
            }
        }
        Ok(ask(&pools).await.ok())
    })
    .await
}

#[tokio::test]
async fn deleted_secrets_are_made_again_and_nobody_is_refused() -> Result<()> {
    let cluster = Cluster::open().await?;
    healed(&cluster, "what was before", &[]).await?;
    let own: Api<Secret> = Api::namespaced(cluster.client.clone(), RELEASE_NAMESPACE);
    for names in [&[SECRET][..], &[AUTHORITY], &[SECRET, AUTHORITY]] {
        let mut load = Load::default();
        let delete = async {
            let mut deleted = Vec::new();
            for name in names {
                let before = own.get(name).await.with_context(|| format!("reading {name}"))?;
                own.delete(name, &DeleteParams::default()).await?;
                deleted.push((*name, before.uid().unwrap_or_default()));
            }
            healed(&cluster, &format!("{names:?}"), &deleted).await
        };
        tokio::select! {
            outcome = delete => outcome?,
            () = keep_asking(&cluster, PACE, &mut load) => {}
        }
        ensure!(
            load.refusals.is_empty(),
            "without {names:?}: {:?}",
            load.refusals.first()
        );
    }
    Ok(())
}

/// A CA that the webhook has nothing to do with.
fn foreign() -> Result<String> {
    let pair = rcgen::generate_simple_self_signed(["foreign".to_owned()])?;
    Ok(pair.cert.pem())
}

async fn damage<K>(configurations: &Api<K>, entries: &[String], bundle: Option<&str>) -> Result<()>
where
    K: Resource + Clone + Debug + serde::de::DeserializeOwned,
{
    use k8s_openapi::ByteString;
    let bundle = bundle.map(|text| ByteString(text.as_bytes().to_vec()));
    let entries: Vec<_> = entries
        .iter()
        .map(|name| json!({"name": name, "clientConfig": {"caBundle": bundle}}))
        .collect();
    let change = json!({"webhooks": entries});
    configurations
        .patch(CONFIGURATION, &PatchParams::default(), &Patch::Strategic(&change))
        .await
        .context("damaging caBundle")
        .map(drop)
}

#[tokio::test]
async fn a_damaged_bundle_is_written_again() -> Result<()> {
    let cluster = Cluster::open().await?;
    healed(&cluster, "what was before", &[]).await?;
    let mutating: Api<MutatingWebhookConfiguration> = Api::all(cluster.client.clone());
    let validating: Api<ValidatingWebhookConfiguration> = Api::all(cluster.client.clone());
    let first = |names: Vec<String>| names.into_iter().take(1).collect::<Vec<_>>();
    let of_mutating = mutating.get(CONFIGURATION).await?.webhooks.unwrap_or_default();
    let of_mutating = first(of_mutating.into_iter().map(|entry| entry.name).collect());
    let of_validating = validating.get(CONFIGURATION).await?.webhooks.unwrap_or_default();
    let of_validating: Vec<String> = of_validating.into_iter().map(|entry| entry.name).collect();
    let foreign = foreign()?;
    for bundle in [None, Some(foreign.as_str())] {
        damage(&mutating, &of_mutating, bundle).await?;
        damage(&validating, &of_validating, bundle).await?;
        healed(&cluster, &format!("caBundle {bundle:?}"), &[]).await?;
        let trusted = bundles(&cluster).await?;
        ensure!(
            trusted.iter().all(|now| Some(&now[..]) != bundle.map(str::as_bytes)),
            "a foreign CA stayed"
        );
    }
    Ok(())
}

/// What the static half says to examples of docs/admission.md.
struct StaticHalf<'a> {
    cluster: &'a Cluster,
    lines: Vec<(String, table::Line)>,
}

impl<'a> StaticHalf<'a> {
    /// Stores what examples change.
    async fn prepare(cluster: &'a Cluster) -> Result<Self> {
        let past = cluster.unjudged()?;
        let lines = table::rules().into_iter().filter(|line| line.seen_by == "API server");
        let lines: Vec<(String, table::Line)> = lines
            .enumerate()
            .map(|(index, line)| (format!("e2e-static-{index}"), line))
            .collect();
        for (name, line) in &lines {
            if let Some(old) = &line.refused.old {
                api(&past, &line.refused.kind)
                    .create(&PostParams::default(), &object(old, name)?)
                    .await
                    .with_context(|| format!("making {name}, which is to be changed"))?;
            }
        }
        ensure!(lines.len() >= 20, "the page has {} such rules", lines.len());
        Ok(Self { cluster, lines })
    }

    /// Each refusal has the rule's own words.
    async fn refuses(&self) -> Result<()> {
        for (name, line) in &self.lines {
            let objects = api(&self.cluster.client, &line.refused.kind);
            let wanted = object(&line.refused.new, name)?;
            let answer = match line.refused.old {
                None => objects.create(&DRY_RUN, &wanted).await,
                Some(_) => self.replace(&objects, name, &wanted).await?,
            };
            refused(line, answer.map(drop))?;
        }
        Ok(())
    }

    /// The operator may write the object at the same time.
    async fn replace(
        &self,
        objects: &Api<DynamicObject>,
        name: &str,
        wanted: &DynamicObject,
    ) -> Result<Result<DynamicObject, kube::Error>> {
        wait::until("a change that meets no other", SOON, async || {
            let mut changed = wanted.clone();
            changed.metadata.resource_version = objects.get(name).await?.metadata.resource_version;
            match objects.replace(name, &DRY_RUN, &changed).await {
                Err(kube::Error::Api(status)) if status.code == 409 => Ok(None),
                answer => Ok(Some(answer)),
            }
        })
        .await
    }

    async fn end(&self) -> Result<()> {
        for (name, line) in &self.lines {
            if line.refused.old.is_some() {
                let objects = api(&self.cluster.client, &line.refused.kind);
                objects.delete(name, &DeleteParams::default()).await?;
            }
        }
        Ok(())
    }
}

/// Waits until a good pool is taken.
async fn serves(cluster: &Cluster) -> Result<()> {
    let pools: Api<SpiderIPPool> = Api::all(cluster.client.clone());
    wait::until("the webhook to serve", SOON, async || Ok(ask(&pools).await.ok())).await
}

/// What has to go on without a webhook, and what has not.
async fn without_webhook(scene: &Scene, pool: &str, going: &str) -> Result<()> {
    let pools = scene.pools();
    // A good pool is refused, and the message says who is missing.
    match pools
        .create(&PostParams::default(), &good_pool(&scene.own("good")))
        .await
    {
        Err(kube::Error::Api(status)) => ensure!(
            status.message.contains("spiderippool.spiderpool.spidernet.io"),
            "the refusal does not name the webhook: {status:?}"
        ),
        other => bail!("a pool was taken without a webhook: {:?}", other.map(drop)),
    }
    // A status is written, a pool that goes goes.
    let status = json!({"status": {"allocatedIPCount": 0}});
    pools
        .patch_status(going, &PatchParams::default(), &Patch::Merge(&status))
        .await
        .context("writing a status")?;
    pools
        .delete(going, &DeleteParams::default())
        .await
        .context("deleting a pool")?;
    wait::gone(&pools, going, SOON).await?;
    // Pods start: of a pool, of an automatic pool that the operator makes now, and without annotations.
    let node = &scene.cluster.first_node()?.name;
    scene
        .create(&pod("annotated", node, &from_pools(&[pool], &[]))?)
        .await?;
    scene
        .create(&deployment("automatic", 1, &from_subnets(&[&scene.v4], &[], "+1"))?)
        .await?;
    let mut plain = pod("plain", node, &from_pools(&[], &[]))?;
    plain.metadata.annotations = None;
    if let Some(spec) = plain.spec.as_mut() {
        // Without annotations there is no pool for it; this one needs none.
        spec.host_network = Some(true);
    }
    scene.create(&plain).await?;
    for name in ["annotated", "automatic", "plain"] {
        scene.running(name, 1, LONG).await?;
    }
    Ok(())
}

#[tokio::test]
async fn without_a_webhook_bad_objects_are_refused_and_pods_start() -> Result<()> {
    scene("webhook_away", async |scene: &Scene| {
        let cluster = &scene.cluster;
        let before = replicas_of(cluster, WEBHOOK).await?;
        serves(cluster).await?;
        let pool = scene
            .create_pool("serving", 4, scene.range(4, "40", "49"))
            .await?
            .name_any();
        let going = scene
            .create_pool("going", 4, scene.range(4, "50", "59"))
            .await?
            .name_any();
        let half = StaticHalf::prepare(cluster).await?;
        scale_of(cluster, WEBHOOK, 0).await?;
        let outcome = async {
            let pools = scene.pools();
            wait::until("the API server to miss the webhook", SOON, async || {
                Ok(ask(&pools).await.is_err().then_some(()))
            })
            .await?;
            half.refuses().await?;
            without_webhook(scene, &pool, &going).await
        }
        .await;
        let restored = scale_of(cluster, WEBHOOK, before).await;
        outcome?;
        restored?;
        serves(cluster).await?;
        half.refuses().await?;
        half.end().await
    })
    .await
}

#[tokio::test]
async fn killed_replicas_come_back() -> Result<()> {
    let cluster = Cluster::open().await?;
    serves(&cluster).await?;
    let half = StaticHalf::prepare(&cluster).await?;
    for node in &cluster.nodes {
        for process in node.processes(WEBHOOK)? {
            process.kill()?;
        }
    }
    half.refuses().await?;
    serves(&cluster).await?;
    ready_of(&cluster, WEBHOOK, replicas_of(&cluster, WEBHOOK).await?).await?;
    half.end().await
}

/// Deletes a configuration; gives what makes it again, without what the operator wrote into it.
async fn take_away<K>(configurations: &Api<K>) -> Result<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + serde::Serialize + serde::de::DeserializeOwned,
{
    let mut object = serde_json::to_value(configurations.get(CONFIGURATION).await?)?;
    configurations.delete(CONFIGURATION, &DeleteParams::default()).await?;
    for key in [
        "uid",
        "resourceVersion",
        "creationTimestamp",
        "generation",
        "managedFields",
    ] {
        object["metadata"].as_object_mut().context("no metadata")?.remove(key);
    }
    for entry in object["webhooks"].as_array_mut().into_iter().flatten() {
        entry["clientConfig"]
            .as_object_mut()
            .context("no clientConfig")?
            .remove("caBundle");
    }
    serde_json::from_value(object).context("reading what is to be made again")
}

#[tokio::test]
async fn the_static_half_needs_no_webhook_configuration() -> Result<()> {
    let cluster = Cluster::open().await?;
    serves(&cluster).await?;
    let mutating: Api<MutatingWebhookConfiguration> = Api::all(cluster.client.clone());
    let validating: Api<ValidatingWebhookConfiguration> = Api::all(cluster.client.clone());
    let of_mutating = take_away(&mutating).await?;
    let of_validating = take_away(&validating).await?;
    let outcome = async {
        let half = StaticHalf::prepare(&cluster).await?;
        half.refuses().await?;
        half.end().await?;
        // Nobody is asked.
        let pools: Api<SpiderIPPool> = Api::all(cluster.client.clone());
        let reversed = IPPoolSpec {
            subnet: "fd99:7::/64".to_owned(),
            ips: Some(vec!["fd99:7::9-fd99:7::1".to_owned()]),
            ..IPPoolSpec::default()
        };
        let taken = wait::until("the API server to forget the webhook", SOON, async || {
            Ok(pools
                .create(&DRY_RUN, &SpiderIPPool::new("e2e-reversed", reversed.clone()))
                .await
                .ok())
        });
        taken.await.map(drop)
    }
    .await;
    mutating.create(&PostParams::default(), &of_mutating).await?;
    validating.create(&PostParams::default(), &of_validating).await?;
    outcome?;
    healed(&cluster, "what was taken away", &[]).await
}
