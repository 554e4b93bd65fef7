//! Each rule of admission, with what it lets pass and what it refuses.
#![allow(clippy::unwrap_used, reason = "helpers of tests may fail the test")]

use serde_json::{Value, json};
use spiderpool_crds::admission::{
    Outcome, PoolWorld, Settings, SubnetWorld, pool, pool_deletion, reserved, subnet, subnet_deletion,
};
use spiderpool_crds::names::{API_VERSION, FINALIZER};
use spiderpool_crds::{SpiderIPPool, SpiderReservedIP, SpiderSubnet};
use spiderpool_ipam::{Family, RangeSet, text};

const ALL: Settings = Settings {
    ipv4: true,
    ipv6: true,
    subnets: true,
    protect_used: false,
};

fn object<T: serde::de::DeserializeOwned>(kind: &str, name: &str, metadata: &Value, spec: &Value, status: &Value) -> T {
    let mut object =
        json!({"apiVersion": API_VERSION, "kind": kind, "metadata": {"name": name}, "spec": spec, "status": status});
    if let (Some(own), Some(more)) = (object["metadata"].as_object_mut(), metadata.as_object()) {
        own.extend(more.clone());
    }
    serde_json::from_value(object).unwrap()
}

fn a_subnet(name: &str, spec: &Value) -> SpiderSubnet {
    object("SpiderSubnet", name, &json!({}), spec, &json!({}))
}

fn a_pool(name: &str, spec: &Value) -> SpiderIPPool {
    object("SpiderIPPool", name, &json!({}), spec, &json!({}))
}

fn automatic(name: &str, spec: &Value) -> SpiderIPPool {
    let labels = json!({"labels": {"ipam.spidernet.io/owner-application-name": "shop"}});
    object("SpiderIPPool", name, &labels, spec, &json!({}))
}

fn net(ips: &[&str]) -> Value {
    json!({"subnet": "10.77.0.0/20", "ips": ips})
}

fn texts(outcome: &Outcome) -> Vec<String> {
    outcome.errors.iter().map(ToString::to_string).collect()
}

/// What is wrong with a new subnet of this spec; pools have the same rules.
fn alone(spec: &Value) -> Vec<String> {
    let of_subnet = texts(&subnet(&a_subnet("s", spec), None, SubnetWorld::default(), ALL));
    let of_pool = texts(&pool(&a_pool("p", spec), None, PoolWorld::default(), ALL));
    assert_eq!(of_subnet, of_pool);
    of_pool
}

fn first_field(texts: &[String]) -> &str {
    texts
        .first()
        .map_or("", |text| text.split(": ").next().unwrap_or_default())
}

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
fn what_identifies_a_network_stays() {
    let old = a_pool("p", &json!({"subnet": "10.77.0.0/20", "ipVersion": 4}));
    for (new, field) in [
        (json!({"subnet": "10.77.0.0/20"}), "spec.ipVersion"),
        (json!({"subnet": "10.78.0.0/20", "ipVersion": 4}), "spec.subnet"),
    ] {
        let found = texts(&pool(&a_pool("p", &new), Some(&old), PoolWorld::default(), ALL));
        assert_eq!(first_field(&found), field);
    }
    let unfilled = a_pool("p", &json!({"subnet": "10.77.0.0/20"}));
    assert!(pool(&old, Some(&unfilled), PoolWorld::default(), ALL).is_allowed());
}

#[test]
fn what_was_stored_earlier_and_breaks_a_rule_can_be_changed_elsewhere() {
    let wrong = json!({"subnet": "10.77.0.0/20", "ips": ["10.77.1.9-10.77.1.1"], "gateway": "x", "nodeName": ["No Name"],
        "routes": [{"dst": "0.0.0.0/0", "gw": "10.77.0.1"}]});
    let changed = |field: &str, value: Value| {
        let mut spec = wrong.clone();
        spec[field] = value;
        texts(&pool(
            &a_pool("p", &spec),
            Some(&a_pool("p", &wrong)),
            PoolWorld::default(),
            ALL,
        ))
    };
    assert_eq!(changed("disable", json!(true)), Vec::<String>::new());
    assert_eq!(changed("gateway", json!("10.77.0.1")), Vec::<String>::new());
    assert_eq!(first_field(&changed("gateway", json!("y"))), "spec.gateway");
    assert_eq!(first_field(&changed("ips", json!(["z"]))), "spec.ips[0]");
    assert_eq!(
        first_field(&changed("nodeName", json!(["n1", "-"]))),
        "spec.nodeName[1]"
    );
    // What is repaired must get on with the rest.
    assert_eq!(
        first_field(&changed("ips", json!(["10.77.1.1-10.77.1.9"]))),
        "",
        "the gateway is still no address"
    );
    let sound = json!({"subnet": "10.77.0.0/20", "ips": ["10.77.1.1"]});
    let with_gateway = json!({"subnet": "10.77.0.0/20", "ips": ["10.77.1.1"], "gateway": "10.77.1.1"});
    let judged = pool(
        &a_pool("p", &with_gateway),
        Some(&a_pool("p", &sound)),
        PoolWorld::default(),
        ALL,
    );
    assert_eq!(first_field(&texts(&judged)), "spec.ips[0]");
}

