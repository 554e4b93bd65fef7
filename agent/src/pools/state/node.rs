//! On which node the pod of a record runs: only the agent there can tell whether its sandbox is gone.

use super::PoolState;
use spiderpool_crds::records::Record;
use spiderpool_ipam::{Owner, addr};
use std::net::IpAddr;

impl PoolState {
    /// The record of a claim.
    pub(super) fn record(&self, owner: Owner) -> Record {
        Record {
            node: self.node.as_deref().map(str::to_owned),
            ..Record::from(owner)
        }
    }

    /// Names the node of the claims in the record of a pod that has asked there. Says whether the record changed.
    pub(super) fn place(&mut self, ip: IpAddr, uid: &str) -> bool {
        let Some(node) = self.node.clone() else { return false };
        let known = |record: &Record| record.pod_uid != uid || record.node.as_deref() == Some(&*node);
        if self.records.get(ip).is_none_or(known) {
            return false;
        }
        self.set_node(ip, &node)
    }

    /// Names a node in the records of a pod that name none. None if the object has no room for that, else how many there were.
    pub fn place_all(&mut self, uid: &str, node: &str) -> Option<usize> {
        let own: Vec<u128> = self.ledger.of_pod(uid).map(|(bits, _)| bits).collect();
        let all = own.into_iter().map(|bits| addr::from_bits(self.family(), bits));
        let unplaced = |ip: &IpAddr| self.records.get(*ip).is_some_and(is_unplaced);
        let unplaced: Vec<IpAddr> = all.filter(unplaced).collect();
        let fits = unplaced.iter().all(|ip| self.set_node(*ip, node));
        fits.then_some(unplaced.len())
    }

    fn set_node(&mut self, ip: IpAddr, node: &str) -> bool {
        let Some(before) = self.records.remove(ip) else {
            return false;
        };
        let after = Record {
            node: Some(node.to_owned()),
            ..before.clone()
        };
        self.size.shrink(ip, &before);
        self.size.grow(ip, &after);
        let fits = self.make_room();
        if !fits {
            self.size.shrink(ip, &after);
            self.size.grow(ip, &before);
        }
        self.records.insert(ip, if fits { after } else { before });
        fits
    }
}

/// Whether a record says nothing of a node.
pub(in crate::pools) fn is_unplaced(record: &Record) -> bool {
    record.node.as_deref().is_none_or(str::is_empty)
}
