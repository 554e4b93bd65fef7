//! What an object must get on with, and what is legal and probably not meant.

use super::*;

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
    let more = judged(&with(&["10.77.1.1-10.77.1.30"], &json!({"controlledIPPools": "{"})));
    assert_eq!(more, Vec::<String>::new(), "nothing is taken away");
    let broken = judged(&with(&["10.77.1.1"], &json!({"controlledIPPools": "{"})));
    assert_eq!(first_field(&broken), "spec.ips");
}

#[test]
fn pools_share_no_address() {
    let (own, wide) = (
        a_pool("own", &net(&["10.77.1.1-10.77.1.9"])),
        a_pool("wide", &json!({"subnet": "10.77.0.0/16"})),
    );
    let judged = |name: &str, ips: &[&str], old: Option<&[&str]>, pools: &[&SpiderIPPool]| {
        let new = a_pool(name, &net(ips));
        let old = old.map(|old| a_pool(name, &net(old)));
        let world = PoolWorld {
            pools,
            ..PoolWorld::default()
        };
        texts(&pool(&new, old.as_ref(), world, ALL))
    };
    assert_eq!(judged("p", &["10.77.1.10"], None, &[&own]), Vec::<String>::new());
    assert_eq!(judged("own", &["10.77.1.5"], Some(&[]), &[&own]), Vec::<String>::new());
    let shared = "spec.ips: Forbidden: overlap with SpiderIPPool own, which has 10.77.1.9 too; take them out of one of the pools";
    for old in [None, Some(&["10.77.1.10-10.77.1.12"][..])] {
        assert_eq!(judged("p", &["10.77.1.9-10.77.1.12"], old, &[&own]), [shared]);
    }
    // Who has too much already can have less of it, and change elsewhere.
    for fewer in [&["10.77.1.8-10.77.1.12"], &["10.77.1.9-10.77.1.12"]] {
        let before = Some(&["10.77.1.8-10.77.1.12"][..]);
        assert_eq!(judged("p", fewer, before, &[&own]), Vec::<String>::new());
    }
    assert_eq!(
        first_field(&judged("p", &["10.77.1.10"], None, &[&wide])),
        "spec.subnet"
    );
    assert_eq!(judged("p", &["10.77.1.10"], Some(&[]), &[&wide]), Vec::<String>::new());
}

#[test]
fn addresses_in_use_stay_in_the_pool() {
    let status = json!({"allocatedIPs": r#"{"10.77.1.3":{"pod":"retail/shop","podUid":"u"},"10.77.1.4":{"pod":"retail/b","podUid":"v"}}"#});
    let with =
        |ips: &[&str], status: &Value| -> SpiderIPPool { object("SpiderIPPool", "p", &json!({}), &net(ips), status) };
    let old = with(&["10.77.1.1-10.77.1.9"], &status);
    let judged = |new: &SpiderIPPool| texts(&pool(new, Some(&old), PoolWorld::default(), ALL));
    assert_eq!(judged(&with(&["10.77.1.3-10.77.1.4"], &status)), Vec::<String>::new());
    // Nothing is taken away: what is wrong with the records is no matter of this change.
    for status in [&status, &json!({"allocatedIPs": "{"})] {
        assert_eq!(judged(&with(&["10.77.1.1-10.77.1.20"], status)), Vec::<String>::new());
    }
    assert_eq!(
        judged(&with(
            &["10.77.1.1-10.77.1.8"],
            &json!({"allocatedIPs": r#"{"10.77.2.1":{"pod":"a/b","podUid":"u"}}"#})
        )),
        Vec::<String>::new(),
        "the pool did not have it before"
    );
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

#[test]
fn a_new_pool_has_no_part_of_the_network_of_a_subnet() {
    let (wide, same) = (
        a_subnet("wide", &json!({"subnet": "10.77.0.0/16"})),
        a_subnet("same", &net(&[])),
    );
    let new = a_pool("p", &net(&[]));
    let world = PoolWorld {
        subnets: &[&wide, &same],
        ..PoolWorld::default()
    };
    assert_eq!(
        texts(&pool(&new, None, world, ALL)),
        [
            "spec.subnet: Invalid value: \"10.77.0.0/20\": overlap with SpiderSubnet wide which subnet is 10.77.0.0/16; write that subnet, or \
             use another network"
        ]
    );
    // What is there already stays, and without subnets nobody is kept out.
    assert!(pool(&new, Some(&new), world, ALL).is_allowed());
    let off = Settings { subnets: false, ..ALL };
    assert!(pool(&new, None, world, off).is_allowed());
}
