//! Which addresses the records of a pod are at.

use crate::hash::{self, BuildKeyHasher};
use std::collections::HashMap;
use std::collections::hash_map::Entry;

/// Addresses by the hash of the pod's UID. Pods may share a hash, so whoever looks up compares the UID in the record.
/// That saves a copy of every UID, and a pod with one address, as almost all have, needs no memory of its own.
#[derive(Clone, Debug, Default)]
pub(crate) struct ByPod {
    addrs: HashMap<u64, Addrs, BuildKeyHasher>,
}

#[derive(Clone, Debug)]
enum Addrs {
    One(u128),
    /// Ascending.
    Many(Vec<u128>),
}

impl ByPod {
    pub(crate) fn with_capacity(pods: usize) -> Self {
        Self {
            addrs: HashMap::with_capacity_and_hasher(pods, BuildKeyHasher::default()),
        }
    }

    pub(crate) fn add(&mut self, uid: &str, addr: u128) {
        match self.addrs.entry(hash::of_text(uid)) {
            Entry::Vacant(entry) => {
                entry.insert(Addrs::One(addr));
            }
            Entry::Occupied(mut entry) => match entry.get_mut() {
                Addrs::One(other) => {
                    let both = vec![addr.min(*other), addr.max(*other)];
                    entry.insert(Addrs::Many(both));
                }
                Addrs::Many(addrs) => {
                    let at = addrs.partition_point(|other| *other < addr);
                    addrs.insert(at, addr);
                }
            },
        }
    }

    pub(crate) fn remove(&mut self, uid: &str, addr: u128) {
        let Entry::Occupied(mut entry) = self.addrs.entry(hash::of_text(uid)) else {
            return;
        };
        let last = match entry.get_mut() {
            Addrs::One(only) => *only == addr,
            Addrs::Many(addrs) => {
                addrs.retain(|other| *other != addr);
                addrs.is_empty()
            }
        };
        if last {
            entry.remove();
        }
    }

    /// Addresses of the pod, and perhaps of others; ascending.
    pub(crate) fn candidates(&self, uid: &str) -> &[u128] {
        match self.addrs.get(&hash::of_text(uid)) {
            None => &[],
            Some(Addrs::One(addr)) => std::slice::from_ref(addr),
            Some(Addrs::Many(addrs)) => addrs,
        }
    }
}
