//! A pod takes over an address that an earlier pod of its identity had.

use super::PoolState;
use spiderpool_crds::records::Record;
use spiderpool_ipam::candidates::Rejection;
use spiderpool_ipam::{Owner, RangeSet, addr};
use std::collections::BTreeSet;
use std::net::IpAddr;

/// What became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Succession {
    /// The pod has it.
    Own {
        /// Whether the pool's records changed.
        written: bool,
    },
    /// It is on record for somebody whom the pod may not follow, or not yet.
    Other(Owner),
    /// It is on record for nobody, and the pod cannot have it.
    Lost(Rejection),
}

impl PoolState {
    /// Puts an owner back on record for an address that it uses. Where that is free nothing else counts: neither that the pool gives out
    /// nothing any more, nor that the address is kept from others.
    pub fn restore(&mut self, ip: IpAddr, owner: &Owner) -> Succession {
        let (family, bits) = addr::to_bits(ip);
        if family != self.family() || !self.ledger.total().contains(bits) {
            return Succession::Lost(Rejection::AddressOutside(ip));
        }
        if let Some(found) = self.ledger.owner(bits).cloned() {
            return match found.uid == owner.uid {
                true => Succession::Own {
                    written: self.place(ip, &owner.uid),
                },
                false if self.is_past(ip) => self.retake(ip, &found, owner),
                false => Succession::Other(found),
            };
        }
        let record = self.record(owner.clone());
        self.size.grow(ip, &record);
        if !self.make_room() || !self.ledger.take_exact(bits, owner.clone()) {
            self.size.shrink(ip, &record);
            let records = self.records.len();
            return Succession::Lost(Rejection::RecordLimit { records });
        }
        self.records.insert(ip, record);
        Succession::Own { written: true }
    }

    /// Puts the owner in the place of one of the UIDs in `former`, if the record is that of the same identity and NIC. An address
    /// that is on record for nobody is claimed as any other would be: the pool may have forgotten it, but it is not handed out
    /// without a record.
    pub fn succeed(&mut self, ip: IpAddr, owner: &Owner, former: &BTreeSet<String>, reserved: &RangeSet) -> Succession {
        let nic = owner.nic.as_deref().unwrap_or_default();
        let (family, bits) = addr::to_bits(ip);
        if family != self.family() {
            return Succession::Lost(Rejection::AddressOutside(ip));
        }
        let Some(found) = self.ledger.owner(bits).cloned() else {
            return match self.claim(owner, Some(ip), reserved) {
                Ok(taken) if taken.ip == ip => Succession::Own { written: taken.written },
                // The NIC has another one of the pool by now.
                Ok(_) => Succession::Lost(Rejection::AddressOutside(ip)),
                Err(rejection) => Succession::Lost(rejection),
            };
        };
        // A record without a NIC is the peer's, whose endpoint tells the NIC.
        let same = found.pod == owner.pod && found.nic.as_deref().is_none_or(|own| own == nic);
        if !same || (found.uid != owner.uid && !former.contains(&found.uid)) {
            return Succession::Other(found);
        }
        if found == *owner {
            let written = self.place(ip, &owner.uid);
            return Succession::Own { written };
        }
        let before = self.records.get(ip).cloned().unwrap_or_default();
        // Members that other programs added to the record stay with it.
        let after = Record {
            other: before.other.clone(),
            ..self.record(owner.clone())
        };
        self.size.shrink(ip, &before);
        self.size.grow(ip, &after);
        if !self.make_room() {
            self.size.shrink(ip, &after);
            self.size.grow(ip, &before);
            let records = self.records.len();
            return Succession::Lost(Rejection::RecordLimit { records });
        }
        self.ledger.hand_over(bits, &found, owner.clone());
        self.records.insert(ip, after);
        Succession::Own { written: true }
    }
}