#[test]
fn a_new_subnet_gets_on_with_all_others() {
    let (twin, wide) = (
        a_subnet("twin", &net(&[])),
        a_subnet("wide", &json!({"subnet": "10.77.0.0/16"})),
    );
    let (inner, part) = (
        a_pool("inner", &json!({"subnet": "10.77.4.0/24", "ips": ["10.77.4.1"]})),
        a_pool("part", &net(&["10.77.1.1-10.77.1.9"])),
    );
    let new = a_subnet("s", &net(&["10.77.1.1-10.77.1.5"]));
    let world = SubnetWorld {
        subnets: &[&twin, &wide, &new],
        pools: &[&inner, &part],
    };
    assert_eq!(
        texts(&subnet(&new, None, world, ALL)),
        [
            "spec.subnet: Invalid value: \"10.77.0.0/20\": overlap with SpiderSubnet twin which subnet is 10.77.0.0/20; add the addresses to \
             that one, or use another network",
            "spec.subnet: Invalid value: \"10.77.0.0/20\": overlap with SpiderSubnet wide which subnet is 10.77.0.0/16; add the addresses to \
             that one, or use another network",
            "spec.subnet: Invalid value: \"10.77.0.0/20\": overlap with SpiderIPPool inner which subnet is 10.77.4.0/24; write that subnet, or \
             delete the pool",
            "spec.ips: Invalid value: \"10.77.1.6-10.77.1.9\": SpiderIPPool part of this network has these addresses, which the subnet has \
             not; add them to ips",
        ]
    );
    let enough = a_subnet("s", &net(&["10.77.1.1-10.77.1.20"]));
    assert!(
        subnet(
            &enough,
            None,
            SubnetWorld {
                pools: &[&part],
                ..SubnetWorld::default()
            },
            ALL
        )
        .is_allowed()
    );
    // What there is already is not judged by what others are.
    assert!(subnet(&new, Some(&new), world, ALL).is_allowed());
}

