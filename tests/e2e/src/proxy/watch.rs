//! The body of a watch: as it comes, but not always when it comes.

use std::pin::Pin;
use std::time::Duration;

use futures::{Stream, StreamExt};
use http_body_util::BodyStream;
use hyper::body::Bytes;
use hyper::body::Frame;
use kube::client::Body;
use tokio::sync::watch;
use tokio::time::Instant;

use super::BoxError;
use super::faults::expired;
use crate::storm::random::Random;

/// How long a watch works before it is frozen.
const WORKS: (Duration, Duration) = (Duration::from_millis(300), Duration::from_secs(3));
/// How long it is frozen at least.
const FROZEN: Duration = Duration::from_secs(1);
/// After which time a watch expires that does.
const EXPIRES: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(5));

type Frames = Pin<Box<dyn Stream<Item = Result<Frame<Bytes>, kube::Error>> + Send>>;

/// A watch that is disturbed while the API server is.
pub(super) struct Disturbed {
    frames: Frames,
    random: Random,
    disturbed: watch::Receiver<bool>,
    cut: watch::Receiver<bool>,
    /// When it is frozen next, and until when.
    frozen: Option<(Instant, Instant)>,
    frozen_for: Duration,
    expires: Option<Instant>,
    ended: bool,
}

impl Disturbed {
    pub(super) fn new(
        body: Body,
        mut random: Random,
        frozen_for: Option<Duration>,
        ends: bool,
        disturbed: watch::Receiver<bool>,
        cut: watch::Receiver<bool>,
    ) -> Self {
        let frozen = frozen_for.map(|longest| freeze(longest, &mut random));
        let expires = ends.then(|| Instant::now() + random.between(EXPIRES.0, EXPIRES.1));
        Self {
            frames: BodyStream::new(body).boxed(),
            random,
            disturbed,
            cut,
            frozen,
            frozen_for: frozen_for.unwrap_or(FROZEN),
            expires,
            ended: false,
        }
    }

    /// The frames, as they are let through.
    pub(super) fn frames(self) -> impl Stream<Item = Result<Frame<Bytes>, BoxError>> + Send {
        futures::stream::unfold(self, Self::next)
    }

    async fn next(mut self) -> Option<(Result<Frame<Bytes>, BoxError>, Self)> {
        if self.ended {
            return None;
        }
        let (expires, mut cut) = (self.expires, self.cut.clone());
        let frame = tokio::select! {
            frame = self.frames.next() => frame?,
            _ = cut.wait_for(|cut| *cut) => return None,
            () = at(expires) => {
                self.ended = true;
                return Some((Ok(Frame::data(expired())), self));
            }
        };
        self.wait().await;
        Some((frame.map_err(BoxError::from), self))
    }

    /// Waits while it is frozen. What comes behind waits, too.
    async fn wait(&mut self) {
        let Some((from, until)) = self.frozen else { return };
        let now = Instant::now();
        if now < from {
            return;
        }
        if now < until {
            // Thawed at the latest when the disturbances end.
            let thawed = self.disturbed.wait_for(|disturbed| !*disturbed);
            let _ = tokio::time::timeout_at(until, thawed).await;
        }
        self.frozen = (*self.disturbed.borrow()).then(|| freeze(self.frozen_for, &mut self.random));
    }
}

fn freeze(longest: Duration, random: &mut Random) -> (Instant, Instant) {
    let from = Instant::now() + random.between(WORKS.0, WORKS.1);
    (from, from + random.between(FROZEN, longest.max(FROZEN)))
}

async fn at(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}
