//! How a cache comes to life: with a watch behind it, or without.

use std::sync::{Arc, RwLock};

use k8s_openapi::NamespaceResourceScope;
use kube::core::{ApiResource, DeserializeGuard, DynamicObject};
use kube::{Api, Client, Resource};
use tokio::sync::{Notify, broadcast, watch};
use tokio_util::sync::CancellationToken;

use super::{Cache, FEED, Held, Inner, Object, Options, health, watch_loop};
use crate::shutdown::Process;

impl<K: Object> Cache<K> {
    /// Watches all objects of the kind that match `options`, in all namespaces, until the process stops.
    pub fn start(process: &Process, client: Client, options: Options<K>) -> Self {
        let cache = Self::detached(options);
        cache.watch(process, Api::all(client), process.token());
        cache
    }

    /// As [`Self::start`], of one namespace: for what an account may read there only.
    pub fn start_in(process: &Process, client: Client, namespace: &str, options: Options<K>) -> Self
    where
        K: Resource<Scope = NamespaceResourceScope>,
    {
        let cache = Self::detached(options);
        cache.watch(process, Api::namespaced(client, namespace), process.token());
        cache
    }

    /// A cache that nothing feeds but [`Self::learn`] and [`Self::forget`]: for tests of code that reads from a cache.
    pub fn detached(options: Options<K>) -> Self {
        let kind = K::kind(&()).into_owned();
        Self::new(kind.clone(), kind, options)
    }
}

impl Cache<DynamicObject> {
    /// Watches all objects of a kind known only at run time, in all namespaces, until `stop` is cancelled or the process
    /// stops. Then the feeds ([`Self::subscribe`]) end; what was read stays readable.
    pub fn start_dynamic(
        process: &Process,
        client: Client,
        resource: ApiResource,
        options: Options<DynamicObject>,
        stop: CancellationToken,
    ) -> Self {
        let api = Api::all_with(client, &resource);
        let cache = Self::detached_dynamic(resource, options);
        cache.watch(process, api, stop);
        cache
    }

    /// As [`Self::detached`], of a kind known only at run time.
    pub fn detached_dynamic(resource: ApiResource, options: Options<DynamicObject>) -> Self {
        // Two groups may have a kind of the same name.
        let label = format!("{}.{}", resource.kind, resource.group);
        Self::new(resource.kind, label, options)
    }
}

impl<K: Held> Cache<K> {
    fn new(kind: String, label: String, options: Options<K>) -> Self {
        Self {
            inner: Arc::new(Inner {
                health: health::Health::new(label.clone()),
                kind,
                label,
                store: RwLock::new(options.store()),
                options,
                feed: broadcast::Sender::new(FEED),
                version: watch::Sender::new(0),
                synced: watch::Sender::new(false),
                rewinds: watch::Sender::new(0),
                renewal: Notify::new(),
                ended: CancellationToken::new(),
            }),
        }
    }

    fn watch(&self, process: &Process, api: Api<DeserializeGuard<K>>, stop: CancellationToken) {
        let (cache, ended) = (self.clone(), self.inner.ended.clone().drop_guard());
        process.spawn_until(format!("watch of {}", self.label()), stop, async move {
            let _ended = ended;
            watch_loop::Watched { api }.run(&cache).await;
        });
    }
}
