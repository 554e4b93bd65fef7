use super::*;
use crate::choose::Choice;
use crate::owner::Application;
use serde_json::{Value, json};
use spiderpool_crds::app::AppKey;
use spiderpool_ipam::candidates::{Asked, Level};
use std::collections::BTreeMap;

fn about(api_version: &str, kind: &str, status: &Value) -> String {
    let app = application(api_version, kind);
    let choice = choice();
    let object = json!({"apiVersion": spiderpool_crds::names::API_VERSION, "kind": "SpiderSubnet",
        "metadata": {"name": "lan"}, "spec": {"subnet": "10.77.0.0/20"}, "status": status});
    let subnet = serde_json::from_value(object).unwrap();
    about_subnet(&subnet, "lan", &slot(&app, &choice, Family::V4)).join("; ")
}

fn application(api_version: &str, kind: &str) -> Application {
    Application {
        key: AppKey::new(api_version, kind, "retail", "shop"),
        uid: "now".to_owned(),
    }
}

fn choice() -> Choice {
    Choice {
        asked: Asked::new(Level::Subnets, vec!["lan".to_owned()], Vec::new(), false),
        exact: BTreeMap::new(),
    }
}

fn slot<'a>(app: &'a Application, choice: &'a Choice, family: Family) -> Slot<'a> {
    Slot {
        app,
        choice,
        nic: "eth0",
        family,
    }
}

fn condition(type_: &str, status: &str, message: &str) -> Value {
    json!({"type": type_, "status": status, "reason": "R", "message": message,
        "lastTransitionTime": "2026-01-01T00:00:00Z"})
}

#[test]
fn the_first_that_is_told_is_whose_pool_is_missing_and_where_to_read_on() {
    let choice = choice();
    let app = application("apps/v1", "Deployment");
    let text = about_application(&slot(&app, &choice, Family::V6), Vec::new()).join("; ");
    for part in [
        "no matching auto-created IPPool candidate of Deployment retail/shop for NIC eth0 IPv6",
        "the operator has not made the pool",
        "`kubectl -n retail describe deployment shop`",
    ] {
        assert!(text.contains(part), "{text}");
    }
    let app = application("argoproj.io/v1alpha1", "Rollout");
    let full = vec!["all IP addresses used out in IPPool p".to_owned()];
    let text = about_application(&slot(&app, &choice, Family::V4), full).join("; ");
    assert!(text.contains("describe rollout.argoproj.io shop"), "{text}");
    assert!(
        text.contains("used out in IPPool p") && !text.contains("has not made"),
        "{text}"
    );
}

#[test]
fn conditions_of_a_subnet_are_quoted_where_they_matter() {
    let status = json!({"totalIPCount": 10, "allocatedIPCount": 7, "conditions": [
        condition(conditions::READY, "False", "two ranges overlap"),
        condition(conditions::WORKLOADS_READABLE, "False", "clonesets.apps.kruise.io: list is forbidden"),
    ]});
    let text = about("apps.kruise.io/v1alpha1", "CloneSet", &status);
    for part in [
        "SpiderSubnet lan is not ready: two ranges overlap",
        "the operator cannot read all workloads of SpiderSubnet lan: clonesets.apps.kruise.io: list is forbidden",
        "SpiderSubnet lan has 3 addresses that no pool was given",
    ] {
        assert!(text.contains(part), "{text}");
    }
    let text = about("apps/v1", "Deployment", &status);
    assert!(!text.contains("cannot read"), "{text}");
    let fine = json!({"conditions": [condition(conditions::READY, "True", "fine"),
        condition(conditions::WORKLOADS_READABLE, "True", "all"), condition(conditions::EXHAUSTED, "False", "room")]});
    assert_eq!(about("apps.kruise.io/v1alpha1", "CloneSet", &fine), "");
}

