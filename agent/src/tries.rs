//! Requests to the API server that are made again until they are answered or the caller's time is over.
//!
//! A server that is overloaded, restarting or unreachable for a moment is no answer to a pod. Whether a write that was not
//! answered has happened is not known, so whoever writes reads the object anew before it tries again; a read is simply repeated.

use crate::error::RequestError;
use crate::pause::pauses;
use kube::core::Status;
use spiderpool_kit::backoff::Backoff;
use std::future::Future;
use std::time::Duration;
use tokio::time::Instant;

/// How long one request may take. The caller's deadline cuts it further.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// What became of one request.
#[derive(Debug)]
pub enum Attempt<T> {
    /// It was served.
    Done(T),
    /// It was not, or nobody knows.
    Again(Again),
}

/// Why a request has to be made again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Again {
    /// For the reader.
    reason: String,
    /// How long the server wants to be left alone.
    after: Duration,
    /// Whether the server refused because the object is not what the request was planned on.
    pub is_stale: bool,
}

impl Again {
    /// The object is not what the request was planned on.
    pub fn stale() -> Self {
        Self {
            reason: "exhaust all retries: other writers were faster each time".to_owned(),
            after: Duration::ZERO,
            is_stale: true,
        }
    }

    fn unanswered(reason: String, after: Duration) -> Self {
        Self {
            reason,
            after,
            is_stale: false,
        }
    }

    /// What a failure that passes by itself asks for; nothing if another try would meet the same.
    fn from_failure(error: &kube::Error) -> Option<Self> {
        match error {
            kube::Error::Api(status) if status.code == 429 || status.code >= 500 => {
                let reason = format!("the API server answered: {} (code {})", status.message, status.code);
                Some(Self::unanswered(reason, asked_for(status)))
            }
            kube::Error::Api(_) => None,
            other => {
                let reason = format!("the API server cannot be reached: {other}");
                Some(Self::unanswered(reason, Duration::ZERO))
            }
        }
    }
}

/// How long a server that refuses for want of time wants to be left alone.
pub fn asked_for(status: &Status) -> Duration {
    let seconds = status.details.as_ref().map_or(0, |details| details.retry_after_seconds);
    Duration::from_secs(seconds.into())
}

/// Makes one request. `stale` tells which refusals mean that the object is another than was thought.
pub async fn attempt<T>(
    deadline: Instant,
    stale: impl Fn(&Status) -> bool,
    request: impl Future<Output = Result<T, kube::Error>>,
) -> Result<Attempt<T>, kube::Error> {
    let limit = deadline.min(Instant::now() + REQUEST_TIMEOUT);
    match tokio::time::timeout_at(limit, request).await {
        Ok(Ok(value)) => Ok(Attempt::Done(value)),
        Ok(Err(kube::Error::Api(status))) if stale(&status) => Ok(Attempt::Again(Again::stale())),
        Ok(Err(error)) => match Again::from_failure(&error) {
            Some(again) => Ok(Attempt::Again(again)),
            None => Err(error),
        },
        Err(_) => {
            let reason = "the API server did not answer in time".to_owned();
            Ok(Attempt::Again(Again::unanswered(reason, Duration::ZERO)))
        }
    }
}

/// The tries of one request.
pub struct Tries {
    what: String,
    deadline: Instant,
    pauses: Backoff,
}

impl Tries {
    /// Tries to do `what` until a deadline.
    pub fn new(what: String, deadline: Instant) -> Self {
        Self {
            what,
            deadline,
            pauses: pauses(),
        }
    }

    /// Pauses before the next try, at least for as long as the server asked for; fails if that is after the deadline.
    pub async fn pause(&mut self, again: Again) -> Result<(), RequestError> {
        // The jitter comes on top: all who were refused at once were given the same time.
        let pause = again.after + self.pauses.next().unwrap_or_default();
        let next = Instant::now() + pause;
        if next >= self.deadline {
            return Err(self.failed(again.reason));
        }
        tokio::time::sleep_until(next).await;
        Ok(())
    }

    /// The error of a refusal that stays.
    pub fn refused(&self, error: &kube::Error) -> RequestError {
        self.failed(match error {
            kube::Error::Api(status) => format!("the API server refused: {} (code {})", status.message, status.code),
            other => format!("the API server cannot be reached: {other}"),
        })
    }

    fn failed(&self, reason: String) -> RequestError {
        RequestError::Api {
            what: self.what.clone(),
            reason,
        }
    }
}

/// Reads until the server answers.
pub async fn read<T, F>(what: String, deadline: Instant, request: impl Fn() -> F) -> Result<T, RequestError>
where
    F: Future<Output = Result<T, kube::Error>>,
{
    let mut tries = Tries::new(what, deadline);
    loop {
        match attempt(deadline, |_| false, request()).await {
            Ok(Attempt::Done(value)) => return Ok(value),
            Ok(Attempt::Again(again)) => tries.pause(again).await?,
            Err(error) => return Err(tries.refused(&error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::sync::atomic::{AtomicU16, Ordering};

    fn refusal(code: u16, after: u32) -> kube::Error {
        let status = json!({"kind": "Status", "status": "Failure", "message": "busy", "code": code,
            "details": {"retryAfterSeconds": after}});
        kube::Error::Api(Box::new(serde_json::from_value(status).unwrap()))
    }

    async fn read_through(codes: &[(u16, u32)], deadline: Instant) -> Result<u16, String> {
        let asked = AtomicU16::new(0);
        let request = || {
            let at = asked.fetch_add(1, Ordering::SeqCst);
            let answer = codes
                .get(usize::from(at))
                .map_or(Ok(at), |(code, after)| Err(refusal(*code, *after)));
            async move { answer }
        };
        let answer = read("read it".to_owned(), deadline, request).await;
        answer.map_err(|error| error.to_string())
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_is_busy_is_left_alone_for_as_long_as_it_says_and_asked_again() {
        let start = Instant::now();
        let deadline = start + Duration::from_secs(9);
        assert_eq!(read_through(&[(429, 2), (500, 0), (503, 1)], deadline).await, Ok(3));
        let took = start.elapsed();
        assert!(
            took >= Duration::from_secs(3) && took < Duration::from_secs(4),
            "{took:?}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_past_the_deadline_nor_for_what_stays_refused() {
        let start = Instant::now();
        let deadline = start + Duration::from_secs(9);
        for (code, after) in [(403, 0), (404, 0), (422, 3), (429, 9)] {
            let error = read_through(&[(code, after)], deadline).await.unwrap_err();
            assert!(
                error.starts_with("cannot read it: ") && error.contains("busy"),
                "{error}"
            );
        }
        assert_eq!(start.elapsed(), Duration::ZERO);
        let error = read_through(&[(500, 0); 999], deadline).await.unwrap_err();
        assert_eq!(error, "cannot read it: the API server answered: busy (code 500)");
        assert!(Instant::now() < deadline);
        let silent = read::<(), _>("read it".to_owned(), deadline, std::future::pending);
        assert_eq!(
            silent.await.unwrap_err().to_string(),
            "cannot read it: the API server did not answer in time"
        );
        assert!(start.elapsed() <= Duration::from_secs(9));
    }
}
