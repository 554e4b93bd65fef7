//! CHECK: passes only while the agent has the addresses on record.

use serde_json::{Value, json};

use crate::host::{Ended, Host, answer, run};
use crate::netns::Netns;

fn conf(host: &Host, version: &str) -> Value {
    let mut conf = host.conf(version, json!({}));
    conf["prevResult"] = json!({"cniVersion": version,
        "interfaces": [{"name": "net1", "sandbox": "/var/run/netns/cni-77"}],
        "ips": [{"address": "10.61.2.9/20", "interface": 0}, {"address": "fd61:0::9/64", "interface": 0}]});
    conf
}

fn endpoint(nic: &str, ipv4: &str, uid: &str) -> Value {
    json!({"interfaces": [{"interface": "eth0", "ipv4": "192.0.2.7/24", "routes": null},
                          {"interface": nic, "ipv4": ipv4, "ipv6": "fd61::9/64", "routes": null, "containerID": "c0ffee"}],
           "node": "rack-a", "podName": "oven-1", "podNamespace": "bakery", "podUID": uid})
}

/// A pod's namespace with the interface and its addresses.
fn pod() -> Netns {
    let pod = Netns::new();
    pod.ip("link add net1 type veth peer name far");
    pod.ip("link set net1 up");
    pod.ip("addr add 10.61.2.9/20 dev net1");
    pod.ip("addr add fd61::9/64 dev net1 nodad");
    pod
}

fn check(host: &Host, pod: &Netns, version: &str) -> Ended {
    let path = pod.path();
    let mut vars: Vec<(&str, &str)> = Host::vars("CHECK");
    vars.retain(|(name, _)| *name != "CNI_NETNS");
    vars.push(("CNI_NETNS", &path));
    run(&vars, conf(host, version).to_string().as_bytes())
}

#[test]
fn passes_when_everything_is_on_record_and_on_the_interface() {
    let pod = pod();
    for version in ["0.4.0", "1.0.0", "1.1.0"] {
        let host = Host::new();
        let requests = host.serve([answer(200, &endpoint("net1", "10.61.2.9/20", "8a1d"))]);
        check(&host, &pod, version).succeeded_with("");
        assert_eq!(
            requests.next().line,
            "GET /v1/workloadendpoint?podNamespace=bakery&podName=oven-1 HTTP/1.1"
        );
    }
}

#[test]
fn fails_when_the_interface_lacks_an_address() {
    let pod = pod();
    for (change, reason) in [
        (
            "addr del fd61::9/64 dev net1",
            "interface net1 does not carry fd61::9; it has 10.61.2.9",
        ),
        ("addr del 10.61.2.9/20 dev net1", "does not carry 10.61.2.9, fd61::9"),
        ("link del net1", "has no interface net1"),
    ] {
        pod.ip(change);
        let host = Host::new();
        let _requests = host.serve([answer(200, &endpoint("net1", "10.61.2.9/20", "8a1d"))]);
        let (code, msg, _) = check(&host, &pod, "1.0.0").failure();
        assert_eq!(code, 999);
        assert!(msg.contains(reason), "{msg}");
    }
}

#[test]
fn fails_when_the_pool_or_the_sandbox_is_anothers() {
    let mut pool = endpoint("net1", "10.61.2.9/20", "8a1d");
    pool["interfaces"][1]["ipv4Fault"] = json!("IPPool hall-v4 has 10.61.2.9 on record for bakery/oven-2");
    let mut sandbox = endpoint("net1", "10.61.2.9/20", "8a1d");
    sandbox["interfaces"][1]["containerID"] = json!("7ea");
    for (record, reason) in [
        (pool, "has 10.61.2.9 on record for bakery/oven-2"),
        (sandbox, "set up in sandbox \"7ea\""),
    ] {
        let host = Host::new();
        let _requests = host.serve([answer(200, &record)]);
        let (code, msg, _) = host.run("CHECK", &conf(&host, "1.0.0")).failure();
        assert_eq!(code, 999);
        assert!(msg.contains(reason), "{msg}");
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
