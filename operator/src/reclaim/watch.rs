//! From what changes to the names that are worth a look.
//!
//! A pod that goes, an endpoint without its pod, a pool whose records change, a node that is lost, comes back or is said to be off, a
//! namespace that is deleted, a set that changes size. Whoever falls behind looks at everything.

use std::collections::BTreeSet;
use std::time::Duration;

use k8s_openapi::api::apps::v1::StatefulSet;
use kube::ResourceExt;
use spiderpool_crds::sticky::Keeper;
use spiderpool_crds::{SpiderEndpoint, SpiderIPPool};
use spiderpool_kit::cache::{Change, Changes, Key};
use tokio::time::{Instant, sleep_until};

use super::{check, live};
use crate::application::native::controller;
use crate::context::Context;
use crate::kinds::namespace::NamespaceSketch;
use crate::kinds::node::NodeSketch;
use crate::kinds::pod::PodSketch;

/// How long changes of records gather before these are read.
const CALM: Duration = Duration::from_secs(5);

/// The changes that matter.
pub(super) struct Watch {
    pods: Changes<PodSketch>,
    endpoints: Changes<SpiderEndpoint>,
    pools: Changes<SpiderIPPool>,
    nodes: Changes<NodeSketch>,
    namespaces: Changes<NamespaceSketch>,
    sets: Changes<StatefulSet>,
    /// Pools whose records changed, and when they are read.
    changed: BTreeSet<String>,
    read_at: Option<Instant>,
}

impl Watch {
    pub(super) fn of(context: &Context) -> Self {
        let caches = &context.caches;
        Self {
            pods: caches.pods.subscribe(),
            endpoints: caches.endpoints.subscribe(),
            pools: caches.pools.subscribe(),
            nodes: caches.nodes.subscribe(),
            namespaces: caches.namespaces.subscribe(),
            sets: caches.stateful_sets.subscribe(),
            changed: BTreeSet::new(),
            read_at: None,
        }
    }

