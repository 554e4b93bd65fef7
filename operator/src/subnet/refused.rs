//! Which subnets have lately refused an application that may go to several.
//!
//! What a subnet has to offer is estimated by passes over other subnets, and they do not see what its own pass sees: that
//! what is free is kept for somebody else. Without memory, two such subnets would send an application to each other for
//! ever. So a subnet that refused is not chosen again before it has more to give.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::application::SlotId;
use crate::metrics::KEPT;

/// For how long a refusal counts: as long as what is free is kept for others.
pub const REMEMBERED: Duration = KEPT;

/// What a subnet refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offer {
    /// How many addresses were free.
    pub free: u128,
    /// How many were wanted.
    pub wanted: u128,
}

/// What refused one slot and when, by the subnet's name.
type BySubnet = HashMap<String, (Offer, Instant)>;

/// The refusals of late.
#[derive(Debug, Default)]
pub struct Refused {
    by_slot: Mutex<HashMap<SlotId, BySubnet>>,
}

impl Refused {
    /// Takes down that a subnet refused a slot.
    pub fn add(&self, slot: &SlotId, subnet: &str, offer: Offer) {
        let mut by_slot = self.lock();
        by_slot.retain(|_, subnets| {
            subnets.retain(|_, (_, at)| at.elapsed() < REMEMBERED);
            !subnets.is_empty()
        });
        let subnets = by_slot.entry(slot.clone()).or_default();
        subnets.insert(subnet.to_owned(), (offer, Instant::now()));
    }

    /// Whether a subnet would refuse a slot again. `offer` is what is free and wanted now.
    pub fn would_again(&self, slot: &SlotId, subnet: &str, offer: impl FnOnce() -> Offer) -> bool {
        let known = self
            .lock()
            .get(slot)
            .and_then(|subnets| subnets.get(subnet))
            .filter(|(_, at)| at.elapsed() < REMEMBERED)
            .map(|(known, _)| *known);
        known.is_some_and(|known| {
            let now = offer();
            now.free <= known.free && now.wanted >= known.wanted
        })
    }

    /// Forgets what refused a slot: it has its pool.
    pub fn forget(&self, slot: &SlotId) {
        self.lock().remove(slot);
    }

    /// Forgets everything.
    pub fn reset(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SlotId, BySubnet>> {
        self.by_slot.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::application::AppId;
    use spiderpool_crds::app::AppKey;
    use spiderpool_ipam::Family;

    #[tokio::test(start_paused = true)]
    async fn a_subnet_refuses_until_it_has_more_or_less_is_wanted_or_time_has_passed() {
        let slot = SlotId {
            app: AppId::from(&AppKey::new("apps/v1", "Deployment", "ns", "shop")),
            nic: "eth0".to_owned(),
            family: Family::V4,
        };
        let refused = Refused::default();
        let again = |subnet: &str, free, wanted| refused.would_again(&slot, subnet, || Offer { free, wanted });
        assert!(!again("a", 3, 2));
        refused.add(&slot, "a", Offer { free: 3, wanted: 2 });
        assert!(again("a", 3, 2) && again("a", 2, 5));
        assert!(!again("a", 4, 2) && !again("a", 3, 1) && !again("b", 3, 2));
        tokio::time::advance(REMEMBERED).await;
        assert!(!again("a", 3, 2));
        refused.add(&slot, "b", Offer { free: 0, wanted: 2 });
        refused.forget(&slot);
        assert!(!again("b", 0, 2));
    }
}
