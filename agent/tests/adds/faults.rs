//! What an API server that is overloaded, cut off or slow does to requests.

use super::agent::{Agent, pool};
use super::api::{Fault, POOLS};
use super::endings::{ENDPOINT, Scene};
use serde_json::{Value, json};
use spiderpool_agent::add::BUDGET;
use spiderpool_agent::del::Released;
use spiderpool_kit::cache::Key;
use std::time::Duration;
use tokio::time::Instant;

const ENDPOINTS: &str = "/apis/spiderpool.spidernet.io/v2beta1/namespaces/retail/spiderendpoints";

#[tokio::test(start_paused = true)]
async fn an_endpoint_write_that_is_refused_for_now_cut_off_or_unanswered_is_read_and_tried_again() {
    let scene = Scene::new();
    let (post, get, put) = (
        format!("POST {ENDPOINTS}"),
        format!("GET {ENDPOINT}"),
        format!("PUT {ENDPOINT}"),
    );
    scene
        .agent
        .server
        .meet(&post, Fault::Refuse(429, "too many requests", 2), 1);
    scene.agent.server.meet(&post, Fault::Cut, 1);
    scene
        .agent
        .server
        .meet(&get, Fault::Refuse(500, "etcd leader changed", 0), 1);
    scene.agent.server.meet(&put, Fault::Refuse(503, "starting", 1), 1);
    scene.agent.server.meet(&put, Fault::Late, 1);
    let start = Instant::now();
    assert_eq!(scene.agent.add("eth0", &[]).await.unwrap(), ["eth0 10.77.1.1/20"]);
    let took = start.elapsed();
    // 2 s and 1 s that the server asked for, 5 s that it did not answer.
    assert!(
        took > Duration::from_secs(8) && took < Duration::from_secs(10),
        "{took:?}"
    );
    let expected = [
        format!("PUT {POOLS}/a/status"),
        post.clone(),
        get.clone(),
        get.clone(),
        post,
        get.clone(),
        put.clone(),
        get.clone(),
        put.clone(),
        get,
        put,
    ];
    assert_eq!(scene.agent.server.asked(), expected);
    scene.agent.server.land();
    let endpoint = scene.agent.server.get(ENDPOINT).unwrap();
    assert_eq!(endpoint["status"]["current"]["ips"][0]["ipv4"], json!("10.77.1.1/20"));
}

