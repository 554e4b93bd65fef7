//! The JSON of every message, byte for byte as other releases of plugin and agent write and expect it.

#![expect(clippy::unwrap_used, reason = "helpers of tests, outside of #[test] functions")]

use serde::{Serialize, de::DeserializeOwned};
use spiderpool_wire::{
    Conflict, Dns, EndpointInterface, EndpointRoute, IpConfig, IpamAddArgs, IpamAddResponse, IpamBatchDelArgs,
    IpamDelArgs, IpamGcArgs, Route, ValidAttachment, WorkloadEndpointStatus, error_body, error_text,
};

/// The value is written as the text and read from it.
fn same<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(value: &T, text: &str) {
    assert_eq!(serde_json::to_string(value).unwrap(), text);
    assert_eq!(&serde_json::from_str::<T>(text).unwrap(), value);
}

/// The text, which we would write in another way, is read as the value.
fn reads<T: DeserializeOwned + PartialEq + std::fmt::Debug>(text: &str, value: &T) {
    assert_eq!(&serde_json::from_str::<T>(text).unwrap(), value);
}

fn add_args() -> IpamAddArgs {
    IpamAddArgs {
        container_id: "c0ffee".into(),
        if_name: "net1".into(),
        net_namespace: "/var/run/netns/cni-77".into(),
        pod_namespace: "bakery".into(),
        pod_name: "oven-1".into(),
        pod_uid: "8a1d".into(),
        ..IpamAddArgs::default()
    }
}

#[test]
fn add_request_has_null_lists_and_no_false_flags() {
    same(
        &add_args(),
        r#"{"containerID":"c0ffee","ifName":"net1","netNamespace":"/var/run/netns/cni-77","podNamespace":"bakery","podName":"oven-1","podUID":"8a1d","defaultIPv4IPPool":null,"defaultIPv6IPPool":null}"#,
    );
}

#[test]
fn add_request_with_everything() {
    let args = IpamAddArgs {
        default_ipv4_ippool: vec!["hall-v4".into(), "spare-*".into()],
        default_ipv6_ippool: vec!["hall-v6".into()],
        clean_gateway: true,
        match_master_subnet: true,
        master_addresses: Some(vec!["10.66.0.3".parse().unwrap(), "fd66::3".parse().unwrap()]),
        network_name: "hall".into(),
        ..add_args()
    };
    same(
        &args,
        r#"{"containerID":"c0ffee","ifName":"net1","netNamespace":"/var/run/netns/cni-77","podNamespace":"bakery","podName":"oven-1","podUID":"8a1d","defaultIPv4IPPool":["hall-v4","spare-*"],"defaultIPv6IPPool":["hall-v6"],"cleanGateway":true,"matchMasterSubnet":true,"masterAddresses":["10.66.0.3","fd66::3"],"networkName":"hall"}"#,
    );
}

#[test]
fn add_request_accepts_absent_lists_empty_lists_null_flags_and_unknown_members() {
    reads(
        r#"{"containerID":"c0ffee","ifName":"net1","netNamespace":"/var/run/netns/cni-77","podNamespace":"bakery","podName":"oven-1","podUID":"8a1d","defaultIPv6IPPool":[],"cleanGateway":null,"later":{"a":[1]}}"#,
        &add_args(),
    );
}

