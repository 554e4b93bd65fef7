//! What a cache is to hold, and how it asks for it.

use std::sync::Arc;
use std::time::Duration;

use kube::api::ListParams;

use crate::client::WATCH_TIMEOUT;
use crate::store::{KeysOf, Store};

type Trim<K> = Arc<dyn Fn(&mut K) + Send + Sync>;

/// What part of a kind to hold, what of each object, and how to ask for it.
#[derive(Clone)]
pub struct Options<K> {
    pub(super) labels: Option<String>,
    pub(super) fields: Option<String>,
    pub(super) trim: Option<Trim<K>>,
    pub(super) index: Option<KeysOf<K>>,
    pub(super) watch_timeout: Duration,
    pub(super) page: u32,
}

impl<K> Default for Options<K> {
    fn default() -> Self {
        Self {
            labels: None,
            fields: None,
            trim: None,
            index: None,
            watch_timeout: WATCH_TIMEOUT,
            page: 500,
        }
    }
}

impl<K> Options<K> {
    /// Only objects that match this label selector.
    #[must_use]
    pub fn labels(mut self, selector: impl Into<String>) -> Self {
        self.labels = Some(selector.into());
        self
    }

    /// Only objects that match this field selector, for instance `spec.nodeName=worker-1`.
    #[must_use]
    pub fn fields(mut self, selector: impl Into<String>) -> Self {
        self.fields = Some(selector.into());
        self
    }

    /// Drops from each object what nobody here reads. Never on a kind that is written by PUT from the cache.
    #[must_use]
    pub fn trim(mut self, trim: impl Fn(&mut K) + Send + Sync + 'static) -> Self {
        self.trim = Some(Arc::new(trim));
        self
    }

    /// Finds objects by what `keys` says of them too, see [`Cache::indexed`](super::Cache::indexed). `keys` sees the
    /// trimmed object, and must always say the same of the same object.
    #[must_use]
    pub fn index(mut self, keys: impl Fn(&K) -> Vec<String> + Send + Sync + 'static) -> Self {
        self.index = Some(Arc::new(keys));
        self
    }

    /// How long one watch request may last; at most, and if not set, two minutes. The API server checks rights only when a
    /// watch is opened: this is how long it takes to notice that they were withdrawn.
    #[must_use]
    pub fn watch_timeout(mut self, timeout: Duration) -> Self {
        // A server takes 0 for "as long as I like", and the client gives up on what is silent for longer than the maximum.
        self.watch_timeout = timeout.clamp(Duration::from_secs(1), WATCH_TIMEOUT);
        self
    }

    /// How many objects one page of a list may have; 500 if not set. Fewer for kinds with large objects: a page is held in
    /// memory before its objects are trimmed.
    #[must_use]
    pub fn page(mut self, objects: u32) -> Self {
        // A server takes 0 for "all at once".
        self.page = objects.max(1);
        self
    }

    /// Asks for what the cache is to hold.
    pub(super) fn selection(&self) -> ListParams {
        ListParams {
            label_selector: self.labels.clone(),
            field_selector: self.fields.clone(),
            ..ListParams::default()
        }
    }

    pub(super) fn store(&self) -> Store<K>
    where
        K: kube::Resource,
    {
        Store::indexed_by(self.index.clone())
    }
}
