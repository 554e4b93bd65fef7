//! When to write a pool that agents of other nodes write to as well.
//!
//! Of writes that are planned on the same version of a pool, one succeeds and the others were work in vain, for the API server
//! too. So a writer that meets others waits a random part of a window before it tries, sees meanwhile on the watch what
//! others wrote, and gathers requests. The window grows with every lost try and shrinks with every successful one, so that
//! about every other try succeeds however many writers there are. Who has lost waits for less, and who has just won for more:
//! otherwise the winner, who knows the new version first, would go on for ever. A pool that nobody else writes to is never
//! waited for.

use spiderpool_kit::backoff::{self, Jitter};
use std::time::Duration;
use tokio::time::Instant;

/// How long a try takes before one was measured.
const TRY: Duration = Duration::from_millis(5);

/// Shortest and longest try that counts. A write of a pool with thousands of records takes a busy API server some hundred
/// milliseconds; what takes longer was no matter of its pace.
const TRY_RANGE: (Duration, Duration) = (Duration::from_millis(2), Duration::from_millis(500));

/// Longest wait. Somebody waits for the answer; but were it shorter than what ten rivals need for one try each on a slow server, most
/// tries would be lost, and all would wait for longer.
const LONGEST: Duration = Duration::from_secs(3);

/// What a try takes at least, as far as requests that have little time left are concerned.
const RESERVE: Duration = Duration::from_millis(200);

/// Most rivals that are reckoned with.
const RIVALS_MOST: u32 = 32;

/// After this time without a try, the rivals of before are no longer reckoned with. Longer than a lost try, the news about it and the
/// wait for the next one take together.
const FORGOTTEN: Duration = Duration::from_secs(10);

/// A writer's pace.
pub(super) struct Pace {
    /// How long a try takes.
    turn: Duration,
    /// How many others write, as far as lost tries show.
    rivals: u32,
    /// Tries lost since the last success.
    losses: u32,
    won: bool,
    last: Option<Instant>,
    jitter: Jitter,
}

impl Default for Pace {
    fn default() -> Self {
        Self::new(backoff::random())
    }
}

impl Pace {
    fn new(jitter: Jitter) -> Self {
        Self {
            turn: TRY,
            rivals: 0,
            losses: 0,
            won: false,
            last: None,
            jitter,
        }
    }

    /// How much time a request must have left for a try: the next one begins while it has.
    pub(super) fn reserve(&self) -> Duration {
        (self.turn * 2).max(RESERVE)
    }

    /// How long to wait before the next try.
    pub(super) fn pause(&mut self, now: Instant) -> Duration {
        let since = self.last.map(|last| now.saturating_duration_since(last));
        if since.is_none_or(|since| since > FORGOTTEN) {
            (self.rivals, self.losses, self.won) = (0, 0, false);
        }
        if self.rivals == 0 {
            return Duration::ZERO;
        }
        let window = (self.turn * self.rivals / 2).min(LONGEST);
        let chance = (self.jitter)().clamp(0.0, 1.0);
        if self.won {
            window.mul_f64(0.5 + chance / 2.0)
        } else {
            window.mul_f64(chance) / self.losses.saturating_add(1)
        }
    }

    /// A try succeeded.
    pub(super) fn won(&mut self, now: Instant, took: Duration) {
        let took = took.clamp(TRY_RANGE.0, TRY_RANGE.1);
        self.turn = (self.turn * 4 + took) / 5;
        self.rivals = self.rivals.saturating_sub(1);
        (self.losses, self.won, self.last) = (0, true, Some(now));
    }

    /// Another writer was faster.
    pub(super) fn lost(&mut self, now: Instant) {
        self.rivals = (self.rivals + 1).min(RIVALS_MOST);
        self.losses = self.losses.saturating_add(1);
        (self.won, self.last) = (false, Some(now));
    }

    /// How long to wait for the watch to tell what the faster one wrote, before that is asked for.
    pub(super) fn news(&self) -> Duration {
        self.turn * 4
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn pace(chance: f64) -> (Pace, Instant) {
        (Pace::new(Box::new(move || chance)), Instant::now())
    }

    #[test]
    fn whoever_writes_alone_never_waits() {
        let (mut pace, now) = pace(1.0);
        for at in 0..10 {
            let now = now + MS * at;
            assert_eq!(pace.pause(now), Duration::ZERO);
            pace.won(now, MS * 5);
        }
    }

    #[test]
    fn whoever_lost_waits_for_less_than_the_one_who_won() {
        let (mut winner, now) = pace(0.5);
        let (mut loser, _) = pace(0.5);
        for _ in 0..5 {
            winner.lost(now);
            loser.lost(now);
        }
        winner.won(now, MS * 5);
        loser.lost(now);
        assert_eq!(winner.pause(now), TRY * 4 / 2 * 3 / 4);
        assert_eq!(loser.pause(now), TRY * 6 / 2 / 2 / 7);
    }

    #[test]
    fn the_window_follows_the_rivals_and_is_forgotten() {
        let (mut pace, now) = pace(1.0);
        for _ in 0..100 {
            pace.lost(now);
        }
        pace.won(now, MS * 5);
        assert_eq!(pace.pause(now), TRY * (RIVALS_MOST - 1) / 2);
        for _ in 0..RIVALS_MOST {
            pace.won(now, MS * 5);
        }
        assert_eq!(pace.pause(now), Duration::ZERO);
        pace.lost(now);
        assert!(pace.pause(now) > Duration::ZERO);
        assert_eq!(pace.pause(now + FORGOTTEN + MS), Duration::ZERO);
    }

    #[test]
    fn a_slow_api_server_makes_for_longer_windows() {
        let (mut slow, now) = pace(1.0);
        for _ in 0..50 {
            slow.won(now, MS * 60);
        }
        slow.lost(now);
        slow.lost(now);
        let pause = slow.pause(now);
        assert!(pause > MS * 19 && pause < MS * 21, "{pause:?}");
    }
}
