//! What one object alone can tell.

use super::*;

#[test]
fn what_one_object_tells_is_judged_alike_for_subnets_and_pools() {
    let v6 = |ips: &str| json!({"subnet": "fd77::/64", "ips": [ips]});
    for fine in [
        json!({"subnet": "10.77.0.0/20"}),
        net(&["10.77.1.1", "10.77.1.3-10.77.1.9"]),
        v6("fd77::9-fd77::10"),
        json!({"subnet": "10.77.0.0/20", "ips": ["10.77.1.1-10.77.1.9"], "excludeIPs": ["10.77.1.1"], "gateway": "10.77.1.1"}),
        json!({"subnet": "10.77.0.0/20", "routes": [{"dst": "192.0.2.0/24", "gw": "10.77.0.9"}, {"dst": "0.0.0.0/8", "gw": "10.77.0.9"}]}),
        json!({"subnet": "fd77::/64", "ips": ["fd77::-fd77::ffff:ffff:ffff:ffff"]}),
    ] {
        assert_eq!(alone(&fine), Vec::<String>::new(), "{fine}");
    }
    for (wrong, field) in [
        (json!({"subnet": "10.77.0.0"}), "spec.subnet"),
        (json!({"subnet": "10.77.0.1/20"}), "spec.subnet"),
        (json!({"subnet": "FD77::/64"}), "spec.subnet"),
        (json!({"subnet": "10.77.0.0/20", "ipVersion": 6}), "spec.ipVersion"),
        (net(&["10.77.1.9-10.77.1.1"]), "spec.ips[0]"),
        (net(&["10.77.1.1", "10.77.0.0/24"]), "spec.ips[1]"),
        (net(&["10.78.1.1"]), "spec.ips[0]"),
        (net(&["fd77::1"]), "spec.ips[0]"),
        (v6("fd77::10-fd77::9"), "spec.ips[0]"),
        (v6("::ffff:10.77.1.1"), "spec.ips[0]"),
        (
            json!({"subnet": "10.77.0.0/20", "excludeIPs": ["10.78.1.1"]}),
            "spec.excludeIPs[0]",
        ),
        (
            json!({"subnet": "10.77.0.0/20", "gateway": "10.78.0.1"}),
            "spec.gateway",
        ),
        (json!({"subnet": "10.77.0.0/20", "gateway": "fd77::1"}), "spec.gateway"),
        (
            json!({"subnet": "10.77.0.0/20", "ips": ["10.77.1.1-10.77.1.9"], "gateway": "10.77.1.3"}),
            "spec.ips[0]",
        ),
        (
            json!({"subnet": "fd77::/64", "ips": ["fd77::1"], "gateway": "fd77:0::0001"}),
            "spec.ips[0]",
        ),
        (
            json!({"subnet": "10.77.0.0/20", "routes": [{"dst": "1.2.3.4/0", "gw": "10.77.0.9"}]}),
            "spec.routes[0].dst",
        ),
        (
            json!({"subnet": "10.77.0.0/20", "routes": [{"dst": "fd00::/8", "gw": "10.77.0.9"}]}),
            "spec.routes[0].dst",
        ),
        (
            json!({"subnet": "10.77.0.0/20", "routes": [{"dst": "192.0.2.0/24", "gw": "10.77.0.9"}, {"dst": "192.0.2.7/24", "gw": "10.77.0.9"}]}),
            "spec.routes[1].dst",
        ),
        (
            json!({"subnet": "10.77.0.0/20", "routes": [{"dst": "192.0.2.0/24", "gw": "10.78.0.9"}]}),
            "spec.routes[0].gw",
        ),
    ] {
        let found = alone(&wrong);
        assert_eq!((first_field(&found), found.len()), (field, 1), "{wrong}: {found:?}");
    }
}

