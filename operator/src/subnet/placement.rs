//! Which of several subnets an application's pool comes from.
//!
//! The names in an annotation are alternatives, the best first. A pool that exists stays where it is; only a pool yet to be
//! made is placed. Subnets are worked on side by side, so a place once chosen is remembered: otherwise two subnets that
//! look at the application at the same time could both make a pool for it.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use spiderpool_ipam::autopool::Blocked;

use crate::application::SlotId;

/// What a subnet has to offer for one wanted pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Room {
    /// Enough addresses.
    Enough,
    /// Fewer free addresses than wanted.
    Short {
        /// How many are free.
        free: u128,
    },
    /// Enough addresses, but objects would become too large.
    Limited(Blocked),
    /// No subnet of that name.
    Missing,
    /// It is of the other family.
    WrongFamily,
    /// It is being deleted.
    Terminating,
    /// Its spec does not parse.
    Invalid(String),
}

/// The first subnet with room; or, for each, why it is not.
pub fn choose(subnets: &[String], mut room: impl FnMut(&str) -> Room) -> Result<&str, Vec<(String, Room)>> {
    let mut refusals = Vec::new();
    for name in subnets {
        match room(name) {
            Room::Enough => return Ok(name),
            why => refusals.push((name.clone(), why)),
        }
    }
    Err(refusals)
}

/// Places chosen for pools that do not exist yet.
#[derive(Debug, Default)]
pub struct Placements {
    places: Mutex<HashMap<SlotId, Place>>,
}

#[derive(Debug)]
struct Place {
    uid: String,
    subnet: String,
}

impl Placements {
    /// The place of a slot: the remembered one if it still is among `subnets` and was chosen for this very application,
    /// else what `choose` says now.
    pub fn place<E>(
        &self,
        slot: &SlotId,
        uid: &str,
        subnets: &[String],
        choose: impl FnOnce() -> Result<String, E>,
    ) -> Result<String, E> {
        let mut places = self.lock();
        if let Some(place) = places
            .get(slot)
            .filter(|place| place.uid == uid && subnets.contains(&place.subnet))
        {
            return Ok(place.subnet.clone());
        }
        let subnet = choose()?;
        let place = Place {
            uid: uid.to_owned(),
            subnet: subnet.clone(),
        };
        places.insert(slot.clone(), place);
        Ok(subnet)
    }

    /// Forgets a place: its pool exists, or could not be made there.
    pub fn forget(&self, slot: &SlotId) {
        let mut places = self.lock();
        if !places.is_empty() {
            places.remove(slot);
        }
    }

    /// Forgets all places: what an earlier leadership of this replica chose is out of date.
    pub fn reset(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SlotId, Place>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::application::AppId;
    use spiderpool_crds::app::AppKey;
    use spiderpool_ipam::Family;

    fn names(list: &[&str]) -> Vec<String> {
        list.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn the_first_with_room_wins() {
        let subnets = names(&["missing", "full", "b", "c"]);
        let room = |name: &str| match name {
            "missing" => Room::Missing,
            "full" => Room::Short { free: 1 },
            _ => Room::Enough,
        };
        assert_eq!(choose(&subnets, room), Ok("b"));
    }

    #[test]
    fn every_refusal_is_told() {
        let subnets = names(&["a", "b"]);
        let room = |name: &str| if name == "a" { Room::Missing } else { Room::WrongFamily };
        let refusals = vec![("a".to_owned(), Room::Missing), ("b".to_owned(), Room::WrongFamily)];
        assert_eq!(choose(&subnets, room), Err(refusals));
    }

    #[test]
    fn a_place_stays_until_it_is_forgotten_or_the_application_is_another() {
        let placements = Placements::default();
        let slot = SlotId {
            app: AppId::from(&AppKey::new("apps/v1", "Deployment", "ns", "shop")),
            nic: "eth0".to_owned(),
            family: Family::V4,
        };
        let subnets = names(&["a", "b"]);
        let place = |uid: &str, subnets: &[String], now: &str| {
            placements
                .place(&slot, uid, subnets, || Ok::<_, ()>(now.to_owned()))
                .unwrap()
        };
        assert_eq!(place("1", &subnets, "b"), "b");
        assert_eq!(place("1", &subnets, "a"), "b");
        assert_eq!(place("2", &subnets, "a"), "a");
        assert_eq!(place("2", &names(&["c"]), "c"), "c");
        placements.forget(&slot);
        assert_eq!(place("2", &subnets, "b"), "b");
    }
}
