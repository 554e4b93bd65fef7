//! All applications that were seen, with an index by the subnets they name.
//!
//! A subnet is named here from the moment an application asks for it, whether it exists or not, so that an application which
//! waits for a subnet is found the moment that subnet appears.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, PoisonError, RwLock};

use super::{AppId, Application};

/// The applications of all watched kinds.
#[derive(Debug, Default)]
pub struct Applications {
    known: RwLock<Known>,
}

#[derive(Debug, Default)]
struct Known {
    by_id: HashMap<AppId, Arc<Application>>,
    by_subnet: HashMap<String, BTreeSet<AppId>>,
}

impl Applications {
    /// Takes in an application as it is now. Gives back the subnets that it concerns: those it names, and those it named
    /// before; none if nothing changed that matters.
    pub fn put(&self, app: Application) -> BTreeSet<String> {
        let id = app.id();
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if known.by_id.get(&id).is_some_and(|old| **old == app) {
            return BTreeSet::new();
        }
        let mut concerned = known.remove(&id);
        for subnet in named(&app) {
            known.by_subnet.entry(subnet.clone()).or_default().insert(id.clone());
            concerned.insert(subnet);
        }
        known.by_id.insert(id, Arc::new(app));
        concerned
    }

    /// Takes in that an application is gone. Gives back the subnets that it named.
    pub fn remove(&self, id: &AppId) -> BTreeSet<String> {
        self.known.write().unwrap_or_else(PoisonError::into_inner).remove(id)
    }

    /// The application of this identity.
    pub fn get(&self, id: &AppId) -> Option<Arc<Application>> {
        self.known
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .by_id
            .get(id)
            .cloned()
    }

    /// The applications that name a subnet, those made earlier first.
    pub fn naming(&self, subnet: &str) -> Vec<Arc<Application>> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let ids = known.by_subnet.get(subnet).into_iter().flatten();
        let mut apps: Vec<_> = ids.filter_map(|id| known.by_id.get(id).cloned()).collect();
        apps.sort_by(|a, b| (a.since, &a.key).cmp(&(b.since, &b.key)));
        apps
    }

    /// Every subnet that is named.
    pub fn subnets(&self) -> Vec<String> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.by_subnet.keys().cloned().collect()
    }

    /// The identities for which `wanted` holds.
    pub fn ids(&self, wanted: impl Fn(&AppId) -> bool) -> Vec<AppId> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.by_id.keys().filter(|id| wanted(id)).cloned().collect()
    }
}

impl Known {
    fn remove(&mut self, id: &AppId) -> BTreeSet<String> {
        let Some(old) = self.by_id.remove(id) else {
            return BTreeSet::new();
        };
        let subnets = named(&old);
        for subnet in &subnets {
            if let Some(ids) = self.by_subnet.get_mut(subnet) {
                ids.remove(id);
                if ids.is_empty() {
                    self.by_subnet.remove(subnet);
                }
            }
        }
        subnets
    }
}

fn named(app: &Application) -> BTreeSet<String> {
    let slots = app
        .asked
        .request()
        .map(|request| request.slots.as_slice())
        .unwrap_or_default();
    slots.iter().flat_map(|slot| slot.subnets.iter().cloned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::application::{Asked, Request, Slot};
    use spiderpool_crds::annotations::IpNumber;
    use spiderpool_crds::app::AppKey;
    use spiderpool_ipam::Family;

    fn app(name: &str, second: i64, subnets: &[&str]) -> Application {
        Application {
            key: AppKey::new("apps/v1", "Deployment", "ns", name),
            uid: format!("uid-{name}"),
            since: jiff::Timestamp::from_second(second).ok(),
            asked: Asked::Pools(Request {
                number: IpNumber::Fixed(1),
                size: 1,
                reclaim: true,
                slots: vec![Slot {
                    nic: "eth0".to_owned(),
                    family: Family::V4,
                    subnets: subnets.iter().map(|name| (*name).to_owned()).collect(),
                }],
            }),
        }
    }

    fn names(subnets: &BTreeSet<String>) -> Vec<&str> {
        subnets.iter().map(String::as_str).collect()
    }

    #[test]
    fn a_change_concerns_old_and_new_subnets() {
        let apps = Applications::default();
        assert_eq!(names(&apps.put(app("a", 1, &["x", "y"]))), ["x", "y"]);
        assert_eq!(names(&apps.put(app("a", 1, &["x", "y"]))), [""; 0]);
        assert_eq!(names(&apps.put(app("a", 1, &["y", "z"]))), ["x", "y", "z"]);
        assert!(apps.naming("x").is_empty());
        assert_eq!(names(&apps.remove(&app("a", 1, &[]).id())), ["y", "z"]);
        assert!(apps.subnets().is_empty());
    }

    #[test]
    fn who_was_made_first_comes_first() {
        let apps = Applications::default();
        for (name, second) in [("b", 2), ("c", 1), ("a", 2)] {
            apps.put(app(name, second, &["x"]));
        }
        let order: Vec<_> = apps.naming("x").iter().map(|app| app.key.name.clone()).collect();
        assert_eq!(order, ["c", "a", "b"]);
    }
}
