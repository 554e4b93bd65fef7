//! Who has which address of one pool.
//!
//! A ledger is an opinion: it is built from a pool object as it was read, and what is taken in it is only owned once the
//! write of that object is acknowledged. Addresses are handed out lowest first, as users of the peer expect.

use crate::by_pod::ByPod;
use crate::free::FreeList;
use crate::hash::BuildKeyHasher;
use crate::set::RangeSet;
use std::collections::HashMap;
use std::collections::hash_map::Entry;

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
    records: HashMap<u128, Owner, BuildKeyHasher>,
    by_pod: ByPod,
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
        let given = records.into_iter();
        let expected = given.size_hint().0;
        let mut records = HashMap::with_capacity_and_hasher(expected, BuildKeyHasher::default());
        // Records come ascending as a rule, and sorting these costs next to nothing, other than those of a hash map.
        let mut used = Vec::with_capacity(expected);
        for (addr, owner) in given {
            used.push(addr);
            records.insert(addr, owner);
        }
        let mut by_pod = ByPod::with_capacity(records.len());
        for (addr, owner) in &records {
            by_pod.add(&owner.uid, *addr);
        }
        Self {
            free: FreeList::new(&total.difference(&used.into_iter().collect())),
            total,
            records,
            by_pod,
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
        self.by_pod.add(&owner.uid, addr);
        self.records.insert(addr, owner);
    }

    /// Frees an address if, and only if, the whole owner is the recorded one.
    pub fn give_back(&mut self, addr: u128, owner: &Owner) -> bool {
        self.take_back(addr, owner).is_some()
    }

    /// Does what [`Ledger::give_back`] does, and returns the recorded owner to whoever has use for it.
    pub fn take_back(&mut self, addr: u128, owner: &Owner) -> Option<Owner> {
        let recorded = match self.records.entry(addr) {
            Entry::Occupied(entry) if entry.get() == owner => entry.remove(),
            Entry::Occupied(_) | Entry::Vacant(_) => return None,
        };
        self.by_pod.remove(&owner.uid, addr);
        if self.total.contains(addr) {
            self.free.add(addr);
        }
        Some(recorded)
    }

    /// Puts an owner in the place of the recorded one if, and only if, the whole recorded one is as given.
    pub fn hand_over(&mut self, addr: u128, from: &Owner, to: Owner) -> bool {
        match self.records.get_mut(&addr) {
            Some(owner) if owner == from => {
                self.by_pod.remove(&from.uid, addr);
                self.by_pod.add(&to.uid, addr);
                *owner = to;
                true
            }
            _ => false,
        }
    }

    /// The lowest address of a pod's NIC. A record that names the NIC comes before one without a NIC, which may be that
    /// of another NIC of the pod.
    pub fn owned_by(&self, uid: &str, nic: &str) -> Option<u128> {
        self.owned_except(uid, nic, &[])
    }

    /// The lowest address of a pod's NIC beside those that it is about to leave.
    pub fn owned_except(&self, uid: &str, nic: &str, leaving: &[u128]) -> Option<u128> {
        self.of_pod(uid)
            .filter(|(addr, owner)| owner.is(uid, nic) && !leaving.contains(addr))
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
    pub fn of_pod<'a>(&'a self, uid: &'a str) -> impl Iterator<Item = (u128, &'a Owner)> {
        self.by_pod
            .candidates(uid)
            .iter()
            .filter_map(|addr| self.records.get(addr).map(|owner| (*addr, owner)))
            .filter(move |(_, owner)| owner.uid == uid)
    }

    /// The owner of an address.
    pub fn owner(&self, addr: u128) -> Option<&Owner> {
        self.records.get(&addr)
    }

    /// Every record, ascending by address. Sorts them, so this is not for every request.
    pub fn records(&self) -> impl Iterator<Item = (u128, &Owner)> {
        let mut records: Vec<(u128, &Owner)> = self.records.iter().map(|(addr, owner)| (*addr, owner)).collect();
        records.sort_unstable_by_key(|(addr, _)| *addr);
        records.into_iter()
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

    /// Whether an address of the pool has no owner.
    pub fn is_free(&self, addr: u128) -> bool {
        self.free.contains(addr)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::tests::colliding_texts;
    use crate::range::Range;

    #[test]
    fn an_address_is_handed_over_by_its_whole_owner_only() {
        let owner = |uid: &str, nic: &str| Owner {
            pod: "ns/p".into(),
            uid: uid.to_owned(),
            nic: Some(nic.to_owned()),
        };
        let mut ledger = Ledger::new(Range::new(1, 9).into_iter().collect());
        let none = RangeSet::new();
        assert_eq!(ledger.take(owner("a", "eth0"), &none), Some(1));
        assert!(!ledger.hand_over(1, &owner("a", "net1"), owner("b", "eth0")));
        assert!(!ledger.hand_over(2, &owner("a", "eth0"), owner("b", "eth0")));
        assert!(ledger.hand_over(1, &owner("a", "eth0"), owner("b", "eth0")));
        assert_eq!(ledger.owned_by("a", "eth0"), None);
        assert_eq!(ledger.owned_by("b", "eth0"), Some(1));
        assert_eq!(ledger.take(owner("b", "eth0"), &none), Some(2));
        assert_eq!(ledger.owned_except("b", "eth0", &[1]), Some(2));
        assert_eq!(ledger.owned_except("b", "eth0", &[1, 2]), None);
        assert!(ledger.give_back(1, &owner("b", "eth0")));
        assert_eq!((ledger.len(), ledger.free_count()), (1, 8));
    }

    #[test]
    fn pods_whose_uids_share_a_hash_are_told_apart() {
        let [mine, other] = colliding_texts();
        let owner = |uid: &str| Owner {
            pod: "ns/p".into(),
            uid: uid.to_owned(),
            nic: None,
        };
        let mut ledger = Ledger::new(Range::new(1, 9).into_iter().collect());
        let none = RangeSet::new();
        assert_eq!(ledger.take(owner(&other), &none), Some(1));
        assert_eq!(ledger.owned_by(&mine, "eth0"), None);
        assert_eq!(ledger.take(owner(&mine), &none), Some(2));
        assert_eq!(ledger.owned_by(&mine, "eth0"), Some(2));
        assert!(!ledger.give_back(1, &owner(&mine)));
        assert!(ledger.give_back(1, &owner(&other)));
        assert_eq!(ledger.owned_by(&other, "eth0"), None);
        assert_eq!(ledger.of_pod(&mine).count(), 1);
    }
}
