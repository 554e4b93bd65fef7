//! The admission webhook: completes Spiderpool's objects and judges them beside all others.
//!
//! The rules are those of [`spiderpool_crds::admission`]. Here is what it takes to ask them for every object that comes:
//!
//! | module | what it does |
//! |---|---|
//! | [`review`] | question and answer of the API server |
//! | [`router`] | paths, limits, deadline |
//! | [`lint`] | what is wrong with the annotations of workloads |
//! | `judge` | from a question to the rules of its kind, and back |
//! | [`world`] | the objects that are there, by watch |
//! | [`config`] | settings of the installation |
//!
//! What one object alone breaks the API server refuses itself, by the CRDs; the operator fills in what is missing of objects that
//! were stored while no webhook ran.

pub mod config;
mod judge;
pub mod lint;
pub mod metrics;
pub mod review;
pub mod router;
pub mod world;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use axum::extract::Request;
use axum::http::header::{CONNECTION, HeaderValue};
use axum::middleware::{Next, from_fn};
use kube::Client;
use spiderpool_kit::client;
use spiderpool_kit::health::Readiness;
use spiderpool_kit::metrics::Metrics;
use spiderpool_kit::serve::{Limits, Server, serve};
use spiderpool_kit::shutdown::Process;
use spiderpool_kit::telemetry::Format;
use spiderpool_kit::tls::{Certificates, POLL};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub use router::{HEALTH_PATH, Webhook, router};

use config::Config;
use metrics::Admissions;
use world::World;

/// The kubelet kills 30 s after its stop signal unless told otherwise; what is at hand ends well before.
const GRACE: Duration = Duration::from_secs(20);
/// How long everything goes on after the stop signal. It takes the cluster a moment to send nobody here any more, and nobody tells when
/// that is so.
const LINGER: Duration = Duration::from_secs(5);
/// The API server keeps a connection for 90 s and does not ask again when a question meets its end: it must end it first.
const IDLE: Duration = Duration::from_secs(120);

/// Checks and completes Spiderpool objects on their way into the API server.
///
/// The API server calls this program over TLS. It watches subnets, pools and reservations, since what is new must get on with what
/// is there; before it has read them all it is not ready. The certificate is read from a Secret, or from two files; a renewed one
/// is taken up without a restart, from a Secret at once. Without a certificate, or with one that has expired, the program is not
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
  spiderpool-webhook daemon --tls-secret=spiderpool-controller-server-certs

Check that it serves:
  curl -k https://localhost:5722/webhook-health-check
  curl http://localhost:5723/v1/runtime/readiness    # says what it waits for")]
    Daemon(Options),
}

