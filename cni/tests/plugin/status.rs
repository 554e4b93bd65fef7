//! STATUS and GC, which came with 1.1.0, and VERSION.

use serde_json::json;

use crate::host::{Host, answer, empty, run};

#[test]
fn status_is_the_agents_health() {
    let host = Host::new();
    let requests = host.serve([empty(200), answer(500, &json!("caches are not filled"))]);
    let conf = host.conf("1.1.0", json!({})).to_string();
    // a runtime sets none of the variables of an attachment here
    let vars = [("CNI_COMMAND", "STATUS"), ("CNI_PATH", "/opt/cni/bin")];
    run(&vars, conf.as_bytes()).succeeded_with("");
    assert_eq!(requests.next().line, "GET /v1/ipam/healthy HTTP/1.1");
    let (code, msg, _) = run(&vars, conf.as_bytes()).failure();
    assert_eq!(
        (code, msg.as_str()),
        (50, "unhealthy spiderpool-agent backend: caches are not filled")
    );
    let host = Host::new();
    let (code, msg, details) = run(&vars, host.conf("1.1.0", json!({})).to_string().as_bytes()).failure();
    assert_eq!(code, 50);
    assert!(
        msg.starts_with("unhealthy spiderpool-agent backend: cannot connect to "),
        "{msg}"
    );
    assert!(details.starts_with("node "), "{details}");
}

#[test]
fn gc_hands_the_list_of_its_network_to_the_agent() {
    let vars = [("CNI_COMMAND", "GC"), ("CNI_PATH", "/opt/cni/bin")];
    for key in ["cni.dev/valid-attachments", "cni.dev/attachments"] {
        let host = Host::new();
        let requests = host.serve([empty(200)]);
        let mut conf = host.conf("1.1.0", json!({}));
        conf[key] = json!([{"containerID": "c0ffee", "ifname": "net1"}]);
        run(&vars, conf.to_string().as_bytes()).succeeded_with("");
        let request = requests.next();
        assert_eq!(request.line, "POST /v1/ipam/gc HTTP/1.1");
        assert_eq!(
            request.body,
            json!({"networkName": "hall", "attachments": [{"containerID": "c0ffee", "ifname": "net1"}]})
        );
    }
}

#[test]
fn gc_without_a_list_gives_nothing_back() {
    let host = Host::new();
    let requests = host.serve([empty(200)]);
    let conf = host.conf("1.1.0", json!({})).to_string();
    let vars = [("CNI_COMMAND", "GC"), ("CNI_PATH", "/opt/cni/bin")];
    let (code, msg, _) = run(&vars, conf.as_bytes()).failure();
    assert_eq!(code, 7);
    assert!(msg.contains("cni.dev/valid-attachments"), "{msg}");
    assert!(requests.is_empty());
}

#[test]
fn both_are_refused_before_1_1_0() {
    let host = Host::new();
    for command in ["STATUS", "GC"] {
        for version in ["0.3.1", "0.4.0", "1.0.0"] {
            let (code, msg, _) = host.run(command, &host.conf(version, json!({}))).failure();
            assert_eq!(code, 1, "{msg}");
            assert!(msg.contains(command), "{msg}");
        }
    }
}

#[test]
fn version_lists_what_is_supported() {
    run(&[("CNI_COMMAND", "VERSION")], br#"{"cniVersion":"1.0.0"}"#).succeeded_with(
        "{\"cniVersion\":\"1.1.0\",\"supportedVersions\":[\"0.3.0\",\"0.3.1\",\"0.4.0\",\"1.0.0\",\"1.1.0\"]}\n",
    );
}

#[test]
fn without_a_command_it_says_what_it_is() {
    let ended = run(&[], b"");
    assert_eq!((ended.status, ended.stdout.as_str()), (Some(0), ""));
    assert_eq!(
        ended.stderr,
        format!(
            "Spiderpool IPAM {}\nCNI protocol versions supported: 0.3.0, 0.3.1, 0.4.0, 1.0.0, 1.1.0\n",
            env!("CARGO_PKG_VERSION")
        )
    );
}
