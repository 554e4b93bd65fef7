//! Which pools may serve a pod, and whether a recorded address may be freed.

use spiderpool_ipam::Family;
use spiderpool_ipam::candidates::{Expression, PodFacts, PodRule, PoolFacts, Rejection, Selector, check, order};
use spiderpool_ipam::reclaim::{Decision, EndpointSeen, PodSeen, decide};
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
        family: Some(Family::V4),
        terminating: false,
        disabled: false,
        pods: PodRule::Any,
        node_names: Vec::new(),
        nodes: None,
        namespace_names: Vec::new(),
        namespaces: None,
        multus_names: Vec::new(),
    }
}

fn pod() -> PodFacts {
    PodFacts {
        application: "apps/Deployment/retail/shop".into(),
        namespace: "retail".into(),
        namespace_labels: labels(&[("team", "sales")]),
        labels: labels(&[("app", "shop")]),
        node: "worker-3".into(),
        node_labels: labels(&[("rack", "7")]),
        network: Some("kube-system/macvlan".into()),
        default_network_namespace: "kube-system".into(),
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

/// Every rule in the order in which it is looked at.
fn rules() -> [(Break, Rejection, &'static str); 7] {
    [
        (
            |pool| pool.terminating = true,
            Rejection::Terminating,
            "IPPool p is being deleted",
        ),
        (|pool| pool.disabled = true, Rejection::Disabled, "IPPool p is disabled"),
        (
            |pool| pool.family = None,
            Rejection::Family,
            "IPPool p does not hold addresses of this family",
        ),
        (
            |pool| pool.node_names = vec!["worker-1".into()],
            Rejection::Node,
            "unmatched Node name of IPPool p",
        ),
        (
            |pool| pool.namespaces = Some(equals("team", "web")),
            Rejection::Namespace,
            "unmatched Namespace of IPPool p",
        ),
        (
            |pool| pool.pods = PodRule::Labels(equals("app", "web")),
            Rejection::Pod,
            "unmatched Pod labels of IPPool p",
        ),
        (
            |pool| pool.multus_names = vec!["kube-system/ipvlan".into(), "vlan7".into()],
            Rejection::Multus(vec!["kube-system/ipvlan".into(), "vlan7".into()]),
            "the spec.multusName [kube-system/ipvlan vlan7] in the IPPool p used by the Pod interface eth0 is not matched",
        ),
    ]
}

#[test]
fn each_rule_rejects_with_its_text_and_the_first_one_counts() {
    assert_eq!(check(&pool(), Family::V4, &pod()), Ok(()));
    assert_eq!(check(&pool(), Family::V6, &pod()), Err(Rejection::Family));
    for (break_one, rejection, text) in rules() {
        let mut pool = pool();
        break_one(&mut pool);
        assert_eq!(check(&pool, Family::V4, &pod()), Err(rejection.clone()));
        assert_eq!(rejection.about_nic("p", "eth0").to_string(), text);
        assert_eq!(
            rejection.about("p").to_string(),
            text.replace("interface eth0 ", "interface ")
        );
    }
    let mut broken = pool();
    for (break_one, rejection, _) in rules().into_iter().rev() {
        break_one(&mut broken);
        assert_eq!(check(&broken, Family::V4, &pod()), Err(rejection));
    }
}

#[test]
fn names_of_nodes_and_namespaces_come_before_their_labels() {
    let mut pool = pool();
    pool.nodes = Some(equals("rack", "8"));
    assert_eq!(check(&pool, Family::V4, &pod()), Err(Rejection::Node));
    pool.node_names = vec!["worker-1".into(), "worker-3".into()];
    pool.namespaces = Some(equals("team", "web"));
    pool.namespace_names = vec!["retail".into()];
    assert_eq!(check(&pool, Family::V4, &pod()), Ok(()));
    pool.namespace_names = vec!["web".into()];
    assert_eq!(check(&pool, Family::V4, &pod()), Err(Rejection::Namespace));
}

#[test]
fn an_automatic_pool_serves_its_application_on_any_network() {
    let mut pool = pool();
    pool.multus_names = vec!["other".into()];
    pool.pods = PodRule::Application(pod().application);
    assert_eq!(check(&pool, Family::V4, &pod()), Ok(()));
    pool.pods = PodRule::Application("apps/ReplicaSet/retail/shop".into());
    let rejection = check(&pool, Family::V4, &pod()).unwrap_err();
    assert_eq!(
        rejection.about("p").to_string(),
        "IPPool p belongs to application apps/ReplicaSet/retail/shop"
    );
    pool.node_names = vec!["worker-1".into()];
    assert_eq!(check(&pool, Family::V4, &pod()), Err(Rejection::Node));
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
    assert!(check(&pool, Family::V4, &pod).is_err());
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
    let mut pools = [
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
    order(&mut pools);
    let names: Vec<&str> = pools.iter().map(|pool| pool.name.as_str()).collect();
    assert_eq!(names, ["pod-and-node", "pod", "node", "network", "any-2", "any-1"]);
}

#[test]
fn an_address_goes_only_after_two_looks_that_found_nobody() {
    for pod in [PodSeen::Alive, PodSeen::Finished, PodSeen::Gone] {
        for endpoint in [EndpointSeen::NamesPod, EndpointSeen::Absent] {
            let nobody = (pod, endpoint) == (PodSeen::Gone, EndpointSeen::Absent);
            let first = if nobody { Decision::LookAgain } else { Decision::Keep };
            let second = if nobody { Decision::Free } else { Decision::Keep };
            assert_eq!(decide(pod, endpoint, false), first);
            assert_eq!(decide(pod, endpoint, true), second);
        }
    }
}
