//! What there is, in the form the rules compare.

use std::collections::BTreeMap;

use kube::{Resource, ResourceExt};
use spiderpool_crds::pod::runtime_uid;
use spiderpool_crds::{SpiderEndpoint, SpiderIPPool, SpiderSubnet};
use spiderpool_ipam::RangeSet;
use spiderpool_ipam::check::{Endpoint, Item, Pool, Seen};

use crate::context::Context;
use crate::kinds::pod::PodSketch;

/// What the caches have: records before pods.
pub(super) async fn cached(context: &Context) -> Seen {
    let mut seen = Seen::default();
    for object in context.caches.pools.list() {
        seen.pools.insert(object.name_any(), pool(context, &object));
        // Thousands of records are read here, and others want to work as well.
        tokio::task::yield_now().await;
    }
    seen.endpoints = context
        .caches
        .endpoints
        .list()
        .iter()
        .map(|object| endpoint(object))
        .collect();
    for object in context.caches.pods.list() {
        note_pod(&mut seen, &object);
    }
    if context.config.subnets {
        for object in context.caches.subnets.list() {
            seen.subnets.insert(object.name_any(), subnet(&object));
        }
    }
    seen
}

pub(super) fn pool(context: &Context, object: &SpiderIPPool) -> Pool {
    let records = object.records().map_err(|error| error.to_string());
    let total = object.family().and_then(|family| Ok((family, object.total()?)));
    Pool {
        records: records.map(|records| records.iter().map(|(ip, record)| (ip, record.into())).collect()),
        count: object.status.as_ref().and_then(|status| status.allocated_ip_count),
        total: total.ok(),
        subnet: object
            .owner_subnet()
            .filter(|_| context.config.subnets)
            .map(str::to_owned),
    }
}

pub(super) fn endpoint(object: &SpiderEndpoint) -> Endpoint {
    let current = &object.status.current;
    let items = current.ips.iter().flat_map(|item| {
        item.addresses().filter_map(|(address, pool)| {
            Some(Item {
                nic: item.interface.clone(),
                address,
                pool: pool?.to_owned(),
            })
        })
    });
    Endpoint {
        key: super::super::check::key_of(object).to_string(),
        uid: current.uid.clone(),
        items: items.collect(),
    }
}

/// Adds a pod that has not finished.
pub(super) fn note_pod(seen: &mut Seen, pod: &PodSketch) {
    let Some(uid) = runtime_uid(&pod.metadata).filter(|_| !pod.is_terminal()) else {
        return;
    };
    match pod.meta().deletion_timestamp {
        None => seen.stay.insert(uid.to_owned()),
        Some(_) => seen.leave.insert(uid.to_owned()),
    };
}

pub(super) fn subnet(object: &SpiderSubnet) -> Result<BTreeMap<String, RangeSet>, String> {
    let family = object.family().map_err(|error| error.to_string())?;
    let entries = object.controlled().and_then(|pools| pools.entries(family));
    let entries = entries.map_err(|error| error.to_string())?;
    Ok(entries.into_iter().map(|(pool, entry)| (pool, entry.ranges)).collect())
}
