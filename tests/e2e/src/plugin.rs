//! CNI plugins run as a container runtime runs them: on the node, with its variables, a configuration on standard input.
//!
//! The runtime of the test cluster knows no CHECK, GC and STATUS and speaks CNI 1.0.0. Here they are run for interfaces of real
//! pods, and further interfaces are asked for that the runtime knows nothing of.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use kube::ResourceExt;
use serde_json::{Value, json};
use spiderpool_crds::SpiderEndpoint;

use crate::node::{self, Node};
use crate::pod::Running;
use crate::scene::Scene;

/// Where nodes have their plugins.
const FOLDER: &str = "/opt/cni/bin";
/// The network of the test cluster.
pub const NETWORK: &str = "underlay";

/// An interface of a pod's sandbox.
#[derive(Clone, Debug)]
pub struct Attachment {
    /// The sandbox.
    pub container: String,
    /// Path of its network namespace.
    pub netns: String,
    /// The interface.
    pub nic: String,
    /// CNI_ARGS.
    args: String,
}

impl Attachment {
    /// The first interface of a pod, as the runtime made it.
    pub async fn of(scene: &Scene, pod: &Running) -> Result<Self> {
        let endpoint = scene.api::<SpiderEndpoint>().get(&pod.name).await?;
        let items = &endpoint.status.current.ips;
        let container = items.iter().find_map(|item| item.container_id.clone());
        let container = container.with_context(|| format!("endpoint {} names no sandbox", endpoint.name_any()))?;
        let processes = scene.cluster.node(&pod.node)?.container(&container)?;
        let process = processes
            .first()
            .with_context(|| format!("no process of sandbox {container}"))?;
        let args = format!(
            "IgnoreUnknown=1;K8S_POD_NAMESPACE={};K8S_POD_NAME={};K8S_POD_INFRA_CONTAINER_ID={container};K8S_POD_UID={}",
            scene.namespace, pod.name, pod.uid
        );
        Ok(Self {
            netns: format!("/proc/{}/ns/net", process.pid),
            container,
            nic: "eth0".to_owned(),
            args,
        })
    }

    /// Another interface of the sandbox.
    pub fn nic(&self, nic: &str) -> Self {
        Self {
            nic: nic.to_owned(),
            ..self.clone()
        }
    }

    /// The same interface as if another sandbox had it.
    pub fn in_sandbox(&self, container: &str) -> Self {
        Self {
            container: container.to_owned(),
            ..self.clone()
        }
    }

    /// The same interface of a sandbox whose network namespace is gone.
    pub fn gone(&self, container: &str) -> Self {
        Self {
            netns: String::new(),
            ..self.in_sandbox(container)
        }
    }

    /// Runs ip(8) in the sandbox's network namespace.
    pub async fn ip(&self, node: &Node, args: &str) -> Result<String> {
        let script = format!("nsenter --net={} -- ip {args}", self.netns);
        node.sh(&script, "").await
    }
}

/// A configuration of the plugin `spiderpool`, with these members of `ipam`.
pub fn network(version: &str, name: &str, mut ipam: Value) -> Value {
    ipam["type"] = json!("spiderpool");
    json!({"cniVersion": version, "name": name, "type": "macvlan", "master": "eth1", "mode": "bridge", "ipam": ipam})
}

/// How a plugin ended.
#[derive(Clone, Debug)]
pub struct Ended {
    failed: bool,
    stdout: String,
    /// How long it took.
    pub took: Duration,
}

impl Ended {
    /// What it printed; that it failed is an error.
    pub fn result(&self) -> Result<Value> {
        ensure!(!self.failed, "the plugin failed: {}", self.stdout);
        if self.stdout.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_str(&self.stdout).with_context(|| format!("the result {:?} is not JSON", self.stdout))
    }

    /// The addresses in its result, with prefix lengths, in order.
    pub fn addresses(&self) -> Result<Vec<String>> {
        let result = self.result()?;
        let ips = result["ips"].as_array().into_iter().flatten();
        Ok(ips.filter_map(|ip| Some(ip["address"].as_str()?.to_owned())).collect())
    }

    /// Requires a failure with this code whose message contains all of these texts.
    pub fn refused(&self, code: u64, texts: &[&str]) -> Result<()> {
        ensure!(self.failed, "the plugin did not fail: {}", self.stdout);
        let printed: Value =
            serde_json::from_str(&self.stdout).with_context(|| format!("the failure {:?} is not JSON", self.stdout))?;
        let msg = printed["msg"].as_str().unwrap_or_default();
        ensure!(
            printed["code"] == code && texts.iter().all(|text| msg.contains(text)),
            "the failure is {printed} and not {code} with {texts:?}"
        );
        Ok(())
    }
}

/// Runs the plugin `spiderpool` of a node for an attachment, or for the whole network.
pub async fn spiderpool(node: &Node, command: &str, conf: &Value, attachment: Option<&Attachment>) -> Result<Ended> {
    run(node, "spiderpool", command, conf, attachment).await
}

/// Runs macvlan, which makes an interface and asks `spiderpool` for its addresses.
pub async fn macvlan(node: &Node, command: &str, conf: &Value, attachment: &Attachment) -> Result<Ended> {
    run(node, "macvlan", command, conf, Some(attachment)).await
}

async fn run(node: &Node, plugin: &str, command: &str, conf: &Value, of: Option<&Attachment>) -> Result<Ended> {
    let mut process = node.enter();
    process.args(["env", "-i"]);
    process.args([format!("CNI_COMMAND={command}"), format!("CNI_PATH={FOLDER}")]);
    if let Some(of) = of {
        process.args([
            format!("CNI_CONTAINERID={}", of.container),
            format!("CNI_NETNS={}", of.netns),
            format!("CNI_IFNAME={}", of.nic),
            format!("CNI_ARGS={}", of.args),
        ]);
    }
    process.arg(format!("{FOLDER}/{plugin}"));
    let began = Instant::now();
    let ended = node::run(&mut process, &conf.to_string())
        .await
        .with_context(|| format!("running {plugin} {command} on node {}", node.name))?;
    Ok(Ended {
        failed: !ended.status.success(),
        stdout: String::from_utf8_lossy(&ended.stdout).into_owned(),
        took: began.elapsed(),
    })
}
