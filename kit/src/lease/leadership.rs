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
    standing: watch::Receiver<Standing>,
    shared: Arc<Shared>,
}

/// The same, for the election itself.
#[derive(Debug)]
pub(super) struct Seat {
    standing: watch::Sender<Standing>,
    shared: Arc<Shared>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Standing {
    leads: bool,
    /// How many terms of leadership have begun.
    terms: u64,
}

impl Standing {
    const fn begin(&mut self) {
        self.leads = true;
        self.terms += 1;
    }
}

/// The terms of this process's leadership, each told once.
#[derive(Debug)]
pub struct Terms {
    standing: watch::Receiver<Standing>,
    seen: u64,
}

#[derive(Debug)]
struct Shared {
    valid_until: Mutex<Option<Instant>>,
    writers: TaskTracker,
    /// Keeps the channel of a process without an election open.
    _alone: Option<watch::Sender<Standing>>,
}

/// Held while a leader-only write is on its way. The lease is not given back before all permits are dropped.
#[derive(Debug)]
pub struct WritePermit {
    _writer: TaskTrackerToken,
}

impl Leadership {
    pub(super) fn new() -> (Seat, Self) {
        let (sender, standing) = watch::channel(Standing::default());
        let shared = Arc::new(Shared {
            valid_until: Mutex::new(None),
            writers: TaskTracker::new(),
            _alone: None,
        });
        (
            Seat {
                standing: sender,
                shared: shared.clone(),
            },
            Self { standing, shared },
        )
    }

    /// Leadership without an election, for a process that is alone: it leads from the start.
    pub fn alone() -> Self {
        let mut leading = Standing::default();
        leading.begin();
        let (sender, standing) = watch::channel(leading);
        let shared = Shared {
            valid_until: Mutex::new(None),
            writers: TaskTracker::new(),
            _alone: Some(sender),
        };
        Self {
            standing,
            shared: Arc::new(shared),
        }
    }

    /// May this process write now? Asks the clock, so a process that slept through its lease hears no.
    pub fn is_leader(&self) -> bool {
        self.standing.borrow().leads
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

    /// The terms of leadership from now on, beginning with one that lasts.
    ///
    /// A term ends whenever [`is_leader`](Self::is_leader) says no, also when nobody else led before the next one: work that
    /// was dropped meanwhile is to be done in that.
    pub fn terms(&self) -> Terms {
        Terms {
            standing: self.standing.clone(),
            seen: 0,
        }
    }

    async fn wait_for(&self, wanted: bool) -> bool {
        let mut standing = self.standing.clone();
        standing.wait_for(|standing| standing.leads == wanted).await.is_ok()
    }
}

impl Terms {
    /// Waits for a term that was not told yet. `false` if the process stops before.
    pub async fn next(&mut self) -> bool {
        let seen = self.seen;
        let begun = |standing: &Standing| standing.leads && standing.terms > seen;
        match self.standing.wait_for(begun).await {
            Ok(standing) => {
                self.seen = standing.terms;
                true
            }
            Err(_) => false,
        }
    }
}

impl Seat {
    pub(super) fn take(&self, valid_until: Instant) {
        let before = self
            .shared
            .valid_until
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .replace(valid_until);
        // Nobody else led, but this process heard that it does not lead, and may have dropped work.
        let late = before.is_some_and(|end| Instant::now() >= end);
        self.standing.send_if_modified(|standing| {
            let begins = late || !standing.leads;
            if begins {
                standing.begin();
            }
            begins
        });
    }

    pub(super) fn leave(&self) {
        self.standing
            .send_if_modified(|standing| std::mem::replace(&mut standing.leads, false));
    }

    /// Waits for the writes that are on their way. Says whether they ended within `limit`.
    pub(super) async fn writers_done(&self, limit: Duration) -> bool {
        self.shared.writers.close();
        let done = tokio::time::timeout(limit, self.shared.writers.wait()).await.is_ok();
        self.shared.writers.reopen();
        done
    }
}
