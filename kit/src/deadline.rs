//! Bounds every await on another process.
//!
//! A future that talks to the API server, a socket or a disk of somebody else may never come back. [`within`] gives it an
//! end and turns the silence into an error that says what was being attempted, so that the text is fit for a user's eyes.

use std::fmt::Display;
use std::time::Duration;

use tokio::time::Instant;

/// Why a bounded attempt gave no value.
#[derive(Debug, thiserror::Error)]
pub enum Failure<E> {
    /// Nothing came back in time. Whether the attempt had an effect is unknown: re-read before acting on it.
    #[error("timed out after {after:?} while {what}")]
    TimedOut {
        /// How long was waited.
        after: Duration,
        /// What was being attempted.
        what: String,
    },
    /// The attempt itself failed.
    #[error("failed {what}: {source}")]
    Failed {
        /// What was being attempted.
        what: String,
        /// What it said.
        source: E,
    },
}

impl<E> Failure<E> {
    /// Did the time run out, leaving the effect of the attempt unknown?
    pub fn is_timeout(&self) -> bool {
        matches!(self, Self::TimedOut { .. })
    }

    /// The error of the attempt itself, if it came to an end.
    pub fn inner(&self) -> Option<&E> {
        match self {
            Self::TimedOut { .. } => None,
            Self::Failed { source, .. } => Some(source),
        }
    }
}

impl Failure<kube::Error> {
    /// The status the API server answered with, if it did answer.
    pub fn status(&self) -> Option<&kube::core::Status> {
        match self.inner() {
            Some(kube::Error::Api(status)) => Some(status),
            _ => None,
        }
    }

    /// Did the object carry another resourceVersion than the write was based on?
    pub fn is_conflict(&self) -> bool {
        self.status().is_some_and(|status| status.is_conflict())
    }

    /// Does the object not exist?
    pub fn is_not_found(&self) -> bool {
        self.status().is_some_and(|status| status.is_not_found())
    }

    /// Does an object of this name exist already?
    pub fn is_already_exists(&self) -> bool {
        self.status().is_some_and(|status| status.is_already_exists())
    }

    /// Is this account not allowed to do it?
    pub fn is_forbidden(&self) -> bool {
        self.status().is_some_and(|status| status.is_forbidden())
    }

    /// Does the API server refuse the content of the object, so that sending it again is of no use?
    pub fn is_invalid(&self) -> bool {
        self.status().is_some_and(|status| status.is_invalid())
    }
}

/// Runs `fut` for at most `limit`. `what` completes the sentences "timed out after 5s while ..." and "failed ...": use a
/// participle with the object's name, as in `updating SpiderIPPool a`.
pub async fn within<T, E>(
    limit: Duration,
    what: impl Display,
    fut: impl Future<Output = Result<T, E>>,
) -> Result<T, Failure<E>> {
    match tokio::time::timeout(limit, fut).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(source)) => Err(Failure::Failed {
            what: what.to_string(),
            source,
        }),
        Err(_) => Err(Failure::TimedOut {
            after: limit,
            what: what.to_string(),
        }),
    }
}

/// As [`within`], for a caller that holds the end of its own time rather than a length. A deadline already past still
/// polls the future once, so that a ready answer is not thrown away.
pub async fn until<T, E>(
    deadline: Instant,
    what: impl Display,
    fut: impl Future<Output = Result<T, E>>,
) -> Result<T, Failure<E>> {
    within(deadline.saturating_duration_since(Instant::now()), what, fut).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn silence_becomes_an_error_that_names_the_attempt() {
        let never = std::future::pending::<Result<(), std::io::Error>>();
        let failure = within(Duration::from_secs(5), "reading pool a", never)
            .await
            .unwrap_err();
        assert!(failure.is_timeout());
        assert_eq!(failure.to_string(), "timed out after 5s while reading pool a");
    }

    #[tokio::test]
    async fn an_error_keeps_its_cause() {
        let failure = within(Duration::from_secs(5), "reading pool a", async {
            Err::<(), _>("no such file")
        })
        .await
        .unwrap_err();
        assert_eq!(failure.to_string(), "failed reading pool a: no such file");
        assert_eq!(failure.inner(), Some(&"no such file"));
    }

    #[tokio::test]
    async fn a_deadline_already_past_still_takes_a_ready_answer() {
        let past = Instant::now();
        assert_eq!(until(past, "asking", async { Ok::<_, ()>(7) }).await.unwrap(), 7);
    }
}
