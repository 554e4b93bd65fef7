//! What the rest of the process sees of an election.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

/// Whether this process leads. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Leadership {
    leads: watch::Receiver<bool>,
    shared: Arc<Shared>,
}

/// The same, for the election itself.
#[derive(Debug)]
pub(super) struct Seat {
    leads: watch::Sender<bool>,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    valid_until: Mutex<Option<Instant>>,
    writers: TaskTracker,
    /// Keeps the channel of a process without an election open.
    _alone: Option<watch::Sender<bool>>,
}

/// Held while a leader-only write is on its way. The lease is not given back before all permits are dropped.
#[derive(Debug)]
pub struct WritePermit {
    _writer: TaskTrackerToken,
}

impl Leadership {
    pub(super) fn new() -> (Seat, Self) {
        let (sender, leads) = watch::channel(false);
        let shared = Arc::new(Shared {
            valid_until: Mutex::new(None),
            writers: TaskTracker::new(),
            _alone: None,
        });
        (
            Seat {
                leads: sender,
                shared: shared.clone(),
            },
            Self { leads, shared },
        )
    }

    /// Leadership without an election, for a process that is alone: it leads from the start.
    pub fn alone() -> Self {
        let (sender, leads) = watch::channel(true);
        let shared = Shared {
            valid_until: Mutex::new(None),
            writers: TaskTracker::new(),
            _alone: Some(sender),
        };
        Self {
            leads,
            shared: Arc::new(shared),
        }
    }

    /// May this process write now? Asks the clock, so a process that slept through its lease hears no.
    pub fn is_leader(&self) -> bool {
        *self.leads.borrow()
            && self
                .shared
                .valid_until
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .is_none_or(|end| Instant::now() < end)
    }

    /// Leave to start a leader-only write, to be held until its answer is in.
    pub fn write_permit(&self) -> Option<WritePermit> {
        let permit = WritePermit {
            _writer: self.shared.writers.token(),
        };
        // Asked after the token was taken: an election that ends in between waits for it.
        self.is_leader().then_some(permit)
    }

    /// Waits until this process leads. `false` if the process stops before.
    pub async fn wait_until_leader(&self) -> bool {
        self.wait_for(true).await
    }

    /// Waits until this process leads no more (also by its stopping).
    pub async fn wait_until_follower(&self) {
        self.wait_for(false).await;
    }

    /// Changes, for a `select!`.
    pub fn watch(&self) -> watch::Receiver<bool> {
        self.leads.clone()
    }

    async fn wait_for(&self, wanted: bool) -> bool {
        self.leads.clone().wait_for(|leads| *leads == wanted).await.is_ok()
    }
}

impl Seat {
    pub(super) fn take(&self, valid_until: Instant) {
        *self.shared.valid_until.lock().unwrap_or_else(PoisonError::into_inner) = Some(valid_until);
        self.leads.send_if_modified(|leads| !std::mem::replace(leads, true));
    }

    pub(super) fn leave(&self) {
        self.leads.send_if_modified(|leads| std::mem::replace(leads, false));
    }

    /// Waits for the writes that are on their way. Says whether they ended within `limit`.
    pub(super) async fn writers_done(&self, limit: Duration) -> bool {
        self.shared.writers.close();
        let done = tokio::time::timeout(limit, self.shared.writers.wait()).await.is_ok();
        self.shared.writers.reopen();
        done
    }
}
