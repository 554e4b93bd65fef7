//! How long tests are that can be long.

use anyhow::{Context, Result};

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
