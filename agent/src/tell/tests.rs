//! The texts that users read, whole, of the most common ways to fail.

use super::*;
use crate::choose::origin;
use serde_json::json;
use spiderpool_crds::annotations;
use spiderpool_ipam::Family;
use spiderpool_ipam::candidates::{Asked, Level, PodFacts, PodRule, PoolFacts, Rejection, Room, Selector, verdicts};
use spiderpool_ipam::{Cidr, TextError};

fn pool(name: &str) -> Result<PoolFacts, TextError> {
    Ok(PoolFacts {
        name: name.to_owned(),
        subnet: Some(Cidr::parse("10.77.0.0/20")?),
        ready: true,
        ..PoolFacts::default()
    })
}

fn no_pool(reasons: Vec<String>) -> RequestError {
    RequestError::NoPool {
        pod: "retail/shop-1".to_owned(),
        nic: "eth0".to_owned(),
        family: "IPv4".to_owned(),
        reasons,
    }
}

/// The Event of a pod that asks for pool `a` where there is only this one.
fn told(change: impl Fn(&mut PoolFacts)) -> String {
    let mut pool = pool("a").unwrap();
    change(&mut pool);
    let asked = Asked::new(Level::IPPool, vec!["a".to_owned()], Vec::new(), false);
    let pod = PodFacts {
        nic: "eth0".to_owned(),
        namespace: "retail".to_owned(),
        namespace_labels: Some([].into()),
        node: "n1".to_owned(),
        node_labels: Some([].into()),
        ..PodFacts::default()
    };
    let found = verdicts(&asked, Family::V4, &pod, &[pool]);
    assert_eq!(found.chosen, Vec::<String>::new());
    let origin = format!("asked for by {}", origin(asked.level));
    let rejected = found.rejected.iter().map(|verdict| verdict.line());
    note(&no_pool([origin].into_iter().chain(rejected).collect())).unwrap()
}

const START: &str = "spiderpool IP allocation error: no IPPool available for Pod retail/shop-1 NIC eth0 IPv4:\n\
    asked for by annotation ipam.spidernet.io/ippool of the Pod\n";

