//! What applications ask for.
//!
//! An application is whatever makes pods from a template: the annotations of that template say which subnets its pods are to
//! have addresses of. This module turns a workload object into that request ([`request`]), keeps the requests of all
//! workloads with an index by subnet ([`index`]), and knows what is particular about each of Kubernetes' own kinds
//! ([`native`]). How other kinds are read is the business of [`crate::kinds`].

pub mod index;
pub mod native;
pub mod request;

pub use index::Applications;
pub use request::{Asked, Request, Slot};

use std::collections::BTreeSet;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::core::ObjectMeta;
use spiderpool_crds::app::AppKey;
use spiderpool_crds::native::Workload;
use spiderpool_ipam::Family;

use crate::context::Context;
use crate::kinds::owner;

/// Which application, whatever API version it is read in and however often it was made again.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AppId {
    /// API group.
    pub group: String,
    /// Kind.
    pub kind: String,
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
}

impl From<&AppKey> for AppId {
    fn from(key: &AppKey) -> Self {
        Self {
            group: key.group.clone(),
            kind: key.kind.clone(),
            namespace: key.namespace.clone(),
            name: key.name.clone(),
        }
    }
}

/// One pool's worth of an application: the pool that serves this interface with addresses of this family.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SlotId {
    /// The application.
    pub app: AppId,
    /// The interface of its pods.
    pub nic: String,
    /// The family.
    pub family: Family,
}

/// A workload as it was last seen.
#[derive(Clone, Debug, PartialEq)]
pub struct Application {
    /// Its key, as labels and accounting spell it.
    pub key: AppKey,
    /// Its UID, which tells it from a predecessor of the same name.
    pub uid: String,
    /// When it was made: who comes first is served first.
    pub since: Option<Timestamp>,
    /// Whether it is being deleted. It keeps its pools until it is gone, and gets no new ones.
    pub terminating: bool,
    /// What it asks for.
    pub asked: Asked,
}

impl Application {
    /// The application that an object is. One whose pods belong to its own controller asks for nothing.
    pub fn of(context: &Context, key: AppKey, meta: &ObjectMeta, workload: &Workload) -> Self {
        let asked = match owner::above_it(context, &key, meta) {
            Some(_) => Asked::Nothing,
            None => Asked::by(workload, &context.config),
        };
        Self {
            key,
            uid: meta.uid.clone().unwrap_or_default(),
            since: meta.creation_timestamp.as_ref().map(|time| time.0),
            terminating: meta.deletion_timestamp.is_some(),
            asked,
        }
    }

    /// The identities of the pools it asks for.
    pub fn slot_ids(&self) -> Vec<SlotId> {
        let slots = self.asked.request().map(|request| request.slots.as_slice());
        slots
            .unwrap_or_default()
            .iter()
            .map(|slot| self.slot_id(slot))
            .collect()
    }

    /// The subnets it names.
    pub fn subnets(&self) -> BTreeSet<String> {
        let slots = self.asked.request().map(|request| request.slots.as_slice());
        let slots = slots.unwrap_or_default();
        slots.iter().flat_map(|slot| slot.subnets.iter().cloned()).collect()
    }

    /// Its identity.
    pub fn id(&self) -> AppId {
        AppId::from(&self.key)
    }

    /// The identity of one of its pools.
    pub fn slot_id(&self, slot: &Slot) -> SlotId {
        SlotId {
            app: self.id(),
            nic: slot.nic.clone(),
            family: slot.family,
        }
    }

    /// A reference for Events about it.
    pub fn reference(&self) -> ObjectReference {
        ObjectReference {
            api_version: Some(self.key.api_version()),
            kind: Some(self.key.kind.clone()),
            namespace: Some(self.key.namespace.clone()),
            name: Some(self.key.name.clone()),
            uid: Some(self.uid.clone()),
            ..ObjectReference::default()
        }
    }
}
