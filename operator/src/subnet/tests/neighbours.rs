//! Subnets that share addresses.

use serde_json::{Value, json};
use spiderpool_crds::SpiderIPPool;
use spiderpool_ipam::RangeSet;

use super::*;
use crate::testing::Cluster;

const SUBNETS: &str = "/apis/spiderpool.spidernet.io/v2beta1/spidersubnets";
const POOLS: &str = "/apis/spiderpool.spidernet.io/v2beta1/spiderippools";
/// Both have 10.0.1.1 to 10.0.1.9.
const PAIRS: [(&str, &str); 3] = [
    ("10.0.0.0/16", "10.0.1.0/24"),
    ("10.0.1.0/24", "10.0.0.0/16"),
    ("10.0.1.0/24", "10.0.1.0/24"),
];

/// Makes a subnet. What the API server has of it.
fn make(cluster: &Cluster, context: &Context, name: &str, network: &str) -> Value {
    let subnet = json!({
        "apiVersion": "spiderpool.spidernet.io/v2beta1", "kind": "SpiderSubnet",
        "metadata": {"name": name, "uid": name},
        "spec": {"subnet": network, "ips": ["10.0.1.1-10.0.1.9"]},
    });
    let subnet = cluster.put(&format!("{SUBNETS}/{name}"), subnet);
    context
        .caches
        .subnets
        .learn(serde_json::from_value(subnet.clone()).unwrap());
    subnet
}

/// The addresses of every pool there is.
fn given(cluster: &Cluster) -> Vec<RangeSet> {
    let pools = cluster.list(POOLS).into_iter();
    pools
        .map(|pool| serde_json::from_value::<SpiderIPPool>(pool).unwrap().total().unwrap())
        .collect()
}

fn assert_distinct(pools: &[RangeSet], why: &str) {
    let all: RangeSet = pools.iter().flat_map(|pool| pool.ranges().to_vec()).collect();
    let sum: u128 = pools.iter().map(RangeSet::count).sum();
    assert_eq!(all.count(), sum, "{why}: an address is in two of {pools:?}");
}

#[tokio::test]
async fn passes_at_one_moment_give_no_address_twice() {
    for (first, second) in PAIRS {
        let cluster = Cluster::default();
        let context = Context::of(cluster.client());
        for (name, network) in [("a", first), ("b", second)] {
            make(&cluster, &context, name, network);
            context.applications.put(app(&format!("shop-{name}"), 4, &[name]));
        }
        for _ in 0..3 {
            tokio::join!(reconcile(&context, "a"), reconcile(&context, "b"));
            assert_distinct(&given(&cluster), first);
        }
        assert_eq!(given(&cluster).len(), 2, "{first}");
    }
}

#[tokio::test]
async fn what_was_given_by_who_led_before_is_not_given_again() {
    for (first, second) in PAIRS {
        let cluster = Cluster::default();
        let former = Context::of(cluster.client());
        let context = Context::of(cluster.client());
        make(&cluster, &former, "b", second);
        former.applications.put(app("shop-b", 4, &["b"]));
        // The watch of the new leader has not told of what the former one does from here on.
        let old = cluster.get(&format!("{SUBNETS}/b")).unwrap();
        context.caches.subnets.learn(serde_json::from_value(old).unwrap());
        reconcile(&former, "b").await;
        assert_eq!(given(&cluster).len(), 1, "{first}");

        make(&cluster, &context, "a", first);
        context.applications.put(app("shop-a", 4, &["a"]));
        for _ in 0..3 {
            reconcile(&context, "a").await;
            assert_distinct(&given(&cluster), first);
        }
        assert_eq!(given(&cluster).len(), 2, "{first}");
    }
}

#[tokio::test]
async fn what_one_gives_back_is_given_by_another() {
    let cluster = Cluster::default();
    let context = Context::of(cluster.client());
    for (name, network) in [("a", "10.0.0.0/16"), ("b", "10.0.1.0/24")] {
        make(&cluster, &context, name, network);
        context.applications.put(app(&format!("shop-{name}"), 6, &[name]));
    }
    reconcile(&context, "a").await;
    reconcile(&context, "b").await;
    assert_eq!(given(&cluster).len(), 1);
    context.applications.put(app("shop-a", 3, &["a"]));
    // The pool gets smaller, and then the accounting.
    reconcile(&context, "a").await;
    reconcile(&context, "a").await;
    reconcile(&context, "b").await;
    let pools = given(&cluster);
    assert_distinct(&pools, "after the shrink");
    assert_eq!(pools.iter().map(RangeSet::count).collect::<Vec<_>>(), [3, 6]);
}
