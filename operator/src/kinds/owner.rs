//! Whom pods belong to, by the caches.

use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::core::ObjectMeta;
use spiderpool_crds::app::AppKey;
use spiderpool_crds::owner::{Above, MAX_STEPS, above};
use spiderpool_kit::cache::{Cache, Object};

use super::KindId;
use crate::application::native::controller;
use crate::context::Context;

/// An application that a chain of controllers leads to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Led {
    /// Its key.
    pub key: AppKey,
    /// Its UID, as the reference to it says.
    pub uid: String,
}

impl Led {
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

/// The key of what a reference names.
pub fn key(owner: &OwnerReference, namespace: &str) -> AppKey {
    AppKey::new(&owner.api_version, &owner.kind, namespace, &owner.name)
}

/// The application that a pod's controller leads to; none while the controller has not been seen.
pub fn application(context: &Context, namespace: &str, owner: &OwnerReference) -> Option<Led> {
    let mut led = Led {
        key: key(owner, namespace),
        uid: owner.uid.clone(),
    };
    for _ in 0..MAX_STEPS {
        let meta = match (&*led.key.group, &*led.key.kind) {
            ("apps", "ReplicaSet") => seen::<ReplicaSet>(&context.caches.replica_sets, &led)?,
            ("batch", "Job") => seen::<Job>(&context.caches.jobs, &led)?,
            _ => break,
        };
        match above_it(context, &led.key, &meta) {
            Some(above) => led = above,
            None => break,
        }
    }
    Some(led)
}

/// What the pods of a ReplicaSet or Job belong to instead of it.
pub fn above_it(context: &Context, child: &AppKey, meta: &ObjectMeta) -> Option<Led> {
    let owner = controller(meta)?;
    let parent = key(owner, &child.namespace);
    let belongs = match above((&child.group, &child.kind), (&parent.group, &parent.kind)) {
        Above::Owner => true,
        Above::Itself => false,
        Above::IfItScales => context.kinds.scales(&KindId::new(&*parent.group, &*parent.kind)),
    };
    belongs.then(|| Led {
        key: parent,
        uid: owner.uid.clone(),
    })
}

fn seen<K: Object>(cache: &Cache<K>, led: &Led) -> Option<ObjectMeta> {
    let object = cache.get(&led.key.namespace, &led.key.name)?;
    (object.meta().uid.as_ref() == Some(&led.uid)).then(|| object.meta().clone())
}
