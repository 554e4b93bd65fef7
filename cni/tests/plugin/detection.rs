//! ADD asks the network before the pod has the address, on a real segment: a macvlan interface as its main plugin hands it over,
//! and another host on the other end of the wire.

use serde_json::{Value, json};

use crate::host::{Ended, Host, answer, empty, run};
use crate::netns::Netns;

/// Hardware address of the other host.
const OTHER: &str = "02:00:00:00:61:09";

struct Segment {
    pod: Netns,
    other: Netns,
    _node: Netns,
}

impl Segment {
    fn new() -> Self {
        let (node, pod, other) = (Netns::new(), Netns::new(), Netns::new());
        node.ip(&format!(
            "link add ens5 type veth peer name uplink netns {}",
            other.pid()
        ));
        node.ip("link set ens5 up");
        other.ip(&format!("link set uplink address {OTHER}"));
        other.ip("link set uplink up");
        node.ip("link add link ens5 name net1 type macvlan mode bridge");
        node.ip(&format!("link set net1 netns {}", pod.pid()));
        Self {
            pod,
            other,
            _node: node,
        }
    }

    fn add(&self, host: &Host) -> Ended {
        let path = self.pod.path();
        let mut vars: Vec<(&str, &str)> = Host::vars("ADD");
        vars.retain(|(name, _)| *name != "CNI_NETNS");
        vars.push(("CNI_NETNS", &path));
        run(&vars, host.conf("1.0.0", json!({})).to_string().as_bytes())
    }

    /// The interface as the main plugin left it: off, so that it goes on with its addresses, which is when they are announced.
    fn assert_off(&self) {
        let link = self.pod.ip("link show net1");
        assert!(!link.contains(",UP"), "{link}");
    }
}

/// Both families, to be asked about.
fn given() -> Value {
    let ip = |address: &str, gateway: &str, version: u8| {
        json!({"address": address, "gateway": gateway, "nic": "net1", "version": version,
               "enableIPConflictDetection": true, "enableGatewayDetection": true})
    };
    json!({"ips": [ip("10.61.2.9/20", "10.61.0.1", 4), ip("fd61::9/64", "fd61::1", 6)], "routes": null})
}

#[test]
fn free_addresses_and_answering_gateways_are_no_hindrance() {
    let segment = Segment::new();
    segment.other.ip("addr add 10.61.0.1/20 dev uplink");
    segment.other.ip("addr add fd61::1/64 dev uplink nodad");
    let host = Host::new();
    let requests = host.serve([answer(200, &given())]);
    let ended = segment.add(&host);
    assert!(
        ended.stdout.contains("10.61.2.9/20") && ended.stdout.contains("fd61::9/64"),
        "{ended:?}"
    );
    assert_eq!(ended.status, Some(0));
    requests.next();
    assert!(requests.is_empty());
    segment.assert_off();
}

#[test]
fn an_address_of_another_host_is_given_back_and_its_owner_named() {
    for (squatted, address) in [("10.61.2.9/20", "10.61.2.9"), ("fd61::9/64 nodad", "fd61::9")] {
        let segment = Segment::new();
        let (ip, flag) = squatted.split_once(' ').unwrap_or((squatted, ""));
        segment.other.ip(format!("addr add {ip} dev uplink {flag}").trim());
        // the gateways are missing too, but what matters more is told first
        let host = Host::new();
        let requests = host.serve([answer(200, &given()), empty(200)]);
        let (code, msg, _) = segment.add(&host).failure();
        assert_eq!(code, 999);
        let expected = format!(
            "spiderpool IP allocation error: ip conflict: {address}, chosen for interface net1, is in use by {OTHER}; "
        );
        assert!(msg.starts_with(&expected), "{msg}");
        requests.next();
        let request = requests.next();
        assert_eq!(request.line, "DELETE /v1/ipam/ips HTTP/1.1");
        assert_eq!(
            request.body,
            json!({"containerID": "c0ffee", "isReleaseConflictIPs": true, "netNamespace": segment.pod.path(),
                   "podNamespace": "bakery", "podName": "oven-1", "podUID": "8a1d", "ifName": "net1",
                   "conflicts": [{"address": address, "mac": OTHER}]})
        );
        segment.assert_off();
    }
}

#[test]
fn a_gateway_that_nobody_has_is_an_error_and_no_conflict() {
    let segment = Segment::new();
    segment.other.ip("addr add 10.61.0.1/20 dev uplink");
    let host = Host::new();
    let requests = host.serve([answer(200, &given()), answer(500, &json!("the API server is away"))]);
    let (_, msg, _) = segment.add(&host).failure();
    assert!(msg.contains("gateway fd61::1 of fd61::9 is unreachable"), "{msg}");
    assert!(!msg.contains("10.61.0.1"), "{msg}");
    assert!(msg.contains("not given back yet: the API server is away"), "{msg}");
    requests.next();
    let request = requests.next();
    assert_eq!(request.body.get("conflicts"), None);
    assert_eq!(request.body.get("isReleaseConflictIPs"), None);
    segment.assert_off();
}

#[test]
fn nothing_is_asked_unless_the_agent_says_so() {
    let segment = Segment::new();
    segment.other.ip("addr add 10.61.2.9/20 dev uplink");
    let host = Host::new();
    let ips = json!([{"address": "10.61.2.9/20", "gateway": "10.61.0.1", "nic": "net1", "version": 4}]);
    let _requests = host.serve([answer(200, &json!({"ips": ips, "routes": null}))]);
    assert_eq!(segment.add(&host).status, Some(0));
}

#[test]
fn an_interface_that_is_made_later_holds_nothing_up() {
    let segment = Segment::new();
    segment.pod.ip("link del net1");
    let host = Host::new();
    let _requests = host.serve([answer(200, &given())]);
    assert_eq!(segment.add(&host).status, Some(0));
    let reasons: Vec<Value> = host.log().iter().map(|line| line["Reason"].clone()).collect();
    assert!(
        reasons.contains(&json!("the main plugin has not made the interface yet")),
        "{reasons:?}"
    );
}

#[test]
fn a_wire_that_is_cut_is_an_error() {
    let segment = Segment::new();
    segment.other.ip("link set uplink down");
    let host = Host::new();
    let _requests = host.serve([answer(200, &given()), empty(200)]);
    let (_, msg, _) = segment.add(&host).failure();
    assert!(msg.contains("cannot ask the network about"), "{msg}");
    segment.assert_off();
}
