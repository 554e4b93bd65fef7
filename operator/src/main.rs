//! The program `spiderpool-controller`.

use std::time::Duration;

use clap::Parser;
use spiderpool_kit::{client, telemetry};
use spiderpool_operator::cli::{Cli, Command};
use spiderpool_operator::{clean, daemon};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    telemetry::init("spiderpool-controller", &cli.log_level, telemetry::Format::Auto)?;
    let outcome = match cli.command {
        Command::Daemon(options) => Box::pin(daemon::run(&options)).await,
        Command::Clean(options) => match client::infer().await.and_then(client::patient) {
            Ok(client) => {
                let limit = Duration::from_secs(options.timeout_seconds);
                let cleaned = match options.leftovers {
                    true => clean::leftovers(client, &options.namespace, limit).await,
                    false => clean::run(client, limit).await,
                };
                cleaned.map_err(Into::into)
            }
            Err(error) => Err(error.into()),
        },
    };
    if let Err(error) = &outcome {
        tracing::error!(%error, "stopped");
    }
    outcome
}
