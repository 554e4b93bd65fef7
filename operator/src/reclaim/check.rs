//! Finds what no change told of: pods that went while nobody watched, records that somebody wrote by hand.
//!
//! Records are read before pods. A pod that is made in between is not on record yet, and one whose record was seen and that is not
//! there any more is gone for ever.

use std::time::Duration;

use kube::api::{Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};
use spiderpool_crds::names::{LABEL_NODE, node_label};
use spiderpool_crds::{SpiderEndpoint, SpiderIPPool};
use spiderpool_kit::cache::Key;
use spiderpool_kit::clock;
use spiderpool_kit::deadline::within;

use super::BATCH;
use super::case::of_pool;
use super::suspects::Notes;
use crate::context::Context;
use crate::write::{self, DEADLINE};

/// As many names as are looked at in one pass are looked at so long after each other, so that a check of a large cluster is no
/// burst of reads.
const PACE: Duration = Duration::from_secs(1);

/// How many endpoints get their label in one check, in which the looks wait.
const LABELS: usize = 1000;

/// Looks at every record and every endpoint that the caches have.
pub(super) async fn everything(context: &Context) -> Notes {
    let mut notes = Notes::new();
    for pool in context.caches.pools.list() {
        note(&mut notes, of_records(context, &pool));
        // Thousands of records are read here, and others want to work as well.
        tokio::task::yield_now().await;
    }
    let endpoints = context.caches.endpoints.list();
    let left = endpoints.iter().filter(|endpoint| !is_used(context, endpoint));
    note(&mut notes, left.map(|endpoint| key_of(endpoint)));
    label(context).await;
    notes
}

/// Writes the label of their node into endpoints that have none, as those of the peer: agents know their endpoints by it, and would
/// never see what was there before an upgrade.
async fn label(context: &Context) {
    let endpoints = context.caches.endpoints.list();
    let mut without: Vec<_> = endpoints.iter().filter_map(|one| Some((one, missing(one)?))).collect();
    if without.is_empty() {
        return;
    }
    // Those that the API server refuses must not keep the others waiting for ever.
    let first = usize::try_from(clock::now().as_second()).unwrap_or_default() % without.len();
    without.rotate_left(first);
    for (endpoint, patch) in without.into_iter().take(LABELS) {
        match write_label(context, endpoint, patch).await {
            Ok(()) => tracing::debug!(endpoint = %key_of(endpoint), "wrote the label of its node into an endpoint"),
            Err(error @ (write::Error::Stale(_) | write::Error::Refused(_))) => {
                tracing::info!(endpoint = %key_of(endpoint), %error, "no label written into an endpoint, trying again later");
            }
            // The next request would hardly fare better.
            Err(error @ (write::Error::NotLeader | write::Error::Failed(_))) => {
                tracing::info!(endpoint = %key_of(endpoint), %error, "no labels written into endpoints, trying again later");
                return;
            }
        }
    }
}

/// What adds the label of its node to an endpoint of this version; none if it has one, or names no node. One that is on its way out
/// gets it as well: its agent frees what it names.
fn missing(endpoint: &SpiderEndpoint) -> Option<Value> {
    let label = node_label(&endpoint.status.current.node);
    let is_missing = !label.is_empty() && !endpoint.labels().contains_key(LABEL_NODE);
    is_missing
        .then(|| json!({"metadata": {"resourceVersion": endpoint.resource_version(), "labels": {LABEL_NODE: label}}}))
}

async fn write_label(context: &Context, endpoint: &SpiderEndpoint, patch: Value) -> Result<(), write::Error> {
    let namespace = endpoint.namespace().unwrap_or_default();
    let name = endpoint.name_any();
    let api: Api<SpiderEndpoint> = Api::namespaced(context.client.clone(), &namespace);
    let _permit = context.leadership.write_permit().ok_or(write::Error::NotLeader)?;
    let what = format!("labelling SpiderEndpoint {namespace}/{name}");
    let (params, patch) = (PatchParams::default(), Patch::Merge(patch));
    let written = within(DEADLINE, what, api.patch(&name, &params, &patch)).await?;
    context.caches.endpoints.learn(written);
    Ok(())
}

fn note(notes: &mut Notes, keys: impl IntoIterator<Item = Key>) {
    for key in keys {
        let passes = u32::try_from(notes.len() / BATCH).unwrap_or(u32::MAX);
        let after = PACE.saturating_mul(passes);
        notes.entry(key).or_insert(after);
    }
}

/// The names in a pool's records whose pods the cache does not have, or not as pods that stay.
pub(super) fn of_records(context: &Context, pool: &SpiderIPPool) -> Vec<Key> {
    let mut keys = Vec::new();
    of_pool(pool, |record| {
        if let Some((namespace, name)) = record.owner.pod.split_once('/') {
            let own = has_endpoint(context, namespace, name, &record.owner.uid);
            if !own && !stays(context, namespace, name, &record.owner.uid) {
                keys.push(Key::new(namespace, name));
            }
        }
    });
    keys
}

/// Whether an endpoint of the UID speaks for a record: then it is the endpoint that is looked at.
fn has_endpoint(context: &Context, namespace: &str, name: &str, uid: &str) -> bool {
    let endpoint = context.caches.endpoints.get(namespace, name);
    endpoint.is_some_and(|endpoint| endpoint.status.current.uid == uid)
}

fn stays(context: &Context, namespace: &str, name: &str, uid: &str) -> bool {
    let pod = context.caches.pods.get(namespace, name);
    pod.is_some_and(|pod| pod.is(uid) && pod.stays())
}

/// Whether the pod of an endpoint stays, as far as the cache knows.
pub(super) fn is_used(context: &Context, endpoint: &SpiderEndpoint) -> bool {
    let current = &endpoint.status.current;
    let name = current.pod_name.clone().unwrap_or_else(|| endpoint.name_any());
    let bare = context.reclaim.policy.without_addresses;
    !bare && stays(context, &endpoint.namespace().unwrap_or_default(), &name, &current.uid)
}

pub(super) fn key_of(endpoint: &SpiderEndpoint) -> Key {
    Key::new(endpoint.namespace().unwrap_or_default(), endpoint.name_any())
}

#[cfg(test)]
mod tests {
    use super::*;
    use spiderpool_crds::{EndpointStatus, PodAllocation};

    fn endpoint(node: &str, label: Option<&str>) -> SpiderEndpoint {
        let current = PodAllocation {
            uid: "u".to_owned(),
            node: node.to_owned(),
            ..PodAllocation::default()
        };
        let status = EndpointStatus {
            current,
            ..EndpointStatus::default()
        };
        let mut endpoint = SpiderEndpoint::new("ns", "pod", status);
        endpoint.metadata.resource_version = Some("7".to_owned());
        endpoint.labels_mut().insert("team".to_owned(), "a".to_owned());
        if let Some(label) = label {
            endpoint.labels_mut().insert(LABEL_NODE.to_owned(), label.to_owned());
        }
        endpoint
    }

    #[test]
    fn endpoints_without_the_label_of_their_node_get_it() {
        let patch =
            |label: &str| json!({"metadata": {"resourceVersion": "7", "labels": {"ipam.spidernet.io/node": label}}});
        assert_eq!(missing(&endpoint("n1", None)), Some(patch("n1")));
        let long = "n".repeat(100);
        assert_eq!(missing(&endpoint(&long, None)), Some(patch(&"n".repeat(63))));
        for (node, label) in [("n1", Some("n1")), ("n1", Some("n2")), ("", None)] {
            assert_eq!(missing(&endpoint(node, label)), None, "{node} {label:?}");
        }
    }
}
