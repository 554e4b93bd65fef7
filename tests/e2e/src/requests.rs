//! How many requests a program sends, counted by the API server: its flow control tells requests apart by who sends them, and
//! counts each of its flows.

use anyhow::{Context, Result};
use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::api::flowcontrol::v1::FlowSchema;
use kube::api::{DeleteParams, PostParams};
use kube::{Api, Client};
use serde_json::{Value, json};

use crate::RELEASE_NAMESPACE;
use crate::cluster::Cluster;
use crate::wait::{self, SOON};

/// The priority level that accounts of the release's namespace have by default.
const LEVEL: &str = "workload-high";

/// Before the flow that those accounts have by default.
const PRECEDENCE: i32 = 890;

/// Requests of one account that are counted apart from its others.
#[derive(Clone, Debug)]
pub struct Apart {
    /// API group.
    pub group: &'static str,
    /// Resource, all verbs of it.
    pub resource: &'static str,
}

/// Requests of an account of the release that are counted from now on.
pub struct Counted<'a> {
    cluster: &'a Cluster,
    /// Names of the flows: of what is counted apart if there is such, and of everything else.
    flows: Vec<String>,
    before: Vec<u64>,
}

/// How many requests were sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// What is not counted apart.
    pub requests: u64,
    /// What is.
    pub apart: u64,
}

impl<'a> Counted<'a> {
    /// Begins to count.
    pub async fn start(cluster: &'a Cluster, account: &str, apart: Option<Apart>) -> Result<Self> {
        let subject =
            json!({"kind": "ServiceAccount", "serviceAccount": {"name": account, "namespace": RELEASE_NAMESPACE}});
        let mut flows = Vec::new();
        if let Some(apart) = apart {
            let rule = json!([{"verbs": ["*"], "apiGroups": [apart.group], "resources": [apart.resource], "namespaces": ["*"]}]);
            let name = format!("bench-{account}-{}", apart.resource);
            flow(cluster, &name, PRECEDENCE, &subject, &rule, &json!([])).await?;
            flows.push(name);
        }
        let everything = json!([{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "namespaces": ["*"], "clusterScope": true}]);
        let other = json!([{"verbs": ["*"], "nonResourceURLs": ["*"]}]);
        let name = format!("bench-{account}");
        flow(cluster, &name, PRECEDENCE + 1, &subject, &everything, &other).await?;
        flows.push(name.clone());
        let client = client_of(cluster, account).await?;
        let own = std::slice::from_ref(&name);
        let before = count(cluster, own).await?;
        wait::until("the API server to count an account's requests", SOON, async || {
            client.apiserver_version().await.context("asking for the version")?;
            Ok((count(cluster, own).await? > before).then_some(()))
        })
        .await?;
        let before = count(cluster, &flows).await?;
        Ok(Self { cluster, flows, before })
    }

    /// Requests since the start, or since this was asked before.
    pub async fn since(&mut self) -> Result<Sent> {
        let now = count(self.cluster, &self.flows).await?;
        let mut more = now.iter().zip(&self.before).map(|(now, before)| now - before).rev();
        let sent = Sent {
            requests: more.next().unwrap_or_default(),
            apart: more.next().unwrap_or_default(),
        };
        self.before = now;
        Ok(sent)
    }

    /// Counts no more; requests since the last time.
    pub async fn end(mut self) -> Result<Sent> {
        let sent = self.since().await?;
        let flows: Api<FlowSchema> = Api::all(self.cluster.client.clone());
        for name in &self.flows {
            let deleted = flows.delete(name, &DeleteParams::default()).await;
            deleted.context("removing a flow")?;
        }
        Ok(sent)
    }
}

/// A client with the rights of an account of the release.
async fn client_of(cluster: &Cluster, account: &str) -> Result<Client> {
    let accounts: Api<ServiceAccount> = Api::namespaced(cluster.client.clone(), RELEASE_NAMESPACE);
    let request: TokenRequest = serde_json::from_value(json!({"metadata": {}, "spec": {"audiences": []}}))?;
    let answer = accounts
        .create_token_request(account, &PostParams::default(), &request)
        .await
        .with_context(|| format!("requesting a token of the account {account}"))?;
    let token = answer.status.context("a token request without status")?.token;
    cluster.with_token(&token)
}

async fn flow(
    cluster: &Cluster,
    name: &str,
    precedence: i32,
    subject: &Value,
    resources: &Value,
    urls: &Value,
) -> Result<()> {
    let object = json!({
        "metadata": {"name": name},
        "spec": {
            "priorityLevelConfiguration": {"name": LEVEL},
            "matchingPrecedence": precedence,
            "distinguisherMethod": {"type": "ByNamespace"},
            "rules": [{"subjects": [subject], "resourceRules": resources, "nonResourceRules": urls}],
        },
    });
    let object: FlowSchema = serde_json::from_value(object).context("making a flow")?;
    let flows: Api<FlowSchema> = Api::all(cluster.client.clone());
    // What a run left that was killed counts as well.
    match flows.create(&PostParams::default(), &object).await {
        Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(()),
        made => made.map(drop).context("making a flow"),
    }
}

/// What the API server has counted of each flow.
async fn count(cluster: &Cluster, flows: &[String]) -> Result<Vec<u64>> {
    let text = metrics(cluster).await?;
    let of = |flow: &String| {
        let label = format!("flow_schema=\"{flow}\"");
        samples(&text, "apiserver_flowcontrol_dispatched_requests_total")
            .filter(|(labels, _)| labels.contains(&label))
            .map(|(_, count)| count)
            .sum()
    };
    Ok(flows.iter().map(of).collect())
}

/// The API server's metrics.
pub async fn metrics(cluster: &Cluster) -> Result<String> {
    let request = http::Request::get("/metrics")
        .body(Vec::new())
        .context("asking for metrics")?;
    let answer = cluster.client.request_text(request).await;
    answer.context("reading the API server's metrics")
}

/// Labels and value of each sample of a counter.
pub fn samples<'a>(metrics: &'a str, name: &'a str) -> impl Iterator<Item = (&'a str, u64)> {
    metrics.lines().filter_map(move |line| {
        let (labels, value) = line.strip_prefix(name)?.strip_prefix('{')?.rsplit_once("} ")?;
        Some((labels, value.parse::<f64>().ok()? as u64))
    })
}
