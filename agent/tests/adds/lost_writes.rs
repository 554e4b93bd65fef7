//! Writes that arrive long after whoever sent them gave up.

use super::{Agent, pool};
use crate::api::POOLS;
use serde_json::{Value, json};
use spiderpool_crds::names;
use std::time::Duration;
use tokio::time::Instant;

const UID: &str = "u";

fn one_pool() -> Agent {
    let pools = [pool("a", "10.77.1.1-10.77.1.9", &json!({}))];
    Agent::start(&pools, &json!({names::ANNOTATION_IPPOOL: r#"{"ipv4":["a"]}"#}))
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
    let agent = one_pool();
    agent.server.lose(&path());
    agent.add("eth0", &[]).await.unwrap_err();
    agent.server.lose_no_more();
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
