//! Whether the storage of the API server went back to an older state, and whether that was dealt with.

use spiderpool_crds::SpiderIPPool;
use spiderpool_kit::store::revision;
use std::sync::{Mutex, PoisonError};
use tokio::sync::watch;

/// How often it went back: by lists that the cache took in, and by reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    lists: u64,
    reads: u64,
}

/// What was noticed and what was dealt with. Until both are the same, nothing is given out.
pub(super) struct Rewinds {
    /// What each kind's cache noticed. A restored storage need not show in pools: those of which none was written since the
    /// snapshot are as they were.
    lists: Vec<watch::Receiver<u64>>,
    reads: watch::Sender<u64>,
    done: Mutex<Count>,
}

impl Rewinds {
    pub(super) fn of(lists: Vec<watch::Receiver<u64>>) -> Self {
        Self {
            lists,
            reads: watch::Sender::new(0),
            done: Mutex::default(),
        }
    }

    /// A read showed an older state.
    pub(super) fn noticed(&self) {
        self.reads.send_modify(|reads| *reads = reads.wrapping_add(1));
    }

    /// What was noticed and not dealt with yet.
    pub(super) fn open(&self) -> Option<Count> {
        let noticed = Count {
            lists: self
                .lists
                .iter()
                .fold(0, |all, lists| all.wrapping_add(*lists.borrow())),
            reads: *self.reads.borrow(),
        };
        let done = *self.done.lock().unwrap_or_else(PoisonError::into_inner);
        (noticed != done).then_some(noticed)
    }

    /// So much was dealt with.
    pub(super) fn done(&self, count: Count) {
        *self.done.lock().unwrap_or_else(PoisonError::into_inner) = count;
    }

    pub(super) fn watch(&self) -> Rewound {
        Rewound {
            lists: self.lists.clone(),
            reads: self.reads.subscribe(),
        }
    }
}

/// Tells when the storage was found to have gone back.
pub struct Rewound {
    lists: Vec<watch::Receiver<u64>>,
    reads: watch::Receiver<u64>,
}

impl Rewound {
    /// Waits for the next time; for ever where nothing can be told any more.
    pub async fn changed(&mut self) {
        let lists = self.lists.iter_mut().map(|lists| Box::pin(lists.changed()));
        let ended = tokio::select! {
            (told, ..) = futures::future::select_all(lists) => told.is_err(),
            reads = self.reads.changed() => reads.is_err(),
        };
        if ended {
            std::future::pending::<()>().await;
        }
    }
}

/// Whether an object that was read is older than the one of the same UID that is known.
pub(super) fn is_older(read: &SpiderIPPool, known: Option<&SpiderIPPool>) -> bool {
    known.is_some_and(|known| {
        known.metadata.uid == read.metadata.uid && revision(&read.metadata) < revision(&known.metadata)
    })
}
