//! One pool as it was read: the object, its records, and the ledger made of them.

use super::hold;
use jiff::Timestamp;
use spiderpool_crds::SpiderIPPool;
use spiderpool_crds::parse::SpecError;
use spiderpool_crds::records::{HeldReason, HeldRecords, PoolRecords, RecordsError};
use spiderpool_ipam::{Cidr, Family, Ledger, Owner, RangeSet, addr};
use std::net::IpAddr;
use std::sync::Arc;

/// Why a pool cannot be used at all.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// The spec does not parse.
    #[error("the spec of IPPool {pool} is broken: {source}; repair it with `kubectl edit sp {pool}`")]
    Spec {
        /// Name of the pool.
        pool: String,
        /// What is broken.
        source: SpecError,
    },
    /// `status.allocatedIPs` does not parse. Nothing may be allocated, since nobody knows what is in use.
    #[error("the records of IPPool {pool} are broken: {source}")]
    Records {
        /// Name of the pool.
        pool: String,
        /// What is broken.
        source: RecordsError,
    },
}

/// A pool that requests can be planned on.
#[derive(Clone, Debug)]
pub struct PoolState {
    object: Arc<SpiderIPPool>,
    cidr: Cidr,
    records: PoolRecords,
    ledger: Ledger,
    now: Timestamp,
    /// Addresses that no pod has and that are not as good as the others.
    held: HeldRecords,
    /// Those of them that must not be given out.
    blocked: RangeSet,
}

impl PoolState {
    /// Reads a pool object.
    pub fn read(object: Arc<SpiderIPPool>) -> Result<Self, Unusable> {
        Self::read_at(object, Timestamp::now())
    }

    /// Reads a pool object. What is held until a time before `now` is not held.
    pub fn read_at(object: Arc<SpiderIPPool>, now: Timestamp) -> Result<Self, Unusable> {
        let pool = object.metadata.name.clone().unwrap_or_default();
        let spec = |source| Unusable::Spec {
            pool: pool.clone(),
            source,
        };
        let cidr = object.cidr().map_err(spec)?;
        let total = object.total().map_err(spec)?;
        let broken = |source| Unusable::Records {
            pool: pool.clone(),
            source,
        };
        let records = object.records().map_err(broken)?;
        let text = object.status.as_ref().and_then(|status| status.held_ips.as_deref());
        let mut held = HeldRecords::parse_opt(text).map_err(broken)?;
        held.expire(now);
        let ledger = Ledger::with_records(total, records.owners(cidr.family()).map_err(broken)?);
        Ok(Self {
            cidr,
            ledger,
            now,
            blocked: hold::blocked(&held, cidr.family()),
            held,
            records,
            object,
        })
    }

    /// The object as it was read.
    pub const fn object(&self) -> &Arc<SpiderIPPool> {
        &self.object
    }

    /// Who has which address.
    pub const fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Family of the pool.
    pub const fn family(&self) -> Family {
        self.cidr.family()
    }

    /// Whether new addresses may be taken: not while the object is being deleted or disabled.
    pub fn is_open(&self) -> bool {
        self.object.metadata.deletion_timestamp.is_none() && self.object.spec.disable != Some(true)
    }

    /// Whether there is an address to give to a new owner.
    pub fn has_free(&self, reserved: &RangeSet) -> bool {
        self.ledger.has_free(&self.blocked.union(reserved))
    }

    /// Takes the lowest free address, or gives the one that the owner already has. Addresses that cool down come last, the one
    /// that did so for the longest time first.
    pub fn claim(&mut self, owner: &Owner, reserved: &RangeSet) -> Option<Taken> {
        let nic = owner.nic.as_deref().unwrap_or_default();
        if let Some(bits) = self.ledger.owned_by(&owner.uid, nic) {
            let ip = addr::from_bits(self.family(), bits);
            // A record without a NIC is the peer's. It becomes this NIC's, or the pod's next NIC would get it too.
            let named = self.ledger.name_nic(bits, &owner.uid, nic);
            if named && let Some(mut record) = self.records.remove(ip) {
                record.nic = Some(nic.to_owned());
                self.records.insert(ip, record);
            }
            return Some(Taken {
                ip,
                new: false,
                written: named,
            });
        }
        if !self.is_open() {
            return None;
        }
        let blocked = self.blocked.union(reserved);
        let cooling = hold::cooling(&self.held, self.family());
        let fresh = blocked.union(&cooling.iter().copied().collect());
        let bits = self.ledger.take(owner.clone(), &fresh).or_else(|| {
            let mut cooling = cooling.into_iter().filter(|bits| !reserved.contains(*bits));
            cooling.find(|bits| self.ledger.take_exact(*bits, owner.clone()))
        })?;
        let ip = addr::from_bits(self.family(), bits);
        self.held.remove(ip);
        self.records.insert(ip, owner.clone().into());
        Some(Taken {
            ip,
            new: true,
            written: true,
        })
    }

    /// Frees what a pod's NIC has, comparing the whole owner. Returns what was freed.
    pub fn release(&mut self, pod: &str, uid: &str, nic: &str) -> Vec<IpAddr> {
        let own: Vec<(u128, Owner)> = self
            .ledger
            .of_pod(uid)
            .filter(|(_, owner)| owner.pod == pod && owner.is(uid, nic))
            .map(|(bits, owner)| (bits, owner.clone()))
            .collect();
        let mut freed = Vec::with_capacity(own.len());
        for (bits, owner) in own {
            if self.ledger.give_back(bits, &owner) {
                let ip = addr::from_bits(self.family(), bits);
                self.records.remove(ip);
                freed.push(ip);
                if self.ledger.total().contains(bits) {
                    hold::cool_down(&mut self.held, ip, pod, self.now);
                }
            }
        }
        freed
    }

    /// Keeps an address from everybody for a while because a host answers for it that was not given it. The record of the NIC
    /// that found out goes with the same write; a record of anybody else stays, and so does the address with it. Tells what
    /// became of the address; nothing if nothing changed.
    pub fn quarantine(&mut self, ip: IpAddr, owner: &Owner, by: &str) -> Option<HeldReason> {
        let (family, bits) = addr::to_bits(ip);
        if family != self.family() || !self.ledger.total().contains(bits) {
            return None;
        }
        if let Some(recorded) = self.ledger.owner(bits).cloned() {
            let own = recorded.pod == owner.pod && recorded.is(&owner.uid, owner.nic.as_deref().unwrap_or_default());
            if !own || !self.ledger.give_back(bits, &recorded) {
                return None;
            }
            self.records.remove(ip);
        }
        let held = hold::quarantine(&mut self.held, ip, by, self.ledger.total().count(), self.now);
        self.blocked = hold::blocked(&self.held, family);
        Some(held)
    }

    /// The object to write: the one that was read, with the records of now.
    pub fn to_write(&self) -> SpiderIPPool {
        let mut object = SpiderIPPool::clone(&self.object);
        let status = object.status.get_or_insert_default();
        status.allocated_ips = self.records.to_status();
        status.held_ips = self.held.to_status();
        status.allocated_ip_count = Some(i64::try_from(self.records.len()).unwrap_or(i64::MAX));
        object
    }
}

/// What a claim gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// The address.
    pub ip: IpAddr,
    /// Whether this claim took it; otherwise the owner had it before.
    pub new: bool,
    /// Whether the pool's records changed.
    pub written: bool,
}

#[cfg(test)]
mod tests;