#[test]
fn each_way_in_which_a_pool_does_not_serve_is_a_line() {
    let team = || Selector {
        labels: [("team".to_owned(), "web".to_owned())].into(),
        ..Selector::default()
    };
    type Change<'a> = &'a dyn Fn(&mut PoolFacts);
    let cases: [(Change<'_>, &str); 12] = [
        (
            &|pool| {
                pool.room = Room::None(Rejection::Exhausted {
                    used: 10,
                    total: 10,
                    held: 0,
                });
            },
            "PoolExhausted 10/10: all IP addresses used out in IPPool a: 10 of 10 in use",
        ),
        (&|pool| pool.name = "b".to_owned(), "NotFound: IPPool a does not exist"),
        (
            &|pool| pool.disabled = true,
            "Disabled: IPPool a is disabled (spec.disable)",
        ),
        (
            &|pool| pool.terminating = true,
            "Terminating: IPPool a is being deleted",
        ),
        (
            &|pool| pool.subnet = Cidr::parse("fd77::/64").ok(),
            "WrongVersion: IPPool a holds IPv6 addresses, not IPv4 ones",
        ),
        (
            &|pool| pool.ready = false,
            "NotReady: IPPool a is not checked yet, or refused: the operator has not set its condition Ready for the present \
             spec; see `kubectl describe sp a`",
        ),
        (
            &|pool| {
                pool.ready = false;
                pool.refused = Some("some are in SpiderIPPool b".to_owned());
            },
            "NotReady: IPPool a is not ready: some are in SpiderIPPool b",
        ),
        (
            &|pool| pool.node_names = vec!["n2".to_owned()],
            "AffinityRejected nodeName: unmatched Node name of IPPool a: it is for [n2], and the Pod is on n1",
        ),
        (
            &|pool| pool.namespaces = Some(team()),
            "AffinityRejected namespaceAffinity: unmatched Namespace of IPPool a: labels of Namespace retail do not meet its \
             namespaceAffinity team=web",
        ),
        (
            &|pool| pool.pods = PodRule::Labels(team()),
            "AffinityRejected podAffinity: unmatched Pod labels of IPPool a: they do not meet its podAffinity team=web",
        ),
        (
            &|pool| pool.multus_names = vec!["macvlan".to_owned()],
            "AffinityRejected multusName: the spec.multusName [macvlan] in the IPPool a used by the Pod interface eth0 is not \
             matched: the network of the interface is not known",
        ),
        (
            &|pool| {
                pool.room = Room::None(Rejection::AddressTaken {
                    address: "10.77.1.33".parse().unwrap(),
                    holder: "retail/other".to_owned(),
                });
            },
            "AddressTaken: 10.77.1.33 of IPPool a is in use by Pod retail/other",
        ),
    ];
    for (change, line) in cases {
        assert_eq!(told(change), format!("{START}{line}"));
    }
}

#[test]
fn what_is_wrong_with_the_pod_itself_is_one_line() {
    let pod = "retail/shop-1".to_owned();
    let annotations = [("ipam.spidernet.io/ippool".to_owned(), "pool-a".to_owned())].into();
    let source = annotations::ippool(&annotations).unwrap_err();
    let wrong = RequestError::Annotation {
        pod: pod.clone(),
        source,
    };
    assert_eq!(
        note(&wrong).unwrap(),
        "spiderpool IP allocation error: Pod retail/shop-1: annotation ipam.spidernet.io/ippool: the value is not JSON: \
         expected value at line 1 column 1; found \"pool-a\", write for example {\"ipv4\":[\"pool-a\"],\"ipv6\":[\"pool-b\"]}"
    );
    let api = RequestError::Api {
        what: "read ReplicaSet retail/shop".to_owned(),
        reason: "the API server did not answer in time".to_owned(),
    };
    assert_eq!(
        note(&api).unwrap(),
        "spiderpool IP allocation error: cannot read ReplicaSet retail/shop: the API server did not answer in time"
    );
}

#[test]
fn nobody_is_told_what_is_about_no_pod() {
    let (pod, uid) = (|| "retail/shop-1".to_owned(), || "u".to_owned());
    let silent = [
        RequestError::UnknownPod {
            pod: pod(),
            uid: uid(),
            seen: "nothing".to_owned(),
        },
        RequestError::DeadPod { pod: pod(), uid: uid() },
        RequestError::NotReady {
            node: "n1".to_owned(),
            missing: "the IPPools".to_owned(),
        },
    ];
    for error in &silent {
        assert_eq!(note(error), None, "{error}");
    }
}

#[test]
fn of_many_pools_as_many_are_told_as_fit_and_the_others_counted() {
    let lines = |count: usize| -> Vec<String> {
        let line = |n| Rejection::Disabled.line(&format!("rack-{n:03}-v4"));
        (0..count).map(line).collect()
    };
    let text = note(&no_pool(lines(300))).unwrap();
    assert!(text.len() <= LONGEST, "{}", text.len());
    let told = text.lines().count() - 2;
    assert!(text.ends_with(&format!("\nand {} more", 300 - told)), "{text}");
    assert!(told > 10, "{text}");
    let few = note(&no_pool(lines(3))).unwrap();
    assert_eq!(few.lines().count(), 4);
}

#[test]
fn an_event_is_about_the_pod_of_the_request() {
    let pod: Pod = serde_json::from_value(json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "shop-1", "namespace": "retail", "uid": "u"}}))
    .unwrap();
    let about = pod.object_ref(&());
    let told = [about.kind, about.namespace, about.name, about.uid].map(Option::unwrap);
    assert_eq!(told, ["Pod", "retail", "shop-1", "u"]);
}
