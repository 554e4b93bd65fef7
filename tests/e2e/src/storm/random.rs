//! Numbers that look random and are the same for the same seed.

use std::time::Duration;

/// A stream of numbers (SplitMix64). Everybody in a storm has one of its own, so that nobody's turn changes another's numbers.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The stream of somebody, by the storm's seed and a number that nobody else has.
    pub const fn of(seed: u64, who: u64) -> Self {
        let mut stream = Self(seed ^ who.wrapping_mul(0xA24B_AED4_963E_E407));
        stream.next();
        stream
    }

    /// The next number.
    pub const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number below another, which is not 0.
    pub const fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// Whether something happens that does so in so many of a hundred cases.
    pub const fn percent(&mut self, share: u64) -> bool {
        self.below(100) < share
    }

    /// A time between two.
    pub fn between(&mut self, from: Duration, to: Duration) -> Duration {
        from + (to - from).mul_f64(self.below(1 << 20) as f64 / (1 << 20) as f64)
    }

    /// Mixes a list.
    pub fn shuffle<T>(&mut self, list: &mut [T]) {
        for end in (1..list.len()).rev() {
            let other = self.below(end as u64 + 1) as usize;
            list.swap(end, other);
        }
    }
}
