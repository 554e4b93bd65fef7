//! DEL: quiet when done, repeatable, and noted on the node when the agent cannot serve it.

use std::{fs, path::Path, time::Instant};

use serde_json::json;
use spiderpool_wire::{IpamDelArgs, journal};

use crate::host::{Host, PATIENCE, answer, empty, run};

/// The entries of a journal.
fn noted(folder: &Path) -> Vec<IpamDelArgs> {
    let Ok(files) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let files = files.map(|entry| fs::read(entry.unwrap().path()).unwrap());
    files.map(|text| journal::decode(&text).unwrap()).collect()
}

fn usual() -> IpamDelArgs {
    IpamDelArgs {
        container_id: "c0ffee".into(),
        if_name: "net1".into(),
        net_namespace: "/var/run/netns/cni-77".into(),
        pod_namespace: "bakery".into(),
        pod_name: "oven-1".into(),
        pod_uid: "8a1d".into(),
        network_name: "hall".into(),
    }
}

#[test]
fn addresses_are_handed_back_without_a_network_namespace() {
    let host = Host::new();
    let requests = host.serve([empty(200), empty(200)]);
    let mut vars = Host::vars("DEL");
    vars.retain(|(name, _)| *name != "CNI_NETNS");
    let conf = host.conf("1.0.0", json!({})).to_string();
    for _ in 0..2 {
        run(&vars, conf.as_bytes()).succeeded_with("");
        let request = requests.next();
        assert_eq!(request.line, "DELETE /v1/ipam/ip HTTP/1.1");
        assert_eq!(
            request.body,
            json!({"containerID": "c0ffee", "ifName": "net1", "podNamespace": "bakery", "podName": "oven-1", "podUID": "8a1d",
                   "networkName": "hall"})
        );
    }
}

#[test]
fn a_release_that_failed_is_noted_on_the_node_once() {
    let host = Host::new();
    let refused = answer(500, &json!("the API server does not answer"));
    let _requests = host.serve([refused.clone(), refused, empty(200)]);
    let conf = host.conf("1.0.0", json!({}));
    for _ in 0..2 {
        host.run("DEL", &conf).succeeded_with("");
        assert_eq!(noted(&host.path("journal")), [usual()]);
    }
    let line = host.log().pop().unwrap();
    assert_eq!(line["level"], "WARN");
    assert!(
        line["Error"]
            .as_str()
            .unwrap()
            .contains("the API server does not answer"),
        "{line}"
    );
    // taking the entry away is up to the agent
    host.run("DEL", &conf).succeeded_with("");
    assert_eq!(noted(&host.path("journal")).len(), 1);
}

#[test]
fn without_an_agent_the_pods_end_does_not_wait() {
    let host = Host::new();
    host.run("DEL", &host.conf("1.0.0", json!({}))).succeeded_with("");
    assert_eq!(noted(&host.path("journal")), [usual()]);
}

#[test]
fn an_agent_that_never_answers_is_waited_for_ten_seconds() {
    let host = Host::new();
    // accepted by the kernel, never by the agent
    let _listener = std::os::unix::net::UnixListener::bind(host.path("agent.sock")).unwrap();
    let started = Instant::now();
    host.run("DEL", &host.conf("1.0.0", json!({}))).succeeded_with("");
    assert!(started.elapsed() < PATIENCE, "{:?}", started.elapsed());
    assert_eq!(noted(&host.path("journal")), [usual()]);
}

#[test]
fn without_agent_and_journal_it_fails_so_that_the_runtime_retries() {
    let host = Host::new();
    fs::write(host.path("journal"), "no folder").unwrap();
    let (code, msg, _) = host.run("DEL", &host.conf("1.0.0", json!({}))).failure();
    assert_eq!(code, 11);
    assert!(
        msg.starts_with("unhealthy spiderpool-agent backend: cannot connect to "),
        "{msg}"
    );
    assert!(msg.contains("cannot note the DEL in "), "{msg}");
}

#[test]
fn a_request_that_no_agent_will_take_is_not_noted() {
    let host = Host::new();
    let _requests = host.serve([answer(400, &json!("the request body is not understood"))]);
    let (code, msg, _) = host.run("DEL", &host.conf("1.0.0", json!({}))).failure();
    assert_eq!(code, 999);
    assert_eq!(msg, "spiderpool IP release error: the request body is not understood");
    assert_eq!(noted(&host.path("journal")), []);
}

#[test]
fn what_is_no_pod_has_nothing_to_give_back() {
    let host = Host::new();
    let mut vars = Host::vars("DEL");
    vars.retain(|(name, _)| *name != "CNI_ARGS");
    run(&vars, host.conf("1.0.0", json!({})).to_string().as_bytes()).succeeded_with("");
}
