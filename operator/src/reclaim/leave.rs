//! Lets endpoints go whose namespace waits for them, while their addresses are kept: an endpoint is needed no more when each record
//! of its pod names the node itself.

use std::collections::{BTreeMap, BTreeSet};

use spiderpool_crds::{SpiderEndpoint, SpiderIPPool};
use spiderpool_kit::cache::Key;

use super::apply::{self, Freed};
use crate::context::Context;
use crate::write;

/// Whose records name a node: pod as recorded, UID, node.
type Place = (String, String, String);

/// Writes the node into the records, with one write for each pool, and then lets the endpoints go. What fails is told and left for the
/// next look.
pub(super) async fn go(context: &Context, leaving: Vec<(Key, Freed)>) {
    let mut pools: BTreeMap<String, BTreeSet<Place>> = BTreeMap::new();
    for (key, freed) in &leaving {
        let Some(endpoint) = &freed.endpoint else { continue };
        for pool in pools_of(freed, endpoint) {
            pools.entry(pool).or_default().insert(place(key, endpoint));
        }
    }
    let mut failed = BTreeSet::new();
    for (pool, places) in pools {
        if let Err(error) = note(context, &pool, &places).await {
            tracing::info!(pool, %error, "the node of records was not noted, trying again");
            failed.insert(pool);
        }
    }
    for (key, freed) in leaving {
        let Some(endpoint) = &freed.endpoint else { continue };
        if pools_of(&freed, endpoint).iter().any(|pool| failed.contains(pool)) {
            continue;
        }
        let node = &endpoint.status.current.node;
        match apply::delete(context, endpoint).await {
            Ok(()) => tracing::info!(
                endpoint = %key,
                node,
                "let an endpoint go that its namespace waited for; the records name the node, which may still use the addresses"
            ),
            Err(error) => tracing::info!(endpoint = %key, %error, "endpoint not let go, trying again"),
        }
    }
}

fn place(key: &Key, endpoint: &SpiderEndpoint) -> Place {
    let current = &endpoint.status.current;
    (key.to_string(), current.uid.clone(), current.node.clone())
}

/// The pools that have records of an endpoint's pod, as far as that and the cache know.
fn pools_of(freed: &Freed, endpoint: &SpiderEndpoint) -> BTreeSet<String> {
    let items = endpoint.status.current.ips.iter();
    let named = items.flat_map(|item| [item.ipv4_pool.clone(), item.ipv6_pool.clone()]);
    let recorded = freed.records.iter().map(|record| record.pool.clone());
    named.flatten().chain(recorded).collect()
}

async fn note(context: &Context, pool: &str, places: &BTreeSet<Place>) -> Result<(), write::Error> {
    let Some(live) = context.pools.read(pool).await? else {
        return Ok(());
    };
    match noted(&live, places) {
        Some(noted) => context.pools.replace_status(&noted).await.map(drop),
        None => Ok(()),
    }
}

/// The pool with the node in each record of these pods; none if they have it. Where the records cannot be read, nobody frees
/// anything either.
fn noted(pool: &SpiderIPPool, places: &BTreeSet<Place>) -> Option<SpiderIPPool> {
    let mut records = pool.records().ok()?;
    let without: Vec<_> = records
        .iter()
        .filter(|(_, record)| record.node.as_deref().is_none_or(str::is_empty))
        .filter_map(|(address, record)| {
            let own = |place: &&Place| place.0 == record.pod && place.1 == record.pod_uid;
            Some((address, places.iter().find(own)?.2.clone()))
        })
        .collect();
    if without.is_empty() {
        return None;
    }
    for (address, node) in without {
        if let Some(mut record) = records.remove(address) {
            record.node = Some(node);
            records.insert(address, record);
        }
    }
    let mut pool = pool.clone();
    pool.status.get_or_insert_default().allocated_ips = records.to_status();
    Some(pool)
}

#[cfg(test)]
mod tests {
    use super::super::tests::scene::Scene;
    use super::super::*;
    use serde_json::json;

    /// A pod `shop` of a node whose agent does not answer, and its namespace on the way out.
    fn scene() -> Scene {
        let scene = Scene::new();
        scene.record(&[("10.0.0.1", "shop", "shop-uid"), ("10.0.0.2", "other", "other-uid")]);
        scene.endpoint("shop", "shop-uid", "10.0.0.1", ("Deployment", "shop"), &json!([]));
        scene.sandbox("shop", Some("c1"));
        scene.pod("other", |_| {});
        scene.know_pod("other");
        scene.node("n1", "True", &[]);
        scene
    }

    async fn looks(scene: &Scene, seconds: u64) {
        let mut suspects = Suspects::default();
        suspects.note(check::everything(&scene.context).await, Instant::now());
        for _ in 0..=seconds {
            look(&scene.context, &mut suspects).await;
            tokio::time::advance(Duration::from_secs(1)).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_namespace_that_goes_does_not_wait_for_an_agent_and_no_address_is_freed() {
        for ready in ["True", "Unknown"] {
            let scene = scene();
            scene.node("n1", ready, &[]);
            scene.end_endpoint("shop");
            looks(&scene, 20).await;
            assert!(scene.has_endpoint("shop"), "the namespace stays");
            scene.end_namespace();
            looks(&scene, 5).await;
            assert!(scene.has_endpoint("shop"), "its agent may be about to free it");
            looks(&scene, 15).await;
            assert!(!scene.has_endpoint("shop"));
            let records: serde_json::Value = serde_json::from_str(&scene.records()).unwrap();
            assert_eq!(records["10.0.0.1"]["node"], "n1");
            assert_eq!(records["10.0.0.2"]["node"], json!(null));
            looks(&scene, 120).await;
            assert_eq!(scene.recorded().len(), 2, "the node may still use it");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_not_on_its_way_out_or_has_a_pod_stays() {
        let scene = scene();
        scene.end_namespace();
        looks(&scene, 60).await;
        assert!(scene.has_endpoint("shop"), "nobody has deleted it yet");
        scene.end_endpoint("shop");
        scene.pod("shop", |pod| {
            pod["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z")
        });
        looks(&scene, 60).await;
        assert!(scene.has_endpoint("shop"));
    }

    #[tokio::test(start_paused = true)]
    async fn an_endpoint_stays_while_its_records_do_not_say_where_it_was() {
        let scene = scene();
        scene.end_endpoint("shop");
        scene.end_namespace();
        scene.cluster.fail("spiderippools");
        looks(&scene, 60).await;
        assert!(scene.has_endpoint("shop"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_that_is_off_frees_what_went_without_its_endpoint() {
        let scene = scene();
        scene.end_endpoint("shop");
        scene.end_namespace();
        looks(&scene, 20).await;
        scene.node("n1", "Unknown", &["node.kubernetes.io/out-of-service"]);
        looks(&scene, 120).await;
        assert_eq!(scene.recorded(), ["10.0.0.2"]);
    }
}
