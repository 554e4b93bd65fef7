//! One pool as it was read: the object, its records, and the ledger made of them.

use super::hold;
use super::rests::Rests;
use super::size::Size;
use jiff::Timestamp;
use spiderpool_crds::parse::SpecError;
use spiderpool_crds::records::{HeldRecords, PoolRecords, RecordsError};
use spiderpool_crds::{Restoring, SpiderIPPool};
use spiderpool_ipam::candidates::Rejection;
use spiderpool_ipam::hold::Shelf;
use spiderpool_ipam::{Cidr, Family, Ledger, Owner, Range, RangeSet, addr};
use spiderpool_kit::clock;
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
    /// The same, as it is chosen from.
    shelf: Shelf<Timestamp>,
    size: Size,
    fence: bool,
    /// That nothing is given out until agents have told what their nodes use.
    restoring: Option<Restoring>,
    /// The node that claims are made for.
    node: Option<Arc<str>>,
}

impl PoolState {
    /// Reads a pool object.
    pub fn read(object: Arc<SpiderIPPool>) -> Result<Self, Unusable> {
        Self::read_at(object, clock::now())
    }

    /// Reads a pool object. What is held until a time before `now` is not held.
    pub fn read_at(object: Arc<SpiderIPPool>, now: Timestamp) -> Result<Self, Unusable> {
        Self::read_with(object, now, None)
    }

    /// Reads a pool object for those who write it. What rests does so for as long as this agent saw it.
    pub(super) fn read_resting(object: Arc<SpiderIPPool>, rests: &Rests) -> Result<Self, Unusable> {
        Self::read_with(object, clock::now(), Some(rests))
    }

    fn read_with(object: Arc<SpiderIPPool>, now: Timestamp, rests: Option<&Rests>) -> Result<Self, Unusable> {
        let pool = object.metadata.name.clone().unwrap_or_default();
        let spec = |source| Unusable::Spec {
            pool: pool.clone(),
            source,
        };
        let cidr = object.cidr().map_err(spec)?;
        let mut total = object.total().map_err(spec)?;
        // The operator finds out after a change that the gateway is among the addresses, and takes a pool out of use.
        if let Ok(Some(gateway)) = object.gateway() {
            total = total.difference(&Range::single(gateway).into());
        }
        let broken = |source| Unusable::Records {
            pool: pool.clone(),
            source,
        };
        let records = object.records().map_err(broken)?;
        let mut held = object.held().map_err(broken)?;
        let mut size = Size::default();
        for (ip, gone) in hold::expire(&mut held, &object, now, rests) {
            size.shrink(ip, &gone);
        }
        let restoring = object.status.as_ref().and_then(|status| status.restoring.clone());
        let ledger = Ledger::with_records(total, records.owners(cidr.family()).map_err(broken)?);
        Ok(Self {
            cidr,
            ledger,
            now,
            shelf: hold::shelf(&held, cidr.family(), object.reuse()),
            held,
            records,
            size,
            object,
            fence: false,
            restoring,
            node: None,
        })
    }

