//! What passes over several subnets come to together.

use std::collections::BTreeMap;

use serde_json::json;
use spiderpool_crds::annotations::IpNumber;
use spiderpool_crds::app::AppKey;
use spiderpool_ipam::Family;
use spiderpool_ipam::autopool::Verdict;

use super::apply::Done;
use super::placement::Room;
use super::*;
use crate::application::{Application, Asked, Request, Slot};
use crate::events::Reason;

mod neighbours;

fn app(name: &str, size: u128, subnets: &[&str]) -> Application {
    let slot = Slot {
        nic: "eth0".to_owned(),
        family: Family::V4,
        subnets: subnets.iter().map(|name| (*name).to_owned()).collect(),
    };
    Application {
        key: AppKey::new("apps/v1", "Deployment", "ns", name),
        uid: name.to_owned(),
        since: None,
        terminating: false,
        asked: Asked::Pools(Request {
            number: IpNumber::Fixed(1),
            size,
            beyond_limit: None,
            stuck: None,
            reclaim: true,
            slots: vec![slot],
        }),
    }
}

fn subnet(context: &Context, name: &str, network: &str, ips: &str, version: u32) {
    let subnet = json!({
        "apiVersion": "spiderpool.spidernet.io/v2beta1", "kind": "SpiderSubnet",
        "metadata": {"name": name, "uid": name, "resourceVersion": (version * 100).to_string()},
        "spec": {"subnet": network, "ips": [ips]},
    });
    context.caches.subnets.learn(serde_json::from_value(subnet).unwrap());
}

fn pool(context: &Context, name: &str, network: &str, ips: &str) {
    let pool = json!({
        "apiVersion": "spiderpool.spidernet.io/v2beta1", "kind": "SpiderIPPool",
        "metadata": {"name": name, "uid": name, "resourceVersion": "1"}, "spec": {"subnet": network, "ips": [ips]},
    });
    context.caches.pools.learn(serde_json::from_value(pool).unwrap());
}

/// A pass that writes nothing but the accounting: what it would do, by application.
fn dry_pass(context: &Context, name: &str) -> BTreeMap<String, Verdict> {
    let found = context.caches.subnets.get("", name);
    let Some((subnet, cidr)) = found.and_then(|subnet| Some((subnet.clone(), subnet.cidr().ok()?))) else {
        tell::unusable_subnet(context, name);
        return BTreeMap::new();
    };
    let seen = observe::look(context, subnet, cidr);
    let plan = autopool::plan(&seen.facts);
    let mut controlled = seen.controlled.clone();
    controlled.set_entries(cidr.family(), &plan.entries);
    let mut recorded = SpiderSubnet::clone(&seen.subnet);
    recorded.status.get_or_insert_default().controlled_ippools = controlled.to_status();
    let version = recorded
        .metadata
        .resource_version
        .and_then(|version| version.parse::<u32>().ok());
    recorded.metadata.resource_version = version.map(|version| (version + 1).to_string());
    context.caches.subnets.learn(recorded);
    tell::outcome(context, &seen, &plan, &Done::default());
    elsewhere::look(context, &seen, &plan);
    let wants = seen.facts.wants.iter();
    wants
        .map(|want| (want.application.clone(), plan.verdicts[&want.pool].clone()))
        .collect()
}

/// What a pass over a subnet found for an application.
type Found = (String, String, Verdict);

/// Passes until nothing is to be looked at: their subnets, and what they found, in turn.
async fn settle(context: &Context) -> (Vec<String>, Vec<Found>) {
    let (mut passes, mut all) = (Vec::new(), Vec::new());
    while context.queues.subnets.depth() > 0 {
        let name = context.queues.subnets.next().await;
        let found = dry_pass(context, &name).into_iter();
        all.extend(found.map(|(app, verdict)| (name.clone(), app, verdict)));
        context.queues.subnets.finish(&name);
        passes.push(name);
        assert!(passes.len() < 20, "they wake each other: {passes:?}");
    }
    (passes, all)
}

