//! The operator's own API, asked over TLS as a user does who has a token for it.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::core::v1::{Pod, Secret, ServiceAccount};
use k8s_openapi::api::rbac::v1::ClusterRoleBinding;
use kube::Api;
use kube::api::PostParams;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::RELEASE_NAMESPACE;
use crate::node::OPERATOR;
use crate::operators;
use crate::scene::Scene;

/// Its port.
const PORT: u16 = 5724;

/// The Secret with its certificate, and with the one that it is known by.
const SECRET: &str = "spiderpool-controller-server-certs";

/// For whom a token has to be made.
const AUDIENCE: &str = "ipam.spidernet.io";

/// How long a request may take.
const REQUEST: Duration = Duration::from_secs(60);

/// An answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// The body.
    pub body: String,
}

impl Answer {
    /// The body as JSON.
    pub fn json(&self) -> Result<Value> {
        serde_json::from_str(&self.body).with_context(|| format!("the answer {:?} is not JSON", self.body))
    }
}

/// Makes a service account in a scene's namespace with some of the ClusterRoles of the chart, and a token of it.
pub async fn user(scene: &Scene, name: &str, roles: &[&str]) -> Result<String> {
    let account: ServiceAccount = serde_json::from_value(json!({"metadata": {"name": name}}))?;
    scene.create(&account).await?;
    for role in roles {
        let binding: ClusterRoleBinding = serde_json::from_value(json!({
            "metadata": {"name": scene.own(&format!("{name}-{role}"))},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
            "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": scene.namespace}],
        }))?;
        let bindings: Api<ClusterRoleBinding> = Api::all(scene.cluster.client.clone());
        let made = bindings.create(&PostParams::default(), &binding).await;
        made.context("binding a ClusterRole")?;
    }
    let request: TokenRequest = serde_json::from_value(json!({"metadata": {}, "spec": {"audiences": [AUDIENCE]}}))?;
    let accounts = scene.api::<ServiceAccount>();
    let made = accounts
        .create_token_request(name, &PostParams::default(), &request)
        .await;
    let made = made.context("requesting a token")?;
    Ok(made.status.context("a token request without status")?.token)
}

/// Removes what [`user`] made beside the namespace.
pub async fn forget(scene: &Scene, name: &str, roles: &[&str]) -> Result<()> {
    let bindings: Api<ClusterRoleBinding> = Api::all(scene.cluster.client.clone());
    for role in roles {
        crate::leave::delete_if_there(&bindings, &scene.own(&format!("{name}-{role}"))).await?;
    }
    Ok(())
}

/// Asks the leading operator.
pub async fn ask(scene: &Scene, token: Option<&str>, method: &str, path: &str, body: &str) -> Result<Answer> {
    let leader = operators::leader(&scene.cluster).await?;
    let pods: Api<Pod> = Api::namespaced(scene.cluster.client.clone(), RELEASE_NAMESPACE);
    let pod = pods.get(&leader.pod).await.context("reading the leader's pod")?;
    let address = pod
        .status
        .and_then(|status| status.pod_ip)
        .context("the leader has no address")?;
    let address: IpAddr = address.parse().context("the leader's address")?;
    let secrets: Api<Secret> = Api::namespaced(scene.cluster.client.clone(), RELEASE_NAMESPACE);
    let secret = secrets
        .get(SECRET)
        .await
        .with_context(|| format!("reading the Secret {SECRET}"))?;
    let authority = secret.data.and_then(|mut data| data.remove("ca.crt"));
    let authority = authority.with_context(|| format!("the Secret {SECRET} has no ca.crt"))?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&authority.0) {
        roots.add(certificate.context("reading a certificate")?)?;
    }
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let host = format!("{OPERATOR}.{RELEASE_NAMESPACE}.svc");
    let credentials = token.map_or_else(String::new, |token| format!("Authorization: Bearer {token}\r\n"));
    let request = format!(
        "{method} {path} HTTP/1.0\r\nHost: {host}\r\nContent-Type: application/json\r\n{credentials}Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let exchange = async {
        let tcp = TcpStream::connect(SocketAddr::new(address, PORT))
            .await
            .context("connecting")?;
        let name = ServerName::try_from(host.clone()).context("a server's name")?;
        let mut stream = TlsConnector::from(Arc::new(config))
            .connect(name, tcp)
            .await
            .context("a handshake")?;
        stream
            .write_all(request.as_bytes())
            .await
            .context("sending a request")?;
        let mut answer = Vec::new();
        // A server may end the connection without saying goodbye.
        if let Err(error) = stream.read_to_end(&mut answer).await
            && answer.is_empty()
        {
            return Err(error).context("reading an answer");
        }
        anyhow::Ok(String::from_utf8_lossy(&answer).into_owned())
    };
    let text = match tokio::time::timeout(REQUEST, exchange).await {
        Ok(text) => text.with_context(|| format!("{method} {path} at {address}"))?,
        Err(_) => bail!("no answer to {method} {path} at {address} in {REQUEST:?}"),
    };
    let (head, body) = text.split_once("\r\n\r\n").context("an answer without a head")?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    Ok(Answer {
        status: status.with_context(|| format!("the answer has no status: {head}"))?,
        body: body.to_owned(),
    })
}
