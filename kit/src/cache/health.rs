//! Whether a watch works, told once per outage.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

/// A watch that does not work at present.
#[derive(Clone, Debug)]
pub struct Outage {
    since: Instant,
    /// The last error.
    pub error: Arc<str>,
    /// The HTTP status, if the API server is there and refuses: 403 without the right to list and watch the kind, 404 when
    /// the kind does not exist. `None` for an API server that is away or overloaded.
    pub refused: Option<u16>,
    /// Was any attempt made yet?
    attempted: bool,
}

impl Outage {
    /// How long it has lasted.
    pub fn lasted(&self) -> Duration {
        self.since.elapsed()
    }
}

impl fmt::Display for Outage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, error) = (self.lasted().as_secs(), &self.error);
        match self.refused {
            Some(_) => write!(f, "nothing to read for {seconds} s, the API server refuses: {error}"),
            None => write!(f, "the API server has not answered for {seconds} s: {error}"),
        }
    }
}

pub(super) struct Health {
    kind: String,
    state: watch::Sender<Option<Outage>>,
}

impl Health {
    /// Not yet heard from the API server: that is an outage too, or an ADD in the first second would blame the pool.
    pub(super) fn new(kind: String) -> Self {
        let outage = Outage {
            since: Instant::now(),
            error: "not connected yet".into(),
            refused: None,
            attempted: false,
        };
        Self {
            kind,
            state: watch::Sender::new(Some(outage)),
        }
    }

    pub(super) fn outage(&self) -> Option<Outage> {
        self.state.borrow().clone()
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<Option<Outage>> {
        self.state.subscribe()
    }

    pub(super) fn failed(&self, error: &str, refused: Option<u16>) {
        let news = self.state.send_if_modified(|state| {
            let news = !matches!(state, Some(outage) if outage.attempted && outage.refused == refused);
            *state = Some(Outage {
                since: state.as_ref().map_or_else(Instant::now, |outage| outage.since),
                error: error.into(),
                refused,
                attempted: true,
            });
            news
        });
        if news {
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
        let mut ended = None;
        self.state.send_if_modified(|state| {
            ended = state.take();
            ended.is_some()
        });
        if let Some(outage) = ended {
            let seconds = outage.lasted().as_secs_f32();
            tracing::info!(kind = self.kind, seconds, "watch works");
        }
    }
}
