//! Watches of kinds that are not Kubernetes' own: started when a kind is used and defined, stopped when its definition is
//! gone, begun anew when the definition changes what matters.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use kube::core::DynamicObject;
use spiderpool_crds::native::Workload;
use spiderpool_crds::{DEFAULT_TEMPLATE_PATH, JsonPath, SpiderIPPool};
use spiderpool_kit::cache::{Cache, Change, Options};
use spiderpool_kit::shutdown::Process;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::crd::Facts;
use super::pod::PodSketch;
use super::sketch::{self, Paths, Sketch};
use super::{KindId, Watched, Workloads, rights};
use crate::application::{AppId, Application, native};
use crate::context::Context;
use crate::triggers::{look_at, subnets_of, workloads};
use spiderpool_crds::app::AppKey;

/// How long one watch request lasts. A right that was withdrawn is missed at the next one.
const WATCH: Duration = Duration::from_secs(60);
/// How long definitions are left to change together before everything that rests on them is looked at.
const CALM: Duration = Duration::from_millis(200);
/// How long one wait for the first list lasts.
const PATIENCE: Duration = Duration::from_secs(60);
/// Status of the API server's answer to somebody without the right.
const FORBIDDEN: u16 = 403;

struct Running {
    facts: Facts,
    stop: CancellationToken,
}

/// Keeps the watches as the definitions and the use of kinds demand, for ever.
pub async fn manage(context: Arc<Context>, process: Process) {
    let mut running: BTreeMap<KindId, Running> = BTreeMap::new();
    let mut definitions = context.caches.crds.subscribe();
    let mut changed: Option<Instant> = None;
    of_pools(&context);
    loop {
        settle(&context, &process, &mut running);
        let calm = changed.map_or_else(|| Instant::now() + PATIENCE, |since| since + CALM);
        tokio::select! {
            change = definitions.next() => match change {
                None => return,
                Some(Change::Applied { old, new }) if old.as_ref().and_then(|old| old.facts()) == new.facts() => {}
                Some(_) => changed = changed.or_else(|| Some(Instant::now())),
            },
            () = context.kinds.changed.notified() => {}
            () = tokio::time::sleep_until(calm), if changed.is_some() => {
                changed = None;
                context.kinds.forget_unsupported();
                workloads::definitions_changed(&context);
            }
        }
    }
}

/// Wants the kinds watched whose objects have pools. What is not watched could not be seen to go.
pub fn of_pools(context: &Context) {
    for pool in context.caches.pools.list() {
        if let Some(key) = pool.app_key() {
            of_pool(context, &key);
        }
    }
}

/// Wants the kind watched that a pool belongs to.
pub fn of_pool(context: &Context, key: &AppKey) {
    let native = spiderpool_crds::owner::is_native(&key.group, &key.kind);
    if native || spiderpool_crds::owner::is_core(&key.group) {
        return;
    }
    let id = KindId::new(&*key.group, &*key.kind);
    if !context.kinds.want(id) {
        tracing::warn!(app = %key, "more kinds of workload have pools than are watched; pools of this kind stay as they are");
    }
}

fn settle(context: &Arc<Context>, process: &Process, running: &mut BTreeMap<KindId, Running>) {
    context.kinds.forget_found(|id| {
        let pools = || context.caches.pools.list();
        let of_kind = |pool: &Arc<SpiderIPPool>| pool.app_key().is_some_and(|key| id.has(&AppId::from(&key)));
        context.kinds.facts(id).is_some() || pools().iter().any(of_kind)
    });
    let wanted: BTreeMap<KindId, Facts> = context
        .kinds
        .wanted()
        .into_iter()
        .filter_map(|id| {
            let facts = context.kinds.facts(&id).filter(|facts| facts.namespaced)?;
            Some((id, facts))
        })
        .collect();
    running.retain(|id, watch| {
        let right = wanted.get(id) == Some(&watch.facts);
        if !right {
            tracing::info!(kind = %id, version = watch.facts.resource.version, "watch of a kind of workload ends");
            watch.stop.cancel();
        }
        right
    });
    for (id, facts) in wanted {
        if running.contains_key(&id) {
            continue;
        }
        tracing::info!(kind = %id, version = facts.resource.version, "watch of a kind of workload begins");
        let stop = process.token().child_token();
        let task = watch(
            context.clone(),
            process.clone(),
            id.clone(),
            facts.clone(),
            stop.clone(),
        );
        // It has something to put away after it was stopped, and says itself when that is done.
        let done = CancellationToken::new();
        process.spawn_until(format!("workloads: {id}"), done.clone(), async move {
            Box::pin(task).await;
            done.cancel();
            std::future::pending::<()>().await;
        });
        running.insert(id, Running { facts, stop });
    }
}

