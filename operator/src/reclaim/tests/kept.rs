//! Addresses that outlive their pods.

use spiderpool_crds::SpiderEndpoint;

use super::scene::of_machine;
use super::*;

const INSTANCE: &str = "VirtualMachineInstance";

/// The machine `db` did not get to the pod `target`, and was then deleted.
fn after_a_failed_migration() -> (Scene, SpiderEndpoint) {
    let scene = Scene::new();
    scene.record(&[("10.0.0.1", "db", "target-uid")]);
    let endpoint = scene.endpoint("db", "target-uid", "10.0.0.1", (INSTANCE, "db"), &json!([]));
    (scene, endpoint)
}

#[tokio::test(start_paused = true)]
async fn a_machine_is_gone_when_its_last_pod_has_ended_whichever_the_records_name() {
    let (scene, _) = after_a_failed_migration();
    let source = |phase: &'static str| {
        move |pod: &mut Value| {
            of_machine(pod);
            pod["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
            pod["status"]["phase"] = json!(phase);
        }
    };
    scene.pod("source", source("Running"));
    settle(&scene).await;
    assert_eq!(scene.recorded(), ["10.0.0.1"]);
    assert!(scene.has_endpoint("db"));

    scene.pod("source", source("Succeeded"));
    settle(&scene).await;
    assert_eq!(scene.recorded().len(), 0);
    assert!(!scene.has_endpoint("db"));
}

#[tokio::test(start_paused = true)]
async fn a_static_pod_that_is_named_like_a_machine_keeps_its_address() {
    let (scene, _) = after_a_failed_migration();
    scene.record(&[("10.0.0.1", "db", "target-uid"), ("10.0.0.2", "db", "hash")]);
    scene.pod("db", |pod| {
        pod["metadata"]["annotations"] =
            json!({"kubernetes.io/config.mirror": "hash", "kubernetes.io/config.hash": "hash"});
    });
    settle(&scene).await;
    assert_eq!(scene.recorded(), ["10.0.0.2"]);
    scene.end_pod("db");
    settle(&scene).await;
    assert_eq!(scene.recorded().len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_set_leaves_the_address_of_a_machine_that_is_named_like_its_pod() {
    let scene = Scene::new();
    scene.record(&[("10.0.0.1", "db-0", "pod-uid"), ("10.0.0.2", "db-0", "launcher-uid")]);
    scene.endpoint("db-0", "pod-uid", "10.0.0.1", ("StatefulSet", "db"), &json!([]));
    let of_namesake = |pod: &mut Value| {
        of_machine(pod);
        pod["metadata"]["ownerReferences"][0]["name"] = json!("db-0");
    };
    scene.pod("launcher", of_namesake);
    settle(&scene).await;
    assert_eq!(scene.recorded(), ["10.0.0.2"]);
    scene.end_pod("launcher");
    scene.machine("virtualmachines", "db-0", &json!({}));
    settle(&scene).await;
    assert_eq!(scene.recorded(), ["10.0.0.2"]);
    scene.end_machine("virtualmachines", "db-0");
    settle(&scene).await;
    assert_eq!(scene.recorded().len(), 0);
}

#[tokio::test(start_paused = true)]
async fn objects_of_kinds_that_nobody_defined_do_not_exist_and_a_failed_read_says_nothing() {
    let (scene, _) = after_a_failed_migration();
    scene.cluster.undefine("virtualmachineinstances");
    scene.cluster.fail("virtualmachines");
    settle(&scene).await;
    assert_eq!(scene.recorded(), ["10.0.0.1"]);

    scene.cluster.undefine("virtualmachines");
    settle(&scene).await;
    assert_eq!(scene.recorded().len(), 0);
}

/// The set `web` with so many pods, `web-0` being gone.
fn web(scene: &Scene, replicas: u32) {
    let set = json!({"metadata": {"name": "web", "namespace": "ns", "uid": "set", "resourceVersion": "1"},
        "spec": {"replicas": replicas, "selector": {}, "serviceName": "", "template": {}}});
    let set = scene.cluster.put("/apis/apps/v1/namespaces/ns/statefulsets/web", set);
    scene
        .context
        .caches
        .stateful_sets
        .learn(serde_json::from_value(set).unwrap());
}

fn scene_of_set() -> Scene {
    let scene = Scene::new();
    scene.record(&[("10.0.0.1", "web-0", "web-0-uid")]);
    scene.endpoint("web-0", "web-0-uid", "10.0.0.1", ("StatefulSet", "web"), &json!([]));
    scene.sandbox("web-0", None);
    scene.node("n1", "True", &[]);
    scene
}

#[tokio::test(start_paused = true)]
async fn a_set_that_is_scaled_down_gives_up_at_once_what_a_pod_left_long_ago() {
    let scene = scene_of_set();
    web(&scene, 1);
    let mut suspects = Suspects::default();
    suspects.note(check::everything(&scene.context).await, Instant::now());
    look(&scene.context, &mut suspects).await;
    assert_eq!(suspects.count(), 1, "it is known since when the pod is gone");
    tokio::time::advance(IN_FLIGHT).await;
    look(&scene.context, &mut suspects).await;
    assert_eq!(scene.recorded().len(), 1);

    web(&scene, 0);
    suspects.note([(Key::new("ns", "web-0"), FIRST)].into(), Instant::now());
    tokio::time::advance(FIRST).await;
    look(&scene.context, &mut suspects).await;
    assert_eq!(scene.recorded().len(), 0);
    assert!(!scene.has_endpoint("web-0"));
}

#[tokio::test(start_paused = true)]
async fn what_a_sandbox_may_use_waits_for_its_agent_though_the_set_is_gone() {
    let scene = scene_of_set();
    scene.sandbox("web-0", Some("c1"));
    settle(&scene).await;
    assert_eq!(scene.recorded().len(), 1);
    scene.sandbox("web-0", None);
    settle(&scene).await;
    assert_eq!(scene.recorded().len(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_identity_of_a_kind_that_is_not_watched_is_looked_at_rarer_and_rarer() {
    let (scene, _) = after_a_failed_migration();
    scene.machine("virtualmachines", "db", &json!({}));
    let mut suspects = Suspects::default();
    suspects.note(check::everything(&scene.context).await, Instant::now());
    let mut looks = Vec::new();
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(3600) {
        look(&scene.context, &mut suspects).await;
        let next = suspects.next_look();
        looks.push(next - Instant::now());
        tokio::time::advance(next - Instant::now()).await;
    }
    assert_eq!(looks.first(), Some(&SHORTEST));
    assert_eq!(looks.last(), Some(&LONGEST));
    assert!(looks.len() < 20, "{looks:?}");
    assert_eq!(scene.recorded().len(), 1);
}
