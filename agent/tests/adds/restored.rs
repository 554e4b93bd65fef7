//! The storage of the API server goes back to an older state while pods run.

use super::agent::{Agent, pool};
use super::api::{POOLS, Server};
use serde_json::{Value, json};
use spiderpool_agent::pools::JobError;
use spiderpool_agent::{recheck, restore};
use spiderpool_crds::names;
use spiderpool_ipam::Owner;
use spiderpool_kit::cache::Key;
use std::time::Duration;
use tokio::time::Instant;

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(20)
}

fn agent() -> Agent {
    let pools = [pool("a", "10.77.1.1-10.77.1.3", &json!({}))];
    Agent::start(&pools, &json!({names::ANNOTATION_IPPOOL: r#"{"ipv4":["a"]}"#}))
}

fn records(server: &Server) -> Value {
    let pool = server.get(&format!("{POOLS}/a")).unwrap_or_default();
    let text = pool["status"]["allocatedIPs"].as_str().unwrap_or("{}").to_owned();
    serde_json::from_str(&text).unwrap_or_default()
}

/// Another pod claims an address of the pool.
async fn claim(agent: &Agent) -> Result<String, JobError> {
    let owner = Owner {
        pod: "retail/other".to_owned(),
        uid: "other".to_owned(),
        nic: Some("eth0".to_owned()),
    };
    let claimed = agent.context.pools.claim("a", owner, None, soon()).await;
    claimed.map(|claimed| claimed.taken.ip.to_string())
}

fn is_restoring(claim: Result<String, JobError>) -> bool {
    claim.is_err_and(|error| error.is_restoring())
}

/// Waits until the agent knows the pool as wanted.
#[expect(clippy::unwrap_used, reason = "helpers of tests, which fail by it")]
async fn known(agent: &Agent, wanted: impl Fn(&Value) -> bool) {
    let look = |pools: &spiderpool_kit::cache::Store<spiderpool_crds::SpiderIPPool>| {
        let pool = serde_json::to_value(&**pools.get(&Key::new("", "a"))?).ok()?;
        wanted(&pool["status"]["restoring"]).then_some(())
    };
    agent.context.pools.cache().wait(soon(), look).await.unwrap();
}

/// The pool has nothing on record any more, and the agent knows.
#[expect(clippy::unwrap_used, reason = "helpers of tests, which fail by it")]
async fn lose_records(agent: &Agent) {
    agent.server.edit(&format!("{POOLS}/a"), |pool| {
        pool["status"].as_object_mut().unwrap().remove("allocatedIPs");
    });
    let lost = |pools: &spiderpool_kit::cache::Store<spiderpool_crds::SpiderIPPool>| {
        let status = pools.get(&Key::new("", "a"))?.status.as_ref()?;
        status.allocated_ips.is_none().then_some(())
    };
    agent.context.pools.cache().wait(soon(), lost).await.unwrap();
}

/// The operator ends the pause.
#[expect(clippy::unwrap_used, reason = "helpers of tests, which fail by it")]
fn end(server: &Server) {
    server.edit(&format!("{POOLS}/a"), |pool| {
        pool["status"].as_object_mut().unwrap().remove("restoring");
    });
}

#[tokio::test]
async fn an_agent_that_lived_through_it_puts_back_what_its_sandboxes_use_before_anything_is_given_out() {
    let agent = agent();
    let before = agent.server.snapshot();
    assert_eq!(agent.add("eth0", &[]).await.unwrap(), ["eth0 10.77.1.1/20"]);
    tokio::spawn(restore::run(agent.context.clone()));
    agent.server.restore(&before);
    assert_eq!(records(&agent.server), json!({}));
    // Whatever is asked for in between is refused, or comes when all is right again.
    known(&agent, |restoring| restoring["asserted"] == json!(["n1"])).await;
    assert_eq!(records(&agent.server)["10.77.1.1"]["podUid"], "u");
    assert!(is_restoring(claim(&agent).await));
    end(&agent.server);
    known(&agent, Value::is_null).await;
    assert_eq!(claim(&agent).await.unwrap(), "10.77.1.2");
}

#[tokio::test]
async fn a_claim_notices_it_before_the_watch_does() {
    let agent = agent();
    let before = agent.server.get(&format!("{POOLS}/a")).unwrap();
    assert_eq!(agent.add("eth0", &[]).await.unwrap(), ["eth0 10.77.1.1/20"]);
    agent.server.replace_silently(&format!("{POOLS}/a"), before);
    assert!(is_restoring(claim(&agent).await));
    assert!(agent.context.pools.suspended().is_some());
    assert_eq!(records(&agent.server), json!({}));
}

#[tokio::test]
async fn who_uses_an_address_gets_it_back_from_a_pod_of_the_past() {
    let agent = agent();
    agent.server.edit(&format!("{POOLS}/a"), |pool| {
        let past = json!({"10.77.1.1": {"pod": "retail/past", "podUid": "past", "nic": "eth0", "node": "n2"}});
        pool["status"]["allocatedIPs"] = json!(past.to_string());
    });
    let before = agent.server.snapshot();
    lose_records(&agent).await;
    assert_eq!(agent.add("eth0", &[]).await.unwrap(), ["eth0 10.77.1.1/20"]);
    tokio::spawn(restore::run(agent.context.clone()));
    agent.server.restore(&before);
    known(&agent, |restoring| restoring["asserted"] == json!(["n1"])).await;
    assert_eq!(records(&agent.server)["10.77.1.1"]["podUid"], "u");
    let pool = agent.server.get(&format!("{POOLS}/a")).unwrap();
    assert_eq!(pool["status"]["restoring"]["retaken"], json!(["10.77.1.1"]));
}

#[tokio::test]
async fn an_agent_that_starts_after_it_notices_by_a_sandbox_without_a_record() {
    let agent = agent();
    assert_eq!(agent.add("eth0", &[]).await.unwrap(), ["eth0 10.77.1.1/20"]);
    lose_records(&agent).await;
    agent.context.pools.set_starting(true);
    // Only who has looked again since counts.
    let owner = Owner {
        pod: "retail/shop".to_owned(),
        uid: "u".to_owned(),
        nic: Some("eth0".to_owned()),
    };
    let pools = &agent.context.pools;
    let unsure = pools
        .restore("a", "10.77.1.1".parse().unwrap(), owner, false, soon())
        .await;
    assert!(matches!(unsure, Err(JobError::Unrecorded { .. })), "{unsure:?}");
    assert_eq!(records(&agent.server), json!({}));
    assert!(recheck::all(&agent.context).await);
    assert_eq!(records(&agent.server)["10.77.1.1"]["podUid"], "u");
    assert!(is_restoring(claim(&agent).await));
}

#[tokio::test]
async fn an_agent_that_starts_while_another_ends_a_del_does_not_take_it_for_a_restore() {
    let agent = agent();
    assert_eq!(agent.add("eth0", &[]).await.unwrap(), ["eth0 10.77.1.1/20"]);
    agent.host.note_ended("c", "eth0");
    lose_records(&agent).await;
    agent.context.pools.set_starting(true);
    assert!(recheck::all(&agent.context).await);
    assert_eq!(records(&agent.server), json!({}));
    assert!(agent.context.pools.suspended().is_none());
}

/// Two pools of which a pod has an address, on record or remembered by its endpoint only, in the one that pauses.
#[tokio::test]
async fn a_pod_does_not_leave_its_address_because_the_pool_of_it_pauses() {
    for (list, forgotten) in [(r#"{"ipv4":["a","b"]}"#, false), (r#"{"ipv4":["b","a"]}"#, true)] {
        let pools = [
            pool("a", "10.77.1.1-10.77.1.3", &json!({})),
            pool("b", "10.77.2.1-10.77.2.3", &json!({"disable": true})),
        ];
        let agent = Agent::start(&pools, &json!({names::ANNOTATION_IPPOOL: list}));
        assert_eq!(agent.add("eth0", &[]).await.unwrap(), ["eth0 10.77.1.1/20"]);
        let record = records(&agent.server)["10.77.1.1"].clone();
        agent.server.edit(&format!("{POOLS}/b"), |pool| {
            pool["spec"]["disable"] = json!(false);
        });
        agent.server.edit(&format!("{POOLS}/a"), |pool| {
            pool["status"]["restoring"] = json!({"since": "", "by": "n2", "asserted": []});
            if forgotten {
                pool["status"].as_object_mut().unwrap().remove("allocatedIPs");
            }
        });
        known(&agent, Value::is_object).await;
        let error = agent.add("eth0", &[]).await.unwrap_err();
        assert!(error.contains("IPPool a") && error.contains("restore"), "{error}");
        agent.server.edit(&format!("{POOLS}/a"), |pool| {
            pool["status"]["allocatedIPs"] = json!(json!({"10.77.1.1": record}).to_string());
        });
        end(&agent.server);
        known(&agent, Value::is_null).await;
        assert_eq!(agent.add("eth0", &[]).await.unwrap(), ["eth0 10.77.1.1/20"]);
    }
}

#[tokio::test]
async fn a_pod_does_not_leave_its_address_because_the_pool_of_it_cannot_be_read() {
    let pools = [
        pool("a", "10.77.1.1-10.77.1.3", &json!({})),
        pool("b", "10.77.2.1-10.77.2.3", &json!({"disable": true})),
    ];
    let agent = Agent::start(&pools, &json!({names::ANNOTATION_IPPOOL: r#"{"ipv4":["a","b"]}"#}));
    assert_eq!(agent.add("eth0", &[]).await.unwrap(), ["eth0 10.77.1.1/20"]);
    let record = records(&agent.server).to_string();
    agent
        .server
        .edit(&format!("{POOLS}/b"), |pool| pool["spec"]["disable"] = json!(false));
    agent.server.edit(&format!("{POOLS}/a"), |pool| {
        pool["status"]["allocatedIPs"] = json!("{")
    });
    let is = |wanted: bool| {
        move |pools: &spiderpool_kit::cache::Store<spiderpool_crds::SpiderIPPool>| {
            let pool = pools.get(&Key::new("", "a"))?;
            (pool.records().is_ok() == wanted).then_some(())
        }
    };
    let cache = agent.context.pools.cache();
    cache.wait(soon(), is(false)).await.unwrap();
    let error = agent.add("eth0", &[]).await.unwrap_err();
    assert!(error.contains("IPPool a"), "{error}");
    assert!(agent.records("b").is_empty());
    agent.server.edit(&format!("{POOLS}/a"), |pool| {
        pool["status"]["allocatedIPs"] = json!(record)
    });
    cache.wait(soon(), is(true)).await.unwrap();
    assert_eq!(agent.add("eth0", &[]).await.unwrap(), ["eth0 10.77.1.1/20"]);
}
