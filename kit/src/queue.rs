//! A work queue of keys, for level-triggered reconcilers.
//!
//! A key says "look at this object", not what happened to it, so any number of additions while it waits are one. A key is
//! never handed out twice at once: one added while it is being worked on runs again afterwards, since the worker may have
//! read the state before the change. The queue holds each key at most once, so its size is bounded by the number of objects.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::fmt::Debug;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::backoff::{Jitter, delay, random};
use crate::metrics::QueueMetrics;
use crate::shutdown::panic_text;

const RETRY_BASE: Duration = Duration::from_millis(5);
const RETRY_CAP: Duration = Duration::from_secs(30);

/// What is to happen to a key that was worked on.
#[derive(Debug)]
pub enum Outcome {
    /// Nothing until it is added again.
    Done,
    /// It failed: again after a pause that grows with each failure in a row.
    Retry(Box<dyn std::error::Error + Send + Sync>),
    /// It went well: again after this time.
    After(Duration),
}

impl Outcome {
    /// [`Outcome::Retry`] from any error or text.
    pub fn retry(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Retry(error.into())
    }
}

/// A work queue. Cheap to clone.
pub struct Queue<K> {
    inner: Arc<Inner<K>>,
}

impl<K> Clone for Queue<K> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
        }
    }
}

struct Inner<K> {
    name: &'static str,
    state: Mutex<State<K>>,
    wake: Notify,
    metrics: QueueMetrics,
}

struct State<K> {
    ready: VecDeque<K>,
    /// Keys in `ready`, and keys being worked on that are to run again.
    dirty: HashSet<K>,
    busy: HashSet<K>,
    due: BTreeSet<(Instant, K)>,
    due_at: HashMap<K, Instant>,
    failures: HashMap<K, u32>,
    jitter: Jitter,
}

/// What a key must be.
pub trait Item: Clone + Eq + Ord + Hash + Debug + Send + Sync + 'static {}
impl<K: Clone + Eq + Ord + Hash + Debug + Send + Sync + 'static> Item for K {}

impl<K: Item> Queue<K> {
    /// An empty queue. `name` labels its metrics and log lines.
    pub fn new(name: &'static str, metrics: &QueueMetrics) -> Self {
        Self::with_jitter(name, metrics, random())
    }

    /// As [`Self::new`], with the random part of retries taken from `jitter`.
    pub fn with_jitter(name: &'static str, metrics: &QueueMetrics, jitter: Jitter) -> Self {
        let state = State {
            ready: VecDeque::new(),
            dirty: HashSet::new(),
            busy: HashSet::new(),
            due: BTreeSet::new(),
            due_at: HashMap::new(),
            failures: HashMap::new(),
            jitter,
        };
        Self {
            inner: Arc::new(Inner {
                name,
                state: Mutex::new(state),
                wake: Notify::new(),
                metrics: metrics.clone(),
            }),
        }
    }

    /// Wants `key` worked on.
    pub fn add(&self, key: K) {
        self.inner.metrics.adds(self.inner.name);
        let mut state = self.state();
        state.add(key);
        self.publish(&state);
    }

    /// Wants `key` worked on after `pause`. An earlier date already set for it stays.
    pub fn add_after(&self, key: K, pause: Duration) {
        let mut state = self.state();
        state.schedule(key, Instant::now() + pause);
        drop(state);
        self.inner.wake.notify_one();
    }

    /// Wants `key` worked on after a pause that doubles with each call since the last [`Self::succeeded`].
    pub fn retry(&self, key: K) -> Duration {
        self.inner.metrics.retries(self.inner.name);
        let mut state = self.state();
        let failures = state.failures.entry(key.clone()).or_insert(0);
        let attempt = *failures;
        *failures = failures.saturating_add(1);
        let jitter = (state.jitter)();
        let pause = delay(RETRY_BASE, RETRY_CAP, attempt, jitter);
        state.schedule(key, Instant::now() + pause);
        drop(state);
        self.inner.wake.notify_one();
        pause
    }

