//! Writes whose outcome nobody knows.
//!
//! A write that was not answered may still lie in a queue on its way, and land long after its caller gave up. It does so only
//! while the pool has the resourceVersion that it was planned on. So a pool is in doubt from an unanswered write until its
//! resourceVersion has moved. Nobody may rely on what such a pool has on record, or has not, without a write of their own:
//! that one moves the resourceVersion, and the old write fails when it lands.
//!
//! What the process before this one left on its way is not known. So in the beginning every pool is in doubt.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// How long a write of the process before this one may be on its way: the API server keeps a request for a minute at most, and
/// the kernel tries for less than two to hand over what a closed connection has left.
const INHERITED: Duration = Duration::from_secs(180);

/// The pools in doubt.
pub(super) struct Doubts {
    pools: Mutex<Pools>,
}

struct Pools {
    start: Instant,
    marks: HashMap<String, Mark>,
}

impl Pools {
    fn new() -> Self {
        Self {
            start: Instant::now(),
            marks: HashMap::new(),
        }
    }

    fn inherits(&self) -> bool {
        self.start.elapsed() < INHERITED
    }
}

enum Mark {
    /// A write that was planned on this resourceVersion was not answered.
    At(String),
    /// This process has written the pool, so nothing older can land.
    Settled,
}

impl Doubts {
    pub(super) fn new() -> Self {
        Self {
            pools: Mutex::new(Pools::new()),
        }
    }

    /// Forgets everything: resourceVersions mean nothing any more, and every pool is in doubt as in the beginning.
    pub(super) fn restart(&self) {
        *self.lock() = Pools::new();
    }

    /// A write that was planned on this version of a pool was not answered.
    pub(super) fn raise(&self, pool: &str, version: &str) {
        self.lock().marks.insert(pool.to_owned(), Mark::At(version.to_owned()));
    }

    /// A write of a pool was acknowledged and made it this version: no write that was planned on an older one can land.
    pub(super) fn settle(&self, pool: &str, version: &str) {
        let mut pools = self.lock();
        // A writer that ends and the one that follows it may both be at work for a moment.
        if let Some(Mark::At(doubtful)) = pools.marks.get(pool)
            && !is_older(doubtful, version)
        {
            return;
        }
        if pools.inherits() {
            pools.marks.insert(pool.to_owned(), Mark::Settled);
        } else {
            pools.marks.remove(pool);
        }
    }

    /// A pool was read live at this version: no write that was planned on an older one can land.
    pub(super) fn seen(&self, pool: &str, version: &str) {
        let mut pools = self.lock();
        if matches!(pools.marks.get(pool), Some(Mark::At(doubtful)) if is_older(doubtful, version)) {
            pools.marks.remove(pool);
        }
    }

    /// The pool does not exist, so nothing can land.
    pub(super) fn forget(&self, pool: &str) {
        self.lock().marks.remove(pool);
    }

    /// Whether an older write may still land on this version of a pool, which was read live or is the newest known.
    pub(super) fn concerns(&self, pool: &str, version: &str) -> bool {
        let pools = self.lock();
        match pools.marks.get(pool) {
            Some(Mark::At(doubtful)) => doubtful == version,
            Some(Mark::Settled) => false,
            None => pools.inherits(),
        }
    }

    /// Whether a write of this process was not answered and nothing was heard of the pool since.
    pub(super) fn is_raised(&self, pool: &str) -> bool {
        matches!(self.lock().marks.get(pool), Some(Mark::At(_)))
    }

    /// The pools that a write of this process was sent to and not answered.
    pub(super) fn raised(&self) -> Vec<String> {
        let pools = self.lock();
        let raised = pools.marks.iter().filter(|(_, mark)| matches!(mark, Mark::At(_)));
        raised.map(|(pool, _)| pool.clone()).collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Pools> {
        self.pools.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a resourceVersion is older than another. They are numbers that grow with every write.
fn is_older(version: &str, than: &str) -> bool {
    match (version.parse::<u64>(), than.parse::<u64>()) {
        (Ok(version), Ok(than)) => version < than,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_pool_is_in_doubt_until_its_version_moved() {
        let doubts = Doubts::new();
        assert!(doubts.concerns("p", "1"), "nothing is known of what came before");
        doubts.settle("p", "2");
        assert!(!doubts.concerns("p", "2"));
        doubts.raise("p", "2");
        doubts.settle("p", "2");
        assert!(doubts.concerns("p", "2"));
        assert!(!doubts.concerns("p", "3"));
        assert_eq!(doubts.raised(), ["p"]);
        doubts.settle("p", "3");
        assert!(!doubts.is_raised("p"));
        doubts.raise("p", "3");
        doubts.seen("p", "3");
        assert!(doubts.is_raised("p"), "the write may still land on what was read");
        doubts.seen("p", "4");
        assert!(!doubts.is_raised("p"));
        tokio::time::advance(INHERITED).await;
        assert!(
            !doubts.concerns("other", "1"),
            "what came before has landed or never will"
        );
        doubts.raise("p", "4");
        assert!(
            doubts.concerns("p", "4"),
            "an unanswered write is not forgotten by time"
        );
        // The storage went back, and the version comes again.
        doubts.restart();
        assert!(!doubts.is_raised("p"));
        assert!(doubts.concerns("p", "2") && doubts.concerns("other", "1"));
        doubts.settle("p", "3");
        assert!(!doubts.concerns("p", "4"));
    }
}
