//! How fast passes over one subnet follow each other.
//!
//! A lone change is acted upon at once. When many applications change together, each pass would find only the few that came
//! during the one before, and write the subnet's status for them. So after a pass that served several, the next one waits
//! a moment and serves many.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// How many pools written in one pass are a crowd.
const CROWD: usize = 2;
/// Pause after such a pass.
const PAUSE: Duration = Duration::from_millis(200);

/// When each subnet may be looked at again.
#[derive(Debug, Default)]
pub struct Pace {
    not_before: Mutex<HashMap<String, Instant>>,
}

impl Pace {
    /// Takes down how many pools a pass has written.
    pub fn written(&self, subnet: &str, pools: usize) {
        let mut times = self.lock();
        if pools >= CROWD {
            times.insert(subnet.to_owned(), Instant::now() + PAUSE);
        } else {
            times.remove(subnet);
        }
    }

    /// How long the next pass has to wait, if it has to.
    pub fn pause(&self, subnet: &str) -> Option<Duration> {
        let left = self.lock().get(subnet)?.saturating_duration_since(Instant::now());
        (!left.is_zero()).then_some(left)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Instant>> {
        self.not_before.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn only_a_crowd_is_waited_for() {
        let pace = Pace::default();
        pace.written("a", 1);
        assert_eq!(pace.pause("a"), None);
        pace.written("a", 5);
        assert_eq!((pace.pause("a"), pace.pause("b")), (Some(PAUSE), None));
        tokio::time::advance(PAUSE).await;
        assert_eq!(pace.pause("a"), None);
    }
}
