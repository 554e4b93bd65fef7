//! Which of several subnets an application's pool comes from.
//!
//! The names in an annotation are alternatives, the best first. A pool that exists stays where it is; only a pool yet to be
//! made is placed. Subnets are worked on side by side, so a place once chosen is remembered: otherwise two subnets that
//! look at the application at the same time could both make a pool for it. A subnet that turns out to refuse the application
//! gives it away itself, in its own pass, and is remembered too ([`super::refused`]).

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use spiderpool_ipam::autopool::Blocked;

use super::refused::Refused;
use crate::application::SlotId;

/// What a subnet has to offer for one wanted pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Room {
    /// Enough addresses.
    Enough,
    /// Fewer free addresses than wanted.
    Short,
    /// It has refused lately, and has no more free addresses now.
    Refused,
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
    /// Which subnets are not to be chosen, since they have refused.
    pub refused: Refused,
}

#[derive(Debug)]
struct Place {
    uid: String,
    subnet: String,
    /// Whether others are served before it there.
    waits: bool,
}

/// Where a slot is to get its pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    /// The subnet.
    pub subnet: String,
    /// Whether that subnet has something to do because of this: it was chosen just now, or the slot waits there in vain
    /// while another has room. To be told to it at once, since it is said only once.
    pub wake: bool,
}

impl Placements {
    /// The place of a slot: the remembered one if it still is among `subnets` and was chosen for this very application,
    /// else what `choose` says now. It is not moved from a subnet where it waits: that one might just be making the pool.
    pub fn place<E>(
        &self,
        slot: &SlotId,
        uid: &str,
        subnets: &[String],
        choose: impl FnOnce() -> Result<String, E>,
    ) -> Result<Placed, E> {
        let mut places = self.lock();
        if let Some(place) = places
            .get(slot)
            .filter(|place| place.uid == uid && subnets.contains(&place.subnet))
        {
            return Ok(Placed {
                subnet: place.subnet.clone(),
                wake: place.waits && choose().is_ok(),
            });
        }
        let subnet = choose()?;
        let place = Place {
            uid: uid.to_owned(),
            subnet: subnet.clone(),
            waits: false,
        };
        places.insert(slot.clone(), place);
        Ok(Placed { subnet, wake: true })
    }

    /// Takes down that a slot waits in its place, behind others.
    pub fn waits(&self, slot: &SlotId, subnet: &str) {
        if let Some(place) = self.lock().get_mut(slot).filter(|place| place.subnet == subnet) {
            place.waits = true;
        }
    }

    /// Gives a slot away: it cannot have its pool in `subnet`.
    pub fn leave(&self, slot: &SlotId, subnet: &str) {
        let mut places = self.lock();
        if places.get(slot).is_some_and(|place| place.subnet == subnet) {
            places.remove(slot);
        }
    }

    /// Forgets a place: its pool exists.
    pub fn forget(&self, slot: &SlotId) {
        self.lock().remove(slot);
        self.refused.forget(slot);
    }

    /// Forgets all places: what an earlier leadership of this replica chose is out of date.
    pub fn reset(&self) {
        self.lock().clear();
        self.refused.reset();
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
            "full" => Room::Short,
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

    fn shop() -> SlotId {
        SlotId {
            app: AppId::from(&AppKey::new("apps/v1", "Deployment", "ns", "shop")),
            nic: "eth0".to_owned(),
            family: Family::V4,
        }
    }

    fn placed(subnet: &str, wake: bool) -> Placed {
        Placed {
            subnet: subnet.to_owned(),
            wake,
        }
    }

    #[test]
    fn a_place_stays_until_it_is_forgotten_or_the_application_is_another() {
        let (placements, slot) = (Placements::default(), shop());
        let subnets = names(&["a", "b"]);
        let place = |uid: &str, subnets: &[String], now: &str| {
            placements
                .place(&slot, uid, subnets, || Ok::<_, ()>(now.to_owned()))
                .unwrap()
        };
        assert_eq!(place("1", &subnets, "b"), placed("b", true));
        assert_eq!(place("1", &subnets, "a"), placed("b", false));
        assert_eq!(place("2", &subnets, "a"), placed("a", true));
        assert_eq!(place("2", &names(&["c"]), "c"), placed("c", true));
        placements.forget(&slot);
        assert_eq!(place("2", &subnets, "b"), placed("b", true));
        placements.leave(&slot, "a");
        assert_eq!(place("2", &subnets, "a"), placed("b", false));
        placements.leave(&slot, "b");
        assert_eq!(place("2", &subnets, "a"), placed("a", true));
        placements.reset();
        assert_eq!(place("2", &subnets, "b"), placed("b", true));
    }

    #[test]
    fn who_waits_stays_and_its_subnet_is_woken_only_when_there_is_room() {
        let (placements, slot) = (Placements::default(), shop());
        let subnets = names(&["a", "b"]);
        let place = |now: Result<&str, ()>| placements.place(&slot, "1", &subnets, || now.map(str::to_owned));
        assert_eq!(place(Ok("a")), Ok(placed("a", true)));
        placements.waits(&slot, "b");
        assert_eq!(place(Ok("b")), Ok(placed("a", false)));
        placements.waits(&slot, "a");
        assert_eq!(place(Err(())), Ok(placed("a", false)));
        assert_eq!(place(Ok("b")), Ok(placed("a", true)));
    }
}
