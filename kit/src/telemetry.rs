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

/// The API client's own report of each failed request. Callers tell of failures with what was attempted, and caches once per
/// outage, so these lines repeat what is known, as errors and several times a second.
const REPEATED: &str = "kube_client::client::builder=off";

/// The filter for `level`. What [`REPEATED`] leaves out is there for whoever asks for all details, or for those of the client.
fn filter(level: &str) -> Result<EnvFilter, Error> {
    let detailed = level.split(',').map(|part| part.trim().to_lowercase()).any(|part| {
        let everything = matches!(&*part, "debug" | "trace" | "4" | "5");
        everything || part.starts_with("kube")
    });
    let wanted = EnvFilter::from_str(level).map_err(|source| Error::Level {
        level: level.to_owned(),
        source,
    })?;
    match REPEATED.parse() {
        Ok(repeated) if !detailed => Ok(wanted.add_directive(repeated)),
        _ => Ok(wanted),
    }
}

/// Sends log lines of `level` (`info`, or a filter such as `info,kube=debug`) and above to standard output. Call once. The
/// API client's line about each failed request is left out unless `level` is debug or trace or names `kube`.
pub fn init(service: &str, level: &str, format: Format) -> Result<(), Error> {
    let filter = filter(level)?;
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

#[cfg(test)]
mod tests {
    use tracing::{Level, enabled};

    use super::*;

    #[test]
    fn the_clients_own_errors_are_for_who_asks() {
        for (level, shown) in [
            ("info", false),
            ("error", false),
            ("warn,spiderpool_kit=debug", false),
            ("debug", true),
            ("TRACE,spiderpool_kit=debug", true),
            ("info,kube=error", true),
            ("info,kube_client=debug", true),
        ] {
            let subscriber = tracing_subscriber::fmt()
                .with_env_filter(filter(level).unwrap())
                .finish();
            tracing::subscriber::with_default(subscriber, || {
                assert_eq!(
                    enabled!(target: "kube_client::client::builder", Level::ERROR),
                    shown,
                    "{level}"
                );
                assert!(enabled!(target: "kube_client::client::auth", Level::ERROR), "{level}");
                assert!(enabled!(target: "spiderpool_kit::cache", Level::ERROR), "{level}");
            });
        }
    }

    #[test]
    fn a_level_that_does_not_parse_is_told() {
        let error = filter("loud=louder").unwrap_err().to_string();
        assert!(error.contains("\"loud=louder\" is not understood"), "{error}");
    }
}