#[test]
fn what_a_subnet_gave_stays_its_own() {
    let status = json!({"controlledIPPools": r#"{"a":{"ips":["10.77.1.1-10.77.1.3"]},"b":{"ips":["10.77.1.9"]}}"#});
    let with =
        |ips: &[&str], status: &Value| -> SpiderSubnet { object("SpiderSubnet", "s", &json!({}), &net(ips), status) };
    let old = with(&["10.77.1.1-10.77.1.20"], &status);
    let judged = |new: &SpiderSubnet| texts(&subnet(new, Some(&old), SubnetWorld::default(), ALL));
    assert_eq!(judged(&with(&["10.77.1.1-10.77.1.9"], &status)), Vec::<String>::new());
    assert_eq!(
        judged(&with(&["10.77.1.2-10.77.1.8"], &status)),
        [
            "spec.ips: Forbidden: 10.77.1.1 belong to SpiderIPPool a; leave them in ips and out of excludeIPs, or take them out of the pool first",
            "spec.ips: Forbidden: 10.77.1.9 belong to SpiderIPPool b; leave them in ips and out of excludeIPs, or take them out of the pool first",
        ]
    );
    let broken = judged(&with(&["10.77.1.1"], &json!({"controlledIPPools": "{"})));
    assert_eq!(first_field(&broken), "spec.ips");
}

#[test]
fn pools_share_no_address() {
    let (own, wide) = (
        a_pool("own", &net(&["10.77.1.1-10.77.1.9"])),
        a_pool("wide", &json!({"subnet": "10.77.0.0/16"})),
    );
    let judged = |name: &str, ips: &[&str], old: bool, pools: &[&SpiderIPPool]| {
        let new = a_pool(name, &net(ips));
        texts(&pool(
            &new,
            old.then_some(&new),
            PoolWorld {
                pools,
                ..PoolWorld::default()
            },
            ALL,
        ))
    };
    assert_eq!(judged("p", &["10.77.1.10"], false, &[&own]), Vec::<String>::new());
    assert_eq!(judged("own", &["10.77.1.5"], true, &[&own]), Vec::<String>::new());
    let shared = "spec.ips: Forbidden: overlap with SpiderIPPool own, which has 10.77.1.9 too; take them out of one of the pools";
    for old in [false, true] {
        assert_eq!(judged("p", &["10.77.1.9-10.77.1.12"], old, &[&own]), [shared]);
    }
    assert_eq!(
        first_field(&judged("p", &["10.77.1.10"], false, &[&wide])),
        "spec.subnet"
    );
    assert_eq!(judged("p", &["10.77.1.10"], true, &[&wide]), Vec::<String>::new());
}

#[test]
fn addresses_in_use_stay_in_the_pool() {
    let status = json!({"allocatedIPs": r#"{"10.77.1.3":{"pod":"retail/shop","podUid":"u"},"10.77.1.4":{"pod":"retail/b","podUid":"v"}}"#});
    let with =
        |ips: &[&str], status: &Value| -> SpiderIPPool { object("SpiderIPPool", "p", &json!({}), &net(ips), status) };
    let old = with(&["10.77.1.1-10.77.1.9"], &status);
    let judged = |new: &SpiderIPPool| texts(&pool(new, Some(&old), PoolWorld::default(), ALL));
    assert_eq!(judged(&with(&["10.77.1.3-10.77.1.4"], &status)), Vec::<String>::new());
    assert_eq!(
        judged(&with(&["10.77.1.1"], &status)),
        [
            "spec.ips: Forbidden: remove an IP address 10.77.1.3 that is being used by Pod retail/shop (and 1 more); leave it in the pool until the \
          Pod is gone"
        ]
    );
}

#[test]
fn a_part_of_a_subnet_has_addresses_of_the_subnet() {
    let status = json!({"controlledIPPools": r#"{"auto":{"ips":["10.77.1.1-10.77.1.3"],"application":"apps_v1_Deployment_retail_shop"}}"#});
    let whole: SpiderSubnet = object("SpiderSubnet", "s", &json!({}), &net(&["10.77.1.1-10.77.1.9"]), &status);
    let world = PoolWorld {
        subnet: Some(&whole),
        ..PoolWorld::default()
    };
    let judged = |pool_: &SpiderIPPool| texts(&pool(pool_, None, world, ALL));
    assert_eq!(judged(&a_pool("p", &net(&["10.77.1.9"]))), Vec::<String>::new());
    assert!(
        judged(&a_pool("p", &net(&["10.77.1.9-10.77.1.10"])))[0]
            .contains("10.77.1.10 are not among the addresses of SpiderSubnet s")
    );
    assert_eq!(
        judged(&automatic("auto", &net(&["10.77.1.1-10.77.1.3"]))),
        Vec::<String>::new()
    );
    // A shrink leaves the pool before it leaves the accounting.
    assert_eq!(judged(&automatic("auto", &net(&["10.77.1.1"]))), Vec::<String>::new());
    assert!(
        judged(&automatic("auto", &net(&["10.77.1.1-10.77.1.4"])))[0]
            .contains("did not give 10.77.1.4 to this automatic pool")
    );
    assert!(!judged(&automatic("other", &net(&["10.77.1.1"]))).is_empty());
    let off = Settings { subnets: false, ..ALL };
    assert!(pool(&a_pool("p", &net(&["10.77.2.1"])), None, world, off).is_allowed());
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
fn what_is_being_deleted_changes_only_to_go() {
    let going = |finalizers: &[&str]| json!({"deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": finalizers});
    for (finalizers, code) in [(&[FINALIZER][..], 403), (&["other"], 200), (&[], 200)] {
        let one: SpiderSubnet = object(
            "SpiderSubnet",
            "s",
            &going(finalizers),
            &json!({"subnet": "x"}),
            &json!({}),
        );
        assert_eq!(subnet(&one, Some(&one), SubnetWorld::default(), ALL).code(), code);
        let one: SpiderIPPool = object(
            "SpiderIPPool",
            "p",
            &going(finalizers),
            &json!({"subnet": "x"}),
            &json!({}),
        );
        assert_eq!(pool(&one, Some(&one), PoolWorld::default(), ALL).code(), code);
        let one: SpiderReservedIP = object(
            "SpiderReservedIP",
            "r",
            &going(finalizers),
            &json!({"ips": ["x"]}),
            &json!(null),
        );
        assert!(reserved(&one, Some(&one), &[], ALL).is_allowed());
    }
}

#[test]
fn what_is_in_use_is_kept_from_deletion_where_that_is_switched_on() {
    let protects = Settings {
        protect_used: true,
        ..ALL
    };
    let status = |count: i64| json!({"allocatedIPCount": count});
    for (count, settings, code) in [(2, protects, 403), (0, protects, 200), (2, ALL, 200)] {
        let one: SpiderSubnet = object("SpiderSubnet", "s", &json!({}), &net(&[]), &status(count));
        assert_eq!(subnet_deletion(&one, settings).code(), code);
        let one: SpiderIPPool = object("SpiderIPPool", "p", &json!({}), &net(&[]), &status(count));
        assert_eq!(pool_deletion(&one, settings).code(), code);
    }
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

#[test]
fn what_is_legal_and_probably_not_meant_is_a_warning() {
    let warnings = |spec: &Value| pool(&a_pool("p", spec), None, PoolWorld::default(), ALL).warnings;
    for (spec, part) in [
        (
            json!({"subnet": "10.77.0.0/20", "gateway": "10.77.0.0"}),
            "is the network address",
        ),
        (
            json!({"subnet": "10.77.0.0/20", "gateway": "10.77.15.255"}),
            "is the broadcast address",
        ),
        (
            net(&["10.77.0.0-10.77.0.9"]),
            "spec.ips[0]: 10.77.0.0 is the network or broadcast address",
        ),
        (
            net(&["10.77.1.1-10.77.1.9", "10.77.1.5"]),
            "spec.ips[1]: 10.77.1.5 stands in ips more than once",
        ),
        (
            json!({"subnet": "10.77.0.0/20", "nodeAffinity": {"matchLabels": {"zone": "a"},
                "matchExpressions": [{"key": "zone", "operator": "In", "values": ["b"]}]}}),
            "spec.nodeAffinity: the terms about zone contradict each other",
        ),
        (
            json!({"subnet": "10.77.0.0/20", "namespaceAffinity": {"matchExpressions": [
                {"key": "k", "operator": "Exists"}, {"key": "k", "operator": "DoesNotExist"}]}}),
            "spec.namespaceAffinity: the terms about k contradict each other",
        ),
    ] {
        let found = warnings(&spec);
        assert!(found.len() == 1 && found[0].contains(part), "{spec}: {found:?}");
    }
    assert_eq!(
        warnings(&json!({"subnet": "10.77.0.0/31", "ips": ["10.77.0.0-10.77.0.1"]})),
        Vec::<String>::new()
    );
    let held: RangeSet = [text::parse_range(Family::V4, "10.77.1.1-10.77.1.9").unwrap()]
        .into_iter()
        .collect();
    let world = PoolWorld {
        reserved: Some(&held),
        ..PoolWorld::default()
    };
    assert_eq!(
        pool(&a_pool("p", &net(&["10.77.1.2"])), None, world, ALL)
            .warnings
            .len(),
        1
    );
    let covered = a_pool("p", &net(&["10.77.1.2"]));
    let reservation: SpiderReservedIP = object(
        "SpiderReservedIP",
        "r",
        &json!({}),
        &json!({"ips": ["10.77.1.1-10.77.1.9"]}),
        &json!(null),
    );
    assert_eq!(reserved(&reservation, None, &[&covered], ALL).warnings.len(), 1);
}

#[test]
fn large_networks_cost_nothing() {
    let wide = a_pool(
        "wide",
        &json!({"subnet": "fd77::/64", "ips": ["fd77::1-fd77::ffff:ffff:ffff:ffff"]}),
    );
    let other = a_pool("other", &json!({"subnet": "fd77::/64", "ips": ["fd77::8-fd77::9"]}));
    let outcome = pool(
        &wide,
        None,
        PoolWorld {
            pools: &[&other],
            ..PoolWorld::default()
        },
        ALL,
    );
    assert_eq!(texts(&outcome).len(), 1);
}
