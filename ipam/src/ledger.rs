//! Who has which address of one pool.
//!
//! A ledger is an opinion: it is built from a pool object as it was read, and what is taken in it is only owned once the
//! write of that object is acknowledged. Addresses are handed out lowest first, as users of the peer expect.

use crate::free::FreeList;
use crate::set::RangeSet;
use std::collections::{BTreeMap, HashMap};

/// The owner of an address.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Owner {
    /// `namespace/name` of the pod.
    pub pod: String,
    /// UID of the pod. Together with the NIC this is the identity; names are reused.
    pub uid: String,
    /// The pod's interface. Records that the peer wrote have none.
    pub nic: Option<String>,
}

impl Owner {
    /// Whether this is the given NIC of the given pod. A record without a NIC was written by the peer, which gives a pod
    /// one address per pool, so it stands for whichever NIC asks.
    pub fn is(&self, uid: &str, nic: &str) -> bool {
        self.uid == uid && self.nic.as_deref().is_none_or(|own| own == nic)
    }
}

/// The addresses of one pool with their owners.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    total: RangeSet,
    records: BTreeMap<u128, Owner>,
    by_uid: HashMap<String, Vec<u128>>,
    free: FreeList,
}

impl Ledger {
    /// A pool of which nothing is taken.
    pub fn new(total: RangeSet) -> Self {
        Self {
            free: FreeList::new(&total),
            total,
            ..Self::default()
        }
    }

    /// A pool with recorded owners. A record outside of `total` stays a record: its address is in use, whatever the
    /// pool's ranges say by now.
    pub fn with_records(total: RangeSet, records: impl IntoIterator<Item = (u128, Owner)>) -> Self {
        let records: BTreeMap<u128, Owner> = records.into_iter().collect();
        let mut by_uid: HashMap<String, Vec<u128>> = HashMap::with_capacity(records.len());
        for (addr, owner) in &records {
            by_uid.entry(owner.uid.clone()).or_default().push(*addr);
        }
        let used: RangeSet = records.keys().copied().collect();
        Self {
            free: FreeList::new(&total.difference(&used)),
            total,
            records,
            by_uid,
        }
    }

    /// Takes the lowest free address that is not blocked (reserved, held), or nothing if there is none.
    pub fn take(&mut self, owner: Owner, blocked: &RangeSet) -> Option<u128> {
        let addr = self.free.lowest(blocked)?;
        self.record(addr, owner);
        Some(addr)
    }

    /// Takes one given address; false if it is not free.
    pub fn take_exact(&mut self, addr: u128, owner: Owner) -> bool {
        let free = self.free.contains(addr);
        if free {
            self.record(addr, owner);
        }
        free
    }

    fn record(&mut self, addr: u128, owner: Owner) {
        self.free.remove(addr);
        match self.by_uid.get_mut(&owner.uid) {
            Some(addrs) => {
                let at = addrs.partition_point(|other| *other < addr);
                addrs.insert(at, addr);
            }
            None => {
                self.by_uid.insert(owner.uid.clone(), vec![addr]);
            }
        }
        self.records.insert(addr, owner);
    }

    /// Frees an address if, and only if, the whole owner is the recorded one.
    pub fn give_back(&mut self, addr: u128, owner: &Owner) -> bool {
        if self.records.get(&addr) != Some(owner) {
            return false;
        }
        self.records.remove(&addr);
        if let Some(addrs) = self.by_uid.get_mut(&owner.uid) {
            addrs.retain(|other| *other != addr);
            if addrs.is_empty() {
                self.by_uid.remove(&owner.uid);
            }
        }
        if self.total.contains(addr) {
            self.free.add(addr);
        }
        true
    }

    /// The lowest address of a pod's NIC. A record that names the NIC comes before one without a NIC, which may be that
    /// of another NIC of the pod.
    pub fn owned_by(&self, uid: &str, nic: &str) -> Option<u128> {
        self.of_pod(uid)
            .filter(|(_, owner)| owner.is(uid, nic))
            .min_by_key(|(addr, owner)| (owner.nic.is_none(), *addr))
            .map(|(addr, _)| addr)
    }

    /// Settles which NIC a record without one belongs to, so that no other NIC of the pod is given its address; false if
    /// there is no such record of that pod.
    pub fn name_nic(&mut self, addr: u128, uid: &str, nic: &str) -> bool {
        match self.records.get_mut(&addr) {
            Some(owner) if owner.uid == uid && owner.nic.is_none() => {
                owner.nic = Some(nic.to_owned());
                true
            }
            _ => false,
        }
    }

    /// Every record of a pod, ascending by address.
    pub fn of_pod<'a>(&'a self, uid: &str) -> impl Iterator<Item = (u128, &'a Owner)> {
        self.by_uid
            .get(uid)
            .into_iter()
            .flatten()
            .filter_map(|addr| self.records.get(addr).map(|owner| (*addr, owner)))
    }

    /// The owner of an address.
    pub fn owner(&self, addr: u128) -> Option<&Owner> {
        self.records.get(&addr)
    }

    /// Every record, ascending by address.
    pub fn records(&self) -> impl Iterator<Item = (u128, &Owner)> {
        self.records.iter().map(|(addr, owner)| (*addr, owner))
    }

    /// How many addresses are taken.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether no address is taken.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// How many addresses are free; saturates for pools near the whole IPv6 space.
    pub const fn free_count(&self) -> u128 {
        self.free.count()
    }

    /// Whether an address can be taken that is not blocked.
    pub fn has_free(&self, blocked: &RangeSet) -> bool {
        self.free.lowest(blocked).is_some()
    }

    /// The addresses of the pool.
    pub const fn total(&self) -> &RangeSet {
        &self.total
    }

    /// The taken addresses.
    pub fn used(&self) -> RangeSet {
        self.records.keys().copied().collect()
    }

    /// Changes the addresses of the pool. Records stay, even outside of the new total.
    pub fn resize(&mut self, total: RangeSet) {
        self.free = FreeList::new(&total.difference(&self.used()));
        self.total = total;
    }
}