#[test]
fn add_request_without_a_required_member_is_refused_and_the_member_named() {
    let error = serde_json::from_str::<IpamAddArgs>(r#"{"containerID":"a","ifName":"eth0"}"#).unwrap_err();
    assert!(error.to_string().contains("netNamespace"), "{error}");
}

#[test]
fn add_answer_dual_stack() {
    let ip = |address: &str, gateway: &str, pool: &str, version| IpConfig {
        address: address.into(),
        gateway: gateway.into(),
        ip_pool: pool.into(),
        nic: "net1".into(),
        version,
        enable_ip_conflict_detection: true,
        ..IpConfig::default()
    };
    let route = |dst: &str, gw: &str| Route {
        dst: dst.into(),
        gw: gw.into(),
        if_name: "net1".into(),
    };
    same(
        &IpamAddResponse {
            ips: vec![
                ip("10.61.2.9/20", "10.61.0.1", "hall-v4", 4),
                ip("fd61::9/64", "fd61::1", "hall-v6", 6),
            ],
            routes: vec![route("0.0.0.0/0", "10.61.0.1"), route("::/0", "fd61::1")],
            dns: None,
        },
        r#"{"ips":[{"address":"10.61.2.9/20","enableIPConflictDetection":true,"gateway":"10.61.0.1","ipPool":"hall-v4","nic":"net1","version":4},{"address":"fd61::9/64","enableIPConflictDetection":true,"gateway":"fd61::1","ipPool":"hall-v6","nic":"net1","version":6}],"routes":[{"dst":"0.0.0.0/0","gw":"10.61.0.1","ifName":"net1"},{"dst":"::/0","gw":"fd61::1","ifName":"net1"}]}"#,
    );
}

#[test]
fn add_answer_with_every_optional_member() {
    same(
        &IpamAddResponse {
            ips: vec![IpConfig {
                address: "10.61.2.9/20".into(),
                enable_gateway_detection: true,
                mac: "0a:1b:3c:00:61:09".into(),
                nic: "net1".into(),
                version: 4,
                vlan: 61,
                ..IpConfig::default()
            }],
            routes: vec![],
            dns: Some(Dns {
                domain: "bakery.local".into(),
                nameservers: vec!["10.61.0.53".into()],
                ..Dns::default()
            }),
        },
        r#"{"ips":[{"address":"10.61.2.9/20","enableGatewayDetection":true,"mac":"0a:1b:3c:00:61:09","nic":"net1","version":4,"vlan":61}],"routes":null,"dns":{"domain":"bakery.local","nameservers":["10.61.0.53"],"options":null,"search":null}}"#,
    );
}

#[test]
fn add_answer_of_an_older_agent_without_candidates() {
    reads(r#"{"ips":null,"routes":null,"dns":null}"#, &IpamAddResponse::default());
    assert!(
        serde_json::from_str::<IpamAddResponse>("{}")
            .unwrap_err()
            .to_string()
            .contains("ips")
    );
}

#[test]
fn release_request() {
    let args = IpamDelArgs {
        container_id: "c0ffee".into(),
        if_name: "net1".into(),
        net_namespace: String::new(),
        pod_namespace: "bakery".into(),
        pod_name: "oven-1".into(),
        pod_uid: "8a1d".into(),
        network_name: String::new(),
    };
    same(
        &args,
        r#"{"containerID":"c0ffee","ifName":"net1","podNamespace":"bakery","podName":"oven-1","podUID":"8a1d"}"#,
    );
    let netns = IpamDelArgs {
        net_namespace: "/proc/9/ns/net".into(),
        network_name: "hall".into(),
        ..args
    };
    same(
        &netns,
        r#"{"containerID":"c0ffee","ifName":"net1","netNamespace":"/proc/9/ns/net","podNamespace":"bakery","podName":"oven-1","podUID":"8a1d","networkName":"hall"}"#,
    );
}

#[test]
fn release_of_all_addresses() {
    let args = IpamBatchDelArgs {
        container_id: "c0ffee".into(),
        pod_namespace: "bakery".into(),
        pod_name: "oven-1".into(),
        pod_uid: "8a1d".into(),
        ..IpamBatchDelArgs::default()
    };
    same(
        &args,
        r#"{"containerID":"c0ffee","podNamespace":"bakery","podName":"oven-1","podUID":"8a1d"}"#,
    );
    same(
        &IpamBatchDelArgs {
            is_release_conflict_ips: true,
            ..args.clone()
        },
        r#"{"containerID":"c0ffee","isReleaseConflictIPs":true,"podNamespace":"bakery","podName":"oven-1","podUID":"8a1d"}"#,
    );
    same(
        &IpamBatchDelArgs {
            if_name: "net1".into(),
            conflicts: vec![Conflict {
                address: "10.61.2.9".into(),
                mac: "0a:1b:3c:00:61:09".into(),
            }],
            ..args
        },
        r#"{"containerID":"c0ffee","podNamespace":"bakery","podName":"oven-1","podUID":"8a1d","ifName":"net1","conflicts":[{"address":"10.61.2.9","mac":"0a:1b:3c:00:61:09"}]}"#,
    );
}

#[test]
fn collection_of_what_the_runtime_does_not_know() {
    same(
        &IpamGcArgs {
            network_name: "hall".into(),
            attachments: vec![ValidAttachment {
                container_id: "c0ffee".into(),
                if_name: "net1".into(),
            }],
        },
        r#"{"networkName":"hall","attachments":[{"containerID":"c0ffee","ifname":"net1"}]}"#,
    );
    for text in [
        r#"{"networkName":"hall"}"#,
        r#"{"networkName":"hall","attachments":null}"#,
    ] {
        serde_json::from_str::<IpamGcArgs>(text).unwrap_err();
    }
}

#[test]
fn endpoint_status() {
    same(
        &WorkloadEndpointStatus {
            interfaces: vec![
                EndpointInterface {
                    interface: "eth0".into(),
                    ipv4: "10.61.2.9/20".into(),
                    ipv4_gateway: "10.61.0.1".into(),
                    ipv4_pool: "hall-v4".into(),
                    routes: vec![EndpointRoute {
                        dst: "10.9.0.0/16".into(),
                        gw: "10.61.0.2".into(),
                        if_name: None,
                    }],
                    vlan: 61,
                    container_id: "c0ffee".into(),
                    ipv4_fault: "no record".into(),
                    ..EndpointInterface::default()
                },
                EndpointInterface {
                    interface: "net1".into(),
                    ipv6: "fd61::9/64".into(),
                    ipv6_pool: "hall-v6".into(),
                    ..EndpointInterface::default()
                },
            ],
            node: "rack-a".into(),
            pod_name: "oven-1".into(),
            pod_namespace: "bakery".into(),
            pod_uid: "8a1d".into(),
        },
        r#"{"interfaces":[{"interface":"eth0","ipv4":"10.61.2.9/20","ipv4Gateway":"10.61.0.1","ipv4Pool":"hall-v4","routes":[{"dst":"10.9.0.0/16","gw":"10.61.0.2","ifName":null}],"vlan":61,"containerID":"c0ffee","ipv4Fault":"no record"},{"interface":"net1","ipv6":"fd61::9/64","ipv6Pool":"hall-v6","routes":null}],"node":"rack-a","podName":"oven-1","podNamespace":"bakery","podUID":"8a1d"}"#,
    );
}

#[test]
fn failures_are_bare_json_strings() {
    assert_eq!(error_body("pool \"hall\" is full\n"), br#""pool \"hall\" is full\n""#);
    assert_eq!(
        error_text(&error_body("pool \"hall\" is full\n")),
        "pool \"hall\" is full\n"
    );
    assert_eq!(error_text(b"upstream went away \n"), "upstream went away");
    assert_eq!(error_text(&[0xff, b'x']), "\u{fffd}x");
    assert_eq!(error_text(b""), "");
}
