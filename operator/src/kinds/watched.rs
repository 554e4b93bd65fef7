//! A watched kind of workload, read the same way whatever its type.

use std::sync::{Arc, Mutex, PoisonError};

use futures::future::BoxFuture;
use kube::api::ListParams;
use kube::core::{ApiResource, DynamicObject};
use kube::{Api, Client};
use spiderpool_kit::cache::{Cache, Change, Held, Key, WaitError};
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

    /// The keys of all objects.
    fn keys(&self) -> Vec<Key>;

    /// Takes in an object as it is now, or that it is gone.
    fn refresh(&self, context: &Context, namespace: &str, name: &str);

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
    /// Whether a missing object may be missing because its API version is.
    versioned: bool,
    /// Held from the look at the cache to the change of the index, so that whoever comes last brings the newest state.
    order: Mutex<()>,
}

impl<K: Native> Watched<K> {
    /// A kind of Kubernetes itself.
    pub fn native(cache: Cache<K>) -> Arc<Self> {
        let resource = ApiResource::erase::<K>(&());
        let read = |context: &Context, object: &K| {
            let meta = object.meta();
            Application::of(context, native::key::<K>(meta), meta, &object.workload())
        };
        Self::with(cache, resource, Box::new(read), false)
    }
}

impl<K: Held> Watched<K> {
    /// A kind whose objects are understood by `read`.
    pub fn new(cache: Cache<K>, resource: ApiResource, read: Reader<K>) -> Arc<Self> {
        Self::with(cache, resource, read, true)
    }

    fn with(cache: Cache<K>, resource: ApiResource, read: Reader<K>, versioned: bool) -> Arc<Self> {
        Arc::new(Self {
            id: KindId::new(&*resource.group, &*resource.kind),
            resource,
            cache,
            read,
            versioned,
            order: Mutex::new(()),
        })
    }

    /// Keeps the index of applications as the objects are, for as long as the cache is fed.
    pub async fn follow(self: Arc<Self>, context: Arc<Context>) {
        let mut changes = self.cache.subscribe();
        index(&context, &*self);
        while let Some(change) = changes.next().await {
            match change {
                Change::Applied { new, .. } => {
                    self.take(&context, &Key::of_meta(new.meta()));
                    workloads::child_changed(&context, &self.id, new.meta());
                }
                Change::Deleted(gone) => self.take(&context, &Key::of_meta(gone.meta())),
                // What it asked for before stands until it can be read again.
                Change::Malformed(bad) => {
                    tracing::warn!(kind = %self.id, object = %bad.key, error = bad.error, "cannot be read");
                }
                Change::Resynced => index(&context, &*self),
            }
        }
    }

    fn take(&self, context: &Context, key: &Key) {
        let _order = self.order.lock().unwrap_or_else(PoisonError::into_inner);
        match self.cache.get_key(key) {
            Some(object) => workloads::put(context, (self.read)(context, &object)),
            None if self.cache.malformed(key).is_some() => {}
            None => workloads::gone(
                context,
                &AppId {
                    group: self.id.group.clone(),
                    kind: self.id.kind.clone(),
                    namespace: key.namespace.clone(),
                    name: key.name.clone(),
                },
            ),
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

    fn keys(&self) -> Vec<Key> {
        self.cache
            .read(|store| store.iter().map(|object| Key::of_meta(object.meta())).collect())
    }

    fn refresh(&self, context: &Context, namespace: &str, name: &str) {
        self.take(context, &Key::new(namespace, name));
    }

    fn live(&self, client: Client, namespace: &str, name: &str) -> LiveAnswer {
        let api: Api<DynamicObject> = Api::namespaced_with(client, namespace, &self.resource);
        let what = format!("reading {} {namespace}/{name}", self.id.kind);
        let (name, versioned) = (name.to_owned(), self.versioned);
        Box::pin(async move {
            let found = within(write::DEADLINE, what.clone(), api.get_metadata_opt(&name)).await;
            if let Some(object) = found.map_err(write::Error::Failed)? {
                return Ok(Live::Object(object.metadata.uid.unwrap_or_default()));
            }
            if !versioned {
                return Ok(Live::Nothing);
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
    // Before the first list, nothing is known of what is there.
    if !kind.is_synced() {
        return;
    }
    for key in kind.keys() {
        kind.refresh(context, &key.namespace, &key.name);
    }
    for id in context.applications.ids(|id| kind.id().has(id)) {
        kind.refresh(context, &id.namespace, &id.name);
    }
}
