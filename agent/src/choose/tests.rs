use super::*;
use serde_json::{Value, json};
use spiderpool_ipam::candidates::{Master, PoolFacts, verdicts};
use std::collections::BTreeMap;

fn pool(name: &str, labels: &Value, spec: &Value) -> SpiderIPPool {
    let object = json!({"apiVersion": names::API_VERSION, "kind": "SpiderIPPool",
        "metadata": {"name": name, "labels": labels, "generation": 1}, "spec": spec,
        "status": {"conditions": [{"type": "Ready", "status": "True", "reason": "R", "message": "",
            "observedGeneration": 1, "lastTransitionTime": "2026-01-01T00:00:00Z"}]}});
    serde_json::from_value(object).unwrap()
}

fn app() -> AppKey {
    // Another API version of the same application.
    AppKey::new("apps/v2", "Deployment", "retail", "shop")
}

fn pod(annotations: &Value) -> Pod {
    let object = json!({"metadata": {"name": "shop-1", "namespace": "retail", "annotations": annotations},
        "spec": {"nodeName": "n1", "containers": []}});
    serde_json::from_value(object).unwrap()
}

fn network<'a>(nic: &'a str, ipv4: &'a [String]) -> Defaults<'a> {
    Defaults {
        nic,
        ipv4,
        ipv6: &[],
        clean_gateway: true,
    }
}

/// The choice of a NIC where neither the namespace nor the network names pools and none is a default one.
fn chosen_by(config: &Config, annotations: &Value, nic: &str) -> Result<Choice, String> {
    let pod = pod(annotations);
    let present = levels::of_pod(config, &pod, &app(), network(nic, &[])).map_err(|error| error.to_string())?;
    decide(config, present.into_iter().collect(), &pod, nic).map_err(|error| error.to_string())
}

fn chosen(annotations: &Value, nic: &str) -> Result<(Level, Vec<String>, bool), String> {
    let asked = chosen_by(&Config::default(), annotations, nic)?.asked;
    Ok((asked.level, asked.names(Family::V4).to_vec(), asked.clean_gateway))
}

#[test]
fn annotations_of_the_pod_decide_in_their_order() {
    let mut all = json!({
        names::ANNOTATION_SUBNETS: r#"[{"interface":"eth0","ipv4":["lan"]}]"#,
        names::ANNOTATION_IPPOOLS: r#"[{"interface":"eth0","ipv4":["a"]}]"#,
        names::ANNOTATION_IPPOOL: r#"{"ipv4":["b"]}"#,
    });
    for (key, level, name, clean) in [
        (names::ANNOTATION_SUBNETS, Level::Subnets, "lan", true),
        // Only the item itself says whether there is a default route.
        (names::ANNOTATION_IPPOOLS, Level::IPPools, "a", false),
        (names::ANNOTATION_IPPOOL, Level::IPPool, "b", true),
    ] {
        assert_eq!(chosen(&all, "eth0"), Ok((level, vec![name.to_owned()], clean)));
        all.as_object_mut().unwrap().remove(key);
    }
}

