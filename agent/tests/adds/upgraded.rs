//! Pods that got their addresses from the peer, whose records name no NIC.

use super::agent::{Agent, pool};
use super::api::POOLS;
use super::endings::{ENDPOINT, Scene, terminating};
use serde_json::{Value, json};
use spiderpool_agent::del::Released;
use spiderpool_crds::names;

/// A pool that the peer gave the pod an address of.
fn used(name: &str, ips: &str, ip: &str) -> Value {
    let mut pool = pool(name, ips, &json!({}));
    pool["status"]["allocatedIPs"] = json!(json!({ip: {"pod": "retail/shop", "podUid": "u"}}).to_string());
    pool
}

/// A pod with eth0 in pool z and net1 in pool a, whose NICs may use these pools.
fn scene(eth0: &str) -> Scene {
    let pools = [
        used("a", "10.77.1.1-10.77.1.9", "10.77.1.1"),
        used("z", "10.77.2.1-10.77.2.9", "10.77.2.1"),
    ];
    let items = format!(r#"[{{"interface":"eth0","ipv4":{eth0}}},{{"interface":"net1","ipv4":["a"]}}]"#);
    Scene {
        agent: Agent::start(&pools, &json!({names::ANNOTATION_IPPOOLS: items})),
    }
}

fn with_endpoint(scene: &Scene) {
    let item = |nic: &str, ip: &str, pool: &str| json!({"interface": nic, "ipv4": ip, "ipv4Pool": pool});
    let items = [item("eth0", "10.77.2.1/20", "z"), item("net1", "10.77.1.1/20", "a")];
    let endpoint = json!({"apiVersion": names::API_VERSION, "kind": "SpiderEndpoint",
        "metadata": {"name": "shop", "namespace": "retail", "uid": "e"},
        "status": {"current": {"uid": "u", "node": "n1", "ips": items}}});
    scene.agent.server.put(ENDPOINT, endpoint);
}

fn recorded(scene: &Scene, pool: &str) -> String {
    let found = scene.agent.server.get(&format!("{POOLS}/{pool}")).unwrap_or_default();
    found["status"]["allocatedIPs"].as_str().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn a_nic_keeps_the_address_that_its_endpoint_names_and_takes_none_of_another_nic() {
    for (eth0, known) in [(r#"["a","z"]"#, true), (r#"["z"]"#, true), (r#"["z"]"#, false)] {
        let scene = scene(eth0);
        if known {
            with_endpoint(&scene);
        }
        let mut given = scene.agent.add("eth0", &[]).await.unwrap();
        given.sort_unstable();
        assert_eq!(given, ["eth0 10.77.2.1/20", "net1 10.77.1.1/20"], "{eth0} {known}");
        scene.agent.add("net1", &[]).await.unwrap();
        assert!(recorded(&scene, "z").contains("eth0"));
        assert!(recorded(&scene, "a").contains("net1"));
    }
}

#[tokio::test]
async fn the_del_of_a_nic_leaves_the_address_of_another() {
    let scene = scene(r#"["z"]"#);
    with_endpoint(&scene);
    scene.change_pod(terminating).await;
    assert_eq!(scene.del_of("net1", "c", "lan").await, Released::Freed);
    assert_eq!(recorded(&scene, "a"), "");
    assert!(recorded(&scene, "z").contains("10.77.2.1"));
    assert_eq!(scene.del_of("eth0", "c", "lan").await, Released::Freed);
    assert_eq!(recorded(&scene, "z"), "");
    assert_eq!(scene.agent.server.get(ENDPOINT), None);
}
