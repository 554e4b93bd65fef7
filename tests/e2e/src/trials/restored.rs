//! etcd is put back to what it was some hundred allocations ago. What was given meanwhile is on record for nobody, and the pods that
//! have it are gone by the API server's word, but run: nobody may get it before their sandboxes have ended.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::ResourceExt;
use kube::api::{ListParams, Patch, PatchParams};
use serde_json::json;
use spiderpool_crds::IPPoolSpec;

use super::Length;
use super::field::{Added, Guest, make, owners, run_all, settle, with_agents};
use crate::agents::{Agent, Options};
use crate::disaster::Snapshot;
use crate::node::OPERATOR;
use crate::operators;
use crate::scene::Scene;
use crate::storm::ledger::Ledger;
use crate::storm::random::Random;
use crate::workload::from_pools;

const AGENTS: usize = 4;

/// Pods whose addresses are in the snapshot.
const BEFORE: usize = 20;

/// Pods that get addresses after it.
const FORGOTTEN: (usize, usize) = (60, 500);

/// Pods that are made when all of that is forgotten.
const NEXT: usize = 40;

const AT_ONCE: usize = 32;

/// How long after the restore the first address may be given.
const FIRST: Duration = Duration::from_secs(60);

/// How long every pod may wait.
const ALL: Duration = Duration::from_secs(120);

/// Writes between two looks at the resourceVersion.
const WRITES: usize = 200;

/// Pause before an ADD that was refused is sent again.
const AGAIN: Duration = Duration::from_millis(500);

pub(super) async fn run(scene: &Scene, seed: u64, length: Length) -> Result<String> {
    let forgotten = length.of(FORGOTTEN.0, FORGOTTEN.1);
    // Some are never given: a pod that gets one of those has nobody's.
    let last = format!("{:x}", 0x100 + BEFORE + forgotten + NEXT + 10);
    let pool = scene
        .serving("restored", 6, ("100", &last), IPPoolSpec::default())
        .await?;
    let wish = from_pools(&[], &[&pool]);
    with_agents(scene, AGENTS, |_| Options::default(), async |agents: &[Arc<Agent>]| {
        run_all(agents).await?;
        let ledger = Ledger::default();
        let mut random = Random::of(seed, 1);
        let mut places = move || random.below(AGENTS as u64) as usize;
        let mut fill = async |name: &str, count: usize| -> Result<Vec<Guest>> {
            let places: Vec<usize> = (0..count).map(|_| places()).collect();
            let fill = places.into_iter().enumerate().map(async |(number, place)| {
                let mut guest = make(scene, &agents[place], &format!("{name}-{number}"), &wish).await?;
                guest.must_add(&ledger).await?;
                anyhow::Ok(guest)
            });
            futures::stream::iter(fill).buffer_unordered(AT_ONCE).try_collect().await
        };
        let mut all = fill("before", BEFORE).await?;
        settle(scene, &ledger, &owners(scene, &all)).await?;
        let snapshot = Snapshot::take(&scene.cluster).await?;
        let mut lost = fill("forgotten", forgotten).await?;
        let version = version(scene).await?;
        snapshot.restore(&scene.cluster).await?;
        let restored = Instant::now();
        let asks = (0..NEXT).map(async |number| {
            let mut guest = make(scene, &agents[number % AGENTS], &format!("next-{number}"), &wish).await?;
            loop {
                match guest.add(&ledger).await? {
                    Added::Given(_) => return anyhow::Ok((guest, restored.elapsed())),
                    Added::Refused(reason) => ensure!(
                        restored.elapsed() < ALL,
                        "{} has no address {ALL:?} after the restore: {reason}",
                        guest.pod.name_any()
                    ),
                    Added::Nothing => anyhow::bail!("the ADD of {} was not answered", guest.pod.name_any()),
                }
                tokio::time::sleep(AGAIN).await;
            }
        });
        let given: Vec<(Guest, Duration)> = futures::stream::iter(asks).buffer_unordered(NEXT).try_collect().await?;
        let times = given.iter().map(|(_, took)| *took);
        let (first, latest) = (times.clone().min().unwrap_or_default(), times.max().unwrap_or_default());
        all.extend(given.into_iter().map(|(guest, _)| guest));
        let wrongs = ledger.wrongs();
        ensure!(wrongs.is_empty(), "what must never happen did:\n{}", wrongs.join("\n"));
        ensure!(first <= FIRST, "the first address was given {first:?} after the restore");
        // The kubelets end what the API server knows nothing of.
        for guest in &mut lost {
            guest.end_sandbox(&ledger).await?;
        }
        settle(scene, &ledger, &owners(scene, &all)).await?;
        for guest in &mut all {
            guest.end(scene, &ledger).await?;
        }
        settle(scene, &ledger, &owners(scene, &[])).await?;
        catch_up(scene, version).await?;
        operators::ready(&scene.cluster, operators::replicas_of(&scene.cluster, OPERATOR).await?).await?;
        Ok(format!(
            "seed {seed}: {forgotten} allocations were forgotten; the first new address was given {first:?} after the restore, the last of \
             {NEXT} after {latest:?}"
        ))
    })
    .await
}

/// The resourceVersion that the API server is at.
async fn version(scene: &Scene) -> Result<u64> {
    let list = scene.api::<ConfigMap>().list(&ListParams::default()).await;
    let version = list.context("listing ConfigMaps")?.metadata.resource_version;
    let version = version.context("a list without resourceVersion")?;
    version
        .parse()
        .with_context(|| format!("the resourceVersion {version}"))
}

/// Writes until the API server is at a resourceVersion that it was at before. Watches that were open then go on only from there, and
/// those of other programs on the cluster are not what is tried here.
async fn catch_up(scene: &Scene, version: u64) -> Result<()> {
    let maps = scene.api::<ConfigMap>();
    let map: ConfigMap = serde_json::from_value(json!({"metadata": {"name": "catch-up"}}))?;
    scene.create(&map).await?;
    let mut round = 0;
    while self::version(scene).await? <= version {
        round += 1;
        let writes = (0..WRITES).map(async |number| {
            let change = json!({"data": {"round": format!("{round}-{number}")}});
            let written = maps
                .patch("catch-up", &PatchParams::default(), &Patch::Merge(&change))
                .await;
            written.context("writing a ConfigMap").map(drop)
        });
        futures::stream::iter(writes)
            .buffer_unordered(AT_ONCE)
            .try_collect::<Vec<()>>()
            .await?;
    }
    Ok(())
}