#[test]
fn subnets_count_only_where_they_are_switched_on() {
    let annotations =
        json!({names::ANNOTATION_SUBNET: r#"{"ipv4":["lan"]}"#, names::ANNOTATION_IPPOOL: r#"{"ipv4":["b"]}"#});
    let mut config = Config {
        enable_auto_pool_for_application: false,
        ..Config::default()
    };
    let text = chosen_by(&config, &annotations, "eth0").unwrap_err();
    assert_eq!(
        text,
        "Pod retail/shop-1: it's invalid to use 'ipam.spidernet.io/subnets' or 'ipam.spidernet.io/subnet' annotation when \
         Auto-Pool feature is disabled"
    );
    config.enable_spider_subnet = false;
    let choice = chosen_by(&config, &annotations, "eth0").unwrap();
    assert_eq!(choice.asked.level, Level::IPPool);
}

#[test]
fn items_without_interfaces_go_with_them_in_the_order_of_multus() {
    let ippools = |items: &str, networks: &str| json!({names::ANNOTATION_IPPOOLS: items, names::ANNOTATION_MULTUS_NETWORKS: networks});
    let unnamed = ippools(r#"[{"ipv4":["a"]},{"ipv4":["b"],"cleanGateway":true}]"#, "x, y@lan");
    let item =
        |annotations: &Value, nic: &str| chosen(annotations, nic).map(|(_, names, clean)| (names.concat(), clean));
    assert_eq!(item(&unnamed, "eth0"), Ok(("a".to_owned(), false)));
    assert_eq!(item(&unnamed, "net1"), Ok(("b".to_owned(), true)));
    let third = item(&unnamed, "lan").unwrap_err();
    assert_eq!(
        third,
        "Pod retail/shop-1: annotation ipam.spidernet.io/ippools has no item for interface lan: its 2 items name no interface, \
         so they go with the interfaces in the order of Multus, in which lan is number 3; add an item"
    );
    let unknown = item(&unnamed, "wan").unwrap_err();
    assert!(unknown.contains("does not tell which place wan has"), "{unknown}");
    let named = ippools(
        r#"[{"interface":"net1","ipv4":["b"]},{"interface":"eth0","ipv4":["a"]}]"#,
        "",
    );
    assert_eq!(item(&named, "net1"), Ok(("b".to_owned(), false)));
    let missing = item(&named, "net2").unwrap_err();
    assert!(
        missing.contains("no item for interface net2; it names \"net1\", \"eth0\"; add an item"),
        "{missing}"
    );
}

#[test]
fn the_namespace_comes_before_the_network_and_that_before_default_pools() {
    let named = ["c".to_owned()];
    let defaults = network("eth0", &named);
    let annotations = BTreeMap::from([(
        names::ANNOTATION_DEFAULT_IPV4_IPPOOL.to_owned(),
        r#"["n-*"]"#.to_owned(),
    )]);
    let default = pool("d", &json!({}), &json!({"subnet": "10.77.0.0/20", "default": true}));
    let v6 = pool("e", &json!({}), &json!({"subnet": "fd77::/64"}));
    let namespace = levels::of_namespace("retail", &annotations, "retail/shop-1", defaults).unwrap();
    let mut present = vec![
        levels::of_cluster([&default, &v6].into_iter(), defaults),
        levels::of_network(defaults),
    ];
    present.extend(namespace);
    let mut levels_of = || {
        let choice = decide(&Config::default(), present.clone(), &pod(&json!({})), "eth0").unwrap();
        present.pop();
        (choice.asked.level, choice.asked.names)
    };
    let v4 = |names: &[&str]| BTreeMap::from([(Family::V4, names.iter().map(|name| (*name).to_owned()).collect())]);
    assert_eq!(levels_of(), (Level::Namespace, v4(&["n-*"])));
    assert_eq!(levels_of(), (Level::Network, v4(&["c"])));
    // There is no default pool of IPv6, so nobody asks for one.
    assert_eq!(levels_of(), (Level::Default, v4(&[])));
    let broken = BTreeMap::from([(names::ANNOTATION_DEFAULT_IPV4_IPPOOL.to_owned(), "d".to_owned())]);
    let error = levels::of_namespace("retail", &broken, "retail/shop-1", defaults).unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("Pod retail/shop-1 takes the default pools of its Namespace retail: annotation"),
        "{error}"
    );
}

#[test]
fn families_that_are_switched_off_are_left_out_and_none_is_an_error() {
    let config = Config {
        enable_ipv4: false,
        ..Config::default()
    };
    let both = json!({names::ANNOTATION_IPPOOL: r#"{"ipv4":["a"],"ipv6":["b"]}"#});
    let choice = chosen_by(&config, &both, "eth0").unwrap();
    assert_eq!(choice.asked.names, BTreeMap::from([(Family::V6, vec!["b".to_owned()])]));
    let v4 = json!({names::ANNOTATION_IPPOOL: r#"{"ipv4":["a"]}"#});
    let text = chosen_by(&config, &v4, "eth0").unwrap_err();
    assert!(
        text.contains("annotation ipam.spidernet.io/ippool of the Pod asks for no IP family that is enabled"),
        "{text}"
    );
}

#[test]
fn exact_addresses_belong_to_a_nic_and_to_a_family_that_is_asked_for() {
    let exact = r#"{"eth0":["10.77.1.33"],"net1":["fd77::33"]}"#;
    let annotations = json!({names::ANNOTATION_IP: exact, names::ANNOTATION_IPPOOL: r#"{"ipv4":["a"]}"#});
    let choice = chosen_by(&Config::default(), &annotations, "eth0").unwrap();
    assert_eq!(
        choice.exact,
        BTreeMap::from([(Family::V4, "10.77.1.33".parse().unwrap())])
    );
    assert!(
        chosen_by(&Config::default(), &annotations, "net2")
            .unwrap()
            .exact
            .is_empty()
    );
    assert_eq!(
        chosen_by(&Config::default(), &annotations, "net1").unwrap_err(),
        "Pod retail/shop-1: annotation ipam.spidernet.io/ip asks for fd77::33 on interface net1, but no IPPool gives it IPv6 \
         addresses: annotation ipam.spidernet.io/ippool of the Pod asks for none, or the IP version is switched off \
         (ipam.enableIPv6 of the chart)"
    );
    let broken = json!({names::ANNOTATION_IP: "10.77.1.33", names::ANNOTATION_IPPOOL: r#"{"ipv4":["a"]}"#});
    let text = chosen_by(&Config::default(), &broken, "eth0").unwrap_err();
    assert!(
        text.contains("annotation ipam.spidernet.io/ip: the value is not JSON"),
        "{text}"
    );
}

#[test]
fn pools_and_pods_are_judged_by_what_their_objects_say() {
    let none = json!({});
    let spec = |more: &Value| {
        let mut spec = json!({"subnet": "10.77.0.0/20"});
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        spec
    };
    let automatic = |app: &str| {
        let labels = json!({names::LABEL_OWNER_APP_GV: "apps_v1", names::LABEL_OWNER_APP_KIND: "Deployment",
            names::LABEL_OWNER_APP_NAMESPACE: "retail", names::LABEL_OWNER_APP_NAME: app});
        pool(app, &labels, &spec(&none))
    };
    let terms = json!({"matchExpressions": [{"key": "rack", "operator": "In", "values": ["7"]}]});
    let mut unchecked = pool("unchecked", &none, &spec(&none));
    unchecked.metadata.generation = Some(2);
    let pools = [
        pool("z", &none, &spec(&none)),
        pool("a", &none, &spec(&none)),
        pool("n", &none, &spec(&json!({"nodeName": ["n1"]}))),
        pool("o", &none, &spec(&json!({"nodeName": ["n2"]}))),
        pool("rack", &none, &spec(&json!({"nodeAffinity": terms}))),
        pool("net", &none, &spec(&json!({"multusName": ["macvlan"]}))),
        pool("six", &none, &json!({"subnet": "fd77::/64"})),
        pool("broken", &none, &json!({"subnet": "10.77.0.1/20"})),
        unchecked,
        automatic("shop"),
        automatic("bank"),
    ];
    let names: Vec<String> = pools.iter().map(ResourceExt::name_any).collect();
    let asked = Asked::new(Level::IPPool, names, Vec::new(), false);
    let pod = pod(&json!({names::ANNOTATION_MULTUS_DEFAULT_NETWORK: "macvlan"}));
    let facts = facts::local_facts(&pod, &app(), "eth0", "kube-system", "x/other");
    let judged: Vec<PoolFacts> = pools.iter().map(pool_facts).collect();
    let found = verdicts(&asked, Family::V4, &facts, &judged);
    assert_eq!(found.chosen, ["shop", "n", "net", "z", "a"]);
    let heads: Vec<String> = found
        .rejected
        .iter()
        .map(|verdict| format!("{} {}", verdict.pool, verdict.rejection.head()))
        .collect();
    assert_eq!(
        heads,
        [
            "o AffinityRejected nodeName",
            "rack AffinityRejected nodeAffinity",
            "six WrongVersion",
            "broken WrongVersion",
            "unchecked NotReady",
            "bank AffinityRejected podAffinity",
        ]
    );
}

#[test]
fn the_master_counts_where_the_network_asks_for_its_subnet_and_its_addresses_are_known() {
    let address = "10.77.0.9".parse().unwrap();
    assert_eq!(master(false, Some(&[address])), Master::Any);
    assert_eq!(master(true, None), Master::Any);
    assert_eq!(master(true, Some(&[])), Master::Unknown);
    assert_eq!(master(true, Some(&[address])), Master::Has(vec![address]));
}

#[test]
fn that_an_address_is_not_in_a_pool_is_seen_without_its_records() {
    let made = pool(
        "p",
        &json!({}),
        &json!({"subnet": "10.77.0.0/20", "ips": ["10.77.1.10-10.77.1.20"],
        "excludeIPs": ["10.77.1.12"]}),
    );
    for (address, outside) in [
        ("10.77.1.11", false),
        ("10.77.1.12", true),
        ("10.77.1.21", true),
        ("fd77::1", true),
    ] {
        let facts = pool_facts_for(&made, Some(address.parse().unwrap()));
        assert_eq!(facts.room != pool_facts(&made).room, outside, "{address}");
    }
    assert_eq!(pool_facts_for(&made, None), pool_facts(&made));
}
