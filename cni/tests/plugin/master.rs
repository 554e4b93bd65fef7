//! ADD tells the agent which addresses the master of the pod's interface has on the host, where pools have to be in its subnet.

use serde_json::{Value, json};

use crate::host::{Host, PROGRAM, answer, run_as};
use crate::netns::Netns;

/// What the agent is told of the master of `net1`, in these namespaces of host and pod.
fn told(node: &Netns, pod: &Netns, asked: bool) -> Value {
    let host = Host::new();
    let ip = json!({"address": "10.61.2.9/20", "nic": "net1", "version": 4});
    let requests = host.serve([answer(200, &json!({"ips": [ip], "routes": null}))]);
    let path = pod.path();
    let mut vars: Vec<(&str, &str)> = Host::vars("ADD");
    vars.retain(|(name, _)| *name != "CNI_NETNS");
    vars.push(("CNI_NETNS", &path));
    let conf = host.conf("1.0.0", json!({"match_master_subnet": asked}));
    let ended = run_as(&mut node.command(PROGRAM), &vars, conf.to_string().as_bytes());
    assert_eq!(ended.status, Some(0), "{ended:?}");
    let body = requests.next().body;
    assert_eq!(body["matchMasterSubnet"] == true, asked);
    body["masterAddresses"].clone()
}

#[test]
fn the_master_s_addresses_on_the_host_are_told_where_they_matter() {
    let (node, pod) = (Netns::new(), Netns::new());
    for (master, address) in [("ens5", "10.61.0.4/20"), ("ens6", "10.62.0.4/20")] {
        node.ip(&format!("link add {master} type veth peer name {master}-wire"));
        node.ip(&format!("addr add {address} dev {master}"));
        node.ip(&format!("link set {master} up"));
    }
    node.ip("addr add fd61::4/64 dev ens5 nodad");
    node.ip("link add link ens5 name net1 type macvlan mode bridge");
    node.ip(&format!("link set net1 netns {}", pod.pid()));
    let told_of = told(&node, &pod, true);
    let addresses = told_of.as_array().unwrap();
    for address in ["10.61.0.4", "fd61::4"] {
        assert!(addresses.contains(&json!(address)), "{addresses:?}");
    }
    assert!(!addresses.contains(&json!("10.62.0.4")), "{addresses:?}");
    assert_eq!(told(&node, &pod, false), Value::Null);
}

#[test]
fn where_there_is_no_master_it_has_no_addresses() {
    let (node, pod) = (Netns::new(), Netns::new());
    node.ip("link add veth7 type veth peer name net1");
    node.ip("addr add 10.61.0.4/20 dev veth7");
    node.ip(&format!("link set net1 netns {}", pod.pid()));
    assert_eq!(told(&node, &pod, true), json!([]));
    pod.ip("link del net1");
    assert_eq!(told(&node, &pod, true), json!([]));
}
