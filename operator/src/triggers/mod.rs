//! From what changes to what is to be looked at.
//!
//! Each kind's changes are turned into names of subnets and pools. Nothing is polled: whatever somebody waits for is a
//! change of one of these kinds.

pub mod workloads;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Resource;
use spiderpool_crds::admission::reserved_fault;
use spiderpool_crds::{SpiderIPPool, SpiderReservedIP, SpiderSubnet};
use spiderpool_kit::cache::{Cache, Change, Store};

use crate::context::Context;
use crate::events::{Reason, tell};
use crate::kinds::foreign;
use crate::pool::index;

/// Pause before a pool is looked at that agents write to: a hundred pods that start or end at once are one look.
const BUSY_POOL: Duration = Duration::from_millis(500);

/// Looks at everything. For a new leader, who does not know what its predecessor left undone.
pub fn everything(context: &Context) {
    all_subnets(context);
    all_pools(context);
    foreign::of_pools(context);
    for reserved in context.caches.reserved.list() {
        check_reserved(context, &reserved);
    }
    for app in context.applications.all() {
        workloads::remark(context, &app);
    }
}

fn all_subnets(context: &Context) {
    let existing = context.caches.subnets.list();
    let existing = existing.iter().filter_map(|subnet| subnet.metadata.name.clone());
    let names: BTreeSet<String> = existing.chain(context.applications.subnets()).collect();
    look_at(context, names);
}

fn all_pools(context: &Context) {
    for pool in context.caches.pools.list() {
        context.queues.pools.add(pool.metadata.name.clone().unwrap_or_default());
    }
}

pub(crate) fn look_at(context: &Context, subnets: impl IntoIterator<Item = String>) {
    for subnet in subnets {
        context.queues.subnets.add(subnet);
    }
}

/// Follows subnets.
pub async fn follow_subnets(context: Arc<Context>) {
    let mut changes = context.caches.subnets.subscribe();
    while let Some(change) = changes.next().await {
        match change {
            Change::Applied { old, new } => {
                let same = old.is_some_and(|old| old.spec == new.spec && controlled(&old) == controlled(&new));
                subnet_changed(&context, &new, !same);
            }
            Change::Deleted(gone) => subnet_changed(&context, &gone, true),
            Change::Malformed(bad) => {
                tracing::warn!(subnet = %bad.key, error = bad.error, "cannot be read");
                context.queues.subnets.add(bad.key.name.clone());
            }
            Change::Resynced => all_subnets(&context),
        }
    }
}

fn controlled(subnet: &SpiderSubnet) -> Option<&str> {
    subnet.status.as_ref()?.controlled_ippools.as_deref()
}

fn subnet_changed(context: &Context, subnet: &SpiderSubnet, accounting: bool) {
    let name = subnet.metadata.name.clone().unwrap_or_default();
    if accounting {
        look_at_pools(context, context.unaccounted.take(&name));
        // What it gave back others may give.
        look_at(
            context,
            index::subnets_around(&context.caches.subnets, &subnet.spec.subnet),
        );
    }
    context.queues.subnets.add(name);
}

fn look_at_pools<N: AsRef<str>>(context: &Context, pools: impl IntoIterator<Item = N>) {
    for pool in pools {
        context.queues.pools.add(pool.as_ref().to_owned());
    }
}

/// Takes in the claims of all pools, all of which may be judged now.
fn fill_board(context: &Context) {
    let unreadable = |store: &Store<SpiderIPPool>| store.iter_malformed().map(|bad| bad.key.name.clone()).collect();
    let listed = |store: &Store<SpiderIPPool>| store.iter().cloned().collect::<Vec<_>>();
    let (pools, unreadable) = context.caches.pools.read(|store| (listed(store), unreadable(store)));
    context.board.fill(&pools, &unreadable);
    all_pools(context);
}

/// Follows pools.
pub async fn follow_pools(context: Arc<Context>) {
    let mut changes = context.caches.pools.subscribe();
    fill_board(&context);
    while let Some(change) = changes.next().await {
        match change {
            Change::Applied { old, new } => pool_changed(&context, old.as_deref(), &new),
            Change::Deleted(gone) => {
                let name = gone.metadata.name.as_deref().unwrap_or_default();
                context.shrinking.forget(name);
                context.unaccounted.forget(name);
                look_at_pools(&context, context.board.remove(&gone));
                look_at(&context, subnets_of(&context, &gone));
            }
            Change::Malformed(bad) => {
                tracing::warn!(pool = %bad.key, error = bad.error, "cannot be read; its addresses stay booked");
                all_subnets(&context);
            }
            Change::Resynced => {
                fill_board(&context);
                everything(&context);
            }
        }
    }
}

