//! Writes that arrive long after whoever sent them gave up, and writes that the cache does not know of.

use super::agent::held;
use super::{Agent, pool};
use crate::agent::ENDPOINT;
use crate::api::POOLS;
use serde_json::{Value, json};
use spiderpool_crds::{SpiderEndpoint, names};
use spiderpool_kit::cache::{Key, Store};
use std::time::Duration;
use tokio::time::Instant;

const UID: &str = "u";

fn one_pool() -> Agent {
    let pools = [pool("a", "10.77.1.1-10.77.1.9", &json!({}))];
    Agent::start(&pools, &json!({names::ANNOTATION_IPPOOL: r#"{"ipv4":["a"]}"#}))
}

/// An agent that has a claim on its way.
async fn with_a_lost_claim() -> Agent {
    let agent = one_pool();
    agent.server.lose(&path());
    assert!(agent.add("eth0", &[]).await.is_err(), "the write was answered");
    agent.server.lose_no_more();
    agent
}

fn path() -> String {
    format!("{POOLS}/a")
}

/// The pod's addresses on record.
fn records(agent: &Agent) -> Vec<String> {
    let object = agent.server.get(&path()).unwrap_or_default();
    let text = object["status"]["allocatedIPs"].as_str().unwrap_or("{}").to_owned();
    let records: Value = serde_json::from_str(&text).unwrap_or_default();
    let records = records.as_object().into_iter().flatten();
    records
        .filter(|(_, record)| record["podUid"] == json!(UID))
        .map(|(ip, _)| ip.clone())
        .collect()
}

async fn release(agent: &Agent) -> bool {
    let deadline = Instant::now() + Duration::from_secs(5);
    let pools = &agent.context.pools;
    pools.release("a", "retail/shop", UID, "eth0", deadline).await.is_ok()
}

#[tokio::test(start_paused = true)]
async fn a_release_that_lands_late_does_not_free_the_address_of_the_next_add() {
    let agent = one_pool();
    agent.add("eth0", &[]).await.unwrap();
    agent.server.lose(&path());
    assert!(!release(&agent).await, "the write was not answered");
    agent.server.lose_no_more();
    // The pod's next ADD finds its record, which the release on its way would take from it.
    assert_eq!(agent.add("eth0", &[]).await.unwrap(), ["eth0 10.77.1.1/20"]);
    let late = agent.server.land();
    assert!(!late.is_empty() && late.iter().all(|code| *code == 409), "{late:?}");
    assert_eq!(records(&agent), ["10.77.1.1"]);
}

#[tokio::test(start_paused = true)]
async fn a_claim_that_lands_late_is_found_by_the_release() {
    let agent = with_a_lost_claim().await;
    // The claim is on its way; a release that finds nothing must make sure that it stays so.
    assert_eq!(records(&agent), Vec::<String>::new());
    assert!(release(&agent).await);
    let late = agent.server.land();
    assert!(!late.is_empty() && late.iter().all(|code| *code == 409), "{late:?}");
    assert_eq!(records(&agent), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn what_the_process_before_left_on_its_way_does_not_free_an_address() {
    let recorded = json!({"10.77.1.4": {"pod": "retail/shop", "podUid": UID, "nic": "eth0"}});
    let mut before = pool("a", "10.77.1.1-10.77.1.9", &json!({}));
    before["status"]["allocatedIPs"] = json!(recorded.to_string());
    let agent = Agent::start(&[before], &json!({names::ANNOTATION_IPPOOL: r#"{"ipv4":["a"]}"#}));
    let version = agent
        .server
        .get(&path())
        .map(|pool| pool["metadata"]["resourceVersion"].clone());
    assert_eq!(agent.add("eth0", &[]).await.unwrap(), ["eth0 10.77.1.4/20"]);
    let after = agent
        .server
        .get(&path())
        .map(|pool| pool["metadata"]["resourceVersion"].clone());
    assert_ne!(version, after, "a write of the process before would still land");
    assert_eq!(records(&agent), ["10.77.1.4"]);
}

#[tokio::test]
async fn a_pod_keeps_the_address_that_the_cache_of_its_pool_does_not_know() {
    let pools = [
        pool("a", "10.77.1.1-10.77.1.9", &json!({})),
        pool("b", "10.77.2.1-10.77.2.9", &json!({})),
    ];
    let agent = Agent::start(&pools, &json!({names::ANNOTATION_IPPOOL: r#"{"ipv4":["a","b"]}"#}));
    let endpoint = json!({"apiVersion": names::API_VERSION, "kind": "SpiderEndpoint",
        "metadata": {"name": "shop", "namespace": "retail", "uid": "e"},
        "status": {"current": {"uid": "u", "node": "n1", "ips":
            [{"interface": "eth0", "ipv4": "10.77.2.1/20", "ipv4Pool": "b"}]}}});
    agent.server.put(ENDPOINT, endpoint);
    let key = Key::new("retail", "shop");
    let known = |store: &Store<SpiderEndpoint>| store.get(&key).map(drop);
    let soon = Instant::now() + Duration::from_secs(20);
    agent.context.endpoints.wait(soon, known).await.unwrap();
    let owner = ("retail/shop", UID, "eth0");
    let mut written = held("b", "10.77.2.1-10.77.2.9", "10.77.2.1", owner);
    written["metadata"]["resourceVersion"] = json!("900");
    agent.server.replace_silently(&format!("{POOLS}/b"), written);
    assert_eq!(agent.add("eth0", &[]).await.unwrap(), ["eth0 10.77.2.1/20"]);
    assert_eq!(agent.records("a"), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn a_pool_that_breaks_while_in_doubt_stops_no_del_of_others() {
    let agent = with_a_lost_claim().await;
    assert!(
        agent.context.pools.holding("other").contains("a"),
        "nothing is in doubt"
    );
    agent
        .server
        .edit(&path(), |pool| pool["status"]["allocatedIPs"] = json!("{"));
    assert!(agent.add("eth0", &[]).await.unwrap_err().contains("broken"));
    let held = agent.context.pools.holding("other");
    assert!(held.is_empty(), "{held:?}");
}
