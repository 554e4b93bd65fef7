//! Trust in the webhook: who the API server trusts to be it, what it serves with, and requests that it has to see.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use k8s_openapi::api::admissionregistration::v1::{MutatingWebhookConfiguration, ValidatingWebhookConfiguration};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::ListParams;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use spiderpool_crds::{IPPoolSpec, SpiderIPPool};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::RELEASE_NAMESPACE;
use crate::cluster::Cluster;
use crate::webhooks::WEBHOOK;

/// Name of both webhook configurations.
pub const CONFIGURATION: &str = "spiderpool-controller";
/// Secret that it serves with.
pub const SECRET: &str = "spiderpool-controller-server-certs";
/// Secret of the CA.
pub const AUTHORITY: &str = "spiderpool-controller-server-certs-ca";
/// Its port.
const PORT: u16 = 5722;
/// By this name the API server asks for it.
const NAME: &str = "spiderpool-webhook.kube-system.svc";
/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// A pool that everybody accepts. Its network is no other test's.
pub fn good_pool(name: &str) -> SpiderIPPool {
    let spec = IPPoolSpec {
        subnet: "10.99.7.0/24".to_owned(),
        ips: Some(vec!["10.99.7.10-10.99.7.20".to_owned()]),
        ..IPPoolSpec::default()
    };
    SpiderIPPool::new(name, spec)
}

/// Asks for a good pool, which is not stored.
pub async fn ask(pools: &Api<SpiderIPPool>) -> Result<(), kube::Error> {
    pools.create(&crate::DRY_RUN, &good_pool("e2e-asked")).await.map(drop)
}

/// The `caBundle` of all entries of both configurations.
pub async fn bundles(cluster: &Cluster) -> Result<Vec<Vec<u8>>> {
    let mutating: Api<MutatingWebhookConfiguration> = Api::all(cluster.client.clone());
    let validating: Api<ValidatingWebhookConfiguration> = Api::all(cluster.client.clone());
    let mutating = mutating.get(CONFIGURATION).await.context("reading the configuration")?;
    let validating = validating
        .get(CONFIGURATION)
        .await
        .context("reading the configuration")?;
    let first = mutating.webhooks.into_iter().flatten().map(|entry| entry.client_config);
    let then = validating
        .webhooks
        .into_iter()
        .flatten()
        .map(|entry| entry.client_config);
    first
        .chain(then)
        .map(|client| {
            client
                .ca_bundle
                .map(|bytes| bytes.0)
                .context("an entry without caBundle")
        })
        .collect()
}

/// Addresses of the replicas that run.
pub async fn replicas(cluster: &Cluster) -> Result<Vec<SocketAddr>> {
    let pods: Api<Pod> = Api::namespaced(cluster.client.clone(), RELEASE_NAMESPACE);
    let own = ListParams::default().labels(&format!("app.kubernetes.io/component={WEBHOOK}"));
    let pods = pods.list(&own).await.context("listing the webhook's pods")?;
    let address = |pod: Pod| {
        let address: IpAddr = pod.status?.pod_ip?.parse().ok()?;
        Some(SocketAddr::new(address, PORT))
    };
    Ok(pods.items.into_iter().filter_map(address).collect())
}

/// A TLS handshake with a replica by a client that trusts `bundle`, as the API server does. Gives the replica's certificate.
pub async fn handshake(address: SocketAddr, bundle: &[u8]) -> Result<CertificateDer<'static>> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(bundle) {
        roots.add(certificate.context("reading a caBundle")?)?;
    }
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connect = async {
        let tcp = TcpStream::connect(address).await?;
        TlsConnector::from(Arc::new(config))
            .connect(ServerName::try_from(NAME).map_err(std::io::Error::other)?, tcp)
            .await
    };
    let stream = tokio::time::timeout(HANDSHAKE, connect)
        .await
        .with_context(|| format!("no handshake with {address} in {HANDSHAKE:?}"))?
        .with_context(|| format!("a handshake with {address}"))?;
    let own = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
    own.cloned().map(CertificateDer::into_owned).context("no certificate")
}

/// What became of many requests.
#[derive(Debug, Default)]
pub struct Load {
    /// How many were made.
    pub asked: usize,
    /// What those said that were not answered well.
    pub refusals: Vec<String>,
}

/// Asks for good pools at this pace until dropped; counts into `load`.
pub async fn keep_asking(cluster: &Cluster, every: Duration, load: &mut Load) {
    let pools: Api<SpiderIPPool> = Api::all(cluster.client.clone());
    let mut pace = tokio::time::interval(every);
    let mut at_hand = FuturesUnordered::new();
    loop {
        tokio::select! {
            _ = pace.tick() => at_hand.push(ask(&pools)),
            Some(answer) = at_hand.next() => {
                load.asked += 1;
                if let Err(error) = answer {
                    load.refusals.push(error.to_string());
                }
            }
        }
    }
}
