//! A stand-in for OpenKruise's manager, for CloneSets only: it makes and deletes their pods, so that tests can show what
//! Spiderpool does for a third-party kind where no real manager is at hand.
//!
//! A change of the template replaces pods one by one. Nothing of what makes CloneSets worth having is here.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use futures::StreamExt;
use k8s_openapi::api::core::v1::{Pod, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::api::{DeleteParams, ListParams, ObjectMeta, Patch, PatchParams, PostParams, Preconditions};
use kube::core::Selector;
use kube::runtime::controller::{Action, Controller};
use kube::runtime::watcher;
use kube::{Api, Client, CustomResource, Resource, ResourceExt};
use serde::{Deserialize, Serialize};
use serde_json::json;

/// Label of a pod: which template it was made of.
const REVISION: &str = "controller-revision-hash";

/// After a failure.
const PAUSE: Duration = Duration::from_secs(1);

/// What is read of a CloneSet.
#[derive(Clone, Debug, Deserialize, Serialize, CustomResource)]
#[kube(
    group = "apps.kruise.io",
    version = "v1alpha1",
    kind = "CloneSet",
    namespaced,
    schema = "disabled"
)]
#[serde(rename_all = "camelCase")]
struct CloneSetSpec {
    #[serde(default = "one")]
    replicas: usize,
    selector: LabelSelector,
    template: PodTemplateSpec,
}

fn one() -> usize {
    1
}

/// What one look at a CloneSet's pods decides.
struct Plan {
    make: usize,
    delete: Vec<Pod>,
}

#[derive(Debug, thiserror::Error)]
#[error("{0:#}")]
struct Failure(anyhow::Error);

#[tokio::main]
async fn main() -> Result<()> {
    let client = Client::try_default().await.context("making a client")?;
    let sets: Api<CloneSet> = Api::all(client.clone());
    let pods: Api<Pod> = Api::all(client.clone());
    Controller::new(sets, watcher::Config::default())
        .owns(pods, watcher::Config::default())
        .run(reconcile, |_, _, _| Action::requeue(PAUSE), Arc::new(client))
        .for_each(async |outcome| {
            if let Err(error) = outcome {
                // Nobody is there to be told that stderr is gone.
                let _ = writeln!(std::io::stderr(), "{error}");
            }
        })
        .await;
    Ok(())
}

async fn reconcile(set: Arc<CloneSet>, client: Arc<Client>) -> Result<Action, Failure> {
    // What is deleted is left to the garbage collector.
    if set.metadata.deletion_timestamp.is_none() {
        let (namespace, name) = (set.namespace().unwrap_or_default(), set.name_any());
        serve(&set, &client, &namespace)
            .await
            .with_context(|| format!("CloneSet {namespace}/{name}"))
            .map_err(Failure)?;
    }
    Ok(Action::await_change())
}

async fn serve(set: &CloneSet, client: &Client, namespace: &str) -> Result<()> {
    let api: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let selector = Selector::try_from(set.spec.selector.clone()).context("understanding the selector")?;
    let revision = revision(&set.spec.template)?;
    // Asked of the API server and not of a cache: a cache that lags behind would make pods twice.
    let listed = api.list(&ListParams::default().labels_from(&selector)).await;
    let pods: Vec<Pod> = listed
        .context("listing pods")?
        .items
        .into_iter()
        .filter(|pod| owned(pod, set))
        .collect();
    let plan = plan(pods.clone(), set.spec.replicas, &revision);
    for pod in &plan.delete {
        let params = DeleteParams {
            preconditions: Some(Preconditions {
                uid: pod.uid(),
                resource_version: None,
            }),
            ..DeleteParams::default()
        };
        match api.delete(&pod.name_any(), &params).await {
            Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => {}
            outcome => drop(outcome.with_context(|| format!("deleting pod {}", pod.name_any()))?),
        }
    }
    for _ in 0..plan.make {
        api.create(&PostParams::default(), &pod(set, &revision)?)
            .await
            .context("making a pod")?;
    }
    let alive = || pods.iter().filter(|pod| is_alive(pod));
    let status = json!({"status": {
        "observedGeneration": set.metadata.generation,
        "replicas": alive().count(),
        "readyReplicas": alive().filter(|pod| is_ready(pod)).count(),
        "updatedReplicas": alive().filter(|pod| is_of(pod, &revision)).count(),
        "labelSelector": selector.to_string(),
    }});
    let sets: Api<CloneSet> = Api::namespaced(client.clone(), namespace);
    match sets
        .patch_status(&set.name_any(), &PatchParams::default(), &Patch::Merge(status))
        .await
    {
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
        outcome => outcome.map(drop).context("writing the status"),
    }
}

/// Terminating pods count no more, finished ones are replaced, and of an old template one pod goes at a time, when all
/// others are ready.
fn plan(pods: Vec<Pod>, replicas: usize, revision: &str) -> Plan {
    let here = pods.into_iter().filter(|pod| pod.metadata.deletion_timestamp.is_none());
    let (mut alive, mut delete): (Vec<Pod>, Vec<Pod>) = here.partition(is_alive);
    // The most useful first: of the template, ready, old.
    alive.sort_by_key(|pod| (!is_of(pod, revision), !is_ready(pod), pod.creation_timestamp()));
    let excess = alive.split_off(replicas.min(alive.len()));
    let whole = alive.len() == replicas && alive.iter().all(is_ready);
    let old = alive.pop_if(|pod| whole && excess.is_empty() && !is_of(pod, revision));
    delete.extend(excess);
    delete.extend(old);
    Plan {
        make: replicas - alive.len(),
        delete,
    }
}

fn pod(set: &CloneSet, revision: &str) -> Result<Pod> {
    let template = set.spec.template.clone();
    let metadata = template.metadata.unwrap_or_default();
    let mut labels: BTreeMap<String, String> = metadata.labels.unwrap_or_default();
    labels.insert(REVISION.to_owned(), revision.to_owned());
    Ok(Pod {
        metadata: ObjectMeta {
            generate_name: Some(format!("{}-", set.name_any())),
            labels: Some(labels),
            annotations: metadata.annotations,
            owner_references: Some(vec![set.controller_owner_ref(&()).context("a CloneSet without UID")?]),
            ..ObjectMeta::default()
        },
        spec: template.spec,
        status: None,
    })
}

fn revision(template: &PodTemplateSpec) -> Result<String> {
    let mut hasher = DefaultHasher::new();
    serde_json::to_string(template)
        .context("reading the template")?
        .hash(&mut hasher);
    Ok(format!("{:x}", hasher.finish()))
}

fn owned(pod: &Pod, set: &CloneSet) -> bool {
    let uid = set.uid().unwrap_or_default();
    pod.owner_references()
        .iter()
        .any(|owner| owner.controller == Some(true) && owner.uid == uid)
}

fn is_of(pod: &Pod, revision: &str) -> bool {
    pod.labels().get(REVISION).is_some_and(|label| label == revision)
}

fn is_alive(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    pod.metadata.deletion_timestamp.is_none() && !matches!(phase, Some("Succeeded" | "Failed"))
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions
        .into_iter()
        .any(|condition| condition.type_ == "Ready" && condition.status == "True")
}