#[test]
fn a_subnet_that_cannot_serve_says_so() {
    assert!(about("apps/v1", "Deployment", &Value::Null).contains("has not looked at SpiderSubnet lan"));
    let (app, choice) = (application("apps/v1", "Deployment"), choice());
    let told = |subnet: Value, family: Family| {
        about_subnet(
            &serde_json::from_value(subnet).unwrap(),
            "lan",
            &slot(&app, &choice, family),
        )
        .join("; ")
    };
    let object = |metadata: Value, cidr: &str| {
        json!({"apiVersion": spiderpool_crds::names::API_VERSION,
        "kind": "SpiderSubnet", "metadata": metadata, "spec": {"subnet": cidr}})
    };
    let gone = json!({"name": "lan", "deletionTimestamp": "2026-01-01T00:00:00Z"});
    assert!(told(object(gone, "10.77.0.0/20"), Family::V4).contains("is being deleted"));
    let text = told(object(json!({"name": "lan"}), "10.77.0.0/20"), Family::V6);
    assert!(text.contains("holds IPv4 addresses"), "{text}");
    let text = told(object(json!({"name": "lan"}), "10.77.0.0/99"), Family::V4);
    assert!(text.contains("SpiderSubnet lan is broken"), "{text}");
}

fn missing(nic: &str, family: Family) -> Failure {
    let error = RequestError::NoPool {
        pod: "retail/shop-1".to_owned(),
        nic: nic.to_owned(),
        family: family.to_string(),
        reasons: vec![
            "asked for by a level".to_owned(),
            format!("the {family} pool of {nic} is full"),
        ],
    };
    let nic = nic.to_owned();
    Failure { nic, family, error }
}

#[test]
fn of_several_nics_and_families_the_missing_ones_are_named_with_their_reasons() {
    let told = |failures: Vec<Failure>, asked: &[(&str, Family)]| failed(failures, asked).unwrap().to_string();
    let (v4, v6) = (|nic| missing(nic, Family::V4), |nic| missing(nic, Family::V6));
    let one = [("eth0", Family::V4)];
    let dual = [("eth0", Family::V4), ("eth0", Family::V6)];
    let nics = [("eth0", Family::V4), ("net1", Family::V4), ("net1", Family::V6)];
    let alone = "NIC eth0 IPv4: asked for by a level; the IPv4 pool of eth0 is full";
    for (failures, asked, end) in [
        (
            vec![v6("eth0")],
            &dual[..],
            "NIC eth0 IPv6: only IPv6 is missing, and a pod gets the addresses of both families or none; asked for by a level; \
             the IPv6 pool of eth0 is full",
        ),
        (
            vec![v4("eth0"), v6("eth0")],
            &dual,
            "NIC eth0 IPv4: asked for by a level; the IPv4 pool of eth0 is full; IPv6 has no address either; the IPv6 pool of \
             eth0 is full",
        ),
        (vec![v4("eth0")], &one, alone),
        (
            vec![v4("net1")],
            &nics,
            "NIC net1 IPv4: only NIC net1 IPv4 is missing, and a pod gets the addresses of all NICs that its annotation lists or \
             none; asked for by a level; the IPv4 pool of net1 is full",
        ),
        (
            vec![v4("eth0"), v4("net1"), v6("net1")],
            &nics,
            "NIC eth0 IPv4: asked for by a level; the IPv4 pool of eth0 is full; NIC net1 IPv4 has no address either; the IPv4 \
             pool of net1 is full; NIC net1 IPv6 has no address either; the IPv6 pool of net1 is full",
        ),
    ] {
        let text = told(failures, asked);
        assert!(text.ends_with(end), "{text}");
    }
    let other = Failure {
        error: RequestError::Api {
            what: "write".to_owned(),
            reason: "no".to_owned(),
        },
        ..v6("eth0")
    };
    let text = told(vec![v4("eth0"), other], &dual);
    assert!(text.ends_with(alone), "{text}");
    assert!(failed(Vec::new(), &dual).is_none());
}
