//! Entry point of the admission webhook.

use std::process::ExitCode;

use clap::Parser;
use spiderpool_webhook::{Cli, Command, daemon};

#[tokio::main]
async fn main() -> ExitCode {
    let Command::Daemon(options) = Cli::parse().command;
    match daemon(&options).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            // The subscriber may be what failed.
            let _ = std::io::Write::write_all(
                &mut std::io::stderr(),
                format!("spiderpool-webhook: {error:#}\n").as_bytes(),
            );
            ExitCode::FAILURE
        }
    }
}