#[test]
fn all_that_is_wrong_is_told_at_once() {
    let spec = json!({"subnet": "10.77.0.0/20", "ips": ["10.77.1.9-10.77.1.1", "x"], "gateway": "10.78.0.1",
        "routes": [{"dst": "0.0.0.0/0", "gw": "y"}]});
    let outcome = pool(&a_pool("p", &spec), None, PoolWorld::default(), ALL);
    let fields: Vec<&str> = outcome.errors.iter().map(|error| error.field.as_str()).collect();
    assert_eq!(
        fields,
        [
            "spec.ips[0]",
            "spec.ips[1]",
            "spec.gateway",
            "spec.routes[0].dst",
            "spec.routes[0].gw"
        ]
    );
    assert_eq!(outcome.code(), 422);
    assert!(
        outcome.message().starts_with(
            "[spec.ips[0]: Invalid value: \"10.77.1.9-10.77.1.1\": range \"10.77.1.9-10.77.1.1\" is reversed; write \
             10.77.1.1-10.77.1.9, "
        ),
        "{}",
        outcome.message()
    );
}

#[test]
fn a_family_that_is_switched_off_is_refused() {
    let settings = Settings { ipv6: false, ..ALL };
    let outcome = pool(
        &a_pool("p", &json!({"subnet": "fd77::/64"})),
        None,
        PoolWorld::default(),
        settings,
    );
    assert_eq!(
        texts(&outcome),
        [
            "spec.ipVersion: Forbidden: IPv6 is switched off; switch it on with the chart value ipam.enableIPv6, or use the other IP version"
        ]
    );
    let reservation: SpiderReservedIP = object(
        "SpiderReservedIP",
        "r",
        &json!({}),
        &json!({"ips": ["fd77::1"]}),
        &json!(null),
    );
    assert!(!reserved(&reservation, None, &[], settings).is_allowed());
}

#[test]
fn the_affinity_of_a_pool_says_something_and_that_of_an_automatic_pool_its_application() {
    let with = |affinity: &Value| json!({"subnet": "10.77.0.0/20", "podAffinity": affinity});
    let judged = |pool_: &SpiderIPPool| texts(&pool(pool_, None, PoolWorld::default(), ALL));
    assert_eq!(
        first_field(&judged(&a_pool("p", &with(&json!({}))))),
        "spec.podAffinity"
    );
    assert_eq!(
        judged(&a_pool("p", &with(&json!({"matchLabels": {"app": "a"}})))),
        Vec::<String>::new()
    );
    let application = json!({"matchLabels": {"ipam.spidernet.io/app-name": "shop"}});
    assert_eq!(judged(&automatic("p", &with(&application))), Vec::<String>::new());
    assert_eq!(
        first_field(&judged(&automatic("p", &with(&json!({"matchLabels": {"app": "a"}}))))),
        "spec.podAffinity.matchLabels[app]"
    );
}

#[test]
fn reservations_are_of_one_version() {
    let judged = |spec: &Value, old: Option<&Value>| {
        let of = |spec: &Value| -> SpiderReservedIP { object("SpiderReservedIP", "r", &json!({}), spec, &json!(null)) };
        texts(&reserved(&of(spec), old.map(of).as_ref(), &[], ALL))
    };
    for fine in [
        json!({"ips": ["10.77.1.1", "10.77.1.1-10.77.1.9"]}),
        json!({"ips": ["fd77::1"]}),
        json!({"ipVersion": 4}),
    ] {
        assert_eq!(judged(&fine, None), Vec::<String>::new());
    }
    for (wrong, field) in [
        (json!({}), "spec.ipVersion"),
        (json!({"ips": ["10.77.1.1", "fd77::1"]}), "spec.ips[1]"),
        (json!({"ips": ["10.77.1.0/24"]}), "spec.ips[0]"),
        (json!({"ips": ["10.77.1.9-10.77.1.1"]}), "spec.ips[0]"),
    ] {
        assert_eq!(first_field(&judged(&wrong, None)), field, "{wrong}");
    }
    let version = json!({"ipVersion": 4});
    assert_eq!(
        first_field(&judged(&json!({"ips": ["10.77.1.1"]}), Some(&version))),
        "spec.ipVersion"
    );
}
