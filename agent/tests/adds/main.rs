//! Whole ADDs against an API server in this process: what is decided elsewhere is put together here, and what a user reads
//! when it fails.

mod agent;
mod api;
mod cancelled;
mod endings;
mod faults;
mod host;
mod kept;
mod late;
mod lost_writes;
mod machines;
mod nics;
mod restored;
mod sticky;
mod unused;
mod upgraded;

use agent::{Agent, args, full, pool};
use api::{POOLS, Server};
use axum::body::Body;
use serde_json::{Value, json};
use spiderpool_agent::cancel::Cancel;
use spiderpool_agent::surroundings::Surroundings;
use spiderpool_agent::{add, server, tell};
use spiderpool_crds::names;
use spiderpool_wire::{Explanation, IpamAddArgs};
use std::time::Duration;
use tower::ServiceExt;

#[tokio::test]
async fn pools_of_a_list_are_tried_in_turn_and_a_pod_with_annotation_costs_two_writes() {
    let pools = [full("a", "10.77.1.1"), pool("b-1", "10.77.2.1-10.77.2.9", &json!({}))];
    let agent = Agent::start(&pools, &json!({names::ANNOTATION_IPPOOL: r#"{"ipv4":["a","b-*"]}"#}));
    assert_eq!(agent.add("eth0", &["none"]).await.unwrap(), ["eth0 10.77.2.1/20"]);
    assert_eq!(
        agent.server.asked(),
        [
            // "Full" is said only of a pool that was read live.
            format!("GET {POOLS}/a"),
            format!("PUT {POOLS}/b-1/status"),
            "POST /apis/spiderpool.spidernet.io/v2beta1/namespaces/retail/spiderendpoints".to_owned(),
        ]
    );
    let endpoint = "/apis/spiderpool.spidernet.io/v2beta1/namespaces/retail/spiderendpoints/shop";
    let endpoint = agent.server.get(endpoint).unwrap();
    assert_eq!(endpoint["status"]["current"]["ips"][0]["networkName"], json!("lan"));
    assert_eq!(agent.events().await.unwrap(), []);
}

#[tokio::test]
async fn default_pools_of_the_namespace_go_before_those_of_the_network() {
    let pools = [
        pool("space", "10.77.1.1-10.77.1.9", &json!({})),
        pool("net", "10.77.2.1-10.77.2.9", &json!({})),
        pool("all", "10.77.3.1-10.77.3.9", &json!({"default": true})),
        pool("all-6", "fd77::1-fd77::9", &json!({"default": true})),
    ];
    let none = json!({});
    let agent = Agent::start(&pools, &none);
    let annotated = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "retail",
        "annotations": {names::ANNOTATION_DEFAULT_IPV4_IPPOOL: r#"["spa?e"]"#}}});
    agent.server.put("/api/v1/namespaces/retail", annotated);
    assert_eq!(agent.add("eth0", &["net"]).await.unwrap(), ["eth0 10.77.1.1/20"]);
    let agent = Agent::start(&pools, &none);
    assert_eq!(agent.add("eth0", &["net"]).await.unwrap(), ["eth0 10.77.2.1/20"]);
    let agent = Agent::start(&pools, &none);
    assert_eq!(
        agent.add("eth0", &[]).await.unwrap(),
        ["eth0 10.77.3.1/20", "eth0 fd77::1/64"]
    );
}

#[tokio::test]
async fn a_pod_without_address_is_told_why_once_and_nothing_is_taken() {
    let pools = [
        full("a", "10.77.1.1"),
        pool("off", "10.77.2.1", &json!({"disable": true})),
        pool("six", "fd77::1", &json!({})),
    ];
    let agent = Agent::start(
        &pools,
        &json!({names::ANNOTATION_IPPOOL: r#"{"ipv4":["a","off","none"],"ipv6":["six"]}"#}),
    );
    let error = agent.add("eth0", &[]).await.unwrap_err();
    let reasons = [
        "no IPPool available for Pod retail/shop NIC eth0 IPv4:",
        "only IPv4 is missing, and a pod gets the addresses of both families or none",
        "asked for by annotation ipam.spidernet.io/ippool of the Pod",
        "Disabled: IPPool off is disabled (spec.disable)",
        "NotFound: IPPool none does not exist",
        "PoolExhausted 1/1: all IP addresses used out in IPPool a: 1 of 1 in use",
    ];
    assert_eq!(error, format!("{} {}", reasons[0], reasons[1..].join("; ")));
    assert_eq!(agent.add("eth0", &[]).await.unwrap_err(), error);
    let six = agent.server.get(&format!("{POOLS}/six")).unwrap();
    assert_eq!(six["status"]["allocatedIPs"], Value::Null);
    let note = format!("spiderpool IP allocation error: {}", reasons.join("\n"));
    assert_eq!(agent.events().await.unwrap(), [(tell::FAILED.to_owned(), note)]);
}

#[tokio::test]
async fn an_exact_address_is_given_or_its_holder_named() {
    let pools = [full("a", "10.77.1.1"), pool("b", "10.77.2.1-10.77.2.9", &json!({}))];
    let asks = |ip: &str| json!({names::ANNOTATION_IPPOOL: r#"{"ipv4":["a","b"]}"#, names::ANNOTATION_IP: format!(r#"{{"eth0":["{ip}"]}}"#)});
    let agent = Agent::start(&pools, &asks("10.77.2.7"));
    assert_eq!(agent.add("eth0", &[]).await.unwrap(), ["eth0 10.77.2.7/20"]);
    let agent = Agent::start(&pools, &asks("10.77.1.1"));
    let error = agent.add("eth0", &[]).await.unwrap_err();
    for part in [
        "AddressTaken: 10.77.1.1 of IPPool a is in use by Pod retail/other",
        "AddressOutside: 10.77.1.1 is none of the addresses of IPPool b",
    ] {
        assert!(error.contains(part), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_pool_that_was_just_made_is_waited_for_until_the_operator_has_checked_it() {
    let checked = pool("a", "10.77.1.1-10.77.1.9", &json!({}));
    let mut made = checked.clone();
    made["status"] = json!({});
    let annotations = json!({names::ANNOTATION_IPPOOL: r#"{"ipv4":["a"]}"#});
    let agent = Agent::start(std::slice::from_ref(&made), &annotations);
    // The operator's write comes while the request waits.
    let (added, written) = tokio::join!(agent.add("eth0", &[]), agent.write_later(&checked));
    written.unwrap();
    assert_eq!(added.unwrap(), ["eth0 10.77.1.1/20"]);
    let agent = Agent::start(&[made], &annotations);
    let error = agent.add("eth0", &[]).await.unwrap_err();
    assert!(error.contains("NotReady: IPPool a is not checked yet"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_pool_that_asks_for_labels_only_while_a_request_waits_for_it_is_judged_by_labels_that_were_read() {
    let mut made = pool("a", "10.77.1.1-10.77.1.9", &json!({}));
    let mut edited = made.clone();
    made["status"] = json!({});
    let agent = Agent::start(&[made], &json!({names::ANNOTATION_IPPOOL: r#"{"ipv4":["a"]}"#}));
    let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1", "labels": {"rack": "7"}}});
    agent.server.put("/api/v1/nodes/n1", node);
    let elsewhere = json!({"matchExpressions": [{"key": "rack", "operator": "NotIn", "values": ["7"]}]});
    edited["spec"]["nodeAffinity"] = elsewhere;
    let (added, written) = tokio::join!(agent.add("eth0", &[]), agent.write_later(&edited));
    written.unwrap();
    let error = added.unwrap_err();
    assert!(
        error.contains("labels of Node n1 do not meet its nodeAffinity rack notin (7)"),
        "{error}"
    );
}

#[tokio::test]
async fn explaining_says_what_an_add_would_do_and_writes_nothing() {
    let pools = [full("a", "10.77.1.1"), pool("b", "10.77.2.1-10.77.2.9", &json!({}))];
    let agent = Agent::start(&pools, &json!({names::ANNOTATION_IPPOOL: r#"{"ipv4":["a","b"]}"#}));
    let ask = async |query: &str| {
        let request = http::Request::get(format!("/v1/ipam/explain{query}"))
            .body(Body::empty())
            .unwrap();
        let response = server::router(agent.context.clone()).oneshot(request).await.unwrap();
        let code = response.status().as_u16();
        let body = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
        (code, body)
    };
    let (code, body) = ask("?pod=retail/shop").await;
    assert_eq!(code, 200);
    let told: Explanation = serde_json::from_slice(&body).unwrap();
    assert_eq!((told.level.as_str(), told.nic.as_str()), ("IPPool", "eth0"));
    let get = told.families[0].would_get.clone().unwrap();
    assert_eq!((get.address.as_str(), get.ip_pool.as_str()), ("10.77.2.1", "b"));
    let verdicts: Vec<&str> = told.families[0]
        .pools
        .iter()
        .map(|pool| pool.verdict.as_str())
        .collect();
    assert_eq!(verdicts, ["Chosen", "PoolExhausted"]);
    assert_eq!(agent.server.asked(), Vec::<String>::new());
    assert_eq!(ask("?pod=retail/none").await.0, 404);
    for query in ["", "?pod=shop", "?pod=a/b/c", "?pod=/shop"] {
        assert_eq!(ask(query).await.0, 400, "{query}");
    }
    agent.add("eth0", &[]).await.unwrap();
    let told: Explanation = serde_json::from_slice(&ask("?pod=retail/shop&nic=eth0").await.1).unwrap();
    assert_eq!(told.families[0].has, Some(get));
}

#[tokio::test(start_paused = true)]
async fn a_pod_without_a_pool_of_its_own_is_told_within_two_seconds_what_it_waits_for() {
    let agent = Agent::start(&[], &json!({names::ANNOTATION_SUBNET: r#"{"ipv4":["lan"]}"#}));
    let waiting = tokio::time::timeout(Duration::from_secs(2), Box::pin(agent.add("eth0", &[]))).await;
    assert!(waiting.is_err());
    let (reason, note) = agent.events().await.unwrap().remove(0);
    assert_eq!(reason, tell::WAITING);
    assert_eq!(
        note,
        "still waiting: no IPPool available for Pod retail/shop NIC eth0 IPv4:\n\
         no matching auto-created IPPool candidate of DaemonSet retail/store for NIC eth0 IPv4 has a free address\n\
         the operator has not made the pool\n\
         the Events of `kubectl -n retail describe daemonset store` show what the operator says\n\
         SpiderSubnet lan does not exist; create it or correct the annotation"
    );
}

#[tokio::test]
async fn a_pool_with_thousands_of_addresses_in_use_gives_the_next_one() {
    let mut used = pool("a", "10.77.0.1-10.77.63.254", &json!({}));
    used["spec"]["subnet"] = json!("10.77.0.0/18");
    let records = (1..=6000u32).map(|n| {
        let ip = std::net::Ipv4Addr::from(0x0a4d_0000 + n).to_string();
        let uid = format!("0d3f0f5e-5f0e-4a4b-9a36-{n:012}");
        (
            ip,
            json!({"pod": format!("retail/shop-{n}"), "podUid": uid, "nic": "eth0"}),
        )
    });
    let records: serde_json::Map<String, Value> = records.collect();
    used["status"]["allocatedIPs"] = json!(Value::from(records).to_string());
    let agent = Agent::start(&[used], &json!({names::ANNOTATION_IPPOOL: r#"{"ipv4":["a"]}"#}));
    assert_eq!(agent.add("eth0", &[]).await.unwrap(), ["eth0 10.77.23.113/18"]);
}

#[tokio::test]
async fn a_pool_whose_object_cannot_grow_is_not_written_and_the_next_one_serves() {
    let mut large = pool("a", "10.77.1.1-10.77.1.9", &json!({}));
    large["metadata"]["annotations"] = json!({"note": "x".repeat(1_199_700)});
    let pools = [large, pool("b", "10.77.2.1-10.77.2.9", &json!({}))];
    let annotations = |pools: &str| json!({names::ANNOTATION_IPPOOL: pools});
    let agent = Agent::start(&pools, &annotations(r#"{"ipv4":["a","b"]}"#));
    assert_eq!(agent.add("eth0", &[]).await.unwrap(), ["eth0 10.77.2.1/20"]);
    assert!(!agent.server.asked().contains(&format!("PUT {POOLS}/a/status")));
    let agent = Agent::start(&pools, &annotations(r#"{"ipv4":["a"]}"#));
    let error = agent.add("eth0", &[]).await.unwrap_err();
    assert!(error.contains("RecordLimit 0: IPPool a counts as full"), "{error}");
}

#[tokio::test]
async fn a_network_that_asks_for_pools_of_its_masters_subnet_is_served_while_nobody_knows_the_master() {
    let pools = [pool("a", "10.77.1.1-10.77.1.9", &json!({}))];
    let agent = Agent::start(&pools, &json!({names::ANNOTATION_IPPOOL: r#"{"ipv4":["a"]}"#}));
    let args = IpamAddArgs {
        match_master_subnet: true,
        ..args("eth0", &[])
    };
    let given = Box::pin(add::add(&agent.context, &args, &Cancel::default()))
        .await
        .unwrap();
    assert_eq!(given.ips[0].address, "10.77.1.1/20");
}

#[tokio::test]
async fn requests_that_come_at_once_read_a_namespace_once() {
    let server = Server::default();
    let labels = json!({"team": "sales"});
    server.put(
        "/api/v1/namespaces/retail",
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "retail", "labels": labels}}),
    );
    let surroundings = Surroundings::new(server.client());
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    let reads = (0..9).map(|_| surroundings.namespace("retail", deadline));
    for found in futures::future::join_all(reads).await {
        assert_eq!(found.unwrap().labels["team"], "sales");
    }
    assert_eq!(server.asked(), ["GET /api/v1/namespaces/retail"]);
    // A failure is nobody's answer but its own.
    assert!(surroundings.namespace("none", deadline).await.is_err());
    assert!(surroundings.namespace("none", deadline).await.is_err());
    assert_eq!(server.asked().len(), 2);
}