fn look(context: &Context, subnets: &[&str]) {
    for subnet in subnets {
        context.queues.subnets.add((*subnet).to_owned());
    }
}

/// What came of the small one at last.
fn of_small(found: Vec<Found>) -> Option<(String, Verdict)> {
    let mut small = found.into_iter().filter(|(_, app, _)| app.ends_with("small"));
    small.next_back().map(|(subnet, _, verdict)| (subnet, verdict))
}

#[tokio::test(start_paused = true)]
async fn who_waits_behind_others_in_every_subnet_waits_in_one_until_another_has_more() {
    let context = Context::detached();
    subnet(&context, "a", "10.0.0.0/24", "10.0.0.1-10.0.0.3", 1);
    subnet(&context, "b", "10.0.1.0/24", "10.0.1.1-10.0.1.3", 1);
    // What is free is kept for the large ones only if they have hope: the addresses exist, but are not free.
    for (name, network) in [("a", "10.0.0"), ("b", "10.0.1")] {
        subnet(
            &context,
            name,
            &format!("{network}.0/24"),
            &format!("{network}.1-{network}.20"),
            2,
        );
        pool(
            &context,
            name,
            &format!("{network}.0/24"),
            &format!("{network}.4-{network}.20"),
        );
    }
    for large in ["a", "b"] {
        context.applications.put(app(&format!("large-{large}"), 10, &[large]));
    }
    look(&context, &["a", "b"]);
    settle(&context).await;
    context.applications.put(app("small", 2, &["a", "b"]));
    look(&context, &["a", "b"]);
    let small = of_small(settle(&context).await.1);
    let Some((waits_in, Verdict::Blocked(autopool::Blocked::Behind { .. }))) = small else {
        panic!("{small:?}");
    };
    look(&context, &["a", "b"]);
    assert_eq!(settle(&context).await.0.len(), 2);

    let (other, network) = if waits_in == "a" {
        ("b", "10.0.1")
    } else {
        ("a", "10.0.0")
    };
    subnet(
        &context,
        other,
        &format!("{network}.0/24"),
        &format!("{network}.1-{network}.40"),
        3,
    );
    look(&context, &[other]);
    let small = of_small(settle(&context).await.1);
    let Some((served_in, Verdict::Create(_))) = small else {
        panic!("{small:?}");
    };
    assert_eq!(served_in, other);
}

#[tokio::test]
async fn addresses_of_overlapping_networks_are_no_room() {
    let context = Context::detached();
    subnet(&context, "a", "10.0.0.0/24", "10.0.0.1-10.0.0.3", 1);
    subnet(&context, "b", "10.0.1.0/24", "10.0.1.1-10.0.1.3", 1);
    pool(&context, "wide", "10.0.0.0/16", "10.0.0.2-10.0.0.3");
    let small = app("small", 2, &["a", "b"]);
    let Asked::Pools(Request { slots, .. }) = &small.asked else {
        panic!()
    };
    let room = |name: &str| room::room(&context, name, &small.key, &slots[0], 2, "p");
    assert_eq!((room("a"), room("b")), (Room::Short, Room::Enough));
}

#[tokio::test]
async fn who_names_nothing_but_unusable_subnets_is_told() {
    let waiting = |context: &Context, reason: Reason| context.waiting.count().get(&reason.word()).copied();
    let context = Context::detached();
    context.applications.put(app("shop", 2, &["rak7", "rak8"]));
    look(&context, &["rak8"]);
    assert_eq!(settle(&context).await.0, ["rak8"]);
    assert_eq!(waiting(&context, Reason::SubnetNotFound), Some(1));

    let context = Context::detached();
    subnet(&context, "broken", "oops", "10.0.0.1", 1);
    subnet(&context, "full", "10.0.1.0/24", "10.0.1.1", 1);
    context.applications.put(app("shop", 2, &["broken", "full"]));
    look(&context, &["full"]);
    assert_eq!(settle(&context).await.0, ["full"]);
    assert_eq!(waiting(&context, Reason::SubnetInvalid), Some(1));
    // One that has room is woken, once.
    subnet(&context, "full", "10.0.1.0/24", "10.0.1.1-10.0.1.2", 2);
    for passes in [&["broken", "full"][..], &["broken"]] {
        look(&context, &["broken"]);
        assert_eq!(settle(&context).await.0, passes);
    }
}

