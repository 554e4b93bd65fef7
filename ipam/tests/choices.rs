//! Which pools may serve a pod, and in which order.

use spiderpool_ipam::candidates::{
    Expression, Master, PodFacts, PodRule, PoolFacts, Rejection, Room, Selector, check, order,
};
use spiderpool_ipam::{Cidr, Family};
use std::collections::BTreeMap;

fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs
        .iter()
        .map(|(key, value)| ((*key).into(), (*value).into()))
        .collect()
}

fn term(key: &str, operator: &str, values: &[&str]) -> Selector {
    Selector {
        labels: BTreeMap::new(),
        expressions: vec![Expression {
            key: key.into(),
            operator: operator.into(),
            values: values.iter().map(|value| (*value).into()).collect(),
        }],
    }
}

fn equals(key: &str, value: &str) -> Selector {
    Selector {
        labels: labels(&[(key, value)]),
        expressions: Vec::new(),
    }
}

fn pool() -> PoolFacts {
    PoolFacts {
        name: "p".into(),
        subnet: Cidr::parse("10.77.0.0/20").ok(),
        ready: true,
        ..PoolFacts::default()
    }
}

fn pod() -> PodFacts {
    PodFacts {
        nic: "eth0".into(),
        application: "apps/Deployment/retail/shop".into(),
        namespace: "retail".into(),
        namespace_labels: Some(labels(&[("team", "sales")])),
        labels: labels(&[("app", "shop")]),
        node: "worker-3".into(),
        node_labels: Some(labels(&[("rack", "7")])),
        network: Some("kube-system/macvlan".into()),
        default_network_namespace: "kube-system".into(),
        ..PodFacts::default()
    }
}

#[test]
fn selectors_match_as_in_kubernetes() {
    let own = labels(&[("app", "shop"), ("tier", "")]);
    for (selector, matches) in [
        (Selector::default(), true),
        (equals("app", "shop"), true),
        (equals("app", "web"), false),
        (equals("none", ""), false),
        (term("app", "In", &["web", "shop"]), true),
        (term("app", "In", &["web"]), false),
        (term("none", "In", &["web"]), false),
        (term("app", "NotIn", &["shop"]), false),
        (term("app", "NotIn", &["web"]), true),
        (term("none", "NotIn", &["web"]), true),
        (term("tier", "Exists", &[]), true),
        (term("none", "Exists", &[]), false),
        (term("none", "DoesNotExist", &[]), true),
        (term("tier", "DoesNotExist", &[]), false),
        (term("app", "Gt", &["1"]), false),
        (
            Selector {
                labels: labels(&[("app", "shop")]),
                ..term("tier", "DoesNotExist", &[])
            },
            false,
        ),
    ] {
        assert_eq!(selector.matches(&own), matches, "{selector:?}");
    }
}

/// Breaks one rule of a pool.
type Break = fn(&mut PoolFacts);

