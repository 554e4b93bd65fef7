//! The webhook over real sockets and through its router.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on should say so at that line"
)]

mod common;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use common::ApiServer;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use spiderpool_kit::shutdown::Process;
use spiderpool_kit::telemetry::Format;
use spiderpool_webhook::{Addresses, Cli, Clients, Command, HEALTH_PATH, Options, start};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;

const DEADLINE: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(20);

fn clients(api: &ApiServer) -> Clients {
    Clients {
        patient: api.client(),
        prompt: api.client(),
    }
}

#[test]
fn the_command_line_is_the_one_charts_use() {
    let line = "w daemon --config-path=/c --tls-server-cert=/a --tls-server-key=/b";
    let Command::Daemon(options) = Cli::try_parse_from(line.split(' ')).unwrap().command;
    assert_eq!(
        (options.tls_server_cert.as_path(), options.tls_server_key.as_path()),
        (Path::new("/a"), Path::new("/b"))
    );
    assert_eq!((options.webhook_port, options.health_port), (5722, 5723));
    let Command::Daemon(options) = Cli::try_parse_from(["w", "daemon", "--tls-secret=c"]).unwrap().command;
    assert_eq!(
        (options.tls_secret.as_deref(), options.namespace.as_str()),
        (Some("c"), "kube-system")
    );
    assert!(Cli::try_parse_from(["w"]).is_err());
}

fn options(folder: &Path) -> Options {
    Options {
        tls_secret: None,
        namespace: "kube-system".to_owned(),
        tls_server_cert: folder.join("tls.crt"),
        tls_server_key: folder.join("tls.key"),
        config_path: None,
        listen_address: IpAddr::V4(Ipv4Addr::LOCALHOST),
        webhook_port: 0,
        health_port: 0,
        log_level: "info".to_owned(),
        log_format: Format::Auto,
    }
}

fn write_pair(folder: &Path) -> CertificateDer<'static> {
    let pair = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(folder.join("tls.crt"), pair.cert.pem()).unwrap();
    std::fs::write(folder.join("tls.key"), pair.signing_key.serialize_pem()).unwrap();
    pair.cert.der().clone()
}

async fn exchange(
    mut io: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    path: &str,
) -> std::io::Result<String> {
    io.write_all(format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").as_bytes())
        .await?;
    let mut bytes = Vec::new();
    match io.read_to_end(&mut bytes).await {
        Err(error) if bytes.is_empty() => Err(error),
        _ => Ok(String::from_utf8_lossy(&bytes).into_owned()),
    }
}

async fn probe(address: SocketAddr, name: &str) -> String {
    exchange(
        TcpStream::connect(address).await.unwrap(),
        &format!("/v1/runtime/{name}"),
    )
    .await
    .unwrap()
}

/// Waits until the readiness probe's answer ends like this.
async fn says(addresses: Addresses, end: &str) {
    let said = async {
        while !probe(addresses.health, "readiness").await.ends_with(end) {
            tokio::task::yield_now().await;
        }
    };
    let in_time = tokio::time::timeout(DEADLINE, said).await;
    in_time.unwrap_or_else(|_| panic!("readiness does not say {end:?} in time"));
}

/// One request by a client that trusts exactly `certificate`.
async fn over_tls(address: SocketAddr, certificate: &CertificateDer<'static>, path: &str) -> std::io::Result<String> {
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let tcp = TcpStream::connect(address).await?;
    let tls = TlsConnector::from(Arc::new(config))
        .connect(ServerName::try_from("localhost").unwrap(), tcp)
        .await?;
    exchange(tls, path).await
}

/// Asks until a client that trusts `certificate` is served.
async fn served_with(addresses: Addresses, certificate: &CertificateDer<'static>) {
    let served = async {
        while over_tls(addresses.webhook, certificate, HEALTH_PATH).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(DEADLINE, served)
        .await
        .expect("not served with this certificate in time");
}

#[tokio::test]
async fn it_is_ready_with_a_certificate_and_swaps_it_without_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let (process, api, leaving) = (Process::new(), ApiServer::default(), CancellationToken::new());
    let addresses = start(&process, &options(folder.path()), clients(&api), POLL, &leaving)
        .await
        .unwrap();
    // The objects are read, of which there are none.
    says(addresses, "not ready: certificate\n").await;
    assert!(probe(addresses.health, "liveness").await.starts_with("HTTP/1.1 200 "));

    let first = write_pair(folder.path());
    served_with(addresses, &first).await;
    says(addresses, "\r\n\r\n").await;
    assert!(
        over_tls(addresses.webhook, &first, "/other")
            .await
            .unwrap()
            .starts_with("HTTP/1.1 404 ")
    );

    let second = write_pair(folder.path());
    served_with(addresses, &second).await;
    assert!(
        over_tls(addresses.webhook, &first, HEALTH_PATH).await.is_err(),
        "the old certificate is still served"
    );

    // No pair at all: the one in use stays.
    std::fs::write(folder.path().join("tls.crt"), "half writ").unwrap();
    served_with(addresses, &second).await;

    // Who comes before the cluster knows that it stops is served.
    leaving.cancel();
    over_tls(addresses.webhook, &second, HEALTH_PATH).await.unwrap();
    says(addresses, "not ready: stopping\n").await;
    process.finish(DEADLINE).await.unwrap();
}

#[tokio::test]
async fn a_client_that_does_not_speak_tls_harms_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let certificate = write_pair(folder.path());
    let (process, api, leaving) = (Process::new(), ApiServer::default(), CancellationToken::new());
    let addresses = start(&process, &options(folder.path()), clients(&api), POLL, &leaving)
        .await
        .unwrap();
    served_with(addresses, &certificate).await;
    let plain = exchange(TcpStream::connect(addresses.webhook).await.unwrap(), HEALTH_PATH).await;
    assert!(!plain.unwrap_or_default().starts_with("HTTP/1.1 200"));
    let _silent = TcpStream::connect(addresses.webhook).await.unwrap();
    served_with(addresses, &certificate).await;
    process.finish(DEADLINE).await.unwrap();
}
