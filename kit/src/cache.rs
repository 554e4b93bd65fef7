//! A local, current copy of all objects of one kind.
//!
//! [`Cache::start`] lists and watches the kind for as long as the process lives, through outages of the API server of any
//! length; [`Cache::start_dynamic`] does so for a kind known only at run time, until told to stop. Readers never touch the
//! network. Writers hand what the API server returned to [`Cache::learn`], so that their next read sees their own write.
//! What is newer than what is decided in [`crate::store`]; the watching itself is in `watch_loop`.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use kube::Resource;
use serde::de::DeserializeOwned;
use tokio::sync::{Notify, broadcast, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub use crate::store::{Change, Key, Malformed, Store};

mod health;
mod list;
mod options;
mod start;
mod watch_loop;

pub use health::Outage;
pub use options::Options;

/// How many changes a receiver may fall behind before it is told to look at everything again.
const FEED: usize = 1024;

/// What a cache can hold.
pub trait Held: Resource + Clone + DeserializeOwned + fmt::Debug + Send + Sync + 'static {}
impl<K: Resource + Clone + DeserializeOwned + fmt::Debug + Send + Sync + 'static> Held for K {}

/// What a cache can hold, of a kind that is known when the program is compiled.
pub trait Object: Held + Resource<DynamicType = ()> {}
impl<K: Held + Resource<DynamicType = ()>> Object for K {}

/// Why a wait on a cache ended without a value.
#[derive(Debug, thiserror::Error)]
pub enum WaitError {
    /// The time is over. Says so if that is because the API server is away.
    #[error("timed out while waiting for {kind} objects{}", because(.outage.as_ref()))]
    TimedOut {
        /// The kind waited on.
        kind: String,
        /// The state of the watch, if it is broken.
        outage: Option<Outage>,
    },
    /// The watch has ended before its first list, as it was told to.
    #[error("the watch is stopping")]
    Stopping,
}

fn because(outage: Option<&Outage>) -> String {
    outage.map(|outage| format!(": {outage}")).unwrap_or_default()
}

/// A watched copy of the objects of one kind. Cheap to clone.
pub struct Cache<K> {
    inner: Arc<Inner<K>>,
}

impl<K> Clone for Cache<K> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
        }
    }
}

struct Inner<K> {
    kind: String,
    /// What log lines and errors call the kind.
    label: String,
    options: Options<K>,
    store: RwLock<Store<K>>,
    feed: broadcast::Sender<Change<K>>,
    /// Counts changes, for [`Cache::wait`].
    version: watch::Sender<u64>,
    synced: watch::Sender<bool>,
    health: health::Health,
    /// Counts how often history was found rewound.
    rewinds: watch::Sender<u64>,
    /// Told when everything is to be listed anew.
    renewal: Notify,
    /// Cancelled when nothing feeds the cache any more.
    ended: CancellationToken,
}

impl<K: Held> Cache<K> {
    /// The kind held.
    pub fn kind(&self) -> &str {
        &self.inner.kind
    }

    fn label(&self) -> &str {
        &self.inner.label
    }

    /// One object. `namespace` is empty for cluster-scoped kinds.
    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<K>> {
        self.get_key(&Key::new(namespace, name))
    }

    /// One object, by key.
    pub fn get_key(&self, key: &Key) -> Option<Arc<K>> {
        self.read(|store| store.get(key).cloned())
    }

    /// An object that exists but cannot be read: neither `get` nor `list` has it, and its absence there means nothing.
    pub fn malformed(&self, key: &Key) -> Option<Arc<Malformed>> {
        self.read(|store| store.malformed(key).cloned())
    }

    /// All readable objects, in no order.
    pub fn list(&self) -> Vec<Arc<K>> {
        self.read(|store| store.iter().cloned().collect())
    }

    /// The readable objects that the index ([`Options::index`]) has under `key`, in no order.
    pub fn indexed(&self, key: &str) -> Vec<Arc<K>> {
        self.read(|store| store.indexed(key).cloned().collect())
    }

