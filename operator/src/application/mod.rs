//! What applications ask for.
//!
//! An application is whatever makes pods from a template: the annotations of that template say which subnets its pods are to
//! have addresses of. This module turns a workload object into that request ([`request`]), keeps the requests of all
//! workloads with an index by subnet ([`index`]), and knows what is particular about each kind ([`deployment`]).

pub mod deployment;
pub mod index;
pub mod request;

pub use index::Applications;
pub use request::{Asked, Request, Slot};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use spiderpool_crds::app::AppKey;
use spiderpool_ipam::Family;

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
    /// What it asks for.
    pub asked: Asked,
}

impl Application {
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
