//! An agent whose caches are behind, as one that was just started on lists that came late.

use super::agent::{Agent, ENDPOINT, held, pool};
use super::api::{POOLS, Server};
use serde_json::{Value, json};
use spiderpool_agent::endpoints::{LABEL_NODE, node_label};
use spiderpool_agent::recheck;
use spiderpool_crds::{SpiderEndpoint, names};
use spiderpool_kit::cache::{Key, Store};

const NAMED: &str = r#"{"ipv4":["a","b"]}"#;

/// Stores an object of which the agent is not told yet.
fn put_unseen(server: &Server, path: &str, mut object: Value) {
    object["metadata"]["resourceVersion"] = json!("1000");
    server.replace_silently(path, object);
}

/// An agent that does not know yet that its pod has 10.77.2.1 of pool b.
#[expect(clippy::unwrap_used, reason = "helpers of tests, which fail by it")]
async fn agent(named: bool) -> Agent {
    let pools = [
        pool("a", "10.77.1.1-10.77.1.3", &json!({})),
        pool("b", "10.77.2.1-10.77.2.3", &json!({})),
    ];
    let agent = Agent::start(&pools, &json!({names::ANNOTATION_IPPOOL: NAMED}));
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(20);
    agent.context.pools.cache().synced(deadline).await.unwrap();
    agent.context.endpoints.synced(deadline).await.unwrap();
    let given = held("b", "10.77.2.1-10.77.2.3", "10.77.2.1", ("retail/shop", "u", "eth0"));
    put_unseen(&agent.server, &format!("{POOLS}/b"), given);
    if named {
        let item = json!({"interface": "eth0", "ipv4": "10.77.2.1/20", "ipv4Pool": "b", "containerID": "earlier"});
        let endpoint = json!({"apiVersion": names::API_VERSION, "kind": "SpiderEndpoint",
            "metadata": {"name": "shop", "namespace": "retail", "uid": "e", "finalizers": [names::FINALIZER],
                "labels": {LABEL_NODE: node_label("n1")}},
            "status": {"current": {"uid": "u", "node": "n1", "ips": [item]},
                "ownerControllerType": "DaemonSet", "ownerControllerName": "store"}});
        put_unseen(&agent.server, ENDPOINT, endpoint);
    }
    agent
}

#[tokio::test]
async fn a_pod_keeps_an_address_of_which_the_caches_do_not_know_yet() {
    let agent = agent(true).await;
    assert_eq!(agent.add("eth0", &[]).await.unwrap(), ["eth0 10.77.2.1/20"]);
    assert_eq!(agent.records("b"), ["10.77.2.1 eth0"]);
    assert!(agent.records("a").is_empty(), "what it got first is given back");
    assert_eq!(agent.nics().unwrap(), ["eth0 c"]);
}

#[tokio::test]
async fn an_agent_that_starts_takes_a_late_cache_for_no_restored_storage() {
    let agent = agent(false).await;
    agent.host.make_netns("c");
    agent.host.keep_result("eth0", "c", &["10.77.2.1/20".to_owned()]);
    agent.context.pools.set_starting(true);
    assert!(recheck::all(&agent.context).await);
    assert!(agent.context.pools.suspended().is_none());
    let pool = agent.server.get(&format!("{POOLS}/b")).unwrap();
    assert_eq!(pool["status"]["restoring"], Value::Null);
    assert_eq!(agent.records("b"), ["10.77.2.1 eth0"]);
}

#[tokio::test]
async fn of_two_records_that_counts_which_the_endpoint_names() {
    let agent = agent(true).await;
    // Left by an agent that was killed before it gave it back.
    let left = held("a", "10.77.1.1-10.77.1.3", "10.77.1.2", ("retail/shop", "u", "eth0"));
    agent.write_later(&left).await.unwrap();
    agent.server.edit(ENDPOINT, |_| {});
    agent.server.edit(&format!("{POOLS}/b"), |_| {});
    let key = Key::new("retail", "shop");
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(20);
    let known = |endpoints: &Store<SpiderEndpoint>| endpoints.get(&key).map(drop);
    agent.context.endpoints.wait(deadline, known).await.unwrap();
    assert_eq!(agent.add("eth0", &[]).await.unwrap(), ["eth0 10.77.2.1/20"]);
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_is_told_to_end_before_it_knows_anything_does_not_hold_up_its_process() {
    let agent = Agent::start(&[], &json!({}));
    agent.process.stop();
    let limit = std::time::Duration::from_secs(60);
    let start = recheck::start(agent.context.clone());
    assert!(tokio::time::timeout(limit, start).await.is_err());
    assert!(agent.context.synced().is_err());
}