    /// The next failure of `key` is its first again.
    pub fn succeeded(&self, key: &K) {
        self.state().failures.remove(key);
    }

    /// How many keys wait for a worker (not counting those with a date).
    pub fn depth(&self) -> usize {
        self.state().ready.len()
    }

    /// Waits for a key. [`Self::finish`] must follow, or the key is never handed out again.
    pub async fn next(&self) -> K {
        loop {
            let due = {
                let mut state = self.state();
                state.promote(Instant::now());
                let key = state.pop();
                self.publish(&state);
                if let Some(key) = key {
                    return key;
                }
                state.due.first().map(|(at, _)| *at)
            };
            let wake = self.inner.wake.notified();
            match due {
                // Each waiting worker has its own timer; whichever comes first takes the key.
                Some(at) => {
                    let _ = tokio::time::timeout_at(at, wake).await;
                }
                None => wake.await,
            }
        }
    }

    /// Ends the work on a key that [`Self::next`] handed out.
    pub fn finish(&self, key: &K) {
        let mut state = self.state();
        state.busy.remove(key);
        if state.dirty.contains(key) {
            state.ready.push_back(key.clone());
        }
        self.publish(&state);
    }

    /// Works on keys, `workers` at a time, until `stop`; then lets the work at hand come to its end. A handler that panics
    /// counts as failed: one bad object must not take the others down.
    pub async fn run<F, Fut>(&self, workers: usize, stop: CancellationToken, handle: F)
    where
        F: Fn(K) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Outcome> + Send + 'static,
    {
        let handle = Arc::new(handle);
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..workers.max(1) {
            let (queue, stop, handle) = (self.clone(), stop.clone(), handle.clone());
            tasks.spawn(async move {
                while let Some(key) = stop.run_until_cancelled(queue.next()).await {
                    let begun = Instant::now();
                    let work = std::panic::AssertUnwindSafe(async { handle(key.clone()).await });
                    let outcome = work
                        .catch_unwind()
                        .await
                        .unwrap_or_else(|panic| Outcome::retry(format!("panicked: {}", panic_text(panic.as_ref()))));
                    queue.inner.metrics.worked(queue.inner.name, begun.elapsed());
                    queue.settle(&key, outcome);
                }
            });
        }
        while tasks.join_next().await.is_some() {}
    }

    fn settle(&self, key: &K, outcome: Outcome) {
        match outcome {
            Outcome::Done => self.succeeded(key),
            Outcome::After(pause) => {
                self.succeeded(key);
                self.add_after(key.clone(), pause);
            }
            Outcome::Retry(error) => {
                let pause = self.retry(key.clone());
                tracing::warn!(queue = self.inner.name, key = ?key, %error, again_in = ?pause, "failed, will try again");
            }
        }
        self.finish(key);
    }

    fn state(&self) -> MutexGuard<'_, State<K>> {
        self.inner.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn publish(&self, state: &State<K>) {
        self.inner.metrics.depth(self.inner.name, state.ready.len());
        if !state.ready.is_empty() {
            self.inner.wake.notify_one();
        }
    }
}

impl<K: Item> State<K> {
    fn add(&mut self, key: K) {
        if self.dirty.insert(key.clone()) && !self.busy.contains(&key) {
            self.ready.push_back(key);
        }
    }

    fn schedule(&mut self, key: K, at: Instant) {
        match self.due_at.get(&key) {
            Some(earlier) if *earlier <= at => return,
            Some(later) => {
                self.due.remove(&(*later, key.clone()));
            }
            None => {}
        }
        self.due_at.insert(key.clone(), at);
        self.due.insert((at, key));
    }

    fn promote(&mut self, now: Instant) {
        while self.due.first().is_some_and(|(at, _)| *at <= now)
            && let Some((_, key)) = self.due.pop_first()
        {
            self.due_at.remove(&key);
            self.add(key);
        }
    }

    fn pop(&mut self) -> Option<K> {
        let key = self.ready.pop_front()?;
        self.dirty.remove(&key);
        self.busy.insert(key.clone());
        Some(key)
    }
}

#[cfg(test)]
mod tests;