    /// Looks at the whole store at one moment. Keep `look` short: writers wait for it.
    pub fn read<T>(&self, look: impl FnOnce(&Store<K>) -> T) -> T {
        look(&self.inner.store.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes in an object that our own write or live read returned, so that the next read here sees it. On a cache with a
    /// selector, only objects that match it.
    pub fn learn(&self, mut object: K) {
        self.prepare(&mut object);
        self.change(|store| store.learn(object));
    }

    /// Takes in that the deletion of this very object (name and UID) was acknowledged as complete. Not for an object that
    /// finalizers still hold: [`Self::learn`] what the API server returned then.
    pub fn forget(&self, object: &K) {
        self.change(|store| store.forget(object.meta()));
    }

    /// The changes from now on. Subscribe first, then read.
    pub fn subscribe(&self) -> Changes<K> {
        Changes {
            feed: self.inner.feed.subscribe(),
            ended: self.inner.ended.clone(),
        }
    }

    /// Has the first list been taken in?
    pub fn is_synced(&self) -> bool {
        *self.inner.synced.borrow()
    }

    /// Waits until the first list has been taken in.
    pub async fn synced(&self, deadline: Instant) -> Result<(), WaitError> {
        let mut synced = self.inner.synced.subscribe();
        let filled = self.inner.ended.run_until_cancelled(synced.wait_for(|synced| *synced));
        match tokio::time::timeout_at(deadline, filled).await {
            Ok(Some(Ok(_))) => Ok(()),
            Ok(None | Some(Err(_))) => Err(WaitError::Stopping),
            Err(_) => Err(self.timed_out()),
        }
    }

    /// Looks until `look` finds something: at once, and again after each change.
    pub async fn wait<T>(
        &self,
        deadline: Instant,
        mut look: impl FnMut(&Store<K>) -> Option<T>,
    ) -> Result<T, WaitError> {
        let mut version = self.inner.version.subscribe();
        loop {
            version.mark_unchanged();
            if let Some(found) = self.read(&mut look) {
                return Ok(found);
            }
            match tokio::time::timeout_at(deadline, version.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Err(WaitError::Stopping),
                Err(_) => return Err(self.timed_out()),
            }
        }
    }

    /// Why and since when the watch does not work, if it does not. What was read before stays readable.
    pub fn outage(&self) -> Option<Outage> {
        self.inner.health.outage()
    }

    /// Tells when the watch breaks, works again, or fails in another way than before ([`Outage::refused`]); not each failed
    /// attempt. Holds the latest state.
    pub fn health_changes(&self) -> watch::Receiver<Option<Outage>> {
        self.inner.health.subscribe()
    }

    /// Does the watch work?
    pub fn is_healthy(&self) -> bool {
        self.outage().is_none()
    }

    /// How long the watch has been broken.
    pub fn down_for(&self) -> Duration {
        self.outage().map(|outage| outage.lasted()).unwrap_or_default()
    }

    /// Counts how often a list showed an older state than was told of before: the storage of the API server was restored. It is
    /// counted before anybody can see that state here.
    pub fn rewinds(&self) -> watch::Receiver<u64> {
        self.inner.rewinds.subscribe()
    }

    /// Lists everything anew and replaces what is stored by that, whatever its revisions, for who has found out that the storage
    /// was restored. Waits for that.
    pub async fn renew(&self, deadline: Instant) -> Result<(), WaitError> {
        let mut begun = false;
        self.change(|store| {
            begun = store.is_distrusted();
            store.distrust();
            Vec::new()
        });
        // One that is under way already would begin again, and one that takes longer than the deadline would never end.
        if !begun {
            self.inner.renewal.notify_one();
        }
        self.wait(deadline, |store| (!store.is_distrusted()).then_some(()))
            .await
    }

    fn timed_out(&self) -> WaitError {
        WaitError::TimedOut {
            kind: self.inner.label.clone(),
            outage: self.outage(),
        }
    }

    /// managedFields are a third of a small object and nobody here reads them; a PUT without them leaves them as they are.
    fn prepare(&self, object: &mut K) {
        object.meta_mut().managed_fields = None;
        if let Some(trim) = &self.inner.options.trim {
            trim(object);
        }
    }

    fn change(&self, apply: impl FnOnce(&mut Store<K>) -> Vec<Change<K>>) {
        // Sent under the lock, so that the feed has the order of the store. Neither send blocks.
        let mut store = self.inner.store.write().unwrap_or_else(PoisonError::into_inner);
        let changes = apply(&mut store);
        if changes.is_empty() {
            return;
        }
        for change in changes {
            // An error means that nobody listens.
            let _ = self.inner.feed.send(change);
        }
        self.inner
            .version
            .send_modify(|version| *version = version.wrapping_add(1));
    }
}

/// Receives the changes of a cache.
pub struct Changes<K> {
    feed: broadcast::Receiver<Change<K>>,
    ended: CancellationToken,
}

impl<K> Changes<K> {
    /// The next change; [`Change::Resynced`] when some were missed; `None` when the cache is gone, or its watch has ended
    /// and all changes before that were handed out.
    pub async fn next(&mut self) -> Option<Change<K>> {
        let change = tokio::select! {
            biased;
            change = self.feed.recv() => change,
            () = self.ended.cancelled() => return None,
        };
        match change {
            Ok(change) => Some(change),
            Err(broadcast::error::RecvError::Lagged(_)) => Some(Change::Resynced),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }
}

#[cfg(test)]
mod tests;
