//! A real node that is lost: its kubelet and agent are killed, and the control plane says what it says when it hears of a node no more.
//! What runs there runs on.

use anyhow::{Context, Result, bail};
use k8s_openapi::api::core::v1::{Node as NodeObject, Taint};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::json;

use crate::cluster::Cluster;
use crate::component::{Daemon, Down};
use crate::node::{AGENT, Node};
use crate::socket::request;
use crate::wait::{self, LONG};

/// Taint of a node that somebody has made sure is off.
const OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";

/// Taint of a node that the control plane does not hear of.
const UNREACHABLE: &str = "node.kubernetes.io/unreachable";

/// A node that is lost. Its kubelet is started again when this is dropped.
pub struct LostNode<'a> {
    node: &'a Node,
    nodes: Api<NodeObject>,
    kubelet: Down,
}

impl<'a> LostNode<'a> {
    /// Loses a node.
    pub async fn lose(cluster: &Cluster, node: &'a Node) -> Result<Self> {
        let lost = Self {
            node,
            nodes: Api::all(cluster.client.clone()),
            kubelet: Daemon::of_node(cluster, "kubelet", node)?.kill().await?,
        };
        // Nobody starts it again.
        node.process(AGENT)?.kill()?;
        let now = Timestamp::now().to_string();
        let ready = json!({
            "type": "Ready",
            "status": "Unknown",
            "reason": "NodeStatusUnknown",
            "message": "a test ended its kubelet",
            "lastHeartbeatTime": now,
            "lastTransitionTime": now,
        });
        let change = json!({"status": {"conditions": [ready]}});
        let called = lost
            .nodes
            .patch_status(&node.name, &PatchParams::default(), &Patch::Strategic(&change))
            .await;
        called.with_context(|| format!("calling the Node {} lost", node.name))?;
        // Before that pods may still be sent there.
        wait::object(&lost.nodes, &node.name, "the lost Node to be tainted", LONG, |node| {
            let mut taints = node?.spec.as_ref()?.taints.iter().flatten();
            taints.find(|taint| taint.key == UNREACHABLE).map(drop)
        })
        .await?;
        Ok(lost)
    }

    /// Says that the machine is off, or not any more.
    pub async fn set_out_of_service(&self, off: bool) -> Result<()> {
        let name = &self.node.name;
        loop {
            let node = self.nodes.get(name).await.context("reading a Node")?;
            let mut taints = node
                .spec
                .as_ref()
                .and_then(|spec| spec.taints.clone())
                .unwrap_or_default();
            taints.retain(|taint| taint.key != OUT_OF_SERVICE);
            if off {
                taints.push(Taint {
                    key: OUT_OF_SERVICE.to_owned(),
                    value: Some("nodeshutdown".to_owned()),
                    effect: "NoExecute".to_owned(),
                    ..Taint::default()
                });
            }
            let change = json!({"metadata": {"resourceVersion": node.resource_version()}, "spec": {"taints": taints}});
            match self
                .nodes
                .patch(name, &PatchParams::default(), &Patch::Merge(&change))
                .await
            {
                // The control plane taints it, too.
                Err(kube::Error::Api(status)) if status.is_conflict() => {}
                Err(error) => bail!("changing the taints of the Node {name}: {error}"),
                Ok(_) => return Ok(()),
            }
        }
    }

    /// It is back: its kubelet runs and it is Ready.
    pub async fn back(self) -> Result<()> {
        self.kubelet.start()?;
        wait::object(&self.nodes, &self.node.name, "the Node to be Ready", LONG, |node| {
            let conditions = node?.status.as_ref()?.conditions.as_ref()?;
            let ready = conditions.iter().find(|condition| condition.type_ == "Ready")?;
            (ready.status == "True").then_some(())
        })
        .await?;
        serves(self.node).await
    }
}

/// Waits until the agent of a node answers.
pub async fn serves(node: &Node) -> Result<()> {
    wait::until(&format!("the agent of {} to serve", node.name), LONG, async || {
        let answer = request(node, "GET", "/v1/ipam/healthy", b"").await;
        Ok(answer.ok().filter(|answer| answer.status == 200).map(drop))
    })
    .await
}
