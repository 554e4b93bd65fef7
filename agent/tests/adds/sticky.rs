//! A pod of a StatefulSet comes again: what it takes over, and what it leaves.

use super::agent::{Agent, ENDPOINT, args, held, lent, pool};
use super::api::POOLS;
use serde_json::{Value, json};
use spiderpool_agent::cancel::Cancel;
use spiderpool_agent::del::{self, Released};
use spiderpool_crds::names;
use spiderpool_wire::IpamDelArgs;

/// The endpoint that an earlier pod left on another node.
fn endpoint(items: &Value) -> Value {
    json!({
        "apiVersion": names::API_VERSION, "kind": "SpiderEndpoint",
        "metadata": {"name": "shop", "namespace": "retail", "uid": "e", "finalizers": [names::FINALIZER],
            "labels": {"ipam.spidernet.io/node": "n2"}},
        "status": {"current": {"uid": "old", "node": "n2", "ips": items},
            "ownerControllerType": "StatefulSet", "ownerControllerName": "store"}
    })
}

pub(super) fn item(nic: &str, ip: &str, pool: &str) -> Value {
    json!({"interface": nic, "ipv4": format!("{ip}/20"), "ipv4Pool": pool, "containerID": "gone"})
}

pub(super) fn start(pools: &[Value], items: &Value, annotations: &Value) -> Agent {
    let agent = Agent::start_of("StatefulSet", pools, annotations);
    agent.server.put(ENDPOINT, endpoint(items));
    agent
}

