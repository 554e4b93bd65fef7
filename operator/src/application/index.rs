//! All applications that were seen, with an index by the subnets they name.
//!
//! A subnet is named here from the moment an application asks for it, whether it exists or not, so that an application which
//! waits for a subnet is found the moment that subnet appears.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, PoisonError, RwLock};

use super::{AppId, Application, Asked};
use crate::kinds::KindId;

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
    /// before; none at all if nothing changed that matters. One that asks for nothing is not kept: most workloads do not.
    pub fn put(&self, app: Application) -> Option<BTreeSet<String>> {
        let id = app.id();
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        match known.by_id.get(&id) {
            Some(old) if **old == app => return None,
            None if app.asked == Asked::Nothing => return None,
            Some(_) | None => {}
        }
        let mut concerned = known.remove(&id);
        if app.asked != Asked::Nothing {
            for subnet in app.subnets() {
                known.by_subnet.entry(subnet.clone()).or_default().insert(id.clone());
                concerned.insert(subnet);
            }
            known.by_id.insert(id, Arc::new(app));
        }
        Some(concerned)
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

    /// The applications of a kind.
    pub fn of_kind(&self, kind: &KindId) -> Vec<Arc<Application>> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let of_kind = known.by_id.iter().filter(|(id, _)| kind.has(id));
        of_kind.map(|(_, app)| app.clone()).collect()
    }

    /// All applications.
    pub fn all(&self) -> Vec<Arc<Application>> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.by_id.values().cloned().collect()
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
        let subnets = old.subnets();
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
            terminating: false,
            asked: Asked::Pools(Request {
                number: IpNumber::Fixed(1),
                size: 1,
                beyond_limit: None,
                stuck: None,
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

    fn put(apps: &Applications, app: Application) -> BTreeSet<String> {
        apps.put(app).unwrap_or_default()
    }

    #[test]
    fn a_change_concerns_old_and_new_subnets() {
        let apps = Applications::default();
        assert_eq!(names(&put(&apps, app("a", 1, &["x", "y"]))), ["x", "y"]);
        assert_eq!(names(&put(&apps, app("a", 1, &["x", "y"]))), [""; 0]);
        assert_eq!(names(&put(&apps, app("a", 1, &["y", "z"]))), ["x", "y", "z"]);
        assert!(apps.naming("x").is_empty());
        assert_eq!(names(&apps.remove(&app("a", 1, &[]).id())), ["y", "z"]);
        assert!(apps.subnets().is_empty());
    }

    #[test]
    fn what_asks_for_nothing_is_not_kept() {
        let apps = Applications::default();
        let silent = || Application {
            asked: Asked::Nothing,
            ..app("a", 1, &[])
        };
        assert_eq!(apps.put(silent()), None);
        apps.put(app("a", 1, &["x"]));
        assert_eq!(names(&put(&apps, silent())), ["x"]);
        assert!(apps.all().is_empty() && apps.subnets().is_empty());
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
