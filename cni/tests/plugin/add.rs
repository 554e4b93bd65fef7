//! ADD: the request and, for each version of the protocol, the result byte for byte.

use serde_json::{Value, json};

use crate::host::{ARGS, Host, answer, run};

/// Two NICs, dual stack, IPv6 first, as an agent may answer.
fn both() -> Value {
    json!({"ips": [
        {"address": "fd61::9/64", "gateway": "fd61::1", "ipPool": "hall-v6", "nic": "net1", "version": 6},
        {"address": "192.0.2.7/24", "gateway": "192.0.2.1", "nic": "eth0", "version": 4},
        {"address": "10.61.2.9/20", "gateway": "10.61.0.1", "ipPool": "hall-v4", "nic": "net1", "version": 4, "later": true}],
      "routes": [
        {"dst": "0.0.0.0/0", "gw": "10.61.0.1", "ifName": "net1"},
        {"dst": "0.0.0.0/0", "gw": "192.0.2.1", "ifName": "eth0"},
        {"dst": "fd99::5/48", "gw": "fd61::1", "ifName": "net1"}]})
}

fn expected(version: &str, v4: &str, v6: &str) -> String {
    format!(
        r#"{{
    "cniVersion": "{version}",
    "ips": [
        {{{v4}
            "address": "10.61.2.9/20",
            "gateway": "10.61.0.1"
        }},
        {{{v6}
            "address": "fd61::9/64",
            "gateway": "fd61::1"
        }}
    ],
    "routes": [
        {{
            "dst": "0.0.0.0/0",
            "gw": "10.61.0.1"
        }},
        {{
            "dst": "fd99::/48",
            "gw": "fd61::1"
        }}
    ],
    "dns": {{}}
}}"#
    )
}

#[test]
fn result_of_each_version_has_ipv4_first_and_only_the_nic_asked_for() {
    for version in ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"] {
        let host = Host::new();
        let _requests = host.serve([answer(200, &both())]);
        let ended = host.run("ADD", &host.conf(version, json!({})));
        let named = version < "1.0.0";
        let family = |number| {
            if named {
                format!("\n            \"version\": \"{number}\",")
            } else {
                String::new()
            }
        };
        ended.succeeded_with(&expected(version, &family(4), &family(6)));
    }
}

#[test]
fn one_request_with_what_runtime_and_configuration_say() {
    let host = Host::new();
    let requests = host.serve([answer(200, &both()), answer(200, &both())]);
    let ipam =
        json!({"default_ipv4_ippool": ["hall-v4", "spare-*"], "clean_gateway": true, "match_master_subnet": true});
    assert_eq!(host.run("ADD", &host.conf("1.0.0", ipam)).status, Some(0));
    let request = requests.next();
    assert_eq!(request.line, "POST /v1/ipam/ip HTTP/1.1");
    assert_eq!(
        request.body,
        json!({"containerID": "c0ffee", "ifName": "net1", "netNamespace": "/var/run/netns/cni-77", "podNamespace": "bakery",
               "podName": "oven-1", "podUID": "8a1d", "defaultIPv4IPPool": ["hall-v4", "spare-*"], "defaultIPv6IPPool": null,
               "cleanGateway": true, "matchMasterSubnet": true, "masterAddresses": [], "networkName": "hall"})
    );
    assert!(requests.is_empty(), "no second request, such as one for health");
}

#[test]
fn name_resolution_is_passed_on_and_no_routes_are_no_member() {
    let host = Host::new();
    let dns = json!({"domain": "bakery.local", "nameservers": ["10.61.0.53"], "options": null, "search": ["a.local", "b.local"]});
    let ips = json!([{"address": "10.61.2.9/20", "nic": "net1", "version": 4}]);
    let _requests = host.serve([answer(200, &json!({"ips": ips, "routes": null, "dns": dns}))]);
    host.run("ADD", &host.conf("1.0.0", json!({}))).succeeded_with(
        r#"{
    "cniVersion": "1.0.0",
    "ips": [
        {
            "address": "10.61.2.9/20"
        }
    ],
    "dns": {
        "nameservers": [
            "10.61.0.53"
        ],
        "domain": "bakery.local",
        "search": [
            "a.local",
            "b.local"
        ]
    }
}"#,
    );
}

#[test]
fn a_refusal_carries_the_agents_words_and_where_it_happened() {
    let host = Host::new();
    let _requests = host.serve([answer(500, &json!("all IP addresses used out in pool hall-v4"))]);
    let (code, msg, details) = host.run("ADD", &host.conf("1.0.0", json!({}))).failure();
    assert_eq!(code, 999);
    assert_eq!(
        msg,
        "spiderpool IP allocation error: all IP addresses used out in pool hall-v4"
    );
    assert!(
        details.starts_with("pod bakery/oven-1, interface net1, node "),
        "{details}"
    );
    assert!(
        details.contains("kubectl -n kube-system logs -l app.kubernetes.io/component=spiderpool-agent"),
        "{details}"
    );
}

#[test]
fn an_answer_without_the_nic_is_a_failure() {
    for ips in [
        json!(null),
        json!([]),
        json!([{"address": "192.0.2.7/24", "nic": "eth0", "version": 4}]),
    ] {
        let host = Host::new();
        let _requests = host.serve([answer(200, &json!({"ips": ips, "routes": null}))]);
        let (code, msg, _) = host.run("ADD", &host.conf("1.0.0", json!({}))).failure();
        assert_eq!(code, 999);
        assert!(msg.contains("no Interface net1 IP allocation found"), "{msg}");
    }
}

#[test]
fn only_pods_are_served() {
    let host = Host::new();
    for (args, variable) in [
        ("", "K8S_POD_NAMESPACE"),
        ("IgnoreUnknown=1;K8S_POD_NAMESPACE=bakery", "K8S_POD_NAME"),
    ] {
        let mut vars = Host::vars("ADD");
        vars.retain(|(_, value)| *value != ARGS);
        vars.push(("CNI_ARGS", args));
        let (code, msg, _) = run(&vars, host.conf("1.0.0", json!({})).to_string().as_bytes()).failure();
        assert_eq!(code, 4);
        assert!(msg.contains(variable), "{msg}");
    }
}
