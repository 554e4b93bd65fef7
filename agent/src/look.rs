//! A look at the records of pools, for those who explain: would this NIC get an address there, and which?
//!
//! It is an opinion of the watch cache. Whoever claims asks the pool's writer instead.

use crate::choose::pool_facts;
use crate::pools::PoolState;
use spiderpool_crds::SpiderIPPool;
use spiderpool_ipam::candidates::{PoolFacts, Rejection, Room};
use spiderpool_ipam::{Owner, RangeSet};
use std::net::IpAddr;
use std::sync::Arc;

/// For whom the records are looked at.
#[derive(Clone, Debug)]
pub struct Look<'a> {
    /// The pod's NIC.
    pub owner: Owner,
    /// The address that it asks for.
    pub exact: Option<IpAddr>,
    /// Reserved addresses of the family.
    pub reserved: &'a RangeSet,
}

impl Look<'_> {
    /// What the rules need to know of a pool, and whether it has an address.
    pub fn facts(&self, pool: &Arc<SpiderIPPool>) -> PoolFacts {
        let room = match self.would_get(pool) {
            Ok(_) => Room::Free,
            Err(rejection) => Room::None(rejection),
        };
        PoolFacts {
            room,
            ..pool_facts(pool)
        }
    }

    /// The address that the NIC would be given, or has.
    pub fn would_get(&self, pool: &Arc<SpiderIPPool>) -> Result<IpAddr, Rejection> {
        let mut state = PoolState::read(pool.clone()).map_err(|unusable| Rejection::Broken(unusable.to_string()))?;
        let taken = state.claim(&self.owner, self.exact, self.reserved)?;
        Ok(taken.ip)
    }
}
