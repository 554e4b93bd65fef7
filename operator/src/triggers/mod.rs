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
use spiderpool_crds::{SpiderIPPool, SpiderReservedIP};
use spiderpool_kit::cache::Change;

use crate::context::Context;
use crate::events::{Reason, tell};
use crate::kinds::foreign;

/// Pause before the counts of a pool are looked at that agents write: a hundred pods that start at once are one look.
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
            Change::Applied { new: subnet, .. } | Change::Deleted(subnet) => {
                context
                    .queues
                    .subnets
                    .add(subnet.metadata.name.clone().unwrap_or_default());
            }
            Change::Malformed(bad) => {
                tracing::warn!(subnet = %bad.key, error = bad.error, "cannot be read");
                context.queues.subnets.add(bad.key.name.clone());
            }
            Change::Resynced => all_subnets(&context),
        }
    }
}

/// Follows pools.
pub async fn follow_pools(context: Arc<Context>) {
    let mut changes = context.caches.pools.subscribe();
    while let Some(change) = changes.next().await {
        match change {
            Change::Applied { old, new } => pool_changed(&context, old.as_deref(), &new),
            Change::Deleted(gone) => {
                context
                    .shrinking
                    .forget(gone.metadata.name.as_deref().unwrap_or_default());
                look_at(&context, subnets_of(&context, &gone));
            }
            Change::Malformed(bad) => {
                tracing::warn!(pool = %bad.key, error = bad.error, "cannot be read; its addresses stay booked");
                all_subnets(&context);
            }
            Change::Resynced => everything(&context),
        }
    }
}

fn pool_changed(context: &Context, old: Option<&SpiderIPPool>, new: &SpiderIPPool) {
    let name = new.metadata.name.clone().unwrap_or_default();
    if old.is_none()
        && let Some(key) = new.app_key()
    {
        foreign::of_pool(context, &key);
    }
    let counted = old.is_some_and(|old| same_but_status(old, new));
    if context.shrinking.has(&name) || !counted {
        look_at(context, subnets_of(context, new));
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

/// The subnets that a pool's addresses may be counted in.
pub(crate) fn subnets_of(context: &Context, pool: &SpiderIPPool) -> BTreeSet<String> {
    let same = context.caches.subnets_with(&pool.spec.subnet);
    let mut names: BTreeSet<String> = same.iter().filter_map(|subnet| subnet.metadata.name.clone()).collect();
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
        && let Err(error) = reserved.addresses()
    {
        let about: ObjectReference = reserved.object_ref(&());
        let note = format!("{error}; until then its addresses may be given out");
        tell(&context.recorder, about, Reason::ReservedIPInvalid, &note);
    }
}
