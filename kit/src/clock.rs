//! The wall clock: the one place where rules that compare moments of several machines get theirs.
//!
//! A build with the feature `clock-offset` shifts it by `SPIDERPOOL_CLOCK_OFFSET` seconds, so that a test sees what becomes of an
//! installation whose machines do not agree on the time. In every other build it is the machine's.

use jiff::Timestamp;

/// The time by the clock of this machine.
#[cfg(not(feature = "clock-offset"))]
pub fn now() -> Timestamp {
    Timestamp::now()
}

/// The time by the clock of this machine, shifted.
#[cfg(feature = "clock-offset")]
pub fn now() -> Timestamp {
    use jiff::SignedDuration;
    use std::sync::LazyLock;

    static OFFSET: LazyLock<SignedDuration> = LazyLock::new(|| {
        let text = std::env::var("SPIDERPOOL_CLOCK_OFFSET").ok();
        SignedDuration::from_secs(text.and_then(|text| text.parse().ok()).unwrap_or(0))
    });
    let now = Timestamp::now();
    now.checked_add(*OFFSET).unwrap_or(now)
}
