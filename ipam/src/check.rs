//! Whether all that a cluster has on record about addresses agrees: pools, endpoints, pods, and the accounting of subnets.
//!
//! | finding | what it is |
//! |---|---|
//! | [`Fault::Leak`] | a pool has an address on record for a pod that is not there, and no endpoint is |
//! | [`Fault::StrayEndpoint`] | the pod of an endpoint is not there |
//! | [`Fault::MissingRecord`] | a pod has an address by its endpoint, which the pool has on record for nobody, or for a pod that is not there |
//! | [`Fault::Duplicate`] | two pods that may run have the same address |
//! | [`Fault::WrongCount`] | a pool's count of addresses in use is not the number of its records |
//! | [`Fault::Accounting`] | a pool has addresses that the accounting of its subnet gives to another pool, or to none |
//! | [`Fault::Unreadable`] | a status that cannot be read |
//!
//! What is compared was not read at one moment, so each finding is a suspicion until it was looked at again. That a pod of a kept
//! identity may come back, or that its node is lost, is not known here: [`crate::reclaim`] says whether a leak or stray endpoint is
//! one.

mod fault;

pub use fault::{Fault, Kind, Repair, User};

use crate::addr::{self, Family};
use crate::ledger::Owner;
use crate::set::RangeSet;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// What is compared.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// The pools, by name.
    pub pools: BTreeMap<String, Pool>,
    /// The endpoints.
    pub endpoints: Vec<Endpoint>,
    /// UIDs of pods that neither finished nor are on their way out.
    pub stay: BTreeSet<String>,
    /// UIDs of pods that are on their way out.
    pub leave: BTreeSet<String>,
    /// What the accounting of each subnet gives to each pool; none where it cannot be read.
    pub subnets: BTreeMap<String, Result<BTreeMap<String, RangeSet>, String>>,
}

/// A pool.
#[derive(Clone, Debug)]
pub struct Pool {
    /// Who has which address, or why that cannot be read.
    pub records: Result<BTreeMap<IpAddr, Owner>, String>,
    /// How many addresses are in use, as its status says.
    pub count: Option<i64>,
    /// Its addresses; none if its spec cannot be read.
    pub total: Option<(Family, RangeSet)>,
    /// The subnet whose accounting it is in.
    pub subnet: Option<String>,
}

/// An endpoint.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// `namespace/name`, which is that of its records.
    pub key: String,
    /// UID of its pod.
    pub uid: String,
    /// What its NICs have.
    pub items: Vec<Item>,
}

/// An address of a NIC.
#[derive(Clone, Debug)]
pub struct Item {
    /// The NIC.
    pub nic: String,
    /// The address.
    pub address: IpAddr,
    /// Name of the pool.
    pub pool: String,
}

/// Everything that does not agree, in the order of its names.
pub fn faults(seen: &Seen) -> Vec<Fault> {
    let of_endpoints: BTreeSet<&str> = seen.endpoints.iter().map(|endpoint| endpoint.uid.as_str()).collect();
    let mut users: BTreeMap<IpAddr, BTreeSet<User>> = BTreeMap::new();
    let mut faults = Vec::new();
    for (name, pool) in &seen.pools {
        of_pool(name, pool, &mut faults);
        for (address, owner) in pool.records.iter().flatten() {
            if seen.runs(&owner.uid) {
                users.entry(*address).or_default().insert(user(name, owner.clone()));
            } else if !of_endpoints.contains(owner.uid.as_str()) {
                faults.push(Fault::Leak {
                    pool: name.clone(),
                    address: *address,
                    owner: owner.clone(),
                });
            }
        }
    }
    for endpoint in &seen.endpoints {
        of_endpoint(seen, endpoint, &mut users, &mut faults);
    }
    for (address, users) in users {
        // A virtual machine has two pods while it moves, which are one to the records.
        let identities: BTreeSet<&str> = users.iter().map(|user| user.owner.pod.as_str()).collect();
        if identities.len() > 1 {
            faults.push(Fault::Duplicate { address, users });
        }
    }
    for (subnet, given) in &seen.subnets {
        match given {
            Ok(given) => of_subnet(seen, subnet, given, &mut faults),
            Err(why) => faults.push(Fault::Unreadable {
                object: format!("SpiderSubnet {subnet}"),
                why: why.clone(),
            }),
        }
    }
    faults.sort_by_cached_key(Fault::id);
    faults
}

