//! A Node without kubelet that counts as Ready: somebody has to say so again and again.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// The control plane waits for 40 seconds or more.
const EVERY: Duration = Duration::from_secs(10);

/// Says that a Node is Ready until it is dropped, or told to be silent.
#[derive(Debug)]
pub struct Heartbeat {
    node: String,
    nodes: Api<Node>,
    beats: Arc<watch::Sender<bool>>,
    _task: JoinSet<()>,
}

impl Heartbeat {
    /// Says it for the first time, and goes on.
    pub async fn start(client: &Client, node: &str) -> Result<Self> {
        let nodes: Api<Node> = Api::all(client.clone());
        say(&nodes, node, true).await?;
        let beats = Arc::new(watch::Sender::new(true));
        let mut task = JoinSet::new();
        task.spawn(beat(nodes.clone(), node.to_owned(), beats.subscribe()));
        Ok(Self {
            node: node.to_owned(),
            nodes,
            beats,
            _task: task,
        })
    }

    /// Nothing more is heard of the Node, and the control plane says so: what it would do after a while.
    pub async fn lose(&self) -> Result<()> {
        self.beats.send_replace(false);
        say(&self.nodes, &self.node, false).await
    }

    /// The Node is heard of again.
    pub async fn find(&self) -> Result<()> {
        say(&self.nodes, &self.node, true).await?;
        self.beats.send_replace(true);
        Ok(())
    }
}

async fn beat(nodes: Api<Node>, node: String, mut beats: watch::Receiver<bool>) {
    loop {
        tokio::time::sleep(EVERY).await;
        if beats.wait_for(|beats| *beats).await.is_err() {
            return;
        }
        // While the API server is away nobody hears it, as of a kubelet; the next one is heard.
        let _ = say(&nodes, &node, true).await;
    }
}

async fn say(nodes: &Api<Node>, node: &str, ready: bool) -> Result<()> {
    let now = Timestamp::now().to_string();
    let (status, reason) = if ready {
        ("True", "TestSaysSo")
    } else {
        ("Unknown", "NodeStatusUnknown")
    };
    let condition = json!({"type": "Ready", "status": status, "reason": reason, "lastHeartbeatTime": now});
    let change = json!({"status": {"conditions": [condition]}});
    let told = nodes
        .patch_status(node, &PatchParams::default(), &Patch::Strategic(&change))
        .await;
    told.with_context(|| format!("saying that the Node {node} is Ready: {status}"))
        .map(drop)
}