/// A pod that comes after one that had 10.77.1.5 of pool a.
fn heir() -> Agent {
    let owner = ("retail/shop", "old", "eth0");
    let pools = [held("a", "10.77.1.1-10.77.1.9", "10.77.1.5", owner)];
    start(&pools, &json!([item("eth0", "10.77.1.5", "a")]), &asks(r#"["a"]"#))
}

pub(super) fn asks(pools: &str) -> Value {
    json!({names::ANNOTATION_IPPOOL: format!(r#"{{"ipv4":{pools}}}"#)})
}

pub(super) fn records(agent: &Agent, pool: &str) -> Value {
    let pool = agent.server.get(&format!("{POOLS}/{pool}")).unwrap_or_default();
    let text = pool["status"]["allocatedIPs"].as_str().unwrap_or("{}");
    serde_json::from_str(text).unwrap_or_default()
}

#[tokio::test]
async fn an_heir_takes_over_with_four_requests_and_moves_the_endpoint() {
    let agent = heir();
    assert_eq!(agent.add("eth0", &[]).await.unwrap(), ["eth0 10.77.1.5/20"]);
    assert_eq!(
        agent.server.asked(),
        [
            format!("GET {ENDPOINT}"),
            "GET /api/v1/namespaces/retail/pods/shop".to_owned(),
            format!("PUT {POOLS}/a/status"),
            format!("PUT {ENDPOINT}"),
        ]
    );
    let owner = json!({"pod": "retail/shop", "podUid": "u", "nic": "eth0", "node": "n1"});
    assert_eq!(records(&agent, "a"), json!({"10.77.1.5": owner}));
    let endpoint = agent.server.get(ENDPOINT).unwrap();
    let (meta, current) = (&endpoint["metadata"], &endpoint["status"]["current"]);
    assert_eq!((&current["uid"], &current["node"]), (&json!("u"), &json!("n1")));
    assert_eq!(meta["labels"]["ipam.spidernet.io/node"], json!("n1"));
    assert_eq!(meta["ownerReferences"], Value::Null);
    assert_eq!(endpoint["status"]["ownerControllerApiVersion"], json!("apps/v1"));
    // Sent again, it costs what any other pod's does.
    assert_eq!(agent.add("eth0", &[]).await.unwrap(), ["eth0 10.77.1.5/20"]);
    let asked = agent.server.asked();
    assert_eq!(asked.iter().filter(|asked| asked.contains("pods")).count(), 1);
    assert!(!asked.iter().any(|asked| asked.contains(POOLS)), "{asked:?}");
}

#[tokio::test]
async fn nics_whose_add_is_still_to_come_are_taken_over_with_the_first_one() {
    let held = [
        lent(("retail/shop", "old", "eth0")),
        held("b", "10.77.2.1-10.77.2.9", "10.77.2.5", ("retail/shop", "old", "net1")),
        held("c", "10.77.3.1-10.77.3.9", "10.77.3.5", ("retail/shop", "old", "net2")),
    ];
    let items = [
        ("eth0", "10.77.1.5", "a"),
        ("net1", "10.77.2.5", "b"),
        ("net2", "10.77.3.5", "c"),
    ];
    let items = json!(items.map(|(nic, ip, pool)| item(nic, ip, pool)));
    let mut annotations = asks(r#"["a"]"#);
    annotations[names::ANNOTATION_MULTUS_NETWORKS] = json!("lan");
    let agent = start(&held, &items, &annotations);
    let answer = agent.add("eth0", &[]).await.unwrap();
    assert_eq!(answer, ["eth0 10.77.1.5/20", "net1 10.77.2.5/20"]);
    assert_eq!(records(&agent, "b")["10.77.2.5"]["podUid"], json!("u"));
    // The pod has no such NIC any more.
    assert_eq!(records(&agent, "c"), json!({}));
    // The second NIC asks for the first one's pools now, which is a change.
    let answer = agent.add("net1", &[]).await.unwrap();
    assert_eq!(answer, ["eth0 10.77.1.5/20", "net1 10.77.1.1/20"]);
    assert_eq!(records(&agent, "b"), json!({}));
}

#[tokio::test]
async fn other_pools_are_a_new_address_first_and_then_the_old_one_is_freed() {
    let pools = [
        lent(("retail/shop", "old", "eth0")),
        held("b", "10.77.2.1", "10.77.2.1", ("retail/other", "o", "eth0")),
        pool("c", "10.77.3.1", &json!({})),
    ];
    let items = json!([item("eth0", "10.77.1.5", "a")]);
    let agent = start(&pools, &items, &asks(r#"["b"]"#));
    assert!(
        agent
            .add("eth0", &[])
            .await
            .unwrap_err()
            .contains("all IP addresses used out")
    );
    // Nothing else is to be had, so it stays for the time that the change is undone.
    assert_eq!(records(&agent, "a")["10.77.1.5"]["podUid"], json!("u"));
    let agent = start(&pools, &items, &asks(r#"["b","c"]"#));
    assert_eq!(agent.add("eth0", &[]).await.unwrap(), ["eth0 10.77.3.1/20"]);
    assert_eq!(records(&agent, "a"), json!({}));
}

#[tokio::test]
async fn an_address_without_record_is_handed_out_only_if_it_is_free() {
    let items = json!([item("eth0", "10.77.1.5", "a")]);
    let free = [pool("a", "10.77.1.1-10.77.1.9", &json!({}))];
    let agent = start(&free, &items, &asks(r#"["a"]"#));
    assert_eq!(agent.add("eth0", &[]).await.unwrap(), ["eth0 10.77.1.5/20"]);
    assert_eq!(records(&agent, "a")["10.77.1.5"]["podUid"], json!("u"));
    let taken = [lent(("retail/other", "o", "eth0"))];
    let agent = start(&taken, &items, &asks(r#"["a"]"#));
    assert_eq!(agent.add("eth0", &[]).await.unwrap(), ["eth0 10.77.1.1/20"]);
    assert_eq!(records(&agent, "a")["10.77.1.5"]["podUid"], json!("o"));
}

#[tokio::test]
async fn an_heir_that_died_before_it_wrote_its_endpoint_is_followed() {
    let pools = [lent(("retail/shop", "between", "eth0"))];
    let agent = start(&pools, &json!([item("eth0", "10.77.1.5", "a")]), &asks(r#"["a"]"#));
    assert_eq!(agent.add("eth0", &[]).await.unwrap(), ["eth0 10.77.1.5/20"]);
    // And one that was never written.
    let agent = Agent::start_of("StatefulSet", &pools, &asks(r#"["a"]"#));
    assert_eq!(agent.add("eth0", &[]).await.unwrap(), ["eth0 10.77.1.5/20"]);
}

#[tokio::test]
async fn a_pod_that_the_api_server_does_not_have_any_more_takes_over_nothing() {
    let agent = heir();
    agent
        .context
        .wait_ready(tokio::time::Instant::now() + del::BUDGET)
        .await
        .unwrap();
    // The watch is behind: the cache has the pod of before.
    agent.server.replace_silently(
        "/api/v1/namespaces/retail/pods/shop",
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "shop", "namespace": "retail", "uid": "newer"}}),
    );
    let error = agent.add("eth0", &[]).await.unwrap_err();
    assert!(error.contains("newer"), "{error}");
    assert_eq!(records(&agent, "a")["10.77.1.5"]["podUid"], json!("old"));
}

#[tokio::test]
async fn a_pod_that_comes_again_leaves_its_addresses_and_others_give_them_back() {
    let sets = "/apis/apps/v1/namespaces/retail/statefulsets/store";
    for (replicas, released, left) in [(3, Released::Kept, 1), (2, Released::Freed, 0)] {
        let pools = [pool("a", "10.77.1.1-10.77.1.9", &json!({}))];
        let agent = Agent::start_of("StatefulSet", &pools, &asks(r#"["a"]"#));
        // The pod store-2.
        let mut pod = agent.server.get("/api/v1/namespaces/retail/pods/shop").unwrap();
        pod["metadata"]["name"] = json!("store-2");
        let path = "/api/v1/namespaces/retail/pods/store-2";
        agent.server.put(path, pod.clone());
        agent.server.put(
            sets,
            json!({"apiVersion": "apps/v1", "kind": "StatefulSet",
            "metadata": {"name": "store", "namespace": "retail"}, "spec": {"replicas": replicas}}),
        );
        let mut add = args("eth0", &[]);
        add.pod_name = "store-2".to_owned();
        Box::pin(spiderpool_agent::add::add(&agent.context, &add, &Cancel::default()))
            .await
            .unwrap();
        pod["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        agent.server.put(path, pod);
        let del = IpamDelArgs {
            container_id: "c".to_owned(),
            if_name: "eth0".to_owned(),
            net_namespace: String::new(),
            pod_namespace: "retail".to_owned(),
            pod_name: "store-2".to_owned(),
            pod_uid: "u".to_owned(),
            network_name: "lan".to_owned(),
        };
        assert_eq!(Box::pin(del::del(&agent.context, &del)).await.unwrap(), released);
        assert_eq!(records(&agent, "a").as_object().unwrap().len(), left);
    }
}
