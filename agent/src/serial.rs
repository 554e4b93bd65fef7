//! One request of a pod at a time.
//!
//! The kubelet may send a request again while the first one still runs, and a DEL while an ADD runs. Serving them one after
//! the other makes the second see what the first did. This orders the requests of this process; it decides nothing about
//! who owns an address.

use crate::cancel::Adds;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::OwnedMutexGuard;

type Turn = Arc<tokio::sync::Mutex<()>>;

/// Turns by pod UID.
#[derive(Clone, Debug, Default)]
pub struct Turns {
    by_uid: Arc<Mutex<HashMap<String, Turn>>>,
    adds: Adds,
}

/// Held while a request of a pod runs.
#[derive(Debug)]
pub struct Held {
    turns: Turns,
    uid: String,
    guard: Option<OwnedMutexGuard<()>>,
}

impl Turns {
    /// Waits until no other request of the pod runs.
    pub async fn take(&self, uid: &str) -> Held {
        let turn = {
            let mut by_uid = self.by_uid.lock().unwrap_or_else(PoisonError::into_inner);
            by_uid.entry(uid.to_owned()).or_default().clone()
        };
        // Made before the wait: one who gives up waiting leaves nothing behind either.
        let mut held = Held {
            turns: self.clone(),
            uid: uid.to_owned(),
            guard: None,
        };
        held.guard = Some(turn.lock_owned().await);
        held
    }

    /// The ADDs that run or wait for their turn, which a DEL may end.
    pub const fn adds(&self) -> &Adds {
        &self.adds
    }

    /// How many pods have a request running or waiting.
    pub fn len(&self) -> usize {
        self.by_uid.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Whether no request runs.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.guard = None;
        let mut by_uid = self.turns.by_uid.lock().unwrap_or_else(PoisonError::into_inner);
        // Only the map itself holds the turn: nobody waits for it.
        if by_uid.get(&self.uid).is_some_and(|turn| Arc::strong_count(turn) == 1) {
            by_uid.remove(&self.uid);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    #[tokio::test]
    async fn requests_of_one_pod_take_turns_and_leave_nothing_behind() {
        let turns = Turns::default();
        let running = Arc::new(AtomicUsize::new(0));
        let tasks = (0..20).map(|n| {
            let (turns, running) = (turns.clone(), running.clone());
            tokio::spawn(async move {
                let uid = if n % 2 == 0 { "a" } else { "b" };
                let _held = turns.take(uid).await;
                assert!(running.fetch_add(1, Ordering::SeqCst) < 2);
                tokio::task::yield_now().await;
                running.fetch_sub(1, Ordering::SeqCst);
            })
        });
        for task in tasks.collect::<Vec<_>>() {
            task.await.unwrap();
        }
        assert!(turns.is_empty());
    }

    #[tokio::test]
    async fn who_gives_up_waiting_leaves_nothing_behind() {
        let turns = Turns::default();
        for holder_ends_first in [false, true] {
            let held = turns.take("a").await;
            let mut waiting = Box::pin(turns.take("a"));
            assert!(tokio::time::timeout(Duration::ZERO, &mut waiting).await.is_err());
            if holder_ends_first {
                drop(held);
                drop(waiting);
            } else {
                drop(waiting);
                assert_eq!(turns.len(), 1);
                drop(held);
            }
            assert!(turns.is_empty());
        }
    }
}
