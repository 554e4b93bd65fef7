//! What reads other people's text, given any text at all: it must neither panic nor take long, and what it understood it must
//! understand again when it is written down.
//!
//! `cargo xtask soak fuzz` lets libFuzzer look for texts, guided by the branches that they reach. What it found of interest is in
//! `corpora/`, and read again by every test run ([`neighbours`] makes it more).
#![allow(clippy::panic, reason = "a fault is told by a panic")]

mod targets;

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

pub use targets::{TARGETS, Target};

/// Longest text that is tried. Annotations of an object have four times as much room, status strings twenty times, so what takes
/// longer than its length would show.
pub const LONGEST: usize = 64 << 10;

/// Longest time that a text may take. Programs in a test build are slow.
const SLOWEST: Duration = match cfg!(feature = "libfuzzer") {
    true => Duration::from_millis(200),
    false => Duration::from_secs(2),
};

/// Has a target read a text.
pub fn check(target: &Target, data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let before = own_time();
    (target.run)(&text);
    let took = own_time().saturating_sub(before);
    assert!(
        took <= SLOWEST,
        "{} took {took:?} for {} bytes, which is more than {SLOWEST:?}",
        target.name,
        data.len()
    );
}

/// How long this thread has computed. Other programs of the machine do not count.
fn own_time() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap_or_default()
}

/// Texts like this one: cut short, and with one byte that is another.
pub fn neighbours(data: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    const OTHERS: &[u8] = b"\0\"-/:[]{},.09afx\xff";
    let cut = (0..data.len()).map(|end| data.iter().take(end).copied().collect());
    let changed = (0..data.len()).flat_map(move |at| {
        OTHERS.iter().map(move |other| {
            let mut changed = data.to_vec();
            if let Some(byte) = changed.get_mut(at) {
                *byte = *other;
            }
            changed
        })
    });
    cut.chain(changed)
}
