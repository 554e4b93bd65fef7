//! Objects as they are now. Questions about one object that come at the same time share a read, so that a crowd that is in each other's
//! way does not become a crowd before the API server.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::join_all;
use kube::{Api, Client};
use spiderpool_kit::cache::{Cache, Object};
use spiderpool_kit::deadline::{Failure, within};
use tokio::time::Instant;

/// How long a look may take. The API server waits for us meanwhile, and for no longer than five seconds.
const LIVE: Duration = Duration::from_millis(1500);

/// One reads at a time; the others wait for what it finds.
type Turn<K> = tokio::sync::Mutex<Option<Read<K>>>;

/// The last read of an object.
struct Read<K> {
    began: Instant,
    found: Option<Arc<K>>,
}

/// Reads the objects that a cache holds.
pub(super) struct Fresh<K> {
    api: Api<K>,
    cache: Cache<K>,
    turns: Mutex<HashMap<String, Arc<Turn<K>>>>,
}

impl<K: Object> Fresh<K> {
    /// Reads by a client.
    pub(super) fn new(client: Client, cache: Cache<K>) -> Self {
        Self {
            api: Api::all(client),
            cache,
            turns: Mutex::default(),
        }
    }

    /// An object as it is now, by a read that began after this was asked; none if it is gone. The cache hears of it, too.
    pub(super) async fn now(&self, known: &K) -> Result<Option<Arc<K>>, Failure<kube::Error>> {
        let name = known.meta().name.as_deref().unwrap_or_default();
        let turn = self.turn(name);
        let what = format!("reading {} {name}", self.cache.kind());
        let found = within(LIVE, what, self.read(&turn, known, name)).await;
        drop(turn);
        self.forget_unused(name);
        found
    }

    /// The same objects as they are now. One that cannot be read is taken for what it was.
    pub(super) async fn all(&self, known: Vec<Arc<K>>) -> Vec<Arc<K>> {
        let looks = known.into_iter().map(|known| self.now_or_known(known));
        join_all(looks).await.into_iter().flatten().collect()
    }

    async fn now_or_known(&self, known: Arc<K>) -> Option<Arc<K>> {
        match self.now(&known).await {
            Ok(found) => found,
            Err(error) => {
                tracing::warn!(%error, "judging by what the watch told");
                Some(known)
            }
        }
    }

    async fn read(&self, turn: &Turn<K>, known: &K, name: &str) -> Result<Option<Arc<K>>, kube::Error> {
        let asked = Instant::now();
        let mut last = turn.lock().await;
        if let Some(read) = last.as_ref().filter(|read| read.began >= asked) {
            return Ok(read.found.clone());
        }
        let began = Instant::now();
        let found = self.api.get_opt(name).await?.map(Arc::new);
        match &found {
            Some(now) => self.cache.learn(K::clone(now)),
            None => self.cache.forget(known),
        }
        *last = Some(Read {
            began,
            found: found.clone(),
        });
        Ok(found)
    }

    fn turn(&self, name: &str) -> Arc<Turn<K>> {
        self.turns().entry(name.to_owned()).or_default().clone()
    }

    /// Forgets the last read of an object if nobody waits for the next one.
    fn forget_unused(&self, name: &str) {
        let mut turns = self.turns();
        if turns.get(name).is_some_and(|turn| Arc::strong_count(turn) == 1) {
            turns.remove(name);
        }
    }

    fn turns(&self) -> MutexGuard<'_, HashMap<String, Arc<Turn<K>>>> {
        self.turns.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
