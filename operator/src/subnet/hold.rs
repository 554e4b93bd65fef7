//! Who still uses the pool of an application that is gone.
//!
//! When a workload is deleted, its pods usually go with it, and the pool goes after them. With `--cascade=orphan` they stay,
//! and a workload made again under the same name takes them over, with their pool. The two are told apart by what controls
//! the pods: the deleted workload, or nobody.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::Resource;
use spiderpool_crds::SpiderIPPool;
use spiderpool_crds::names::LABEL_OWNER_APP_UID;
use spiderpool_kit::cache::{Cache, Key, Object};

use super::fate::Hold;
use crate::application::native::controller;
use crate::context::Context;

/// Whether pods that are not on their way out have addresses of a pool whose application is gone. Such pods are awaited:
/// when one goes, `subnet` is looked at again.
pub fn hold(context: &Context, pool: &SpiderIPPool, subnet: &str) -> Hold {
    let Ok(records) = pool.records() else {
        // Nobody knows who uses it.
        return Hold::Going;
    };
    let uid = pool.label(LABEL_OWNER_APP_UID).unwrap_or_default();
    let mut found = Hold::No;
    for (_, record) in records.iter() {
        let Some((namespace, name)) = record.pod.split_once('/') else {
            continue;
        };
        // Awaited before it is looked at: it may go at any moment.
        let key = Key::new(namespace, name);
        context.awaited.add(key.clone(), subnet);
        let pod = context.caches.pods.get_key(&key);
        let Some(pod) = pod.filter(|pod| pod.stays() && pod.is(&record.pod_uid)) else {
            context.awaited.remove(&key, subnet);
            continue;
        };
        let goes = controller(&pod.metadata).is_some_and(|owner| goes_with(context, namespace, owner, uid));
        found = match (found, goes) {
            (Hold::No | Hold::Going, true) => Hold::Going,
            (_, false) | (Hold::Staying, _) => Hold::Staying,
        };
    }
    found
}

/// Whether what an owner reference names is the application that is gone, or goes with it.
fn goes_with(context: &Context, namespace: &str, owner: &OwnerReference, application: &str) -> bool {
    if owner.uid == application {
        return true;
    }
    let (group, kind) = (
        owner.api_version.split_once('/').map_or("", |(group, _)| group),
        &*owner.kind,
    );
    match (group, kind) {
        ("apps", "ReplicaSet") => child_goes(&context.caches.replica_sets, namespace, owner, application),
        ("batch", "Job") => child_goes(&context.caches.jobs, namespace, owner, application),
        _ => false,
    }
}

/// One that is not there any more has left its pods to the garbage collector.
fn child_goes<K: Object>(cache: &Cache<K>, namespace: &str, owner: &OwnerReference, application: &str) -> bool {
    let child = cache
        .get(namespace, &owner.name)
        .filter(|child| child.meta().uid.as_ref() == Some(&owner.uid));
    child.is_none_or(|child| controller(Resource::meta(&*child)).is_some_and(|above| above.uid == application))
}

/// Pods whose end changes what becomes of a pool, with the subnet of that pool.
#[derive(Debug, Default)]
pub struct Awaited {
    subnets: Mutex<BTreeMap<Key, BTreeSet<String>>>,
}

impl Awaited {
    fn add(&self, pod: Key, subnet: &str) {
        self.lock().entry(pod).or_default().insert(subnet.to_owned());
    }

    fn remove(&self, pod: &Key, subnet: &str) {
        let mut awaited = self.lock();
        if let Some(subnets) = awaited.get_mut(pod) {
            subnets.remove(subnet);
            if subnets.is_empty() {
                awaited.remove(pod);
            }
        }
    }

    /// What is to be looked at now that something happened to a pod.
    pub fn take(&self, pod: &Key) -> BTreeSet<String> {
        let mut subnets = self.lock();
        if subnets.is_empty() {
            return BTreeSet::new();
        }
        subnets.remove(pod).unwrap_or_default()
    }

    /// What is to be looked at when anything may have happened.
    pub fn take_all(&self) -> BTreeSet<String> {
        std::mem::take(&mut *self.lock()).into_values().flatten().collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Key, BTreeSet<String>>> {
        self.subnets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
