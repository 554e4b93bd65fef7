//! How fast passes over one subnet follow each other.
//!
//! A lone change is acted upon at once. When many applications change together, each pass would find only the few that came
//! during the one before, and write the subnet's status for them. So after a pass that served several, the next one waits
//! a moment and serves many. A pool that gives up addresses as pods go is written in steps of several, for the same reason.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// How many pools written in one pass are a crowd.
const CROWD: usize = 2;
/// Pause after such a pass.
const PAUSE: Duration = Duration::from_millis(200);
/// Pause between two steps of a pool that gives up addresses.
const STEP: Duration = Duration::from_millis(500);

/// When each subnet may be looked at again.
#[derive(Debug, Default)]
pub struct Pace {
    not_before: Mutex<HashMap<String, Instant>>,
    shrunk: Mutex<HashMap<String, Instant>>,
}

impl Pace {
    /// Takes down how many pools a pass has written.
    pub fn written(&self, subnet: &str, pools: usize) {
        let mut times = locked(&self.not_before);
        if pools >= CROWD {
            times.insert(subnet.to_owned(), Instant::now() + PAUSE);
        } else {
            times.remove(subnet);
        }
    }

    /// How long the next pass has to wait, if it has to.
    pub fn pause(&self, subnet: &str) -> Option<Duration> {
        left(&locked(&self.not_before), subnet)
    }

    /// Takes down that a pool has given up addresses and has more to give up.
    pub fn shrunk(&self, pool: &str) {
        let mut times = locked(&self.shrunk);
        let now = Instant::now();
        times.retain(|_, at| *at > now);
        times.insert(pool.to_owned(), now + STEP);
    }

    /// How long the next step of a pool that gives up addresses has to wait, if it has to.
    pub fn rest(&self, pool: &str) -> Option<Duration> {
        left(&locked(&self.shrunk), pool)
    }
}

fn left(times: &HashMap<String, Instant>, name: &str) -> Option<Duration> {
    let left = times.get(name)?.saturating_duration_since(Instant::now());
    (!left.is_zero()).then_some(left)
}

fn locked(times: &Mutex<HashMap<String, Instant>>) -> MutexGuard<'_, HashMap<String, Instant>> {
    times.lock().unwrap_or_else(PoisonError::into_inner)
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

    #[tokio::test(start_paused = true)]
    async fn a_pool_shrinks_in_steps() {
        let pace = Pace::default();
        assert_eq!(pace.rest("p"), None);
        pace.shrunk("p");
        assert_eq!((pace.rest("p"), pace.rest("q")), (Some(STEP), None));
        tokio::time::advance(STEP).await;
        assert_eq!(pace.rest("p"), None);
    }
}
