//! Each rule of admission, with what it lets pass and what it refuses.
#![allow(clippy::unwrap_used, reason = "helpers of tests may fail the test")]

mod alone;
mod beside;
mod life;
mod usable;

use serde_json::{Value, json};
use spiderpool_crds::admission::{
    Outcome, PoolWorld, Rule, Settings, SubnetWorld, pool, pool_deletion, reserved, reserved_fault, subnet,
    subnet_deletion, usable_pool, usable_subnet,
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
