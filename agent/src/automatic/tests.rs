use super::*;
use serde_json::{Value, json};
use spiderpool_crds::annotations::subnet_request;
use spiderpool_ipam::candidates::{Asked, Level, PoolFacts, verdicts};
use spiderpool_ipam::{Owner, RangeSet};
use std::collections::BTreeMap;

fn app() -> Application {
    Application {
        key: AppKey::new("apps/v1", "Deployment", "retail", "shop"),
        uid: "now".to_owned(),
    }
}

fn choice(subnets: &[&str]) -> Choice {
    let subnets = subnets.iter().map(|name| (*name).to_owned()).collect();
    Choice {
        asked: Asked::new(Level::Subnets, subnets, Vec::new(), false),
        exact: BTreeMap::new(),
    }
}

fn facts() -> PodFacts {
    PodFacts {
        application: choose::identity(&app().key),
        namespace: "retail".to_owned(),
        node: "n1".to_owned(),
        ..PodFacts::default()
    }
}

/// An automatic pool of Deployment retail/shop with two addresses; `change` makes it another one.
fn pool(name: &str, subnet: &str, change: impl Fn(&mut Value)) -> Arc<SpiderIPPool> {
    let labels = json!({
        // Another API version of the same application.
        names::LABEL_OWNER_APP_GV: "apps_v2", names::LABEL_OWNER_APP_KIND: "Deployment",
        names::LABEL_OWNER_APP_NAMESPACE: "retail", names::LABEL_OWNER_APP_NAME: "shop",
        names::LABEL_OWNER_APP_UID: "now", names::LABEL_INTERFACE: "eth0", names::LABEL_OWNER_SUBNET: subnet,
    });
    let mut object = json!({"apiVersion": names::API_VERSION, "kind": "SpiderIPPool",
        "metadata": {"name": name, "labels": labels, "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"subnet": "10.77.0.0/20", "ips": ["10.77.1.10-10.77.1.11"]},
        "status": {"conditions": [{"type": "Ready", "status": "True", "reason": "Accepted", "message": "",
            "lastTransitionTime": "2026-01-01T00:00:00Z"}]}});
    change(&mut object);
    Arc::new(serde_json::from_value(object).unwrap())
}

fn unchanged(_: &mut Value) {}

fn label(key: &'static str, value: &'static str) -> impl Fn(&mut Value) {
    move |object| object["metadata"]["labels"][key] = json!(value)
}

fn used(object: &mut Value) {
    let records =
        json!({"10.77.1.10": {"pod": "retail/a", "podUid": "a"}, "10.77.1.11": {"pod": "retail/b", "podUid": "b"}});
    object["status"]["allocatedIPs"] = json!(records.to_string());
}

fn slot<'a>(app: &'a Application, choice: &'a Choice) -> Slot<'a> {
    Slot {
        app,
        choice,
        nic: "eth0",
        family: Family::V4,
    }
}

fn found(pools: &[Arc<SpiderIPPool>], subnets: &[&str], reach: Reach) -> Vec<String> {
    let (app, choice) = (app(), choice(subnets));
    let considered = slot(&app, &choice).considered(pools, reach);
    let judged: Vec<PoolFacts> = considered.iter().map(|pool| choose::pool_facts(pool)).collect();
    verdicts(&choice.asked, Family::V4, &facts(), &judged).chosen
}

#[test]
fn an_application_gets_its_own_pools_of_that_nic_and_family_only() {
    let pools = [
        pool("own", "lan", unchanged),
        pool("nic", "lan", label(names::LABEL_INTERFACE, "net1")),
        pool("name", "lan", label(names::LABEL_OWNER_APP_NAME, "bank")),
        pool("kind", "lan", label(names::LABEL_OWNER_APP_KIND, "StatefulSet")),
        pool("group", "lan", label(names::LABEL_OWNER_APP_GV, "apps.kruise.io_v1")),
        pool("namespace", "lan", label(names::LABEL_OWNER_APP_NAMESPACE, "other")),
        pool("family", "lan", |object| {
            object["spec"] = json!({"subnet": "fd77::/64", "ips": ["fd77::1"]});
        }),
        pool("deleted", "lan", |object| {
            object["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        }),
    ];
    assert_eq!(found(&pools, &["lan"], Reach::All), ["own"]);
}

#[test]
fn the_index_finds_by_what_requests_look_for() {
    assert_eq!(index(&pool("own", "lan", unchanged)), [facts().application]);
    let manual = pool("manual", "lan", |object| object["metadata"]["labels"] = json!({}));
    assert!(index(&manual).is_empty());
}

#[test]
fn the_order_is_that_of_the_annotation_and_pools_elsewhere_come_last() {
    let pools = [
        pool("1", "old", unchanged),
        pool("2", "b", unchanged),
        pool("3", "a", unchanged),
        pool("4", "b", unchanged),
    ];
    assert_eq!(found(&pools, &["a", "b"], Reach::Named), ["3", "2", "4"]);
    assert_eq!(found(&pools, &["a", "b"], Reach::All), ["3", "2", "4", "1"]);
    assert_eq!(found(&pools, &["b", "a"], Reach::Named), ["2", "4", "3"]);
    assert_eq!(found(&pools, &["c"], Reach::Named), Vec::<String>::new());
}

#[test]
fn pools_of_the_present_object_come_before_those_of_its_predecessors_and_new_ones_first() {
    let pools = [
        pool("a", "lan", label(names::LABEL_OWNER_APP_UID, "earlier")),
        pool("b", "lan", unchanged),
        pool("c", "lan", |object| {
            object["metadata"]["creationTimestamp"] = json!("2026-01-02T00:00:00Z");
        }),
    ];
    assert_eq!(found(&pools, &["lan"], Reach::All), ["c", "b", "a"]);
    // That of a predecessor drains, also while the present one's does not serve.
    assert_eq!(found(&pools, &["lan"], Reach::Named), ["c", "b"]);
    let off = pool("b", "lan", |object| object["spec"]["disable"] = json!(true));
    let both = [pools[0].clone(), off];
    assert_eq!(found(&both, &["lan"], Reach::Named), Vec::<String>::new());
    assert_eq!(found(&both, &["lan"], Reach::All), ["a"]);
    // It serves where it is the only one, or the other goes, unless one is about to be made.
    assert_eq!(found(&pools[..1], &["lan"], Reach::Present), Vec::<String>::new());
    assert_eq!(found(&pools[..1], &["lan"], Reach::Named), ["a"]);
    let going = pool("b", "lan", |object| {
        object["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    });
    assert_eq!(found(&[pools[0].clone(), going], &["lan"], Reach::Named), ["a"]);
}

#[test]
fn a_subnet_with_a_name_too_long_for_a_label_is_recognised() {
    let long = "a-subnet-for-the-machines-".repeat(4) + "x";
    let cut = format!("{}-0123456789", &long[..50]);
    let named = pool("long", &cut, |object| {
        object["metadata"]["annotations"] = json!({names::LABEL_OWNER_SUBNET: long.as_str()});
    });
    // The annotation counts only with the label that it belongs to.
    assert_eq!(found(&[named], &[&long], Reach::Named), Vec::<String>::new());
    let key = AppKey::new("apps/v1", "Deployment", "retail", &long).labels()[names::LABEL_OWNER_APP_NAME].clone();
    let named = pool("long", &key, |object| {
        object["metadata"]["annotations"] = json!({names::LABEL_OWNER_SUBNET: long.as_str()});
    });
    assert_eq!(found(&[named], &[&long], Reach::Named), ["long"]);
}

#[test]
fn each_pool_says_why_it_gives_nothing() {
    let pools = [
        pool("full", "a", used),
        pool("gone", "a", |object| {
            object["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        }),
        pool("moved", "old", used),
        pool("off", "a", |object| object["spec"]["disable"] = json!(true)),
        pool("free", "a", unchanged),
        pool("held", "b", |object| {
            object["status"]["allocatedIPs"] = json!(r#"{"10.77.1.10":{"pod":"retail/a","podUid":"a"}}"#);
            object["status"]["heldIPs"] = json!(r#"{"10.77.1.11":{}}"#);
        }),
        pool("broken", "b", |object| {
            object["status"]["allocatedIPs"] = json!("{");
        }),
        pool("other", "a", label(names::LABEL_OWNER_APP_NAME, "bank")),
    ];
    let (app, choice) = (app(), choice(&["a", "b"]));
    let look = Look {
        owner: Owner {
            pod: "retail/c".to_owned(),
            uid: "c".to_owned(),
            nic: Some("eth0".to_owned()),
        },
        exact: None,
        reserved: &RangeSet::new(),
    };
    let told = slot(&app, &choice).shortcomings(&pools, &facts(), &look);
    let expected = [
        "IPPool free has had a free address since; the kubelet tries again",
        "PoolExhausted 2/2: all IP addresses used out in IPPool full: 2 of 2 in use",
        "Terminating: IPPool gone is being deleted; another is made when no pod has an address of it any more",
        "Disabled: IPPool off is disabled (spec.disable)",
        "Broken: the records of IPPool broken are broken: status.allocatedIPs is corrupted: the text is not the expected JSON \
         document: EOF while parsing an object at line 1 column 1; repair that field, for example with kubectl edit \
         --subresource=status",
        "PoolExhausted 1/2: all IP addresses used out in IPPool held: 1 of 2 in use, 1 reserved or held back",
        "PoolExhausted 2/2: all IP addresses used out in IPPool moved: 2 of 2 in use (of SpiderSubnet old, which the \
         annotation does not name)",
    ];
    assert_eq!(told, expected);
}

fn request(key: &str, text: &str) -> SubnetRequest {
    let annotations = BTreeMap::from([(key.to_owned(), text.to_owned())]);
    subnet_request(&annotations).unwrap().unwrap()
}

#[test]
fn an_interface_has_its_item() {
    let list = r#"[{"interface":"eth0","ipv4":["a"]},{"interface":"net1","ipv4":["b"]}]"#;
    assert_eq!(
        item(request(names::ANNOTATION_SUBNETS, list), "net1").unwrap().ipv4,
        ["b"]
    );
    for (key, text) in [
        (names::ANNOTATION_SUBNETS, r#"[{"ipv4":["a"]}]"#),
        (names::ANNOTATION_SUBNETS, r#"[{"interface":"","ipv4":["a"]}]"#),
        (names::ANNOTATION_SUBNET, r#"{"ipv4":["a"]}"#),
        (names::ANNOTATION_SUBNET, r#"{"interface":"eth0","ipv4":["a"]}"#),
    ] {
        assert_eq!(item(request(key, text), "eth0").unwrap().ipv4, ["a"], "{text}");
        item(request(key, text), "net1").unwrap_err();
    }
    let named = request(names::ANNOTATION_SUBNET, r#"{"interface":"net1","ipv4":["a"]}"#);
    assert_eq!(item(named, "net1").unwrap().ipv4, ["a"]);
}

#[test]
fn an_interface_without_item_is_told_what_to_write() {
    let object = request(names::ANNOTATION_SUBNET, r#"{"ipv4":["a"],"ipv6":["six"]}"#);
    let text = item(object, "net1").unwrap_err();
    let example =
        r#"[{"interface":"eth0","ipv4":["a"],"ipv6":["six"]},{"interface":"net1","ipv4":["a"],"ipv6":["six"]}]"#;
    for part in [
        "annotation ipam.spidernet.io/subnet names subnets for interface \"eth0\" and none for \"net1\"",
        "replace it by ipam.spidernet.io/subnets",
        example,
    ] {
        assert!(text.contains(part), "{text}");
    }
    subnet_request(&BTreeMap::from([(
        names::ANNOTATION_SUBNETS.to_owned(),
        example.to_owned(),
    )]))
    .unwrap();

    let list = r#"[{"interface":"eth0","ipv4":["a"]},{"interface":"net1","ipv4":["b"]}]"#;
    let text = item(request(names::ANNOTATION_SUBNETS, list), "net2").unwrap_err();
    for part in [
        "ipam.spidernet.io/subnets",
        "\"eth0\", \"net1\"",
        "none for \"net2\"",
        "add an item",
    ] {
        assert!(text.contains(part), "{text}");
    }
}
