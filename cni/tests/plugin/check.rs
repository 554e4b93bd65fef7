//! CHECK: passes only while the agent has the addresses on record.

use serde_json::{Value, json};

use crate::host::{Host, answer};

fn conf(host: &Host, version: &str) -> Value {
    let mut conf = host.conf(version, json!({}));
    conf["prevResult"] = json!({"cniVersion": version,
        "interfaces": [{"name": "net1", "sandbox": "/var/run/netns/cni-77"}],
        "ips": [{"address": "10.61.2.9/20", "interface": 0}, {"address": "fd61:0::9/64", "interface": 0}]});
    conf
}

fn endpoint(nic: &str, ipv4: &str, uid: &str) -> Value {
    json!({"interfaces": [{"interface": "eth0", "ipv4": "192.0.2.7/24", "routes": null},
                          {"interface": nic, "ipv4": ipv4, "ipv6": "fd61::9/64", "routes": null}],
           "node": "rack-a", "podName": "oven-1", "podNamespace": "bakery", "podUID": uid})
}

#[test]
fn passes_when_everything_is_on_record() {
    for version in ["0.4.0", "1.0.0", "1.1.0"] {
        let host = Host::new();
        let requests = host.serve([answer(200, &endpoint("net1", "10.61.2.9/20", "8a1d"))]);
        host.run("CHECK", &conf(&host, version)).succeeded_with("");
        assert_eq!(
            requests.next().line,
            "GET /v1/workloadendpoint?podNamespace=bakery&podName=oven-1 HTTP/1.1"
        );
    }
}

#[test]
fn fails_when_the_record_differs() {
    for (status, record, reason) in [
        (
            200,
            endpoint("net1", "10.61.2.8/20", "8a1d"),
            "not on record for the interface: 10.61.2.9; on record: 10.61.2.8, fd61::9",
        ),
        (
            200,
            endpoint("net2", "10.61.2.9/20", "8a1d"),
            "not on record for the interface: 10.61.2.9, fd61::9; on record: nothing",
        ),
        (
            200,
            endpoint("net1", "10.61.2.9/20", "0000"),
            "belongs to another pod of that name, with UID \"0000\"",
        ),
        (
            404,
            json!("no such endpoint"),
            "has no addresses on record for the pod, which was given 10.61.2.9, fd61::9",
        ),
        (500, json!("not ready"), "spiderpool IP check error: not ready"),
    ] {
        let host = Host::new();
        let _requests = host.serve([answer(status, &record)]);
        let (code, msg, _) = host.run("CHECK", &conf(&host, "1.0.0")).failure();
        assert_eq!(code, 999);
        assert!(msg.contains(reason), "{msg}");
    }
}

#[test]
fn is_refused_before_0_4_0_and_without_a_previous_result() {
    let host = Host::new();
    for version in ["0.3.0", "0.3.1"] {
        let (code, msg, _) = host.run("CHECK", &conf(&host, version)).failure();
        assert_eq!(code, 1, "{msg}");
    }
    let (code, msg, _) = host.run("CHECK", &host.conf("1.0.0", json!({}))).failure();
    assert_eq!(code, 7);
    assert!(msg.contains("prevResult"), "{msg}");
}
