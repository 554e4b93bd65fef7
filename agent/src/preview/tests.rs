use super::*;
use serde_json::{Value, json};
use spiderpool_crds::names;
use spiderpool_ipam::RangeSet;
use spiderpool_ipam::candidates::Asked;
use std::collections::BTreeMap;

fn pool(name: &str, change: impl Fn(&mut Value)) -> Arc<SpiderIPPool> {
    let mut object = json!({"apiVersion": names::API_VERSION, "kind": "SpiderIPPool",
        "metadata": {"name": name, "generation": 1}, "spec": {"subnet": "10.77.0.0/20", "ips": ["10.77.1.10-10.77.1.11"]},
        "status": {"conditions": [{"type": "Ready", "status": "True", "reason": "R", "message": "",
            "observedGeneration": 1, "lastTransitionTime": "2026-01-01T00:00:00Z"}]}});
    change(&mut object);
    Arc::new(serde_json::from_value(object).unwrap())
}

fn records(pods: &'static [(&'static str, &'static str)]) -> impl Fn(&mut Value) {
    move |object| {
        let records: BTreeMap<&str, Value> = pods
            .iter()
            .map(|(ip, pod)| {
                (
                    *ip,
                    json!({"pod": format!("retail/{pod}"), "podUid": pod, "nic": "eth0"}),
                )
            })
            .collect();
        object["status"]["allocatedIPs"] = json!(serde_json::to_string(&records).unwrap());
    }
}

const FULL: &[(&str, &str)] = &[("10.77.1.10", "a"), ("10.77.1.11", "b")];

fn explained(pools: &[Arc<SpiderIPPool>], names: &[&str], pod: &str, exact: Option<&str>) -> FamilyExplanation {
    let names = names.iter().map(|name| (*name).to_owned()).collect();
    let exact = exact.map(|text| text.parse().unwrap());
    let choice = Choice {
        asked: Asked::new(Level::IPPool, names, Vec::new(), false),
        exact: exact.map(|address| (Family::V4, address)).into_iter().collect(),
    };
    let owner = Owner {
        pod: format!("retail/{pod}"),
        uid: pod.to_owned(),
        nic: Some("eth0".to_owned()),
    };
    let has = pools.iter().find_map(|pool| held(pool.clone(), Family::V4, &owner));
    let look = Look {
        owner,
        exact,
        reserved: &RangeSet::new(),
    };
    judged(&choice, &PodFacts::default(), Family::V4, pools, &look, has)
}

fn got(family: &FamilyExplanation) -> Option<String> {
    let found = family.would_get.as_ref()?;
    Some(format!("{} of {}", found.address, found.ip_pool))
}

#[test]
fn the_first_pool_with_room_gives_its_lowest_address_and_the_others_say_why_not() {
    let pools = [
        pool("off", |object| object["spec"]["disable"] = json!(true)),
        pool("full", records(FULL)),
        pool("half", records(&FULL[..1])),
        pool("free", |_| {}),
    ];
    let family = explained(&pools, &["off", "full", "half", "free", "none"], "c", None);
    assert_eq!(got(&family).as_deref(), Some("10.77.1.11 of half"));
    assert_eq!(family.has, None);
    assert_eq!(family.asked, ["off", "full", "half", "free", "none"]);
    let told: Vec<(&str, &str, &str)> = family
        .pools
        .iter()
        .map(|pool| (pool.name.as_str(), pool.verdict.as_str(), pool.reason.as_str()))
        .collect();
    assert_eq!(
        told,
        [
            ("half", "Chosen", ""),
            ("free", "Chosen", ""),
            ("off", "Disabled", "Disabled: IPPool off is disabled (spec.disable)"),
            (
                "full",
                "PoolExhausted",
                "PoolExhausted 2/2: all IP addresses used out in IPPool full: 2 of 2 in use"
            ),
            ("none", "NotFound", "NotFound: IPPool none does not exist"),
        ]
    );
}

#[test]
fn what_the_nic_has_it_would_get_again_from_whatever_pool() {
    let pools = [pool("free", |_| {}), pool("full", records(FULL))];
    let family = explained(&pools, &["free"], "b", None);
    assert_eq!(got(&family).as_deref(), Some("10.77.1.11 of full"));
    assert_eq!(family.has, family.would_get);
}

#[test]
fn an_exact_address_comes_from_the_pool_that_has_it_or_is_refused_with_its_holder() {
    let elsewhere = pool("other", |object| object["spec"]["ips"] = json!(["10.77.2.1"]));
    let pools = [elsewhere, pool("half", records(&FULL[..1]))];
    let family = explained(&pools, &["other", "half"], "c", Some("10.77.1.11"));
    assert_eq!(got(&family).as_deref(), Some("10.77.1.11 of half"));
    let family = explained(&pools, &["other", "half"], "c", Some("10.77.1.10"));
    assert_eq!((got(&family), family.exact.as_str()), (None, "10.77.1.10"));
    let reasons: Vec<&str> = family.pools.iter().map(|pool| pool.reason.as_str()).collect();
    assert_eq!(
        reasons,
        [
            "AddressOutside: 10.77.1.10 is none of the addresses of IPPool other",
            "AddressTaken: 10.77.1.10 of IPPool half is in use by Pod retail/a",
        ]
    );
}

#[test]
fn addresses_that_are_held_are_told_and_an_exact_one_among_them_is_refused_with_the_host() {
    let held = json!({
        "10.77.1.10": {"reason": "Quarantined", "until": "2126-01-01T00:00:00Z", "by": "02:09"},
        "10.77.1.11": {"reason": "Cooling", "until": "2126-01-01T00:00:00Z", "by": "retail/a"},
    });
    let pools = [pool("p", |object| {
        object["status"]["heldIPs"] = json!(held.to_string())
    })];
    let family = explained(&pools, &["p"], "c", None);
    assert_eq!(got(&family).as_deref(), Some("10.77.1.11 of p"));
    let quarantined =
        "10.77.1.10 of IPPool p is in quarantine until 2126-01-01T00:00:00Z, because 02:09 answers for it";
    assert_eq!(
        family.notes,
        [
            quarantined,
            "10.77.1.11 of IPPool p is given out last until 2126-01-01T00:00:00Z, because retail/a had it or answers for it",
        ]
    );
    let family = explained(&pools, &["p"], "c", Some("10.77.1.10"));
    assert_eq!(got(&family), None);
    assert_eq!(family.pools[0].reason, format!("AddressHeld: {quarantined}"));
    let family = explained(&pools, &["p"], "c", Some("10.77.1.11"));
    assert_eq!(got(&family).as_deref(), Some("10.77.1.11 of p"));
}
