//! Notes about addresses that no pod has: when they are made, and what gives way to what.

use super::PoolState;
use crate::pools::hold::{self, Foreign};
use spiderpool_crds::records::{Held, HeldReason};
use spiderpool_ipam::{Owner, addr};
use std::net::IpAddr;

impl PoolState {
    /// Notes that an address of the pool was freed by a pod.
    pub(super) fn cool_down(&mut self, ip: IpAddr, pod: &str) {
        let reuse = self.shelf.reuse();
        let Some(note) = self.held.freed(ip, pod, reuse, self.shelf.cooling(), self.now) else {
            return;
        };
        if reuse.is_set() {
            // It takes the place of a record, which is as long.
            self.take_note(ip);
            self.put_note(ip, note);
        } else {
            self.hold(ip, note);
        }
    }

    /// Keeps an address from everybody for a while because a host answers for it that was not given it. The record of the NIC
    /// that found out goes with the same write; a record of anybody else stays, and so does the address with it. Tells what
    /// became of the address; nothing if nothing changed.
    pub fn quarantine(&mut self, ip: IpAddr, owner: &Owner, by: &str, percent: u8) -> Option<HeldReason> {
        let (family, bits) = addr::to_bits(ip);
        if family != self.family() || !self.ledger.total().contains(bits) {
            return None;
        }
        let recorded = self.ledger.owner(bits).cloned();
        let nic = owner.nic.as_deref().unwrap_or_default();
        let own = |recorded: &Owner| recorded.pod == owner.pod && recorded.is(&owner.uid, nic);
        if !recorded.as_ref().is_none_or(own) {
            return None;
        }
        let foreign = Foreign {
            ip,
            by,
            had: recorded.as_ref().map(|recorded| recorded.pod.as_str()),
        };
        let share = hold::share(self.ledger.total().count(), percent);
        let note = hold::quarantine(&self.held, self.shelf.reuse(), &foreign, share, self.now)?;
        let reason = note.reason.clone();
        if !self.hold(ip, note) {
            return None;
        }
        if let Some(recorded) = recorded {
            self.ledger.give_back(bits, &recorded);
            if let Some(record) = self.records.remove(ip) {
                self.size.shrink(ip, &record);
            }
        }
        Some(reason)
    }

    /// Notes that an address is held. Says whether the object has room for the note.
    fn hold(&mut self, ip: IpAddr, note: Held) -> bool {
        let before = self.take_note(ip);
        self.put_note(ip, note);
        let fits = self.make_room_but(Some(ip));
        if !fits {
            self.take_note(ip);
            if let Some(before) = before {
                self.put_note(ip, before);
            }
        }
        fits
    }

    /// Whether what is to be written may be. In an object that is full, notes of addresses that come last give way: a record or
    /// a quarantine is worth more than an order. What others wait for stays.
    pub(super) fn make_room(&mut self) -> bool {
        self.make_room_but(None)
    }

    fn make_room_but(&mut self, kept: Option<IpAddr>) -> bool {
        while !self.size.fits(&self.object) {
            let kept = kept.map(|ip| addr::to_bits(ip).1);
            let Some(bits) = self.shelf.expendable().find(|bits| Some(*bits) != kept) else {
                return false;
            };
            self.take_note(addr::from_bits(self.family(), bits));
        }
        true
    }

    pub(super) fn put_note(&mut self, ip: IpAddr, note: Held) {
        self.size.grow(ip, &note);
        let (family, bits) = addr::to_bits(ip);
        if family == self.family() {
            self.shelf.put(bits, note.note(), note.until);
        }
        self.held.insert(ip, note);
    }

    pub(super) fn take_note(&mut self, ip: IpAddr) -> Option<Held> {
        let (family, bits) = addr::to_bits(ip);
        if family == self.family() {
            self.shelf.remove(bits);
        }
        let note = self.held.remove(ip)?;
        self.size.shrink(ip, &note);
        Some(note)
    }
}