    /// The next finding; none when the caches end. Nothing is lost when this is dropped.
    pub(super) async fn next(&mut self, context: &Context) -> Option<Found> {
        loop {
            let read_at = self.read_at;
            let reading = async {
                match read_at {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            let found = tokio::select! {
                change = self.pods.next() => of_pod(context, change?),
                change = self.endpoints.next() => of_endpoint(context, change?),
                change = self.nodes.next() => of_node(context, change?),
                change = self.namespaces.next() => of_namespace(context, change?),
                change = self.sets.next() => of_set(context, change?),
                change = self.pools.next() => self.of_pool(change?),
                () = reading => Found::Names(self.read(context)),
            };
            match found {
                Found::Names(names) if names.is_empty() => {}
                found => return Some(found),
            }
        }
    }

    fn of_pool(&mut self, change: Change<SpiderIPPool>) -> Found {
        match change {
            Change::Applied { old, new } => {
                let said = |pool: &SpiderIPPool| (records(pool).map(str::to_owned), pool.is_restoring());
                let same = old.is_some_and(|old| said(&old) == said(&new));
                if !same {
                    self.changed.insert(new.name_any());
                    self.read_at.get_or_insert_with(|| Instant::now() + CALM);
                }
                Found::nothing()
            }
            Change::Deleted(_) | Change::Malformed(_) => Found::nothing(),
            Change::Resynced => Found::Everything,
        }
    }

    /// Reads the records of the pools that changed.
    fn read(&mut self, context: &Context) -> Vec<Key> {
        self.read_at = None;
        let pools = std::mem::take(&mut self.changed).into_iter();
        let pools = pools.filter_map(|name| context.caches.pools.get("", &name));
        pools.flat_map(|pool| check::of_records(context, &pool)).collect()
    }
}

/// What is worth a look.
pub(super) enum Found {
    /// These names, once the node's agent had the time to do what there is to do.
    Names(Vec<Key>),
    /// Everything: changes were missed.
    Everything,
}

impl Found {
    const fn nothing() -> Self {
        Self::Names(Vec::new())
    }
}

fn records(pool: &SpiderIPPool) -> Option<&str> {
    pool.status.as_ref()?.allocated_ips.as_deref()
}

fn of_pod(context: &Context, change: Change<PodSketch>) -> Found {
    let bare = context.reclaim.policy.without_addresses;
    Found::Names(match change {
        Change::Applied { old, new } => {
            let replaced = old.is_some_and(|old| old.metadata.uid != new.metadata.uid);
            if replaced || !new.stays() || bare {
                names(&new)
            } else {
                Vec::new()
            }
        }
        Change::Deleted(gone) => names(&gone),
        Change::Malformed(_) => Vec::new(),
        Change::Resynced => return Found::Everything,
    })
}

/// The names that a pod's addresses may be on record under.
fn names(pod: &PodSketch) -> Vec<Key> {
    if pod.host_network() {
        return Vec::new();
    }
    let (namespace, name) = (pod.namespace().unwrap_or_default(), pod.name_any());
    let keeper = Keeper::of_pod(&namespace, &name, controller(&pod.metadata), live::ALL);
    let machine = keeper.filter(Keeper::is_machine);
    let machine = machine.map(|keeper| Key::new(keeper.namespace, keeper.name));
    [Key::new(namespace, name)].into_iter().chain(machine).collect()
}

fn of_endpoint(context: &Context, change: Change<SpiderEndpoint>) -> Found {
    Found::Names(match change {
        Change::Applied { new, .. } if check::is_used(context, &new) => Vec::new(),
        Change::Applied { new, .. } => vec![check::key_of(&new)],
        Change::Deleted(gone) => vec![check::key_of(&gone)],
        Change::Malformed(_) => Vec::new(),
        Change::Resynced => return Found::Everything,
    })
}

fn of_node(context: &Context, change: Change<NodeSketch>) -> Found {
    let node = match change {
        Change::Applied { old: Some(old), new } if old.seen() == new.seen() => return Found::nothing(),
        Change::Applied { new, .. } => new,
        Change::Deleted(gone) => gone,
        Change::Malformed(_) => return Found::nothing(),
        Change::Resynced => return Found::Everything,
    };
    let endpoints = context.caches.endpoints.indexed(&node.name_any());
    let left = endpoints.iter().filter(|endpoint| !check::is_used(context, endpoint));
    Found::Names(left.map(|endpoint| check::key_of(endpoint)).collect())
}

/// By which node an endpoint is found.
pub fn by_node(endpoint: &SpiderEndpoint) -> Vec<String> {
    vec![endpoint.status.current.node.clone()]
}

/// What is left in a namespace when it begins to go. What is deleted in it later tells of itself.
fn of_namespace(context: &Context, change: Change<NamespaceSketch>) -> Found {
    let name = match change {
        Change::Applied { old, new } if new.is_ending() && !old.as_ref().is_some_and(|old| old.is_ending()) => {
            new.name_any()
        }
        Change::Applied { .. } | Change::Deleted(_) | Change::Malformed(_) => return Found::nothing(),
        Change::Resynced => return Found::Everything,
    };
    let endpoints = context.caches.endpoints.list();
    let left = endpoints
        .iter()
        .filter(|endpoint| endpoint.metadata.namespace.as_ref() == Some(&name) && !check::is_used(context, endpoint));
    Found::Names(left.map(|endpoint| check::key_of(endpoint)).collect())
}

fn of_set(context: &Context, change: Change<StatefulSet>) -> Found {
    let set = match change {
        Change::Applied { old: Some(old), new } if is_alike(&old, &new) => return Found::nothing(),
        Change::Applied { new, .. } => new,
        Change::Deleted(gone) => gone,
        Change::Malformed(_) => return Found::nothing(),
        Change::Resynced => return Found::Everything,
    };
    let (namespace, name) = (set.namespace(), set.name_any());
    let of_set =
        |endpoint: &SpiderEndpoint| endpoint.namespace() == namespace && endpoint.status.owner_controller_name == name;
    let endpoints = context.caches.endpoints.list();
    let left = endpoints
        .iter()
        .filter(|endpoint| of_set(endpoint) && !check::is_used(context, endpoint));
    Found::Names(left.map(|endpoint| check::key_of(endpoint)).collect())
}

/// Whether a set has the same pods as before.
fn is_alike(old: &StatefulSet, new: &StatefulSet) -> bool {
    let ordinals = |set: &StatefulSet| {
        let spec = set.spec.as_ref()?;
        Some((
            spec.replicas,
            spec.ordinals.as_ref().and_then(|ordinals| ordinals.start),
        ))
    };
    ordinals(old) == ordinals(new) && old.metadata.deletion_timestamp == new.metadata.deletion_timestamp
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reclaim::tests::scene::{Scene, of_machine};
    use serde_json::{Value, json};

    /// Scene with the endpoint of a pod `shop` on node `n1`.
    fn scene() -> (Scene, Watch) {
        let scene = Scene::new();
        scene.record(&[("10.0.0.1", "shop", "shop-uid")]);
        scene.endpoint("shop", "shop-uid", "10.0.0.1", ("Deployment", "shop"), &json!([]));
        for node in ["n1", "n2"] {
            scene.node(node, "True", &[]);
        }
        let watch = Watch::of(&scene.context);
        (scene, watch)
    }

    async fn next(scene: &Scene, watch: &mut Watch) -> Vec<String> {
        match tokio::time::timeout(CALM * 2, watch.next(&scene.context)).await {
            Ok(Some(Found::Names(names))) => names.iter().map(Key::to_string).collect(),
            Ok(Some(Found::Everything)) => vec!["everything".to_owned()],
            Ok(None) => vec!["the end".to_owned()],
            Err(_) => Vec::new(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_pod_is_worth_a_look_when_it_ends_under_each_name_that_it_may_have() {
        let (scene, mut watch) = scene();
        scene.pod("shop", |_| {});
        scene.know_pod("shop");
        assert_eq!(next(&scene, &mut watch).await, Vec::<String>::new());
        scene.pod("shop", |pod| pod["status"]["phase"] = json!("Succeeded"));
        scene.know_pod("shop");
        assert_eq!(next(&scene, &mut watch).await, ["ns/shop"]);
        let launcher = |pod: &mut Value| {
            of_machine(pod);
            pod["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        };
        scene.pod("launcher", launcher);
        scene.know_pod("launcher");
        assert_eq!(next(&scene, &mut watch).await, ["ns/launcher", "ns/db"]);
        let pods = &scene.context.caches.pods;
        pods.forget(&pods.get("ns", "shop").unwrap());
        assert_eq!(next(&scene, &mut watch).await, ["ns/shop"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_that_is_lost_or_off_or_gone_is_worth_a_look_at_what_is_left_there() {
        let (scene, mut watch) = scene();
        scene.node("n1", "True", &["dedicated"]);
        scene.node("n2", "Unknown", &[]);
        assert_eq!(next(&scene, &mut watch).await, Vec::<String>::new());
        scene.node("n1", "Unknown", &[]);
        assert_eq!(next(&scene, &mut watch).await, ["ns/shop"]);
        scene.node("n1", "Unknown", &["node.kubernetes.io/out-of-service"]);
        assert_eq!(next(&scene, &mut watch).await, ["ns/shop"]);
        scene.end_node("n1");
        assert_eq!(next(&scene, &mut watch).await, ["ns/shop"]);
        // What a pod uses that is there is no matter of its node.
        scene.pod("shop", |_| {});
        scene.know_pod("shop");
        scene.node("n1", "Unknown", &[]);
        assert_eq!(next(&scene, &mut watch).await, Vec::<String>::new());
    }

    #[tokio::test(start_paused = true)]
    async fn a_namespace_that_begins_to_go_is_worth_a_look_at_what_is_left_in_it() {
        let (scene, mut watch) = scene();
        scene.end_namespace();
        assert_eq!(next(&scene, &mut watch).await, ["ns/shop"]);
        scene.end_namespace();
        assert_eq!(next(&scene, &mut watch).await, Vec::<String>::new());
    }

    #[tokio::test(start_paused = true)]
    async fn records_that_somebody_writes_are_read_when_they_have_calmed_down() {
        let (scene, mut watch) = scene();
        let begun = Instant::now();
        scene.pool(|spec| spec["disable"] = json!(true));
        scene.status(|status| {
            status["allocatedIPs"] = json!(r#"{"10.0.0.2":{"pod":"ns/leak","podUid":"u"}}"#);
        });
        assert_eq!(next(&scene, &mut watch).await, ["ns/leak"]);
        assert_eq!(begun.elapsed(), CALM);
    }

    #[tokio::test(start_paused = true)]
    async fn a_set_is_worth_a_look_when_it_changes_its_pods() {
        let (scene, mut watch) = scene();
        let set = |replicas: u32, version: u32| {
            let set = json!({"metadata": {"name": "shop", "namespace": "ns", "uid": "s", "resourceVersion": version.to_string()},
                "spec": {"replicas": replicas, "selector": {}, "serviceName": "", "template": {}}});
            scene
                .context
                .caches
                .stateful_sets
                .learn(serde_json::from_value(set).unwrap());
        };
        set(2, 1);
        assert_eq!(next(&scene, &mut watch).await, ["ns/shop"]);
        set(2, 2);
        assert_eq!(next(&scene, &mut watch).await, Vec::<String>::new());
        set(1, 3);
        assert_eq!(next(&scene, &mut watch).await, ["ns/shop"]);
    }
}
