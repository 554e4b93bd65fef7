//! The admission webhook's transport: TLS with a certificate that is renewed without a restart, probes, an orderly end.
//!
//! The rules are not here yet: the API server refuses what is static by the CRDs themselves, and the operator fills in what
//! users leave out. A router is all a test needs, so [`router`] is public.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use spiderpool_kit::health::Readiness;
use spiderpool_kit::metrics::Metrics;
use spiderpool_kit::serve::{Server, serve};
use spiderpool_kit::shutdown::Process;
use spiderpool_kit::telemetry::Format;
use spiderpool_kit::tls::{Certificates, POLL};
use tokio::net::TcpListener;

/// Path the Service's health check of the webhook port asks.
pub const HEALTH_PATH: &str = "/webhook-health-check";

/// The kubelet kills 30 s after its stop signal unless told otherwise; what is at hand ends well before.
const GRACE: Duration = Duration::from_secs(20);

/// Checks and completes Spiderpool objects on their way into the API server.
///
/// The API server calls this program over TLS. The certificate is read from two files that usually come from a Secret; a
/// renewed Secret is taken up within a minute, without a restart, and until there is a first certificate the program is not
/// ready.
#[derive(clap::Parser, Debug)]
#[command(name = "spiderpool-webhook", version)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(clap::Subcommand, Debug)]
pub enum Command {
    /// Serve until SIGTERM or SIGINT.
    #[command(after_help = "\
Example:
  spiderpool-webhook daemon --tls-server-cert=/etc/tls/tls.crt --tls-server-key=/etc/tls/tls.key

Check that it serves:
  curl -k https://localhost:5722/webhook-health-check
  curl http://localhost:5723/v1/runtime/readiness    # says what it waits for")]
    Daemon(Options),
}

/// Options of the daemon.
#[derive(clap::Args, Clone, Debug)]
pub struct Options {
    /// PEM file with the server's certificate, followed by those of its issuers if there are any.
    #[arg(long, value_name = "FILE", default_value = "/etc/tls/tls.crt")]
    pub tls_server_cert: PathBuf,
    /// PEM file with the private key of that certificate.
    #[arg(long, value_name = "FILE", default_value = "/etc/tls/tls.key")]
    pub tls_server_key: PathBuf,
    /// The ConfigMap's conf.yml. Accepted for the command line's sake; nothing in it concerns this program yet.
    #[arg(long, value_name = "FILE")]
    pub config_path: Option<PathBuf>,
    /// Address to listen on. `::` takes IPv4 and IPv6.
    #[arg(long, env = "SPIDERPOOL_LISTEN_ADDRESS", default_value = "::")]
    pub listen_address: IpAddr,
    /// Port the API server calls, with TLS.
    #[arg(long, env = "SPIDERPOOL_WEBHOOK_PORT", default_value_t = 5722)]
    pub webhook_port: u16,
    /// Port of the probes and metrics, without TLS.
    #[arg(long, env = "SPIDERPOOL_HEALTH_PORT", default_value_t = 5723)]
    pub health_port: u16,
    /// What to log: error, warn, info, debug, trace, or a filter such as info,kube=debug.
    #[arg(long, env = "SPIDERPOOL_LOG_LEVEL", default_value = "info")]
    pub log_level: String,
    /// How log lines look: auto is text on a terminal, JSON otherwise.
    #[arg(long, env = "SPIDERPOOL_LOG_FORMAT", value_enum, default_value_t = Format::Auto)]
    pub log_format: Format,
}

/// What the API server can ask.
pub fn router() -> Router {
    Router::new().route(HEALTH_PATH, get(|| std::future::ready(StatusCode::OK)))
}

/// Where a started webhook listens.
#[derive(Clone, Copy, Debug)]
pub struct Addresses {
    /// TLS.
    pub webhook: SocketAddr,
    /// Probes and metrics.
    pub health: SocketAddr,
}

/// Starts all tasks of the webhook. `poll` is how often the certificate's files are read.
pub async fn start(process: &Process, options: &Options, poll: Duration) -> anyhow::Result<Addresses> {
    let certificates = Certificates::new(&options.tls_server_cert, &options.tls_server_key);
    let (readiness, metrics) = (Readiness::new(), Metrics::new());
    let loaded = Arc::clone(&certificates);
    readiness.gate("certificate", move || loaded.is_loaded());

    let health = bind(options.listen_address, options.health_port, "SPIDERPOOL_HEALTH_PORT").await?;
    let webhook = bind(options.listen_address, options.webhook_port, "SPIDERPOOL_WEBHOOK_PORT").await?;
    let addresses = Addresses {
        webhook: webhook.local_addr()?,
        health: health.local_addr()?,
    };

    let server = Server::new(router()).tls(certificates.server_config()?);
    process.spawn_infallible("webhook server", server.run(webhook, process.token()));
    let probes = readiness.router().merge(metrics.router());
    process.spawn_infallible("health server", serve(health, probes, process.token()));
    let keeper = process.until_stop(async move { certificates.keep_current(poll).await });
    process.spawn_infallible("certificate reload", keeper);
    tracing::info!(webhook = %addresses.webhook, health = %addresses.health, "listening");
    Ok(addresses)
}

/// Serves until the process is told to stop.
pub async fn daemon(options: &Options) -> anyhow::Result<()> {
    spiderpool_kit::telemetry::init("spiderpool-webhook", &options.log_level, options.log_format)?;
    let process = Process::new();
    start(&process, options, POLL).await?;
    Ok(process.run(GRACE).await?)
}

async fn bind(address: IpAddr, port: u16, variable: &str) -> anyhow::Result<TcpListener> {
    let bound = match address == IpAddr::from([0u16; 8]) {
        // A node without IPv6 has no `::`; what was meant by it is every address there is.
        true => spiderpool_kit::serve::bind(port).await,
        false => TcpListener::bind((address, port)).await,
    };
    bound.with_context(|| format!("failed to listen on port {port}; is it taken? {variable} sets another one"))
}