    /// The same state, for claims of pods on a node: their records name it.
    #[must_use]
    pub fn on(self, node: Arc<str>) -> Self {
        Self {
            node: Some(node),
            ..self
        }
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

    /// Why no new address may be taken, if that is so for any owner.
    pub fn closed(&self) -> Option<Rejection> {
        if self.object.is_terminating() {
            Some(Rejection::Terminating)
        } else if self.is_restoring() {
            Some(Rejection::Restoring)
        } else if self.object.spec.disable == Some(true) {
            Some(Rejection::Disabled)
        } else if !self.object.is_ready() {
            let why = self.object.refusal().map(str::to_owned);
            Some(why.map_or(Rejection::NotReady, Rejection::Refused))
        } else {
            None
        }
    }

    /// What is held, for those who explain.
    pub const fn held(&self) -> &HeldRecords {
        &self.held
    }

    /// Takes the lowest free address, or one exact address, or gives the one that the owner already has.
    pub fn claim(&mut self, owner: &Owner, exact: Option<IpAddr>, reserved: &RangeSet) -> Result<Taken, Rejection> {
        self.claim_beside(owner, exact, &[], reserved)
    }

    /// Does what [`Self::claim`] does for an owner that is about to leave some of its addresses.
    pub fn claim_beside(
        &mut self,
        owner: &Owner,
        exact: Option<IpAddr>,
        leaving: &[IpAddr],
        reserved: &RangeSet,
    ) -> Result<Taken, Rejection> {
        let nic = owner.nic.as_deref().unwrap_or_default();
        let leaving: Vec<u128> = leaving.iter().map(|ip| addr::to_bits(*ip).1).collect();
        if let Some(bits) = self.ledger.owned_except(&owner.uid, nic, &leaving) {
            let ip = addr::from_bits(self.family(), bits);
            // A record without a NIC is the peer's. It becomes this NIC's, or the pod's next NIC would get it too.
            let named = self.ledger.name_nic(bits, &owner.uid, nic);
            if named && let Some(mut record) = self.records.remove(ip) {
                self.size.shrink(ip, &record);
                record.nic = Some(nic.to_owned());
                self.size.grow(ip, &record);
                self.records.insert(ip, record);
            }
            let placed = self.place(ip, &owner.uid);
            return Ok(Taken {
                ip,
                new: false,
                written: named || placed,
            });
        }
        if let Some(closed) = self.closed() {
            return Err(closed);
        }
        let bits = match exact {
            None => self
                .shelf
                .take(&mut self.ledger, owner, reserved)
                .ok_or_else(|| self.exhausted(reserved))?,
            Some(address) => self.take_exact(address, owner, reserved)?,
        };
        let ip = addr::from_bits(self.family(), bits);
        let record = self.record(owner.clone());
        // The note of an address that cooled down goes with the write that gives it out.
        let note = self.take_note(ip);
        self.size.grow(ip, &record);
        if !self.make_room() {
            self.size.shrink(ip, &record);
            if let Some(note) = note {
                self.put_note(ip, note);
            }
            self.ledger.give_back(bits, owner);
            let records = self.records.len();
            return Err(Rejection::RecordLimit { records });
        }
        self.records.insert(ip, record);
        Ok(Taken {
            ip,
            new: true,
            written: true,
        })
    }

    /// Takes an exact address. That it cools down is no reason to refuse it unless others are to wait: there is no other one to
    /// choose first.
    fn take_exact(&mut self, address: IpAddr, owner: &Owner, reserved: &RangeSet) -> Result<u128, Rejection> {
        let (family, bits) = addr::to_bits(address);
        if family != self.family() || !self.ledger.total().contains(bits) {
            return Err(Rejection::AddressOutside(address));
        }
        if let Some(holder) = self.ledger.owner(bits) {
            let holder = holder.pod.clone();
            return Err(Rejection::AddressTaken { address, holder });
        }
        let kept = self.shelf.keeps(bits, &owner.pod);
        let why = match self.held.get(address).filter(|_| kept) {
            _ if reserved.contains(bits) => Some("reserved by a SpiderReservedIP".to_owned()),
            Some(held) if held.blocks() => Some(hold::about(held)),
            Some(held) => Some(hold::about_rest(held)),
            None => None,
        };
        match why {
            Some(why) => Err(Rejection::AddressHeld { address, why }),
            None if self.ledger.take_exact(bits, owner.clone()) => Ok(bits),
            None => Err(self.exhausted(reserved)),
        }
    }

    fn exhausted(&self, reserved: &RangeSet) -> Rejection {
        let total = self.ledger.total().count();
        // What is free and cannot be taken is reserved or held back.
        let held = self.ledger.free_count();
        let used = total.saturating_sub(held);
        match self.shelf.awaited(&self.ledger, reserved) {
            None => Rejection::Exhausted { used, total, held },
            Some((cooling, until)) => Rejection::Cooling {
                used,
                total,
                cooling,
                until: until.map(|until| until.to_string()),
            },
        }
    }

    /// Frees what a pod's NIC has, comparing the whole owner. Returns what was freed.
    pub fn release(&mut self, pod: &str, uid: &str, nic: &str) -> Vec<IpAddr> {
        self.release_some(pod, uid, nic, None)
    }

    /// Does what [`Self::release`] does, or for one address only.
    pub fn release_some(&mut self, pod: &str, uid: &str, nic: &str, only: Option<IpAddr>) -> Vec<IpAddr> {
        let only = only.map(addr::to_bits);
        let family = self.family();
        let meant = |bits: u128| only.is_none_or(|only| only == (family, bits));
        let own: Vec<(u128, Owner)> = self
            .ledger
            .of_pod(uid)
            .filter(|(bits, owner)| owner.pod == pod && owner.is(uid, nic) && meant(*bits))
            .map(|(bits, owner)| (bits, owner.clone()))
            .collect();
        let mut freed = Vec::with_capacity(own.len());
        for (bits, owner) in own {
            if self.ledger.give_back(bits, &owner) {
                let ip = addr::from_bits(self.family(), bits);
                if let Some(record) = self.records.remove(ip) {
                    self.size.shrink(ip, &record);
                }
                freed.push(ip);
                if self.ledger.total().contains(bits) {
                    self.cool_down(ip, pod);
                }
            }
        }
        freed
    }

    /// Makes the object to write another than the one that was read although its records are the same: a write that changes
    /// nothing does not move the resourceVersion.
    pub const fn fence(&mut self) {
        self.fence = true;
    }

    /// The same state once it was written and the API server answered with this object.
    pub fn written_as(self, object: Arc<SpiderIPPool>) -> Self {
        Self { object, ..self }
    }

    /// The same state for a later object, if that one says the same about addresses.
    pub(super) fn carry_over(self, object: &Arc<SpiderIPPool>, rests: &Rests) -> Option<Self> {
        fn said(object: &SpiderIPPool) -> Option<(Option<&str>, Option<&str>)> {
            let status = object.status.as_ref()?;
            Some((status.allocated_ips.as_deref(), status.held_ips.as_deref()))
        }
        if said(object) != said(&self.object) || object.spec != self.object.spec {
            return None;
        }
        let mut state = Self {
            object: object.clone(),
            now: clock::now(),
            size: Size::default(),
            fence: false,
            restoring: object.status.as_ref().and_then(|status| status.restoring.clone()),
            ..self
        };
        for (ip, gone) in hold::expire(&mut state.held, object, state.now, Some(rests)) {
            state.size.shrink(ip, &gone);
            let (family, bits) = addr::to_bits(ip);
            if family == state.family() {
                state.shelf.remove(bits);
            }
        }
        Some(state)
    }

    /// The object to write: the one that was read, with the records of now.
    pub fn to_write(&self) -> SpiderIPPool {
        let mut object = SpiderIPPool::clone(&self.object);
        let status = object.status.get_or_insert_default();
        status.allocated_ips = self.records.to_status();
        status.held_ips = self.held.to_status();
        status.allocated_ip_count = Some(i64::try_from(self.records.len()).unwrap_or(i64::MAX));
        status.restoring.clone_from(&self.restoring);
        if self.fence {
            status.fence = Some(self.now.to_string());
        }
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

mod node;
mod notes;
mod pause;
mod succession;

pub(super) use node::is_unplaced;
pub use pause::Pause;
pub use succession::Succession;

#[cfg(test)]
mod tests;