/// A subnet whose gateway is among its addresses, or is not.
fn subnet_with_gateway(context: &Context, gateway: Option<&str>, version: u32) {
    let subnet = json!({
        "apiVersion": "spiderpool.spidernet.io/v2beta1", "kind": "SpiderSubnet",
        "metadata": {"name": "a", "uid": "a", "resourceVersion": (version * 100).to_string()},
        "spec": {"subnet": "10.0.0.0/24", "ips": ["10.0.0.1-10.0.0.3"], "gateway": gateway},
    });
    context.caches.subnets.learn(serde_json::from_value(subnet).unwrap());
}

#[tokio::test]
async fn a_subnet_that_must_not_be_used_gives_nothing_until_it_is_mended() {
    let context = Context::detached();
    subnet_with_gateway(&context, Some("10.0.0.1"), 1);
    context.applications.put(app("small", 2, &["a"]));
    look(&context, &["a"]);
    assert_eq!(of_small(settle(&context).await.1), None);
    let waiting = context.waiting.count();
    assert_eq!(waiting.get(&Reason::SubnetInvalid.word()), Some(&1));
    // Another one is full at first, so that the application comes back to the first.
    subnet(&context, "b", "10.0.1.0/24", "10.0.1.1", 1);
    context.applications.put(app("small", 2, &["a", "b"]));
    look(&context, &["a", "b"]);
    assert_eq!(of_small(settle(&context).await.1), None);
    subnet_with_gateway(&context, Some("10.0.0.254"), 2);
    look(&context, &["a"]);
    let (subnet, verdict) = of_small(settle(&context).await.1).unwrap();
    assert!(subnet == "a" && matches!(verdict, Verdict::Create(_)), "{verdict:?}");
}

#[tokio::test]
async fn an_application_with_alternatives_leaves_a_subnet_that_must_not_be_used() {
    let context = Context::detached();
    subnet_with_gateway(&context, None, 1);
    subnet(&context, "b", "10.0.1.0/24", "10.0.1.1-10.0.1.3", 1);
    context.applications.put(app("small", 2, &["a", "b"]));
    look(&context, &["b"]);
    // It was placed, and before its pool was made the subnet was edited.
    let name = context.queues.subnets.next().await;
    dry_pass(&context, &name);
    context.queues.subnets.finish(&name);
    subnet_with_gateway(&context, Some("10.0.0.1"), 2);
    let (subnet, verdict) = of_small(settle(&context).await.1).unwrap();
    assert!(subnet == "b" && matches!(verdict, Verdict::Create(_)), "{verdict:?}");
}

#[tokio::test]
async fn a_place_in_a_subnet_that_is_gone_is_given_away() {
    let context = Context::detached();
    subnet(&context, "a", "10.0.0.0/24", "10.0.0.1-10.0.0.3", 1);
    context.applications.put(app("small", 2, &["a", "b"]));
    look(&context, &["a"]);
    settle(&context).await;
    let gone = context.caches.subnets.get("", "a").unwrap();
    context.caches.subnets.forget(&gone);
    subnet(&context, "b", "10.0.1.0/24", "10.0.1.1-10.0.1.3", 1);
    look(&context, &["a"]);
    let (passes, verdicts) = settle(&context).await;
    assert_eq!(passes, ["a", "b"]);
    assert!(matches!(of_small(verdicts), Some((_, Verdict::Create(_)))));
}
