//! Namespaces, as far as the operator looks at them: whether one is being deleted.

use k8s_openapi::api::core::v1::Namespace;
use kube::core::ObjectMeta;
use serde::Deserialize;

use crate::application::native::trim_meta;
use crate::context::Context;

/// The part of a Namespace that matters here.
#[derive(Clone, Debug, Deserialize, kube::Resource)]
#[resource(inherit = Namespace)]
pub struct NamespaceSketch {
    /// Its metadata.
    pub metadata: ObjectMeta,
}

impl NamespaceSketch {
    /// Takes out what nobody here reads.
    pub fn trim(&mut self) {
        trim_meta(&mut self.metadata);
    }

    /// Whether it is being deleted.
    pub const fn is_ending(&self) -> bool {
        self.metadata.deletion_timestamp.is_some()
    }
}

/// Whether a namespace is being deleted, which is for ever. One that nobody knows is not.
pub fn is_ending(context: &Context, name: &str) -> bool {
    let namespace = context.caches.namespaces.get("", name);
    namespace.is_some_and(|namespace| namespace.is_ending())
}
