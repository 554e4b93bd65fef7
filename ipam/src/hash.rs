//! Hashing of addresses and pod UIDs: cheap, and not proof against keys that are chosen to collide.
//!
//! Nobody gains from choosing them. Addresses are those of one pool and are handed out by this program, UIDs are made up
//! by the API server. Whoever may write other ones into the records of a pool can spoil that pool in plainer ways.

use std::hash::{BuildHasherDefault, Hasher};

/// Builds hashers for maps with addresses or hashes as keys.
pub(crate) type BuildKeyHasher = BuildHasherDefault<KeyHasher>;

/// 2^64 divided by the golden ratio, so that neighbouring numbers end up far from each other.
const SPREAD: u128 = 0x9E37_79B9_7F4A_7C15;

/// Multiplies and folds the halves of the product, so that every bit of the number reaches the low bits, which choose
/// the place in a map, and the high ones, which tell the keys of a place apart.
const fn mix(number: u64) -> u64 {
    let wide = number as u128 * SPREAD;
    (wide ^ (wide >> 64)) as u64
}

/// The hash of a text. Different texts may share it.
pub(crate) fn of_text(text: &str) -> u64 {
    let mut hasher = KeyHasher(text.len() as u64);
    hasher.write(text.as_bytes());
    hasher.finish()
}

/// The state of hashing one key.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct KeyHasher(u64);

impl Hasher for KeyHasher {
    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.write_u64(u64::from_le_bytes(*word));
        }
        if !rest.is_empty() {
            let last = rest.iter().fold(0, |word, byte| (word << 8) | u64::from(*byte));
            self.write_u64(last);
        }
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = mix(self.0 ^ number);
    }

    fn write_u128(&mut self, number: u128) {
        self.write_u64((number >> 64) as u64);
        self.write_u64(number as u64);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::collections::HashSet;
    use std::hash::BuildHasher;

    /// Two texts with one hash: the second half of each undoes what the first halves differ in.
    pub(crate) fn colliding_texts() -> [String; 2] {
        let half = |n: u64| format!("{n:08}");
        let state = |text: &str| {
            let mut hasher = KeyHasher(16);
            hasher.write(text.as_bytes());
            hasher.finish()
        };
        let base = half(0);
        (1..10_000)
            .map(half)
            .find_map(|other| {
                let undo = (state(&base) ^ state(&other)).to_le_bytes();
                undo.is_ascii().then(|| {
                    [
                        format!("{base}\0\0\0\0\0\0\0\0"),
                        other + str::from_utf8(&undo).unwrap(),
                    ]
                })
            })
            .unwrap()
    }

    #[test]
    fn the_colliding_texts_collide() {
        let [a, b] = colliding_texts();
        assert_ne!(a, b);
        assert_eq!(of_text(&a), of_text(&b));
    }

    /// As many different values as random hashes would have, give or take, in the bits that maps look at.
    #[test]
    fn addresses_spread_however_they_are_laid_out() {
        let build = BuildKeyHasher::default();
        for shift in [0, 1, 8, 16, 32, 48, 64, 80, 96, 112] {
            for base in [0_u128, 10 << 24, 0xfd00 << 112] {
                let hashes: Vec<u64> = (0..4096_u128).map(|n| build.hash_one(base ^ (n << shift))).collect();
                let distinct = |of: fn(&u64) -> u64| hashes.iter().map(of).collect::<HashSet<_>>().len();
                assert!(distinct(|hash| hash & 0xfff) > 2000, "low bits, shift {shift}");
                assert_eq!(distinct(|hash| hash >> 57), 128, "high bits, shift {shift}");
            }
        }
    }
}
