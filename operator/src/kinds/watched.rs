//! A watched kind of workload, read the same way whatever its type.

use std::collections::HashSet;
use std::sync::Arc;

use futures::future::BoxFuture;
use kube::api::ListParams;
use kube::core::{ApiResource, DynamicObject, ObjectMeta};
use kube::{Api, Client};
use spiderpool_kit::cache::{Cache, Change, Held, WaitError};
use spiderpool_kit::deadline::within;
use tokio::time::Instant;

use super::KindId;
use crate::application::native::{self, Native};
use crate::application::{AppId, Application};
use crate::context::Context;
use crate::triggers::workloads;
use crate::write;

/// The objects of one kind of workload.
pub trait Workloads: Send + Sync {
    /// The kind.
    fn id(&self) -> &KindId;

    /// Whether it is known which objects exist.
    fn is_synced(&self) -> bool;

    /// Waits until it is known which objects exist.
    fn synced(&self, deadline: Instant) -> BoxFuture<'_, Result<(), WaitError>>;

    /// One object, whatever it asks for.
    fn application(&self, context: &Context, namespace: &str, name: &str) -> Option<Application>;

    /// All objects, whatever they ask for.
    fn applications(&self, context: &Context) -> Vec<Application>;

    /// Reads one object live.
    fn live(&self, client: Client, namespace: &str, name: &str) -> LiveAnswer;
}

/// What a live read found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Live {
    /// No object of the name.
    Nothing,
    /// An object with this UID.
    Object(String),
    /// The API server answered in a way that says nothing about the object.
    Unknown,
}

/// A live read under way.
pub type LiveAnswer = BoxFuture<'static, Result<Live, write::Error>>;

/// From an object to what it asks for.
pub type Reader<K> = Box<dyn Fn(&Context, &K) -> Application + Send + Sync>;

/// A kind that a cache holds.
pub struct Watched<K: Held> {
    id: KindId,
    resource: ApiResource,
    cache: Cache<K>,
    read: Reader<K>,
}

impl<K: Native> Watched<K> {
    /// A kind of Kubernetes itself.
    pub fn native(cache: Cache<K>) -> Arc<Self> {
        let resource = ApiResource::erase::<K>(&());
        Self::new(
            cache,
            resource,
            Box::new(|context, object: &K| {
                Application::of(
                    context,
                    native::key::<K>(object.meta()),
                    object.meta(),
                    &object.workload(),
                )
            }),
        )
    }
}

impl<K: Held> Watched<K> {
    /// A kind whose objects are understood by `read`.
    pub fn new(cache: Cache<K>, resource: ApiResource, read: Reader<K>) -> Arc<Self> {
        Arc::new(Self {
            id: KindId::new(&*resource.group, &*resource.kind),
            resource,
            cache,
            read,
        })
    }

    /// Keeps the index of applications as the objects are, for as long as the cache is fed.
    pub async fn follow(self: Arc<Self>, context: Arc<Context>) {
        let mut changes = self.cache.subscribe();
        index(&context, &*self);
        while let Some(change) = changes.next().await {
            match change {
                Change::Applied { new, .. } => {
                    workloads::put(&context, (self.read)(&context, &new));
                    workloads::child_changed(&context, &self.id, new.meta());
                }
                Change::Deleted(gone) => workloads::gone(&context, &self.app_id(gone.meta())),
                // What it asked for before stands until it can be read again.
                Change::Malformed(bad) => {
                    tracing::warn!(kind = %self.id, object = %bad.key, error = bad.error, "cannot be read");
                }
                Change::Resynced => index(&context, &*self),
            }
        }
    }

    fn app_id(&self, meta: &ObjectMeta) -> AppId {
        AppId {
            group: self.id.group.clone(),
            kind: self.id.kind.clone(),
            namespace: meta.namespace.clone().unwrap_or_default(),
            name: meta.name.clone().unwrap_or_default(),
        }
    }
}

impl<K: Held> Workloads for Watched<K> {
    fn id(&self) -> &KindId {
        &self.id
    }

    fn is_synced(&self) -> bool {
        self.cache.is_synced()
    }

    fn synced(&self, deadline: Instant) -> BoxFuture<'_, Result<(), WaitError>> {
        Box::pin(self.cache.synced(deadline))
    }

    fn application(&self, context: &Context, namespace: &str, name: &str) -> Option<Application> {
        Some((self.read)(context, &*self.cache.get(namespace, name)?))
    }

    fn applications(&self, context: &Context) -> Vec<Application> {
        self.cache
            .list()
            .iter()
            .map(|object| (self.read)(context, object))
            .collect()
    }

    fn live(&self, client: Client, namespace: &str, name: &str) -> LiveAnswer {
        let api: Api<DynamicObject> = Api::namespaced_with(client, namespace, &self.resource);
        let what = format!("reading {} {namespace}/{name}", self.id.kind);
        let name = name.to_owned();
        Box::pin(async move {
            let found = within(write::DEADLINE, what.clone(), api.get_metadata_opt(&name)).await;
            if let Some(object) = found.map_err(write::Error::Failed)? {
                return Ok(Live::Object(object.metadata.uid.unwrap_or_default()));
            }
            // Not found may also mean that this version of the kind is not served any more. A list tells.
            let params = ListParams::default().limit(1);
            match within(write::DEADLINE, what, api.list_metadata(&params)).await {
                Ok(_) => Ok(Live::Nothing),
                Err(failure) if failure.is_not_found() => Ok(Live::Unknown),
                Err(failure) => Err(write::Error::Failed(failure)),
            }
        })
    }
}

/// Takes in all objects of a kind as they are, and forgets those that are not there.
pub fn index(context: &Context, kind: &dyn Workloads) {
    let mut present = HashSet::new();
    for app in kind.applications(context) {
        present.insert(app.id());
        workloads::put(context, app);
    }
    for id in context
        .applications
        .ids(|id| kind.id().has(id) && !present.contains(id))
    {
        workloads::gone(context, &id);
    }
}
