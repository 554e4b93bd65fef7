//! DEL: quiet when done, repeatable, and failing while the addresses are still taken.

use serde_json::json;

use crate::host::{Host, answer, empty, run};

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
            json!({"containerID": "c0ffee", "ifName": "net1", "podNamespace": "bakery", "podName": "oven-1", "podUID": "8a1d"})
        );
    }
}

#[test]
fn a_release_that_failed_is_asked_for_again() {
    let host = Host::new();
    let _requests = host.serve([answer(500, &json!("the API server does not answer"))]);
    let (code, msg, _) = host.run("DEL", &host.conf("1.0.0", json!({}))).failure();
    assert_eq!(code, 999);
    assert_eq!(msg, "spiderpool IP release error: the API server does not answer");
}

#[test]
fn without_an_agent_it_fails_so_that_the_runtime_retries() {
    let host = Host::new();
    let (code, msg, _) = host.run("DEL", &host.conf("1.0.0", json!({}))).failure();
    assert_eq!(code, 11);
    assert!(
        msg.starts_with("unhealthy spiderpool-agent backend: cannot connect to "),
        "{msg}"
    );
}

#[test]
fn what_is_no_pod_has_nothing_to_give_back() {
    let host = Host::new();
    let mut vars = Host::vars("DEL");
    vars.retain(|(name, _)| *name != "CNI_ARGS");
    run(&vars, host.conf("1.0.0", json!({})).to_string().as_bytes()).succeeded_with("");
}
