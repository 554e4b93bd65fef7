//! One point in time that a whole command must end by, handed down instead of a timeout per step.

use std::time::{Duration, Instant};

/// When the command must have ended.
#[derive(Clone, Copy, Debug)]
pub struct Deadline {
    at: Instant,
    given: Duration,
}

impl Deadline {
    /// A deadline so long from now.
    pub fn after(given: Duration) -> Self {
        Self {
            at: Instant::now() + given,
            given,
        }
    }

    /// This deadline, or one so long from now if that comes first.
    pub fn at_most(self, given: Duration) -> Self {
        let other = Self::after(given);
        if other.at < self.at { other } else { self }
    }

    /// What is left; `None` when nothing is.
    pub fn remaining(&self) -> Option<Duration> {
        self.at
            .checked_duration_since(Instant::now())
            .filter(|left| !left.is_zero())
    }

    /// What is left as an I/O timeout; past the deadline that is the error an expired operation gives.
    pub fn timeout(&self) -> std::io::Result<Duration> {
        self.remaining().ok_or_else(|| std::io::ErrorKind::TimedOut.into())
    }

    /// The whole time that was given, for messages.
    pub fn given(&self) -> Duration {
        self.given
    }
}
