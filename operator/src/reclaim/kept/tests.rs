use serde_json::{Value, json};

use super::*;
use crate::reclaim::tests::scene::{Scene, of_machine};

const INSTANCE: &str = "VirtualMachineInstance";

/// The machine `db` did not get to the pod `target`, and was then deleted.
fn after_a_failed_migration() -> (Scene, SpiderEndpoint) {
    let scene = Scene::new();
    scene.record(&[("10.0.0.1", "db", "target-uid")]);
    let endpoint = scene.endpoint("db", "target-uid", "10.0.0.1", (INSTANCE, "db"), &json!([]));
    (scene, endpoint)
}

async fn end_of(scene: &Scene, endpoint: &SpiderEndpoint) -> Result<(), write::Error> {
    let keeper = orphaned(&scene.context, endpoint).unwrap();
    end(&scene.context, endpoint, &keeper).await
}

#[tokio::test]
async fn a_machine_is_gone_when_its_last_pod_has_ended_whichever_the_records_name() {
    let (scene, endpoint) = after_a_failed_migration();
    let source = |phase: &'static str| {
        move |pod: &mut Value| {
            of_machine(pod);
            pod["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
            pod["status"]["phase"] = json!(phase);
        }
    };
    scene.pod("source", source("Running"));
    end_of(&scene, &endpoint).await.unwrap();
    assert_eq!(scene.recorded(), ["10.0.0.1"]);
    assert!(scene.has_endpoint("db"));

    scene.pod("source", source("Succeeded"));
    end_of(&scene, &endpoint).await.unwrap();
    assert_eq!(scene.recorded().len(), 0);
    assert!(!scene.has_endpoint("db"));
}

#[tokio::test]
async fn a_static_pod_that_is_named_like_a_machine_keeps_its_address() {
    let (scene, endpoint) = after_a_failed_migration();
    scene.record(&[("10.0.0.1", "db", "target-uid"), ("10.0.0.2", "db", "hash")]);
    scene.pod("db", |pod| {
        pod["metadata"]["annotations"] =
            json!({"kubernetes.io/config.mirror": "hash", "kubernetes.io/config.hash": "hash"});
    });
    end_of(&scene, &endpoint).await.unwrap();
    assert_eq!(scene.recorded(), ["10.0.0.1", "10.0.0.2"]);
    scene.end_pod("db");
    end_of(&scene, &endpoint).await.unwrap();
    assert_eq!(scene.recorded().len(), 0);
}

#[tokio::test]
async fn a_set_leaves_the_address_of_a_machine_that_is_named_like_its_pod() {
    let scene = Scene::new();
    scene.record(&[("10.0.0.1", "db-0", "pod-uid"), ("10.0.0.2", "db-0", "launcher-uid")]);
    let endpoint = scene.endpoint("db-0", "pod-uid", "10.0.0.1", ("StatefulSet", "db"), &json!([]));
    let of_namesake = |pod: &mut Value| {
        of_machine(pod);
        pod["metadata"]["ownerReferences"][0]["name"] = json!("db-0");
    };
    scene.pod("launcher", of_namesake);
    end_of(&scene, &endpoint).await.unwrap();
    assert_eq!(scene.recorded(), ["10.0.0.1", "10.0.0.2"]);
    scene.end_pod("launcher");
    scene.machine("virtualmachines", "db-0", &json!({}));
    end_of(&scene, &endpoint).await.unwrap();
    assert_eq!(scene.recorded().len(), 2);
    scene.end_machine("virtualmachines", "db-0");
    end_of(&scene, &endpoint).await.unwrap();
    assert_eq!(scene.recorded().len(), 0);
}

#[tokio::test]
async fn objects_of_kinds_that_nobody_defined_do_not_exist_and_a_failed_read_says_nothing() {
    let (scene, endpoint) = after_a_failed_migration();
    scene.cluster.undefine("virtualmachineinstances");
    scene.cluster.fail("virtualmachines");
    let error = end_of(&scene, &endpoint).await.unwrap_err();
    assert!(error.to_string().contains("VirtualMachine ns/db"), "{error}");
    assert_eq!(scene.recorded(), ["10.0.0.1"]);

    scene.cluster.undefine("virtualmachines");
    end_of(&scene, &endpoint).await.unwrap();
    assert_eq!(scene.recorded().len(), 0);
}

#[tokio::test]
async fn an_endpoint_that_a_pod_owns_is_looked_at_if_its_kind_keeps_addresses() {
    let mut scene = Scene::new();
    scene.record(&[("10.0.0.1", "web-0", "pod-uid")]);
    let pod = json!([{"apiVersion": "v1", "kind": "Pod", "name": "web-0", "uid": "pod-uid"}]);
    let endpoint = scene.endpoint("web-0", "pod-uid", "10.0.0.1", ("StatefulSet", "web"), &pod);
    scene.context.config.sticky.sets = false;
    // Its node's agent frees these.
    assert_eq!(orphaned(&scene.context, &endpoint), None);
    scene.context.config.sticky.sets = true;
    end_of(&scene, &endpoint).await.unwrap();
    assert_eq!(scene.recorded().len(), 0);
    assert!(!scene.has_endpoint("web-0"));
}

#[tokio::test(start_paused = true)]
async fn what_only_a_change_can_make_different_is_not_looked_at_again_and_again() {
    let scene = Scene::new();
    let set = json!({"metadata": {"name": "web", "namespace": "ns", "uid": "set", "resourceVersion": "1"},
        "spec": {"replicas": 1, "selector": {}, "serviceName": "", "template": {}}});
    let sets = &scene.context.caches.stateful_sets;
    sets.learn(serde_json::from_value(set.clone()).unwrap());
    scene.record(&[("10.0.0.1", "web-0", "pod-uid")]);
    scene.endpoint("web-0", "pod-uid", "10.0.0.1", ("StatefulSet", "web"), &json!([]));
    let mut orphans = HashMap::new();
    look(&scene.context, &mut orphans).await;
    tokio::time::advance(FIRST * 2).await;
    look(&scene.context, &mut orphans).await;
    let now = Instant::now();
    assert_eq!(orphans.len(), 1);
    assert_eq!(next_look(&orphans, now), now + EVERY);

    // A change is acted upon at once.
    let mut smaller = set;
    smaller["metadata"]["resourceVersion"] = json!("2");
    smaller["spec"]["replicas"] = json!(0);
    sets.learn(serde_json::from_value(smaller).unwrap());
    look(&scene.context, &mut orphans).await;
    assert_eq!(scene.recorded().len(), 0);
    assert!(!scene.has_endpoint("web-0"));
}
