//! `spiderpool-agent`: hands addresses to the pods of its node.

use clap::{Parser, Subcommand};
use spiderpool_agent::{daemon, install};
use std::path::PathBuf;

/// Hands addresses to the pods of one node.
///
/// The CNI plugin `spiderpool` asks the agent over a unix socket whenever the container runtime sets a pod's network up or
/// tears it down. The agent takes addresses from SpiderIPPools and records them in SpiderEndpoints.
#[derive(Debug, Parser)]
#[command(version, about, long_about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the agent; the chart's DaemonSet does this on every node
    Daemon(daemon::Args),
    /// Copy the CNI plugin to the host and end; the DaemonSet's init container does this
    InstallCni {
        /// Folder of CNI binaries as the container sees it
        #[arg(long)]
        dest: PathBuf,
        /// The plugin in the image
        #[arg(long, default_value = "/usr/bin/spiderpool")]
        source: PathBuf,
    },
}

#[tokio::main(worker_threads = 2)]
async fn main() -> anyhow::Result<()> {
    match Cli::parse().command {
        Command::Daemon(args) => daemon::run(args).await,
        Command::InstallCni { dest, source } => {
            spiderpool_kit::telemetry::init("install-cni", "info", spiderpool_kit::telemetry::Format::Auto)?;
            let installed = install::install(&source, &dest)?;
            tracing::info!(plugin = %installed.display(), "installed");
            Ok(())
        }
    }
}
