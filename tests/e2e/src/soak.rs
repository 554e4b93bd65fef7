//! How long tests are that can be long, and what their chance is made of.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::ops::Range;

use anyhow::{Context, Result};

/// Says how often a test that can be long is to be done.
const COUNT: &str = "SPIDERPOOL_SOAK";

/// Says what chance is made of.
const SEED: &str = "SPIDERPOOL_SEED";

/// The number in a variable of the environment, if it is set.
pub fn number(variable: &str) -> Result<Option<u64>> {
    let Ok(text) = std::env::var(variable) else {
        return Ok(None);
    };
    let number = text
        .parse()
        .with_context(|| format!("{variable}={text:?} is no number"))?;
    Ok(Some(number))
}

/// Whether tests are to be as long as they can be.
pub fn is_soak() -> bool {
    std::env::var_os(COUNT).is_some()
}

/// The first seed: the one that is asked for, or any.
pub fn first_seed() -> Result<u64> {
    let random = || RandomState::new().build_hasher().finish() % 1_000_000;
    Ok(number(SEED)?.unwrap_or_else(random))
}

/// The seeds that are asked for; one if none is.
pub fn seeds() -> Result<Range<u64>> {
    let first = first_seed()?;
    Ok(first..first + number(COUNT)?.unwrap_or(1))
}