fn pool_changed(context: &Context, old: Option<&SpiderIPPool>, new: &SpiderIPPool) {
    look_at_pools(context, context.board.put(new));
    let name = new.metadata.name.clone().unwrap_or_default();
    if old.is_none()
        && let Some(key) = new.app_key()
    {
        foreign::of_pool(context, &key);
    }
    let counted = old.is_some_and(|old| same_but_status(old, new));
    if !counted {
        look_at(context, subnets_of(context, new));
    } else if context.shrinking.has(&name) {
        for subnet in subnets_of(context, new) {
            context.queues.subnets.add_after(subnet, BUSY_POOL);
        }
    }
    if counted && !new.is_terminating() {
        context.queues.pools.add_after(name, BUSY_POOL);
    } else {
        context.queues.pools.add(name);
    }
}

fn same_but_status(old: &SpiderIPPool, new: &SpiderIPPool) -> bool {
    let (before, after) = (&old.metadata, &new.metadata);
    old.spec == new.spec
        && before.labels == after.labels
        && before.finalizers == after.finalizers
        && before.owner_references == after.owner_references
        && before.deletion_timestamp == after.deletion_timestamp
}

/// The subnets that a pool's addresses may be counted in, or missing from.
pub(crate) fn subnets_of(context: &Context, pool: &SpiderIPPool) -> BTreeSet<String> {
    subnets_around(&context.caches.subnets, pool)
}

fn subnets_around(subnets: &Cache<SpiderSubnet>, pool: &SpiderIPPool) -> BTreeSet<String> {
    let mut names = index::subnets_around(subnets, &pool.spec.subnet);
    names.extend(pool.owner_subnet().map(str::to_owned));
    names
}

/// Follows reservations.
pub async fn follow_reserved(context: Arc<Context>) {
    let mut changes = context.caches.reserved.subscribe();
    while let Some(change) = changes.next().await {
        if let Change::Applied { new, .. } = &change {
            check_reserved(&context, new);
        }
        all_subnets(&context);
        all_pools(&context);
    }
}

fn check_reserved(context: &Context, reserved: &SpiderReservedIP) {
    if context.leadership.is_leader()
        && let Some(fault) = reserved_fault(reserved)
    {
        let about: ObjectReference = reserved.object_ref(&());
        let note = format!("{fault}; until then only what can be read of the rest is reserved");
        tell(&context.recorder, about, Reason::ReservedIPInvalid, &note);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use spiderpool_kit::cache::Options;

    fn pool(network: &str, subnet: Option<&str>) -> SpiderIPPool {
        serde_json::from_value(json!({
            "apiVersion": "spiderpool.spidernet.io/v2beta1", "kind": "SpiderIPPool",
            "metadata": {"name": "p", "labels": subnet.map(|name| json!({"ipam.spidernet.io/owner-spider-subnet": name}))},
            "spec": {"subnet": network},
        }))
        .unwrap()
    }

    #[test]
    fn a_pool_concerns_its_subnet_and_those_that_overlap_it() {
        let subnets = Cache::detached(Options::default().index(index::keys_of_subnet));
        for (name, network) in [
            ("wide", "10.0.0.0/16"),
            ("same", "10.0.1.0/24"),
            ("narrow", "10.0.1.128/25"),
            ("apart", "10.0.2.0/24"),
            ("broken", "oops"),
        ] {
            let subnet = json!({
                "apiVersion": "spiderpool.spidernet.io/v2beta1", "kind": "SpiderSubnet",
                "metadata": {"name": name, "uid": name, "resourceVersion": "1"}, "spec": {"subnet": network},
            });
            subnets.learn(serde_json::from_value(subnet).unwrap());
        }
        let around = |pool: SpiderIPPool| Vec::from_iter(subnets_around(&subnets, &pool));
        assert_eq!(around(pool("10.0.1.0/24", None)), ["narrow", "same", "wide"]);
        assert_eq!(around(pool("10.9.0.0/24", Some("former"))), ["former"]);
        assert_eq!(around(pool("oops", None)), ["broken"]);
    }

    #[tokio::test]
    async fn what_a_subnet_gives_back_concerns_those_that_overlap_it() {
        let context = Context::detached();
        let subnets = [
            ("wide", "10.0.0.0/16"),
            ("narrow", "10.0.1.0/24"),
            ("apart", "10.1.0.0/24"),
        ];
        for (name, network) in subnets {
            let subnet = json!({
                "apiVersion": "spiderpool.spidernet.io/v2beta1", "kind": "SpiderSubnet",
                "metadata": {"name": name, "uid": name, "resourceVersion": "1"}, "spec": {"subnet": network},
            });
            context.caches.subnets.learn(serde_json::from_value(subnet).unwrap());
        }
        let wide = context.caches.subnets.get("", "wide").unwrap();
        for (accounting, expected) in [(false, vec!["wide"]), (true, vec!["narrow", "wide"])] {
            subnet_changed(&context, &wide, accounting);
            let mut queued = Vec::new();
            while context.queues.subnets.depth() > 0 {
                let name = context.queues.subnets.next().await;
                context.queues.subnets.finish(&name);
                queued.push(name);
            }
            queued.sort();
            assert_eq!(queued, expected);
        }
    }
}