#[tokio::test(start_paused = true)]
async fn what_is_read_of_nodes_namespaces_and_owners_is_asked_for_again() {
    let rack = json!({"matchLabels": {"rack": "7"}});
    let pools = [pool("a", "10.77.1.1", &json!({"nodeAffinity": rack}))];
    let agent = Agent::start_of("ReplicaSet", &pools, &json!({}));
    let meta = |name: &str| json!({"name": name, "uid": "s", "labels": {"rack": "7"}});
    let objects = [
        ("/api/v1/nodes/n1", "v1", "Node"),
        ("/api/v1/namespaces/retail", "v1", "Namespace"),
        (
            "/apis/apps/v1/namespaces/retail/replicasets/store",
            "apps/v1",
            "ReplicaSet",
        ),
    ];
    for (path, version, kind) in objects {
        let name = path.rsplit('/').next().unwrap_or_default();
        agent.server.put(
            path,
            json!({"apiVersion": version, "kind": kind, "metadata": meta(name)}),
        );
        agent
            .server
            .meet(&format!("GET {path}"), Fault::Refuse(503, "starting", 1), 1);
    }
    assert_eq!(agent.add("eth0", &["a"]).await.unwrap(), ["eth0 10.77.1.1/20"]);
    let asked = agent.server.asked();
    for (path, ..) in objects {
        let get = format!("GET {path}");
        assert_eq!(asked.iter().filter(|asked| **asked == get).count(), 2, "{asked:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_write_that_stays_refused_fails_in_time_and_the_address_is_given_back() {
    let scene = Scene::new();
    scene.agent.server.meet(
        &format!("POST {ENDPOINTS}"),
        Fault::Refuse(500, "no leader", 0),
        usize::MAX,
    );
    let start = Instant::now();
    let error = scene.agent.add("eth0", &[]).await.unwrap_err();
    assert_eq!(
        error,
        "cannot write SpiderEndpoint retail/shop: the API server answered: no leader (code 500)"
    );
    assert!(start.elapsed() <= BUDGET);
    assert_eq!(scene.recorded(), Value::Null);
    let about = scene.agent.events().await.unwrap();
    assert!(about.iter().any(|(_, note)| note.contains("no leader")), "{about:?}");
}

#[tokio::test(start_paused = true)]
async fn a_namespace_that_is_gone_or_being_deleted_ends_the_add_at_once() {
    for (code, text) in [
        (404, "namespaces \"retail\" not found"),
        (
            403,
            "unable to create new content in namespace retail because it is being terminated",
        ),
    ] {
        let scene = Scene::new();
        scene
            .agent
            .server
            .meet(&format!("POST {ENDPOINTS}"), Fault::Refuse(code, text, 0), usize::MAX);
        let start = Instant::now();
        let error = scene.agent.add("eth0", &[]).await.unwrap_err();
        let expected = "cannot write the SpiderEndpoint of Pod retail/shop: Namespace retail is being deleted or is gone, and its \
                        Pods go with it: ";
        assert_eq!(error, format!("{expected}{text}"));
        assert!(start.elapsed() < Duration::from_secs(1));
        assert_eq!(scene.recorded(), Value::Null);
        let asked = scene.agent.server.asked();
        assert_eq!(
            asked.iter().filter(|request| request.contains("POST")).count(),
            1,
            "{asked:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_del_outlasts_refusals_of_its_endpoint_writes() {
    let scene = Scene::new();
    scene.agent.add("eth0", &[]).await.unwrap();
    scene.delete_pod().await;
    scene
        .agent
        .server
        .meet(&format!("GET {ENDPOINT}"), Fault::Refuse(500, "no leader", 0), 1);
    scene
        .agent
        .server
        .meet(&format!("PUT {ENDPOINT}"), Fault::Refuse(429, "busy", 1), 1);
    scene.agent.server.meet(&format!("PUT {ENDPOINT}"), Fault::Cut, 1);
    scene
        .agent
        .server
        .meet(&format!("DELETE {ENDPOINT}"), Fault::Refuse(500, "no leader", 0), 1);
    scene.agent.server.meet(&format!("DELETE {ENDPOINT}"), Fault::Cut, 1);
    assert_eq!(scene.del_of("eth0", "c", "lan").await, Released::Freed);
    assert!(scene.is_clear());
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_lands_after_the_del_of_its_pod_is_found_and_removed() {
    let scene = Scene::new();
    let post = format!("POST {ENDPOINTS}");
    scene.agent.server.meet(&post, Fault::Late, 1);
    scene
        .agent
        .server
        .meet(&post, Fault::Refuse(500, "no leader", 0), usize::MAX);
    scene.agent.add("eth0", &[]).await.unwrap_err();
    scene.delete_pod().await;
    assert_eq!(scene.del_of("eth0", "c", "lan").await, Released::Freed);
    assert!(scene.is_clear());
    scene.agent.server.land();
    let endpoint = scene.agent.server.get(ENDPOINT).unwrap();
    assert_eq!(endpoint["status"]["current"]["ips"][0]["containerID"], json!("c"));
    let appeared = scene
        .agent
        .context
        .endpoints
        .wait(Instant::now() + Duration::from_secs(10), |endpoints| {
            let key = Key::new("retail", "shop");
            endpoints.get(&key).map(drop)
        });
    appeared.await.unwrap();
    scene.agent.host.lose_sandbox("c");
    scene.sweep().await;
    assert_eq!(scene.agent.server.get(ENDPOINT), None);
}

#[tokio::test(start_paused = true)]
async fn an_add_that_waits_for_an_earlier_one_says_so_in_time_and_leaves_nothing_behind() {
    let scene = Scene::new();
    let earlier = scene.agent.context.turns.take("u").await;
    let start = Instant::now();
    let error = scene.agent.add("eth0", &[]).await.unwrap_err();
    assert!(
        error.starts_with("an earlier ADD or DEL of Pod retail/shop is still running"),
        "{error}"
    );
    assert!(start.elapsed() < BUDGET);
    drop(earlier);
    assert!(scene.agent.context.turns.is_empty());
    assert_eq!(scene.agent.add("eth0", &[]).await.unwrap(), ["eth0 10.77.1.1/20"]);
}

#[tokio::test(start_paused = true)]
async fn a_record_write_that_the_server_has_no_time_for_waits_as_long_as_it_says_and_leaves_no_doubt() {
    let scene = Scene::new();
    let put = format!("PUT {POOLS}/a/status");
    scene
        .agent
        .server
        .meet(&put, Fault::Refuse(429, "too many requests", 2), 1);
    let start = Instant::now();
    let added = scene.agent.add("eth0", &[]);
    let looked = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        scene.agent.context.pools.holding("nobody")
    };
    let (added, held) = tokio::join!(added, looked);
    assert_eq!(added.unwrap(), ["eth0 10.77.1.1/20"]);
    assert!(held.is_empty(), "{held:?}");
    let took = start.elapsed();
    assert!(
        took > Duration::from_secs(2) && took < Duration::from_secs(3),
        "{took:?}"
    );
    assert_eq!(
        scene.agent.server.asked().iter().filter(|asked| **asked == put).count(),
        2
    );
}