async fn watch(context: Arc<Context>, process: Process, id: KindId, facts: Facts, stop: CancellationToken) {
    let paths = paths(&context, &id, &facts);
    let options = Options::default()
        .watch_timeout(WATCH)
        .trim(move |object: &mut DynamicObject| sketch::trim(object, &paths));
    let resource = facts.resource.clone();
    let client = context.client.clone();
    let cache = Cache::start_dynamic(&process, client, resource.clone(), options, stop.clone());
    let key_of = (facts.resource.api_version.clone(), facts.resource.kind.clone());
    let read = move |context: &Context, object: &DynamicObject| read(context, &key_of, object);
    let watched = Watched::new(cache.clone(), resource, Box::new(read));
    let mut health = cache.health_changes();
    let rights = async {
        loop {
            let refused = health
                .borrow_and_update()
                .clone()
                .filter(|outage| outage.refused == Some(FORBIDDEN));
            match refused {
                Some(outage) => drop(rights::refused(&context, &id, &outage.error, BTreeSet::new())),
                None if cache.is_healthy() => rights::granted(&context, &id),
                None => {}
            }
            if health.changed().await.is_err() {
                return;
            }
        }
    };
    let objects = async {
        context.kinds.add(watched.clone());
        Box::pin(watched.clone().follow(context.clone())).await;
    };
    // Pools of objects that went while nobody watched.
    let left_over = async {
        while !cache.is_synced() {
            if cache.synced(Instant::now() + PATIENCE).await.is_err() && stop.is_cancelled() {
                return;
            }
        }
        let pools = context.caches.pools.list();
        let of_kind = pools
            .iter()
            .filter(|pool| pool.app_key().is_some_and(|key| id.has(&AppId::from(&key))));
        let subnets: BTreeSet<String> = of_kind.flat_map(|pool| subnets_of(&context, pool)).collect();
        look_at(&context, subnets);
    };
    tokio::select! {
        () = stop.cancelled() => {}
        ((), (), ()) = async { tokio::join!(rights, objects, left_over) } => {}
    }
    // Another watch of the kind may have begun meanwhile; it has its own view of the objects.
    context.kinds.remove(&(watched as Arc<dyn Workloads>));
    rights::granted(&context, &id);
    if !process.token().is_cancelled() && context.kinds.facts(&id).is_none() {
        for app in context.applications.of_kind(&id) {
            workloads::gone(&context, &app.id());
        }
    }
}

/// Where objects of a kind say what: as the configuration has it, else as the definition does.
fn paths(context: &Context, id: &KindId, facts: &Facts) -> Paths {
    let configured = context.kinds.configured(id);
    let replicas = configured.and_then(|kind| kind.replicas().ok().flatten());
    let template = configured.and_then(|kind| kind.template().ok());
    let canary = id.group == "argoproj.io" && id.kind == "Rollout";
    Paths {
        template: template.or_else(|| JsonPath::parse(DEFAULT_TEMPLATE_PATH).ok()),
        replicas: replicas.or_else(|| facts.replicas_path.clone()),
        rollout: canary.then(|| JsonPath::parse(".spec.strategy.canary").ok()).flatten(),
    }
}

fn read(context: &Context, (api_version, kind): &(String, String), object: &DynamicObject) -> Application {
    let meta = &object.metadata;
    let (namespace, name) = (
        meta.namespace.as_deref().unwrap_or_default(),
        meta.name.as_deref().unwrap_or_default(),
    );
    let key = AppKey::new(api_version, kind, namespace, name);
    let sketch = sketch::read(object);
    let pods = match (&sketch.template, sketch.replicas) {
        (Some(_), Some(_)) => Vec::new(),
        _ => workloads::pods_of(context, meta.uid.as_deref().unwrap_or_default()),
    };
    Application::of(context, key, meta, &workload(&sketch, &pods))
}

/// What an object says, and where it says nothing, what its pods do.
fn workload(sketch: &Sketch, pods: &[Arc<PodSketch>]) -> Workload {
    let newest = || {
        pods.iter()
            .max_by_key(|pod| pod.metadata.creation_timestamp.as_ref().map(|time| time.0))
    };
    let (annotations, host_network) = match &sketch.template {
        Some(template) => (template.annotations.clone(), template.host_network),
        None => newest().map_or_else(Default::default, |pod| {
            (pod.metadata.annotations.clone().unwrap_or_default(), pod.host_network())
        }),
    };
    let alive = || pods.iter().filter(|pod| pod.stays()).count();
    Workload {
        annotations: native::ours(annotations),
        replicas: sketch.replicas.map_or_else(|| alive() as u128, u128::from),
        host_network,
        rolling: sketch.rolling(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use spiderpool_crds::names::ANNOTATION_SUBNET;

    fn pod(second: i64, text: &str, phase: &str) -> Arc<PodSketch> {
        let time = jiff::Timestamp::from_second(second).unwrap().to_string();
        let pod = json!({
            "metadata": {"name": "p", "creationTimestamp": time, "annotations": {ANNOTATION_SUBNET: text}},
            "status": {"phase": phase},
        });
        Arc::new(serde_json::from_value(pod).unwrap())
    }

    #[test]
    fn pods_speak_for_an_object_that_does_not() {
        let pods = [
            pod(1, "old", "Running"),
            pod(3, "new", "Pending"),
            pod(2, "done", "Succeeded"),
        ];
        let silent = workload(&Sketch::default(), &pods);
        assert_eq!(
            (silent.annotations[ANNOTATION_SUBNET].as_str(), silent.replicas),
            ("new", 2)
        );
        let sketch = Sketch {
            replicas: Some(7),
            ..Sketch::default()
        };
        assert_eq!(workload(&sketch, &pods).replicas, 7);
        let sketch = Sketch {
            template: Some(Default::default()),
            ..Sketch::default()
        };
        let templated = workload(&sketch, &pods);
        assert!(templated.annotations.is_empty());
        assert_eq!(templated.replicas, 2);
    }
}
