//! Whether a watch works, told once per outage.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tokio::time::Instant;

/// A watch that does not work at present.
#[derive(Clone, Debug)]
pub struct Outage {
    since: Instant,
    /// The last error.
    pub error: Arc<str>,
}

impl Outage {
    /// How long it has lasted.
    pub fn lasted(&self) -> Duration {
        self.since.elapsed()
    }
}

impl fmt::Display for Outage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the API server has not answered for {} s: {}",
            self.lasted().as_secs(),
            self.error
        )
    }
}

pub(super) struct Health {
    kind: String,
    state: RwLock<Option<Outage>>,
}

impl Health {
    /// Not yet heard from the API server: that is an outage too, or an ADD in the first second would blame the pool.
    pub(super) fn new(kind: String) -> Self {
        let outage = Outage {
            since: Instant::now(),
            error: "not connected yet".into(),
        };
        Self {
            kind,
            state: RwLock::new(Some(outage)),
        }
    }

    pub(super) fn outage(&self) -> Option<Outage> {
        self.state.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn failed(&self, error: &str) {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let first = state
            .as_ref()
            .is_none_or(|outage| &*outage.error == "not connected yet");
        let since = state.as_ref().map_or_else(Instant::now, |outage| outage.since);
        *state = Some(Outage {
            since,
            error: error.into(),
        });
        drop(state);
        if first {
            tracing::warn!(
                kind = self.kind,
                error,
                "watch broke; trying again until it works, reads go on from what is known"
            );
        } else {
            tracing::debug!(kind = self.kind, error, "watch still broken");
        }
    }

    pub(super) fn works(&self) {
        let ended = self.state.write().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(outage) = ended {
            let seconds = outage.lasted().as_secs_f32();
            tracing::info!(kind = self.kind, seconds, "watch works");
        }
    }
}
