//! Growing, jittered pauses between attempts, bounded by the caller's deadline.
//!
//! Jitter is injected: what waits together must not come back together, and a test must be able to say what it sees.

use std::time::Duration;

use tokio::time::Instant;

/// A source of numbers in `0.0..1.0`.
pub type Jitter = Box<dyn FnMut() -> f64 + Send + Sync>;

/// Jitter from the thread's random generator.
pub fn random() -> Jitter {
    Box::new(rand::random::<f64>)
}

/// Iterator over the pauses to make between attempts. Ends when the next pause would pass the deadline.
pub struct Backoff {
    base: Duration,
    cap: Duration,
    deadline: Option<Instant>,
    attempt: u32,
    jitter: Jitter,
}

impl Backoff {
    /// Pauses that start near `base`, double, and stay at or below `cap`.
    pub fn new(base: Duration, cap: Duration) -> Self {
        Self {
            base,
            cap,
            deadline: None,
            attempt: 0,
            jitter: random(),
        }
    }

    /// No pause ends after `deadline`.
    #[must_use]
    pub fn until(mut self, deadline: Instant) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// Takes the random part from `jitter` instead.
    #[must_use]
    pub fn with_jitter(mut self, jitter: Jitter) -> Self {
        self.jitter = jitter;
        self
    }

    /// How many pauses were handed out since the start or the last [`Self::reset`].
    pub fn attempts(&self) -> u32 {
        self.attempt
    }

    /// Starts over: call it after a success.
    pub fn reset(&mut self) {
        self.attempt = 0;
    }
}

impl Iterator for Backoff {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let pause = delay(self.base, self.cap, self.attempt, (self.jitter)());
        if let Some(deadline) = self.deadline
            && Instant::now() + pause >= deadline
        {
            return None;
        }
        self.attempt = self.attempt.saturating_add(1);
        Some(pause)
    }
}

/// The pause after failed attempt number `attempt` (counted from 0): half of `base * 2^attempt`, capped, plus a random
/// part of the other half. `jitter` is clamped to `0.0..=1.0`.
pub fn delay(base: Duration, cap: Duration, attempt: u32, jitter: f64) -> Duration {
    let factor = 1u32.checked_shl(attempt.min(31)).unwrap_or(u32::MAX);
    let full = base.saturating_mul(factor).min(cap);
    let half = full / 2;
    half.saturating_add(half.mul_f64(if jitter.is_nan() { 0.0 } else { jitter.clamp(0.0, 1.0) }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(value: u64) -> Duration {
        Duration::from_millis(value)
    }

    #[test]
    fn pauses_double_up_to_the_cap() {
        let pauses: Vec<_> = Backoff::new(ms(10), ms(50))
            .with_jitter(Box::new(|| 1.0))
            .take(5)
            .collect();
        assert_eq!(pauses, [ms(10), ms(20), ms(40), ms(50), ms(50)]);
    }

    #[test]
    fn jitter_takes_away_at_most_half() {
        assert_eq!(delay(ms(10), ms(50), 0, 0.0), ms(5));
        assert_eq!(delay(ms(10), ms(50), 0, f64::NAN), ms(5));
        assert_eq!(delay(ms(10), ms(50), u32::MAX, 7.0), ms(50));
    }

    #[test]
    fn extreme_lengths_do_not_overflow() {
        assert_eq!(delay(Duration::MAX, Duration::MAX, 40, 0.0), Duration::MAX / 2);
    }

    #[tokio::test(start_paused = true)]
    async fn no_pause_passes_the_deadline() {
        let mut backoff = Backoff::new(ms(10), ms(50))
            .with_jitter(Box::new(|| 1.0))
            .until(Instant::now() + ms(45));
        let mut slept = Duration::ZERO;
        for pause in backoff.by_ref() {
            tokio::time::advance(pause).await;
            slept += pause;
        }
        assert_eq!(slept, ms(30));
        assert_eq!(backoff.attempts(), 2);
    }

    #[test]
    fn a_success_starts_over() {
        let mut backoff = Backoff::new(ms(10), ms(50)).with_jitter(Box::new(|| 1.0));
        assert_eq!(backoff.nth(2), Some(ms(40)));
        backoff.reset();
        assert_eq!(backoff.next(), Some(ms(10)));
    }
}
