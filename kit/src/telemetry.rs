//! Log lines: one JSON object each for machines, plain text for a terminal.

use std::io::IsTerminal;
use std::str::FromStr;

use tracing_subscriber::EnvFilter;

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// Text on a terminal, JSON otherwise.
    #[default]
    Auto,
    /// One JSON object per line.
    Json,
    /// For eyes.
    Text,
}

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The level does not parse.
    #[error(
        "log level {level:?} is not understood: {source}; use error, warn, info, debug or trace, or target=level,..."
    )]
    Level {
        /// As given.
        level: String,
        /// What is wrong with it.
        source: tracing_subscriber::filter::ParseError,
    },
    /// Somebody set it up already.
    #[error("failed to install the log subscriber: {0}")]
    Install(Box<dyn std::error::Error + Send + Sync>),
}

/// Sends log lines of `level` (`info`, or a filter such as `info,kube=debug`) and above to standard output. Call once.
pub fn init(service: &str, level: &str, format: Format) -> Result<(), Error> {
    let filter = EnvFilter::from_str(level).map_err(|source| Error::Level {
        level: level.to_owned(),
        source,
    })?;
    let json = match format {
        Format::Json => true,
        Format::Text => false,
        Format::Auto => !std::io::stdout().is_terminal(),
    };
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stdout().is_terminal());
    let installed = if json {
        builder
            .json()
            .flatten_event(true)
            .with_current_span(true)
            .with_span_list(false)
            .try_init()
    } else {
        builder.with_target(false).try_init()
    };
    installed.map_err(Error::Install)?;
    tracing::info!(service, version = env!("CARGO_PKG_VERSION"), "starting");
    Ok(())
}
