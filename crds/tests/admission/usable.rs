//! What is stored although it breaks a rule.

use super::*;

/// Why an object of this spec must not be used; pools and subnets have the same rules.
fn fault(spec: &Value, settings: Settings) -> Option<String> {
    let of_pool = usable_pool(&a_pool("p", spec), settings).err();
    assert_eq!(usable_subnet(&a_subnet("s", spec), settings).err(), of_pool);
    of_pool
}

#[test]
fn what_would_harm_pods_is_not_used() {
    let with =
        |field: &str, value: Value| json!({"subnet": "10.77.0.0/20", "ips": ["10.77.1.1-10.77.1.9"], field: value});
    for (spec, words) in [
        (
            json!({"subnet": "10.77.0.0"}),
            "spec.subnet: \"10.77.0.0\" is not a subnet",
        ),
        (json!({"subnet": "10.77.0.1/20"}), "write 10.77.0.0/20"),
        (
            with("ipVersion", json!(6)),
            "spec.ipVersion: the subnet 10.77.0.0/20 is IPv4",
        ),
        (
            json!({"subnet": "fd77::/64", "ips": ["fd77::9-fd77::1"]}),
            "spec.ips[0]: range \"fd77::9-fd77::1\" is reversed; write fd77::1-fd77::9",
        ),
        (net(&["10.77.1.1", "10.78.0.1"]), "spec.ips[1]: 10.78.0.1 is not inside"),
        (
            with("excludeIPs", json!(["x"])),
            "spec.excludeIPs[0]: \"x\" is not an IP range",
        ),
        (with("excludeIPs", json!(["fd77::1"])), "spec.excludeIPs[0]: "),
        (
            with("gateway", json!("10.77.1.5")),
            "spec.ips[0]: the gateway 10.77.1.5 is among the addresses for pods",
        ),
        (
            with("gateway", json!("10.78.0.1")),
            "spec.gateway: the gateway 10.78.0.1 is not inside",
        ),
        (
            with("routes", json!([{"dst": "192.0.2.0", "gw": "10.77.0.1"}])),
            "spec.routes[0].dst: ",
        ),
        (
            with("routes", json!([{"dst": "192.0.2.0/24", "gw": "router"}])),
            "spec.routes[0].gw: ",
        ),
    ] {
        let fault = fault(&spec, ALL).unwrap_or_default();
        assert!(fault.contains(words), "{spec}: {fault}");
    }
}

#[test]
fn a_family_that_is_switched_off_is_not_used() {
    let settings = Settings { ipv6: false, ..ALL };
    let spec = json!({"subnet": "fd77::/64", "ips": ["fd77::1"]});
    assert_eq!(fault(&spec, ALL), None);
    assert!(fault(&spec, settings).unwrap().contains("ipam.enableIPv6"));
    assert_eq!(fault(&net(&["10.77.1.1"]), settings), None);
}

#[test]
fn what_earlier_versions_took_and_harms_nobody_is_used() {
    let spec = json!({
        "subnet": "10.77.0.0/20",
        "ips": ["10.77.1.1-10.77.1.9", "10.77.1.5"],
        "excludeIPs": ["10.77.1.1", "10.99.0.1"],
        "gateway": "10.77.1.1",
        "routes": [{"dst": "1.2.3.4/0", "gw": "10.77.0.9"}, {"dst": "192.0.2.0/24", "gw": "10.77.0.9"}, {"dst": "192.0.2.7/24", "gw": "10.77.0.8"}],
        "podAffinity": {},
        "nodeAffinity": {"matchExpressions": [{"key": "a b", "operator": "Is", "values": ["-"]}]},
        "namespaceName": ["*"], "nodeName": ["No Name"], "multusName": ["a/b/c"],
    });
    let outcome = pool(&a_pool("p", &spec), None, PoolWorld::default(), ALL);
    assert!(outcome.errors.len() >= 9, "{outcome:?}");
    let (cidr, offered) = usable_pool(&a_pool("p", &spec), ALL).unwrap();
    assert_eq!((cidr.family(), offered.count()), (Family::V4, 8));
}

#[test]
fn an_object_with_many_faults_names_some() {
    let ips: Vec<String> = (1..=2000).map(|number| format!("x{number}")).collect();
    let ips: Vec<&str> = ips.iter().map(String::as_str).collect();
    let fault = fault(&net(&ips), ALL).unwrap();
    assert!(fault.ends_with("; and 1995 more") && fault.len() < 1000, "{fault}");
}

#[test]
fn what_is_wrong_with_a_reservation_is_told() {
    let fault = |spec: &Value| reserved_fault(&object("SpiderReservedIP", "r", &json!({}), spec, &json!({})));
    assert_eq!(fault(&json!({"ips": ["10.77.1.1", "10.77.1.3-10.77.1.9"]})), None);
    assert_eq!(fault(&json!({"ipVersion": 6})), None);
    for (spec, words) in [
        (json!({}), "spec.ipVersion: the IP version is unknown"),
        (
            json!({"ips": ["10.77.1.1", "fd77::1"]}),
            "spec.ips[1]: fd77::1 is not IPv4",
        ),
        (json!({"ips": ["fd77::9-fd77::1"]}), "write fd77::1-fd77::9"),
        (
            json!({"ips": ["10.77.1.*"]}),
            "spec.ips[0]: \"10.77.1.*\" is not an IP range",
        ),
    ] {
        let fault = fault(&spec).unwrap_or_default();
        assert!(fault.contains(words), "{spec}: {fault}");
    }
}
