//! Changes of workloads and of their pods.

use std::collections::BTreeSet;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::core::ObjectMeta;
use spiderpool_crds::owner as rule;
use spiderpool_kit::cache::{Change, Key};

use super::{look_at, subnets_of};
use crate::application::native::controller;
use crate::application::{AppId, Application};
use crate::context::Context;
use crate::kinds::owner::{self, Led};
use crate::kinds::pod::PodSketch;
use crate::kinds::watched::index;
use crate::kinds::{KindId, rights};
use crate::pool::index::application;
use crate::subnet::tell;

/// Takes in an application as it is now.
pub fn put(context: &Context, app: Application) {
    let remarks = app.clone();
    if let Some(mut concerned) = context.applications.put(app) {
        concerned.extend(subnets_with_pools(context, &remarks.id()));
        remark(context, &remarks);
        context.waiting.keep(&remarks.id(), &remarks.slot_ids());
        look_at(context, concerned);
    }
}

/// Takes in that an application is gone.
pub fn gone(context: &Context, id: &AppId) {
    context.waiting.forget(id);
    look_at(context, context.applications.remove(id));
    look_at(context, subnets_with_pools(context, id));
}

/// The subnets that an application has pools of, whether it names them (any more) or not.
fn subnets_with_pools(context: &Context, id: &AppId) -> BTreeSet<String> {
    let pools = context.caches.pools.indexed(&application(id));
    pools.iter().flat_map(|pool| subnets_of(context, pool)).collect()
}

/// Tells an application what is wrong with what it asks for.
pub fn remark(context: &Context, app: &Application) {
    if context.config.automatic_pools && context.leadership.is_leader() {
        tell::remarks(context, app);
    }
}

/// A ReplicaSet or Job changed: its pods may belong to somebody else than before.
pub fn child_changed(context: &Context, kind: &KindId, meta: &ObjectMeta) {
    let climbs = matches!((&*kind.group, &*kind.kind), ("apps", "ReplicaSet") | ("batch", "Job"));
    let Some(owner) = controller(meta).filter(|_| climbs) else {
        return;
    };
    let native = owner
        .api_version
        .split_once('/')
        .is_some_and(|(group, _)| rule::is_native(group, &owner.kind));
    if native {
        return;
    }
    let pods = meta
        .uid
        .as_deref()
        .map(|uid| context.caches.pods.indexed(uid))
        .unwrap_or_default();
    if let Some(pod) = pods.iter().find(|pod| pod.asks()) {
        asks(context, pod);
    }
}

/// Definitions of kinds changed: ReplicaSets and Jobs may belong to somebody else than before, and kinds of pods that were
/// unknown may be known.
pub fn definitions_changed(context: &Context) {
    for kind in context.kinds.all() {
        let id = kind.id();
        if matches!((&*id.group, &*id.kind), ("apps", "ReplicaSet") | ("batch", "Job")) {
            index(context, &*kind);
        }
    }
    all_pods(context);
}

/// The pods of an object, its own and those of its ReplicaSets and Jobs.
pub fn pods_of(context: &Context, uid: &str) -> Vec<Arc<PodSketch>> {
    let caches = &context.caches;
    let mut pods = caches.pods.indexed(uid);
    let sets = caches
        .replica_sets
        .indexed(uid)
        .into_iter()
        .filter_map(|set| set.metadata.uid.clone());
    let jobs = caches
        .jobs
        .indexed(uid)
        .into_iter()
        .filter_map(|job| job.metadata.uid.clone());
    pods.extend(sets.chain(jobs).flat_map(|uid| caches.pods.indexed(&uid)));
    pods
}

/// Follows pods.
pub async fn follow_pods(context: Arc<Context>) {
    let mut changes = context.caches.pods.subscribe();
    all_pods(&context);
    while let Some(change) = changes.next().await {
        match change {
            Change::Applied { new, .. } => pod_changed(&context, &new),
            Change::Deleted(gone) => pod_changed(&context, &gone),
            Change::Malformed(bad) => tracing::warn!(pod = %bad.key, error = bad.error, "cannot be read"),
            Change::Resynced => {
                look_at(&context, context.awaited.take_all());
                all_pods(&context);
            }
        }
    }
}

/// Looks at what all pods ask for.
pub fn all_pods(context: &Context) {
    let mut seen = BTreeSet::new();
    for pod in context.caches.pods.list() {
        // One pod speaks for all of its controller.
        let news = controller(&pod.metadata).is_some_and(|owner| !seen.contains(&owner.uid));
        if news && pod.asks() {
            seen.extend(pod.index());
            asks(context, &pod);
        }
    }
}

fn pod_changed(context: &Context, pod: &PodSketch) {
    look_at(context, context.awaited.take(&Key::of(pod)));
    if pod.asks() {
        asks(context, pod);
    }
}

/// A pod asks for a pool of its application. Applications of Kubernetes' own kinds speak for themselves.
fn asks(context: &Context, pod: &PodSketch) {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let led =
        controller(&pod.metadata).and_then(|owner: &OwnerReference| owner::application(context, namespace, owner));
    let Some(led) = led else { return };
    if rule::is_core(&led.key.group) || rule::is_native(&led.key.group, &led.key.kind) {
        return;
    }
    let id = KindId::new(&*led.key.group, &*led.key.kind);
    if !context.kinds.is_watched(&id) {
        context.queues.kinds.add(led);
        return;
    }
    if let Some(text) = context.kinds.refusals.text(&id) {
        rights::also(context, &id, &pod.subnets(), &led, &text);
        return;
    }
    refresh(context, &led);
}

/// Reads an object again: what it asks for may depend on its pods.
fn refresh(context: &Context, led: &Led) {
    let id = AppId::from(&led.key);
    if let Some(kind) = context.kinds.of(&id) {
        kind.refresh(context, &led.key.namespace, &led.key.name);
    }
}
