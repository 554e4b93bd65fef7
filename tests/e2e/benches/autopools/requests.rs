//! How many requests the operator sends, counted by the API server: its flow control tells requests apart by who sends them,
//! and counts each of its flows.

use anyhow::{Context, Result};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::flowcontrol::v1::FlowSchema;
use kube::Api;
use kube::api::{DeleteParams, PostParams};
use serde_json::{Value, json};
use spiderpool_e2e::RELEASE_NAMESPACE;
use spiderpool_e2e::cluster::Cluster;
use spiderpool_e2e::node::OPERATOR;
use spiderpool_e2e::wait::{self, SOON};

/// The flow of the lease, and that of all else.
const FLOWS: [&str; 2] = ["bench-operator-lease", "bench-operator"];

/// Flows that are counted from now on.
pub(crate) struct Counted<'a> {
    cluster: &'a Cluster,
    before: [u64; 2],
}

impl<'a> Counted<'a> {
    /// Makes the flows.
    pub(crate) async fn start(cluster: &'a Cluster) -> Result<Self> {
        let deployments: Api<Deployment> = Api::namespaced(cluster.client.clone(), RELEASE_NAMESPACE);
        let operator = deployments
            .get(OPERATOR)
            .await
            .context("reading the operator's Deployment")?;
        let pod = operator.spec.and_then(|spec| spec.template.spec);
        let account = pod
            .and_then(|pod| pod.service_account_name)
            .context("the operator has no account")?;
        let subject =
            json!({"kind": "ServiceAccount", "serviceAccount": {"name": account, "namespace": RELEASE_NAMESPACE}});
        let everything = json!([{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "namespaces": ["*"], "clusterScope": true}]);
        let lease = json!([{"verbs": ["*"], "apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "namespaces": ["*"]}]);
        let other = json!([{"verbs": ["*"], "nonResourceURLs": ["*"]}]);
        flow(cluster, FLOWS[0], 10, &subject, &lease, &json!([])).await?;
        flow(cluster, FLOWS[1], 20, &subject, &everything, &other).await?;
        // The lease is renewed every few seconds: once it is counted, the flows are in force.
        let first = count(cluster).await?[0];
        wait::until("the API server to count the operator's requests", SOON, async || {
            Ok((count(cluster).await?[0] > first).then_some(()))
        })
        .await?;
        Ok(Self {
            cluster,
            before: count(cluster).await?,
        })
    }

    /// Requests since the start: all but the lease's, and the lease's.
    pub(crate) async fn end(self) -> Result<(u64, u64)> {
        let after = count(self.cluster).await?;
        let flows: Api<FlowSchema> = Api::all(self.cluster.client.clone());
        for name in FLOWS {
            flows
                .delete(name, &DeleteParams::default())
                .await
                .context("removing a flow")?;
        }
        Ok((after[1] - self.before[1], after[0] - self.before[0]))
    }
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
            "priorityLevelConfiguration": {"name": "workload-high"},
            "matchingPrecedence": precedence,
            "rules": [{"subjects": [subject], "resourceRules": resources, "nonResourceRules": urls}],
        },
    });
    let object: FlowSchema = serde_json::from_value(object).context("making a flow")?;
    let flows: Api<FlowSchema> = Api::all(cluster.client.clone());
    flows
        .create(&PostParams::default(), &object)
        .await
        .map(drop)
        .context("making a flow")
}

/// What the API server has counted of each flow.
async fn count(cluster: &Cluster) -> Result<[u64; 2]> {
    let request = http::Request::get("/metrics")
        .body(Vec::new())
        .context("asking for metrics")?;
    let text = cluster
        .client
        .request_text(request)
        .await
        .context("reading the API server's metrics")?;
    Ok(FLOWS.map(|flow| {
        let label = format!("flow_schema=\"{flow}\"");
        let lines = text
            .lines()
            .filter(|line| line.starts_with("apiserver_flowcontrol_dispatched_requests_total{"));
        let own = lines.filter(|line| line.contains(&label));
        own.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .map(|count| count as u64)
            .sum()
    }))
}
