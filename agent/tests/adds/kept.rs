//! Addresses of a StatefulSet's pod of which something has gone wrong since.

use super::agent::{Agent, ENDPOINT, held, lent, pool};
use super::api::{Fault, POOLS};
use super::sticky::{asks, item, records, start};
use serde_json::{Value, json};
use spiderpool_crds::names;
use std::time::Duration;

const ENDPOINTS: &str = "/apis/spiderpool.spidernet.io/v2beta1/namespaces/retail/spiderendpoints";
const EARLIER: (&str, &str, &str) = ("retail/shop", "old", "eth0");

/// An agent whose pod has an endpoint of its own with these NICs.
fn again(pools: &[Value], items: &Value, annotations: &Value) -> Agent {
    let agent = start(pools, items, annotations);
    agent
        .server
        .edit(ENDPOINT, |endpoint| endpoint["status"]["current"]["uid"] = json!("u"));
    agent
}

#[tokio::test]
async fn an_inherited_address_stays_when_the_other_family_has_none() {
    let pools = [
        lent(EARLIER),
        held("six", "fd77::1", "fd77::1", ("retail/other", "o", "eth0")),
    ];
    let annotations = json!({names::ANNOTATION_IPPOOL: r#"{"ipv4":["a"],"ipv6":["six"]}"#});
    let agent = start(&pools, &json!([item("eth0", "10.77.1.5", "a")]), &annotations);
    let error = agent.add("eth0", &[]).await.unwrap_err();
    assert!(error.contains("all IP addresses used out in IPPool six"), "{error}");
    assert_eq!(records(&agent, "a")["10.77.1.5"]["podUid"], json!("u"));
}

#[tokio::test]
async fn a_nic_neither_takes_nor_frees_what_the_peer_gave_to_another_nic() {
    let unnamed = |name: &str, ips: &str, ip: &str| {
        let mut pool = pool(name, ips, &json!({}));
        pool["status"]["allocatedIPs"] = json!(json!({ip: {"pod": "retail/shop", "podUid": "u"}}).to_string());
        pool
    };
    let pools = [
        unnamed("a", "10.77.1.1-10.77.1.9", "10.77.1.1"),
        unnamed("z", "10.77.2.1-10.77.2.9", "10.77.2.1"),
        pool("c", "10.77.3.1-10.77.3.9", &json!({})),
    ];
    let items = json!([item("eth0", "10.77.2.1", "z"), item("net1", "10.77.1.1", "a")]);
    for (network, given) in [("c", "eth0 10.77.3.1/20"), ("a", "eth0 10.77.1.2/20")] {
        let agent = again(&pools, &items, &json!({}));
        let answer = agent.add("eth0", &[network]).await.unwrap();
        assert_eq!(answer, [given, "net1 10.77.1.1/20"]);
        assert_eq!(
            records(&agent, "a")["10.77.1.1"],
            json!({"pod": "retail/shop", "podUid": "u"})
        );
        // Its own it keeps by the endpoint.
        assert_eq!(agent.add("net1", &["a"]).await.unwrap(), answer);
        assert_eq!(records(&agent, "a")["10.77.1.1"]["nic"], json!("net1"));
    }
}

#[tokio::test]
async fn an_endpoint_that_is_kept_does_not_end_with_a_pod() {
    let pools = [lent(("retail/shop", "u", "eth0"))];
    let agent = again(&pools, &json!([item("eth0", "10.77.1.5", "a")]), &asks(r#"["a"]"#));
    let pod = json!([{"apiVersion": "v1", "kind": "Pod", "name": "shop", "uid": "u"}]);
    agent
        .server
        .edit(ENDPOINT, |endpoint| endpoint["metadata"]["ownerReferences"] = pod);
    assert_eq!(agent.add("eth0", &[]).await.unwrap(), ["eth0 10.77.1.5/20"]);
    let endpoint = agent.server.get(ENDPOINT).unwrap();
    assert_eq!(endpoint["metadata"]["ownerReferences"], Value::Null);
}

#[tokio::test]
async fn an_old_pool_that_cannot_be_read_keeps_the_pod_from_no_other() {
    let mut broken = pool("a", "10.77.1.1-10.77.1.9", &json!({}));
    broken["status"]["allocatedIPs"] = json!("{");
    let pools = [broken, pool("b", "10.77.2.1", &json!({}))];
    let agent = start(&pools, &json!([item("eth0", "10.77.1.5", "a")]), &asks(r#"["b"]"#));
    assert_eq!(agent.add("eth0", &[]).await.unwrap(), ["eth0 10.77.2.1/20"]);
}

#[tokio::test]
async fn an_address_that_another_nic_of_the_pod_has_by_now_is_not_taken_over() {
    let pools = [lent(("retail/shop", "u", "net1"))];
    let agent = start(&pools, &json!([item("eth0", "10.77.1.5", "a")]), &asks(r#"["a"]"#));
    assert_eq!(agent.add("eth0", &[]).await.unwrap(), ["eth0 10.77.1.1/20"]);
    assert_eq!(records(&agent, "a")["10.77.1.5"]["nic"], json!("net1"));
}

#[tokio::test]
async fn an_address_of_a_pods_own_endpoint_that_its_pool_forgot_is_put_back_or_its_holder_named() {
    let items = json!([item("eth0", "10.77.1.5", "a"), item("net1", "10.77.1.6", "a")]);
    let free = [pool("a", "10.77.1.1-10.77.1.9", &json!({}))];
    let agent = again(&free, &items, &asks(r#"["a"]"#));
    let answer = agent.add("eth0", &[]).await.unwrap();
    assert_eq!(answer, ["eth0 10.77.1.5/20", "net1 10.77.1.6/20"]);
    assert_eq!(records(&agent, "a")["10.77.1.6"]["nic"], json!("net1"));
    let taken = [lent(("retail/other", "o", "eth0"))];
    let agent = again(&taken, &items, &asks(r#"["a"]"#));
    let error = agent.add("eth0", &[]).await.unwrap_err();
    let told = "gives its NIC eth0 10.77.1.5 of IPPool a, which is on record for Pod retail/other (UID o) as well";
    assert!(error.contains(told), "{error}");
    // No reason to keep it from another NIC.
    assert_eq!(agent.add("net1", &[]).await.unwrap(), answer);
}

#[tokio::test(start_paused = true)]
async fn a_late_add_of_a_pod_that_is_gone_leaves_the_endpoint_to_its_successor() {
    let newer = |items: &Value| {
        json!({"apiVersion": names::API_VERSION, "kind": "SpiderEndpoint",
            "metadata": {"name": "shop", "namespace": "retail", "uid": "e"},
            "status": {"current": {"uid": "newer", "node": "n2", "ips": items}}})
    };
    let items = json!([item("eth0", "10.77.1.9", "a")]);
    for kind in ["DaemonSet", "StatefulSet"] {
        let pools = [pool("a", "10.77.1.1-10.77.1.9", &json!({}))];
        let agent = Agent::start_of(kind, &pools, &asks(r#"["a"]"#));
        let create = format!("POST {ENDPOINTS}");
        agent.server.meet(&create, Fault::Refuse(429, "busy", 2), 1);
        // The pod is deleted by force and made again on another node, and this node's watches are behind.
        let elsewhere = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            agent.server.replace_silently(
                super::agent::POD,
                json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "shop", "namespace": "retail", "uid": "newer"}}),
            );
            agent.server.replace_silently(ENDPOINT, newer(&items));
        };
        let (added, ()) = tokio::join!(agent.add("eth0", &[]), elsewhere);
        let error = added.unwrap_err();
        assert!(error.contains("newer"), "{error}");
        assert_eq!(
            agent.server.get(ENDPOINT).unwrap()["status"]["current"]["uid"],
            json!("newer")
        );
        assert_eq!(agent.records("a"), Vec::<String>::new(), "{kind}");
    }
    // A pod that is there follows the one of before.
    let agent = Agent::start(&[pool("a", "10.77.1.1-10.77.1.9", &json!({}))], &asks(r#"["a"]"#));
    agent.server.put(ENDPOINT, newer(&items));
    agent.add("eth0", &[]).await.unwrap();
    assert_eq!(
        agent.server.get(ENDPOINT).unwrap()["status"]["current"]["uid"],
        json!("u")
    );
    assert!(agent.server.get(&format!("{POOLS}/a")).is_some());
}