impl Seen {
    fn runs(&self, uid: &str) -> bool {
        self.stay.contains(uid) || self.leave.contains(uid)
    }
}

fn user(pool: &str, owner: Owner) -> User {
    User {
        pool: pool.to_owned(),
        owner,
    }
}

fn of_pool(name: &str, pool: &Pool, faults: &mut Vec<Fault>) {
    match &pool.records {
        Err(why) => faults.push(Fault::Unreadable {
            object: format!("SpiderIPPool {name}"),
            why: why.clone(),
        }),
        // A pool that nobody ever used has no count yet.
        Ok(records) if pool.count.unwrap_or(0) != i64::try_from(records.len()).unwrap_or(i64::MAX) => {
            faults.push(Fault::WrongCount {
                pool: name.to_owned(),
                records: records.len(),
                count: pool.count,
            });
        }
        Ok(_) => {}
    }
}

fn of_endpoint(
    seen: &Seen,
    endpoint: &Endpoint,
    users: &mut BTreeMap<IpAddr, BTreeSet<User>>,
    faults: &mut Vec<Fault>,
) {
    if !seen.runs(&endpoint.uid) {
        faults.push(Fault::StrayEndpoint {
            endpoint: endpoint.key.clone(),
            uid: endpoint.uid.clone(),
        });
        return;
    }
    for item in &endpoint.items {
        let owner = Owner {
            pod: endpoint.key.clone(),
            uid: endpoint.uid.clone(),
            nic: Some(item.nic.clone()),
        };
        let pool = seen.pools.get(&item.pool);
        let Some(Ok(records)) = pool.map(|pool| &pool.records) else {
            continue;
        };
        let recorded = records.get(&item.address);
        if recorded.is_some_and(|recorded| recorded.pod == owner.pod) {
            continue;
        }
        // On its way out a pod gives its addresses back, the record first.
        if !seen.stay.contains(&endpoint.uid) {
            continue;
        }
        let instead = recorded.filter(|recorded| !seen.runs(&recorded.uid));
        if recorded.is_none() || instead.is_some() {
            faults.push(Fault::MissingRecord {
                pool: item.pool.clone(),
                address: item.address,
                owner: owner.clone(),
                instead: instead.cloned(),
            });
        }
        users.entry(item.address).or_default().insert(user(&item.pool, owner));
    }
}

fn of_subnet(seen: &Seen, subnet: &str, given: &BTreeMap<String, RangeSet>, faults: &mut Vec<Fault>) {
    let nothing = RangeSet::new();
    for (name, pool) in &seen.pools {
        let Some((family, total)) = &pool.total else { continue };
        if pool.subnet.as_deref() != Some(subnet) {
            continue;
        }
        let ranges = total.difference(given.get(name).unwrap_or(&nothing));
        if !ranges.is_empty() {
            faults.push(Fault::Accounting {
                subnet: subnet.to_owned(),
                pool: name.clone(),
                family: *family,
                ranges,
            });
        }
    }
}

/// Whether a pool may put an address on record again: it is one of its own, and nobody has it.
pub fn may_record(pool: &Pool, address: IpAddr) -> bool {
    let (family, bits) = addr::to_bits(address);
    let own = pool
        .total
        .as_ref()
        .is_some_and(|(of, total)| *of == family && total.contains(bits));
    own && pool
        .records
        .as_ref()
        .is_ok_and(|records| !records.contains_key(&address))
}
