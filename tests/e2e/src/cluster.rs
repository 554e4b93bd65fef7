//! The test cluster: how to talk to it, and what it consists of on this machine.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use kube::config::{AuthInfo, KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::node::Node;

/// Names the file that says what the cluster consists of.
const VARIABLE: &str = "SPIDERPOOL_E2E_CLUSTER";

/// What the tests read of the file. `cargo xtask cluster up` writes it.
#[derive(Clone, Debug, Deserialize)]
struct State {
    kubeconfig: PathBuf,
    nodes: Vec<Node>,
}

/// A process of the cluster, as `cargo xtask` records it.
#[derive(Debug, Deserialize)]
struct ProcessRecord {
    pid: i32,
}

/// Something that stands for the API server.
#[derive(Clone, Debug)]
pub struct Server {
    /// Its address.
    pub url: String,
    /// File with the certificate that it is known by.
    pub ca: PathBuf,
}

/// The test cluster. A client belongs to the runtime of one test, so every test opens its own.
#[derive(Clone)]
pub struct Cluster {
    /// A client with all rights.
    pub client: Client,
    /// The nodes, in order.
    pub nodes: Vec<Node>,
    config: Config,
    kubeconfig: Kubeconfig,
    folder: PathBuf,
}

impl Cluster {
    /// The cluster that the environment names.
    pub async fn open() -> Result<Self> {
        let Some(file) = std::env::var_os(VARIABLE).map(PathBuf::from) else {
            bail!("{VARIABLE} is not set: these tests need the test cluster; run `cargo xtask test e2e`");
        };
        let text = std::fs::read(&file).with_context(|| format!("reading {} ({VARIABLE})", file.display()))?;
        let state: State =
            serde_json::from_slice(&text).with_context(|| format!("understanding {} ({VARIABLE})", file.display()))?;
        let kubeconfig = Kubeconfig::read_from(&state.kubeconfig)
            .with_context(|| format!("reading the kubeconfig {}", state.kubeconfig.display()))?;
        let config = Config::from_custom_kubeconfig(kubeconfig.clone(), &KubeConfigOptions::default())
            .await
            .context("understanding the kubeconfig of the test cluster")?;
        let client = Client::try_from(config.clone()).context("making a client of the test cluster")?;
        let cluster = Self {
            client,
            nodes: state.nodes,
            config,
            kubeconfig,
            folder: file.parent().unwrap_or(Path::new("/")).to_owned(),
        };
        cluster.client.apiserver_version().await.with_context(|| {
            format!(
                "reaching the API server {}: it is only reachable from the cluster's network namespace; run `cargo xtask test e2e`",
                cluster.config.cluster_url
            )
        })?;
        Ok(cluster)
    }

    /// A client that has nothing but a token.
    pub fn with_token(&self, token: &str) -> Result<Client> {
        let mut config = self.config.clone();
        config.auth_info = AuthInfo {
            token: Some(token.to_owned().into()),
            ..AuthInfo::default()
        };
        Client::try_from(config).context("making a client with a token")
    }

    /// A client with all rights whose requests count as another user's.
    pub fn acting_as(&self, user: &str) -> Result<Client> {
        let mut config = self.config.clone();
        config.auth_info.impersonate = Some(user.to_owned());
        config.auth_info.impersonate_groups = Some(vec!["system:masters".to_owned()]);
        Client::try_from(config).with_context(|| format!("making a client that acts as {user}"))
    }

    /// A client with all rights of whose writes no webhook hears, as if none ran: the chart leaves out what Kubernetes' own
    /// controllers write.
    pub fn unjudged(&self) -> Result<Client> {
        self.acting_as("system:kube-controller-manager")
    }

    /// A client that sends no credentials of its own.
    pub fn anonymous(&self) -> Result<Client> {
        let mut config = self.config.clone();
        config.auth_info = AuthInfo::default();
        config.default_retry = false;
        Client::try_from(config).context("making a client without credentials")
    }

    /// A kubeconfig that has nothing but a token, as JSON. With `server` it leads to something else that stands for the API server.
    pub fn kubeconfig(&self, token: &str, server: Option<&Server>) -> Result<Value> {
        let cluster = match server {
            Some(server) => json!({"server": server.url, "certificate-authority": server.ca}),
            None => {
                let first = self
                    .kubeconfig
                    .clusters
                    .first()
                    .and_then(|named| named.cluster.as_ref());
                serde_json::to_value(first.context("the kubeconfig of the test cluster names no cluster")?)?
            }
        };
        Ok(json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "test", "cluster": cluster}],
            "users": [{"name": "agent", "user": {"token": token}}],
            "contexts": [{"name": "agent", "context": {"cluster": "test", "user": "agent"}}],
            "current-context": "agent",
        }))
    }

    /// Host and port of the API server.
    pub fn api_server(&self) -> Result<String> {
        let url = &self.config.cluster_url;
        let authority = url.authority().map(ToString::to_string);
        authority.with_context(|| format!("{url} names no host"))
    }

    /// The folder of the cluster's files.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The file that says which process a component is.
    pub(crate) fn record(&self, name: &str) -> PathBuf {
        self.folder.join("processes").join(format!("{name}.json"))
    }

    /// The process of a component of the control plane, for example `kube-apiserver`.
    pub fn component(&self, name: &str) -> Result<i32> {
        let file = self.record(name);
        let text = std::fs::read(&file).with_context(|| format!("reading {}", file.display()))?;
        let record: ProcessRecord =
            serde_json::from_slice(&text).with_context(|| format!("understanding {}", file.display()))?;
        Ok(record.pid)
    }

    /// A node by its name.
    pub fn node(&self, name: &str) -> Result<&Node> {
        self.nodes
            .iter()
            .find(|node| node.name == name)
            .with_context(|| format!("the test cluster has no node {name}"))
    }

    /// The first node.
    pub fn first_node(&self) -> Result<&Node> {
        self.nodes.first().context("the test cluster has no nodes")
    }
}
