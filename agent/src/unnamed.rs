//! Records without a NIC, which the peer wrote: which NIC of the pod has the address is known from the pod's endpoint.
//!
//! The peer gives a pod one address per pool, so of the pools with such records each belongs to one NIC.

use crate::pools::PoolStore;
use kube::ResourceExt;
use spiderpool_crds::records::Record;
use spiderpool_crds::{NicDetail, SpiderIPPool};
use std::net::IpAddr;

/// The addresses that a pool has on record for a pod without saying for which NIC.
fn unnamed(pool: &SpiderIPPool, uid: &str) -> Vec<IpAddr> {
    let own = |record: &Record| record.pod_uid == uid && record.nic.is_none();
    let records = pool.records().unwrap_or_default();
    records
        .iter()
        .filter(|(_, record)| own(record))
        .map(|(ip, _)| ip)
        .collect()
}

/// These addresses of all pools, with the pools' names.
pub fn in_all(pools: &PoolStore, uid: &str) -> Vec<(String, IpAddr)> {
    let recording = pools.recording(uid).into_iter();
    let named = recording.map(|pool| (pool.name_any(), unnamed(&pool, uid)));
    named
        .flat_map(|(name, ips)| ips.into_iter().map(move |ip| (name.clone(), ip)))
        .collect()
}

/// The NIC that has an address out of a pool.
pub fn nic_with<'a>(items: &'a [NicDetail], pool: &str, ip: IpAddr) -> Option<&'a str> {
    let own = |item: &&NicDetail| item.addresses().any(|address| address == (ip, Some(pool)));
    items.iter().find(own).map(|item| item.interface.as_str())
}

/// Whether a pool has an address of the pod, without a NIC, that belongs to none of these NICs. Whoever frees there for them would
/// free it as well.
pub fn has_of_others(pool: &SpiderIPPool, uid: &str, items: &[NicDetail], nics: &[String]) -> bool {
    let name = pool.metadata.name.as_deref().unwrap_or_default();
    unnamed(pool, uid)
        .into_iter()
        .filter_map(|ip| nic_with(items, name, ip))
        .any(|nic| nics.iter().all(|own| own != nic))
}