/// Options of the daemon.
#[derive(clap::Args, Clone, Debug)]
pub struct Options {
    /// Secret with the server's certificate (tls.crt) and its key (tls.key); without it they are read from files.
    #[arg(long, value_name = "NAME")]
    pub tls_secret: Option<String>,
    /// Namespace of that Secret.
    #[arg(long, env = "SPIDERPOOL_POD_NAMESPACE", default_value = "kube-system")]
    pub namespace: String,
    /// PEM file with the server's certificate, followed by those of its issuers if there are any.
    #[arg(long, value_name = "FILE", default_value = "/etc/tls/tls.crt")]
    pub tls_server_cert: PathBuf,
    /// PEM file with the private key of that certificate.
    #[arg(long, value_name = "FILE", default_value = "/etc/tls/tls.key")]
    pub tls_server_key: PathBuf,
    /// The ConfigMap's conf.yml. Without it, all settings are as the chart has them by default.
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

/// Where a started webhook listens.
#[derive(Clone, Copy, Debug)]
pub struct Addresses {
    /// TLS.
    pub webhook: SocketAddr,
    /// Probes and metrics.
    pub health: SocketAddr,
}

/// How the API server is reached.
#[derive(Clone)]
pub struct Clients {
    /// For watches.
    pub patient: Client,
    /// For reads that somebody waits for.
    pub prompt: Client,
}

/// Starts all tasks of the webhook. `poll` is how often the certificate is read, if it is in files. Once `leaving` is cancelled, all go on,
/// but whoever asks is told to look for somebody else next time.
pub async fn start(
    process: &Process,
    options: &Options,
    clients: Clients,
    poll: Duration,
    leaving: &CancellationToken,
) -> anyhow::Result<Addresses> {
    let config = Config::load(options.config_path.as_deref())?;
    let certificates = match &options.tls_secret {
        Some(name) => Certificates::of_secret(process, clients.patient.clone(), &options.namespace, name),
        None => Certificates::new(&options.tls_server_cert, &options.tls_server_key),
    };
    let (readiness, metrics) = (Readiness::new(), Metrics::new());
    let staying = leaving.clone();
    readiness.gate("stopping", move || !staying.is_cancelled());
    let valid = Arc::clone(&certificates);
    readiness.gate("certificate", move || valid.is_valid());

    let health = bind(options.listen_address, options.health_port, "SPIDERPOOL_HEALTH_PORT").await?;
    let webhook = bind(options.listen_address, options.webhook_port, "SPIDERPOOL_WEBHOOK_PORT").await?;
    let addresses = Addresses {
        webhook: webhook.local_addr()?,
        health: health.local_addr()?,
    };
    let probes = readiness.router().merge(metrics.router());
    process.spawn_infallible("health server", serve(health, probes, process.token()));
    let router = router(Webhook {
        world: World::start(process, &readiness, &clients.patient, clients.prompt),
        settings: config.settings,
        annotations: config.annotations,
        metrics: Admissions::register(&metrics),
    });
    let router = closing_when(router, leaving.clone());
    let limits = Limits {
        header: IDLE,
        ..Limits::default()
    };
    let server = Server::new(router).limits(limits).tls(certificates.server_config()?);
    process.spawn_infallible("webhook server", server.run(webhook, process.token()));
    let keeper = process.until_stop(async move { certificates.keep_current(poll).await });
    process.spawn_infallible("certificate reload", keeper);
    tracing::info!(webhook = %addresses.webhook, health = %addresses.health, "listening");
    Ok(addresses)
}

/// Tells whoever asks to look for another connection, when it is time for that.
fn closing_when(router: Router, leaving: CancellationToken) -> Router {
    router.layer(from_fn(move |request: Request, next: Next| {
        let leaving = leaving.clone();
        async move {
            let mut response = next.run(request).await;
            if leaving.is_cancelled() {
                let close = HeaderValue::from_static("close");
                response.headers_mut().insert(CONNECTION, close);
            }
            response
        }
    }))
}

/// Serves until the process is told to stop.
pub async fn daemon(options: &Options) -> anyhow::Result<()> {
    spiderpool_kit::telemetry::init("spiderpool-webhook", &options.log_level, options.log_format)?;
    let process = Process::new();
    let cluster = client::infer().await?;
    let clients = Clients {
        patient: client::patient(cluster.clone())?,
        prompt: client::prompt(cluster)?,
    };
    let leaving = CancellationToken::new();
    start(&process, options, clients, POLL, &leaving).await?;
    process.signalled().await?;
    leaving.cancel();
    // A process that failed has nothing to offer.
    process.token().run_until_cancelled(tokio::time::sleep(LINGER)).await;
    Ok(process.finish(GRACE).await?)
}

async fn bind(address: IpAddr, port: u16, variable: &str) -> anyhow::Result<TcpListener> {
    let bound = match address == IpAddr::from([0u16; 8]) {
        // A node without IPv6 has no `::`; what was meant by it is every address there is.
        true => spiderpool_kit::serve::bind(port).await,
        false => TcpListener::bind((address, port)).await,
    };
    bound.with_context(|| format!("failed to listen on port {port}; is it taken? {variable} sets another one"))
}
