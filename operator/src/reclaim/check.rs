//! Finds what no change told of: pods that went while nobody watched, records that somebody wrote by hand.
//!
//! Records are read before pods. A pod that is made in between is not on record yet, and one whose record was seen and that is not
//! there any more is gone for ever.

use std::time::Duration;

use kube::ResourceExt;
use spiderpool_crds::{SpiderEndpoint, SpiderIPPool};
use spiderpool_kit::cache::Key;

use super::BATCH;
use super::case::of_pool;
use super::suspects::Notes;
use crate::context::Context;

/// As many names as are looked at in one pass are looked at so long after each other, so that a check of a large cluster is no
/// burst of reads.
const PACE: Duration = Duration::from_secs(1);

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
    notes
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
