//! The automatic pools of an application: which item of the annotation is an interface's, which pools may serve it, and in
//! which order.
//!
//! A pool is found by the application's name, interface and family. Neither the API version nor the UID of the application
//! nor the pool's name decide: a pool outlives them.

use crate::choose::{self, Choice};
use crate::look::Look;
use crate::owner::Application;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;
use serde_json::json;
use spiderpool_crds::annotations::{Form, SubnetItem, SubnetRequest};
use spiderpool_crds::app::AppKey;
use spiderpool_crds::{SpiderIPPool, names};
use spiderpool_ipam::Family;
use spiderpool_ipam::candidates::{self, PodFacts, Rejection};
use std::cmp::Reverse;
use std::sync::Arc;

/// By what the cache of pools finds an application's: [`choose::identity`].
pub fn index(pool: &SpiderIPPool) -> Vec<String> {
    pool.app_key().iter().map(choose::identity).collect()
}

/// Which of its pools an application's pod may have an address of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Those of the present object of the application, in the subnets that its annotation names.
    Present,
    /// Those in the subnets that its annotation names. Those of an earlier object of the application drain as soon as the present
    /// one has its own, and are passed over then.
    Named,
    /// Those in other subnets and of earlier objects too. A pool stays in its subnet until it is replaced, and while it is, pods made
    /// by the old template and by the new one meet pools that their own annotation does not name.
    All,
}

/// The item of an interface; the error says what to write instead.
pub fn item(request: SubnetRequest, nic: &str) -> Result<SubnetItem, String> {
    let wanted = request.items.iter().position(|item| item.interface == nic);
    if let Some(found) = wanted.and_then(|at| request.items.get(at)) {
        return Ok(found.clone());
    }
    let named: Vec<String> = request
        .items
        .iter()
        .map(|item| format!("{:?}", item.interface))
        .collect();
    let named = named.join(", ");
    let (key, more) = match request.form {
        Form::Subnet => (
            names::ANNOTATION_SUBNET,
            format!("replace it by {}", names::ANNOTATION_SUBNETS),
        ),
        Form::Subnets => (names::ANNOTATION_SUBNETS, "add an item".to_owned()),
    };
    Err(format!(
        "annotation {key} names subnets for interface {named} and none for {nic:?}, which the network set-up asks for; {more}, \
         for example {}",
        completed(request.items, nic)
    ))
}

/// The list form with the items that are there and one more.
fn completed(mut items: Vec<SubnetItem>, nic: &str) -> String {
    let more = items.last().map(|last| SubnetItem {
        interface: nic.to_owned(),
        ..last.clone()
    });
    items.extend(more);
    let list: Vec<serde_json::Value> = items
        .into_iter()
        .map(|item| {
            let mut object = json!({"interface": item.interface});
            for (family, names) in [("ipv4", item.ipv4), ("ipv6", item.ipv6)] {
                if let Some(members) = object.as_object_mut().filter(|_| !names.is_empty()) {
                    members.insert(family.to_owned(), names.into());
                }
            }
            object
        })
        .collect();
    serde_json::Value::Array(list).to_string()
}

/// Whose pools are looked for.
#[derive(Clone, Copy, Debug)]
pub struct Slot<'a> {
    /// The application.
    pub app: &'a Application,
    /// What the pod asks for.
    pub choice: &'a Choice,
    /// The interface.
    pub nic: &'a str,
    /// The family.
    pub family: Family,
}

impl Slot<'_> {
    /// Names of the subnets that the annotation gives as alternatives, best first.
    pub fn subnets(&self) -> &[String] {
        self.choice.asked.names(self.family)
    }

    /// Place of a pool's subnet in the annotation; none if it is not named there.
    pub fn place(&self, pool: &SpiderIPPool) -> Option<usize> {
        let subnet = pool.owner_subnet()?;
        self.subnets().iter().position(|name| name == subnet)
    }

    /// Whether a pool is one of the application's for the interface and family, in whatever state.
    pub fn has(&self, pool: &SpiderIPPool) -> bool {
        pool.is_automatic()
            && pool.interface() == self.nic
            && pool.family().is_ok_and(|own| own == self.family)
            && pool.app_key().is_some_and(|app| {
                // The version changes under an application.
                let version = self.app.key.version.clone();
                AppKey { version, ..app } == self.app.key
            })
    }

    /// The application's pools in the order in which they are tried: as the annotation names their subnets, and in each
    /// subnet the pool of the present object of the application before those of earlier ones, the newest first. Where a
    /// pool is about to be replaced by another, the one that stays comes first in this order.
    pub fn considered(&self, pools: &[Arc<SpiderIPPool>], reach: Reach) -> Vec<Arc<SpiderIPPool>> {
        let reached = |pool: &&Arc<SpiderIPPool>| reach == Reach::All || self.place(pool).is_some();
        let own = pools.iter().filter(|pool| self.has(pool)).filter(reached);
        let mut own: Vec<Arc<SpiderIPPool>> = own.cloned().collect();
        let earlier = |pool: &SpiderIPPool| pool.label(names::LABEL_OWNER_APP_UID) != Some(&self.app.uid);
        let drain = match reach {
            Reach::Present => true,
            Reach::Named => own.iter().any(|pool| !earlier(pool) && !pool.is_terminating()),
            Reach::All => false,
        };
        if drain {
            own.retain(|pool| !earlier(pool));
        }
        own.sort_by_cached_key(|pool| {
            let made = pool.creation_timestamp().map(|Time(made)| made);
            (
                self.place(pool).unwrap_or(usize::MAX),
                earlier(pool),
                Reverse(made),
                pool.name_any(),
            )
        });
        own
    }

    /// Why none of these pools gives an address. The application's pools only; nothing is said of others.
    pub fn shortcomings(&self, pools: &[Arc<SpiderIPPool>], facts: &PodFacts, look: &Look<'_>) -> Vec<String> {
        let mut own: Vec<&Arc<SpiderIPPool>> = pools.iter().filter(|pool| self.has(pool)).collect();
        own.sort_by_key(|pool| (self.place(pool).unwrap_or(usize::MAX), pool.name_any()));
        own.into_iter()
            .map(|pool| self.shortcoming(pool, facts, look))
            .collect()
    }

    fn shortcoming(&self, pool: &Arc<SpiderIPPool>, facts: &PodFacts, look: &Look<'_>) -> String {
        let name = pool.name_any();
        let elsewhere = match (self.place(pool), pool.owner_subnet()) {
            (None, Some(subnet)) => format!(" (of SpiderSubnet {subnet}, which the annotation does not name)"),
            _ => String::new(),
        };
        match candidates::check(&look.facts(pool), self.family, facts) {
            Ok(()) => format!("IPPool {name} has had a free address since; the kubelet tries again{elsewhere}"),
            Err(rejection @ Rejection::Terminating) => format!(
                "{}; another is made when no pod has an address of it any more{elsewhere}",
                rejection.line(&name)
            ),
            Err(rejection) => format!("{}{elsewhere}", rejection.line(&name)),
        }
    }
}

#[cfg(test)]
mod tests;