/// Every rule in the order in which it is looked at, and its line. Other software matches `unmatched Node name of IPPool p`,
/// `the spec.multusName [...] in the IPPool p used by the Pod interface eth0 is not matched` and `all IP addresses used out`.
fn rules() -> [(Break, &'static str); 14] {
    [
        (|pool| pool.terminating = true, "Terminating: IPPool p is being deleted"),
        (
            |pool| pool.disabled = true,
            "Disabled: IPPool p is disabled (spec.disable)",
        ),
        (
            |pool| pool.subnet = None,
            "WrongVersion: the IP version of IPPool p is not known, since its spec is broken; its condition Ready says why",
        ),
        (
            |pool| pool.ready = false,
            "NotReady: IPPool p is not checked yet, or refused: the operator has not set its condition Ready for the present \
             spec; see `kubectl describe sp p`",
        ),
        (
            |pool| pool.node_names = vec!["worker-1".into(), "worker-2".into()],
            "AffinityRejected nodeName: unmatched Node name of IPPool p: it is for [worker-1 worker-2], and the Pod is on \
             worker-3",
        ),
        (
            |pool| pool.nodes = Some(term("rack", "In", &["8", "9"])),
            "AffinityRejected nodeAffinity: unmatched Node name of IPPool p: labels of Node worker-3 do not meet its \
             nodeAffinity rack in (8,9)",
        ),
        (
            |pool| pool.namespace_names = vec!["web".into()],
            "AffinityRejected namespaceName: unmatched Namespace of IPPool p: it is for [web], and the Pod is in retail",
        ),
        (
            |pool| pool.namespaces = Some(equals("team", "web")),
            "AffinityRejected namespaceAffinity: unmatched Namespace of IPPool p: labels of Namespace retail do not meet its \
             namespaceAffinity team=web",
        ),
        (
            |pool| pool.pods = PodRule::Labels(equals("app", "web")),
            "AffinityRejected podAffinity: unmatched Pod labels of IPPool p: they do not meet its podAffinity app=web",
        ),
        (
            |pool| pool.multus_names = vec!["kube-system/ipvlan".into(), "vlan7".into()],
            "AffinityRejected multusName: the spec.multusName [kube-system/ipvlan vlan7] in the IPPool p used by the Pod \
             interface eth0 is not matched: the network of the interface is kube-system/macvlan",
        ),
        (
            |pool| {
                pool.room = Room::None(Rejection::Exhausted {
                    used: 8,
                    total: 10,
                    held: 2,
                });
            },
            "PoolExhausted 8/10: all IP addresses used out in IPPool p: 8 of 10 in use, 2 reserved or held back",
        ),
        (
            |pool| {
                pool.room = Room::None(Rejection::Exhausted {
                    used: 0,
                    total: 0,
                    held: 0,
                });
            },
            "PoolExhausted 0/0: all IP addresses used out in IPPool p: it has none, since its ips without its excludeIPs leave \
             none",
        ),
        (
            |pool| pool.room = Room::None(Rejection::RecordLimit { records: 7411 }),
            "RecordLimit 7411: IPPool p counts as full: with 7411 records its object is as large as the API server takes; make \
             another pool",
        ),
        (
            |pool| pool.room = Room::None(Rejection::Broken("the records of IPPool p are broken".into())),
            "Broken: the records of IPPool p are broken",
        ),
    ]
}

#[test]
fn each_rule_rejects_with_its_text_and_the_first_one_counts() {
    assert_eq!(check(&pool(), Family::V4, &pod()), Ok(()));
    let wrong = check(&pool(), Family::V6, &pod()).unwrap_err();
    assert_eq!(
        wrong.line("p"),
        "WrongVersion: IPPool p holds IPv4 addresses, not IPv6 ones"
    );
    for (break_one, text) in rules() {
        let mut pool = pool();
        break_one(&mut pool);
        assert_eq!(check(&pool, Family::V4, &pod()).unwrap_err().line("p"), text);
    }
    let mut broken = pool();
    // A pool has one reason to have no room.
    for (break_one, text) in rules().into_iter().take(11).rev() {
        break_one(&mut broken);
        assert_eq!(check(&broken, Family::V4, &pod()).unwrap_err().line("p"), text);
        // Names come before labels, so that those are looked at only where there are none.
        if text.contains("Name:") {
            (broken.node_names, broken.namespace_names) = (Vec::new(), Vec::new());
        }
    }
}

#[test]
fn names_of_nodes_and_namespaces_come_before_their_labels() {
    let term = |pool: &PoolFacts| match check(pool, Family::V4, &pod()) {
        Err(Rejection::Affinity(term)) => Some(term.word()),
        _ => None,
    };
    let mut pool = pool();
    pool.nodes = Some(equals("rack", "8"));
    assert_eq!(term(&pool), Some("nodeAffinity"));
    pool.node_names = vec!["worker-1".into(), "worker-3".into()];
    pool.namespaces = Some(equals("team", "web"));
    pool.namespace_names = vec!["retail".into()];
    assert_eq!(term(&pool), None);
    pool.namespace_names = vec!["web".into()];
    assert_eq!(term(&pool), Some("namespaceName"));
}

#[test]
fn an_automatic_pool_serves_its_application_on_any_network_unless_it_was_refused() {
    let mut pool = pool();
    pool.multus_names = vec!["other".into()];
    pool.ready = false;
    pool.pods = PodRule::Application(pod().application);
    assert_eq!(check(&pool, Family::V4, &pod()), Ok(()));
    pool.refused = Some("spec.gateway: wrong".into());
    let refused = check(&pool, Family::V4, &pod()).unwrap_err();
    assert_eq!(refused, Rejection::Refused("spec.gateway: wrong".into()));
    pool.refused = None;
    pool.pods = PodRule::Application("apps/ReplicaSet/retail/shop".into());
    assert_eq!(
        check(&pool, Family::V4, &pod()).unwrap_err().line("p"),
        "AffinityRejected podAffinity: IPPool p belongs to application apps/ReplicaSet/retail/shop"
    );
    pool.node_names = vec!["worker-1".into()];
    assert_eq!(
        check(&pool, Family::V4, &pod()).unwrap_err().head(),
        "AffinityRejected nodeName"
    );
}

#[test]
fn networks_are_named_with_or_without_their_namespace() {
    let mut pool = pool();
    let mut pod = pod();
    for (name, fits) in [
        ("kube-system/macvlan", true),
        ("macvlan", true),
        ("retail/macvlan", false),
    ] {
        pool.multus_names = vec!["other".into(), name.into()];
        assert_eq!(check(&pool, Family::V4, &pod).is_ok(), fits, "{name}");
    }
    pod.network = None;
    pool.multus_names = vec!["macvlan".into()];
    let text = check(&pool, Family::V4, &pod).unwrap_err().line("p");
    assert!(text.ends_with("the network of the interface is not known"), "{text}");
    // A pool for any network does not need to know it.
    pool.multus_names = Vec::new();
    assert_eq!(check(&pool, Family::V4, &pod), Ok(()));
}

#[test]
fn the_masters_subnet_decides_where_it_is_asked_for() {
    let mut pool = pool();
    let line = |pool: &PoolFacts, master: Master| {
        let pod = PodFacts { master, ..pod() };
        check(pool, Family::V4, &pod).err().map(|rejection| rejection.line("p"))
    };
    let addresses = |texts: &[&str]| Master::Has(texts.iter().map(|text| text.parse().unwrap()).collect());
    assert_eq!(line(&pool, addresses(&["fd00::5", "10.77.15.9"])), None);
    assert_eq!(
        line(&pool, addresses(&["fd00::5", "10.78.0.9"])).unwrap(),
        "AffinityRejected match_master_subnet: no address of the master [fd00::5 10.78.0.9] is in the subnet of IPPool p"
    );
    assert_eq!(
        line(&pool, Master::Unknown).unwrap(),
        "AffinityRejected match_master_subnet: the subnet of IPPool p cannot be compared with the master's: the addresses of the \
         master are not known"
    );
    pool.multus_names = vec!["macvlan".into()];
    assert_eq!(line(&pool, Master::Unknown), None);
}

#[test]
fn pools_for_few_pods_are_tried_first_and_the_list_decides_between_equals() {
    let named = |name: &str, change: Break| {
        let mut pool = PoolFacts {
            name: name.into(),
            ..pool()
        };
        change(&mut pool);
        pool
    };
    let pools = [
        named("any-2", |_| {}),
        named("any-1", |_| {}),
        named("network", |pool| pool.multus_names = vec!["m".into()]),
        named("node", |pool| pool.node_names = vec!["n".into()]),
        named("pod", |pool| pool.pods = PodRule::Labels(Selector::default())),
        named("pod-and-node", |pool| {
            pool.pods = PodRule::Labels(Selector::default());
            pool.nodes = Some(Selector::default());
        }),
    ];
    let mut ordered: Vec<&PoolFacts> = pools.iter().collect();
    order(&mut ordered);
    let names: Vec<&str> = ordered.iter().map(|pool| pool.name.as_str()).collect();
    assert_eq!(names, ["pod-and-node", "pod", "node", "network", "any-2", "any-1"]);
}

#[test]
fn labels_that_nobody_read_meet_nothing() {
    let unread = PodFacts {
        namespace_labels: None,
        node_labels: None,
        ..pod()
    };
    let term = term("rack", "DoesNotExist", &[]);
    let (mut node, mut namespace) = (pool(), pool());
    node.nodes = Some(term.clone());
    namespace.namespaces = Some(term);
    assert_eq!(check(&pool(), Family::V4, &unread), Ok(()));
    let about = |pool: &PoolFacts| check(pool, Family::V4, &unread).unwrap_err().line("p");
    assert_eq!(
        about(&node),
        "AffinityRejected nodeAffinity: the nodeAffinity of IPPool p is new, and the labels of Node worker-3 have not been read \
         for it yet"
    );
    assert_eq!(
        about(&namespace),
        "AffinityRejected namespaceAffinity: the namespaceAffinity of IPPool p is new, and the labels of Namespace retail have \
         not been read for it yet"
    );
    let read = PodFacts {
        namespace_labels: Some(BTreeMap::new()),
        node_labels: Some(BTreeMap::new()),
        ..pod()
    };
    assert_eq!(check(&node, Family::V4, &read), Ok(()));
    assert_eq!(check(&namespace, Family::V4, &read), Ok(()));
}
