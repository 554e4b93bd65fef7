//! Changes and deletions.

use super::*;

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
    // Nor does anybody have to mend what was so before, to change something else.
    let off = Settings { ipv4: false, ..ALL };
    let mut disabled = with_gateway.clone();
    disabled["disable"] = json!(true);
    let old = a_pool("p", &with_gateway);
    assert!(pool(&a_pool("p", &disabled), Some(&old), PoolWorld::default(), off).is_allowed());
    disabled["ips"] = json!(["10.77.1.1-10.77.1.2"]);
    let judged = pool(&a_pool("p", &disabled), Some(&old), PoolWorld::default(), off);
    let broken: Vec<&str> = judged.broken().map(Rule::name).collect();
    assert_eq!(broken, ["family-enabled", "gateway-among-ips"]);
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
