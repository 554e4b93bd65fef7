//! Who has what on record, as the cache has it.

use super::state::is_unplaced;
use super::{JobError, PoolState, PoolStore, hold, writer};
use memchr::memmem;
use spiderpool_crds::SpiderIPPool;
use spiderpool_ipam::{Family, Owner, addr};
use spiderpool_kit::cache::Key;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use tokio::time::Instant;

impl PoolStore {
    /// The cached pools that have something on record for a pod without naming its node, and those that a write to which was not
    /// answered.
    pub fn unplaced(&self, uid: &str) -> BTreeSet<String> {
        let unplaced = |name: &String| {
            let records = self.cached(name).map(|pool| pool.records().unwrap_or_default());
            records.is_none_or(|records| {
                records
                    .iter()
                    .any(|(_, record)| record.pod_uid == uid && is_unplaced(record))
            })
        };
        let recording = self.recording(uid).into_iter();
        let mut found: BTreeSet<String> = recording.filter_map(|pool| pool.metadata.name.clone()).collect();
        found.retain(unplaced);
        found.extend(self.doubts.raised());
        found
    }

    /// Whether a cached pool has an address on record for a pod, with a node.
    pub fn is_placed(&self, pool: &str, ip: IpAddr, uid: &str) -> bool {
        let records = self.cached(pool).and_then(|pool| pool.records().ok());
        records.is_some_and(|records| {
            let record = records.get(ip);
            record.is_some_and(|record| record.pod_uid == uid && !is_unplaced(record))
        })
    }

    /// Whether a cached pool has an address on record for a NIC of a pod.
    pub fn is_recorded(&self, pool: &str, ip: IpAddr, uid: &str, nic: &str) -> bool {
        let records = self.cached(pool).and_then(|pool| pool.records().ok());
        records.is_some_and(|records| {
            let record = records.get(ip);
            record.is_some_and(|record| record.pod_uid == uid && record.nic.as_deref() == Some(nic))
        })
    }

    /// Why a pool does not have an address on record for a NIC of a pod; nothing if it has. The cache may say that all is well,
    /// the opposite is said of the object as read live. An error means that it could not be read.
    pub async fn fault(
        &self,
        pool: &str,
        ip: IpAddr,
        owner: &Owner,
        deadline: Instant,
    ) -> Result<Option<String>, JobError> {
        let look = |object: &Arc<SpiderIPPool>| hold::record_fault(object, ip, owner);
        if let Some(object) = self.cached(pool)
            && look(&object).is_none()
        {
            return Ok(None);
        }
        match writer::read(self, pool, deadline).await {
            Ok(Some(object)) => Ok(look(&object)),
            Ok(None) => Ok(Some(format!("IPPool {pool} of {ip} does not exist"))),
            Err(unread) => Err(JobError::Unread {
                pool: pool.to_owned(),
                message: unread.message,
            }),
        }
    }

    /// Why it cannot be told what a pool that exists has on record; nothing if it can.
    pub fn unreadable(&self, pool: &str) -> Option<String> {
        if let Some(malformed) = self.cache().malformed(&Key::new("", pool)) {
            return Some(malformed.error.clone());
        }
        PoolState::read(self.cached(pool)?).err().map(|error| error.to_string())
    }

    /// Names of the pools that record an address of a pod, as cached, and of those that a write to which was not answered: it may
    /// have recorded one.
    pub fn holding(&self, uid: &str) -> BTreeSet<String> {
        let recorded = self.recording(uid).into_iter();
        let recorded = recorded.filter_map(|pool| pool.metadata.name.clone());
        recorded.chain(self.doubts.raised()).collect()
    }

    /// The cached pools in whose records a text stands. A pool without it need not be read.
    pub fn recording(&self, needle: &str) -> Vec<Arc<SpiderIPPool>> {
        let records = |pool: &Arc<SpiderIPPool>| {
            let records = pool.status.as_ref().and_then(|status| status.allocated_ips.as_deref());
            records.is_some_and(|text| memmem::find(text.as_bytes(), needle.as_bytes()).is_some())
        };
        self.cache.list().into_iter().filter(records).collect()
    }

    /// What the cached pools have on record for a pod's NIC, by pool.
    pub fn recorded(&self, uid: &str, nic: &str, family: Family) -> Vec<(String, IpAddr)> {
        let holding = self.holding(uid).into_iter();
        let mut own: Vec<(String, IpAddr)> = holding
            .filter_map(|name| {
                let state = PoolState::read(self.cached(&name)?).ok()?;
                let bits = state.ledger().owned_by(uid, nic).filter(|_| state.family() == family)?;
                Some((name, addr::from_bits(family, bits)))
            })
            .collect();
        own.sort_unstable();
        own
    }

    /// The NICs of a pod for which the cached pools have addresses on record.
    pub fn nics(&self, uid: &str) -> BTreeSet<String> {
        let states = self.holding(uid).into_iter().filter_map(|name| {
            let pool = self.cached(&name)?;
            PoolState::read(pool).ok()
        });
        states
            .flat_map(|state| {
                let nics = state.ledger().of_pod(uid).filter_map(|(_, owner)| owner.nic.clone());
                nics.collect::<Vec<String>>()
            })
            .collect()
    }
}
