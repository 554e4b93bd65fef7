//! How long certificates live, and when they are replaced.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

/// A CA of ten years outlives every cluster that is looked after.
const LONGEST_AUTHORITY: SignedDuration = days(3650);
/// What browsers and most other clients take at most.
const LONGEST_LEAF: SignedDuration = days(398);
/// Below this a renewal would not be through before the end.
const SHORTEST: Duration = Duration::from_secs(10);
/// API servers hear of a new CA by a watch. Nobody says when all of them have; a healthy one has after a second.
const SETTLE: SignedDuration = SignedDuration::from_secs(10);
/// Clocks of nodes differ, now and then by hours. What is new is already valid for one that is slow; only the end matters.
const SLOW_CLOCK: SignedDuration = days(1);

const fn days(count: i64) -> SignedDuration {
    SignedDuration::from_hours(count * 24)
}

/// How long certificates live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Life of a CA.
    pub authority: SignedDuration,
    /// Life of the webhook's certificate.
    pub leaf: SignedDuration,
    /// How long a CA has to be trusted before a certificate of it is served.
    pub settle: SignedDuration,
}

impl Policy {
    /// The wished lifetimes, within what is sensible: nobody notices in time that the key of a CA for centuries was lost, and the
    /// certificate's CA has to outlive it.
    pub fn new(authority: Duration, leaf: Duration) -> Self {
        let signed = |wish: Duration| SignedDuration::try_from(wish).unwrap_or(SignedDuration::MAX);
        let authority = signed(authority).min(LONGEST_AUTHORITY);
        let leaf = signed(leaf).min(LONGEST_LEAF).min(authority / 2);
        Self {
            authority,
            leaf,
            settle: SETTLE.min(leaf / 10),
        }
    }

    /// When a certificate of this life is to be replaced: when two thirds of it are over.
    pub fn due(ends: Timestamp, life: SignedDuration) -> Timestamp {
        before(ends, life / 3)
    }

    /// From when on a certificate made now is valid.
    pub fn start(now: Timestamp) -> Timestamp {
        before(now, SLOW_CLOCK)
    }
}

/// A moment after another.
pub fn after(moment: Timestamp, duration: SignedDuration) -> Timestamp {
    moment.checked_add(duration).unwrap_or(Timestamp::MAX)
}

fn before(moment: Timestamp, duration: SignedDuration) -> Timestamp {
    moment.checked_sub(duration).unwrap_or(Timestamp::MIN)
}

/// Reads a lifetime: a number of days, or a number with `s`, `m`, `h` or `d`.
pub fn lifetime(text: &str) -> Result<Duration, String> {
    let (number, unit) = match text.char_indices().last() {
        Some((at, 's')) => (text.get(..at), 1),
        Some((at, 'm')) => (text.get(..at), 60),
        Some((at, 'h')) => (text.get(..at), 3600),
        Some((at, 'd')) => (text.get(..at), 86400),
        _ => (Some(text), 86400),
    };
    let number = number.and_then(|number| number.parse::<u64>().ok());
    let seconds = number.and_then(|number| number.checked_mul(unit)).ok_or_else(|| {
        format!(
            "{text:?} is not a lifetime; write a number of days, or a number with s, m, h or d, for example 90 or 12h"
        )
    })?;
    let lifetime = Duration::from_secs(seconds);
    match lifetime < SHORTEST {
        true => Err(format!(
            "{text:?} is too short for a certificate; write {SHORTEST:?} or more"
        )),
        false => Ok(lifetime),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lifetimes_are_days_unless_they_say_otherwise() {
        for (text, seconds) in [
            ("90", 90 * 86400),
            ("30s", 30),
            ("10m", 600),
            ("12h", 43200),
            ("2d", 172_800),
        ] {
            assert_eq!(lifetime(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "s", "-1", "1.5h", "10 d", "9s", "0", "99999999999999999999"] {
            assert!(lifetime(text).is_err(), "{text}");
        }
    }

    #[test]
    fn nothing_lives_for_centuries_and_a_certificate_never_outlives_its_authority() {
        let of = |authority, leaf| Policy::new(lifetime(authority).unwrap(), lifetime(leaf).unwrap());
        let old_defaults = of("73000", "73000");
        assert_eq!((old_defaults.authority, old_defaults.leaf), (days(3650), days(398)));
        assert_eq!(of("90s", "1").leaf, SignedDuration::from_secs(45));
        let short = of("60s", "30s");
        assert_eq!((short.leaf.as_secs(), short.settle.as_secs()), (30, 3));
        assert_eq!(of("365", "90").settle, SETTLE);
    }
}
