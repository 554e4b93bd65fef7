//! Agents of a test's own: real processes of the agent, each with a Node that no kubelet runs, a socket and a journal.
//!
//! Pods of such a Node are objects only. The test is their kubelet: it sends their ADDs and DELs and deletes them in the end. An
//! agent has the rights of the installed ones: its token is bound to a pod on its Node. Many of them fit on one machine, may be
//! killed at any time, and disturb nobody: no other pod runs on their Nodes.

use std::ffi::OsString;
use std::fs::File;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::core::v1::{Node, Pod, ServiceAccount};
use kube::api::{DeleteParams, PostParams};
use kube::{Api, Client, ResourceExt};
use rustix::process::{Pid, Signal};
use serde_json::json;
use spiderpool_wire::{IpamAddArgs, IpamAddResponse, IpamDelArgs};
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio::sync::Mutex;

use crate::RELEASE_NAMESPACE;
use crate::cluster::{Cluster, Server};
use crate::heartbeat::Heartbeat;
use crate::node::AGENT;
use crate::sandboxes::Sandboxes;
use crate::socket::{self, Answer, Asked, IP};
use crate::wait::{self, SOON};
use crate::workload::Annotations;

/// Names the agent's program. `cargo xtask test e2e` sets it.
const PROGRAM: &str = "SPIDERPOOL_E2E_AGENT";

/// Names the folder for logs.
const LOGS: &str = "SPIDERPOOL_E2E_LOGS";

/// How long an agent may take to end when it is told to.
const STOP: Duration = Duration::from_secs(20);

/// Seconds for which an agent's token is good: longer than any test.
const TOKEN: i64 = 7200;

/// What is special about an agent.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// What it takes for the API server.
    pub server: Option<Server>,
    /// Lines for its `conf.yml`, beside the socket.
    pub conf: String,
    /// Its log level; `info` if empty.
    pub log_level: String,
    /// More environment, each time it is run.
    pub environment: Vec<(&'static str, String)>,
}

/// A Node without kubelet, and the agent for it.
pub struct Agent {
    /// Name of the Node.
    pub node: String,
    /// Says that the Node is Ready.
    pub heartbeat: Heartbeat,
    /// What a runtime would leave on the node of the sandboxes that the test stands for.
    pub sandboxes: Sandboxes,
    client: Client,
    folder: TempDir,
    log: PathBuf,
    log_level: String,
    environment: Vec<(&'static str, String)>,
    process: Mutex<Option<Child>>,
}

impl Agent {
    /// Makes a Node and what an agent needs for it. It does not run yet. The name has to be the test's own, as of
    /// [`Scene::own`](crate::scene::Scene::own).
    pub async fn make(cluster: &Cluster, node: &str, options: &Options) -> Result<Self> {
        let client = cluster.client.clone();
        let nodes: Api<Node> = Api::all(client.clone());
        nodes
            .create(&PostParams::default(), &without_kubelet(node)?)
            .await
            .with_context(|| format!("making the Node {node}"))?;
        let heartbeat = Heartbeat::start(&client, node).await?;
        let folder = tempfile::Builder::new().prefix("agent-").tempdir();
        let folder = folder.context("making a folder for an agent")?;
        let logs = std::env::var_os(LOGS).map_or_else(|| folder.path().to_owned(), PathBuf::from);
        std::fs::create_dir_all(&logs).context("making the folder of logs")?;
        let agent = Self {
            node: node.to_owned(),
            heartbeat,
            sandboxes: Sandboxes::make(folder.path())?,
            client,
            log: logs.join(format!("{node}.log")),
            log_level: if options.log_level.is_empty() {
                "info".to_owned()
            } else {
                options.log_level.clone()
            },
            folder,
            environment: options.environment.clone(),
            process: Mutex::default(),
        };
        let token = agent.token().await?;
        let kubeconfig = cluster.kubeconfig(&token, options.server.as_ref())?.to_string();
        let socket = agent.socket();
        let conf = format!("ipamUnixSocketPath: {}\n{}", socket.display(), options.conf);
        std::fs::write(agent.path("kubeconfig"), kubeconfig).context("writing an agent's kubeconfig")?;
        std::fs::write(agent.path("conf.yml"), conf).context("writing an agent's configuration")?;
        Ok(agent)
    }

    /// Makes a Node and runs an agent for it.
    pub async fn start(cluster: &Cluster, node: &str, options: &Options) -> Result<Self> {
        let agent = Self::make(cluster, node, options).await?;
        agent.run(&[]).await?;
        agent.serves().await?;
        Ok(agent)
    }

    /// Runs the process, with more environment. It may be run again when it has ended.
    pub async fn run(&self, environment: &[(&str, String)]) -> Result<()> {
        let Some(program) = std::env::var_os(PROGRAM) else {
            bail!(
                "{PROGRAM} does not name the agent's program; run `cargo xtask test e2e`, or `cargo xtask bench` for figures"
            );
        };
        let log = File::options().create(true).append(true).open(&self.log);
        let log = log.with_context(|| format!("opening the log {}", self.log.display()))?;
        let mut process = self.process.lock().await;
        if let Some(running) = process.as_mut() {
            let ended = running.try_wait().context("looking at an agent")?;
            ensure!(ended.is_some(), "the agent of {} runs already", self.node);
        }
        let child = Command::new(&program)
            .arg("daemon")
            .arg(option("--config-path=", &self.path("conf.yml")))
            .arg(option("--journal-path=", &self.journal()))
            .args(["--node-name", &self.node, "--pod-namespace", RELEASE_NAMESPACE])
            .args(["--health-port", "0", "--log-level", &self.log_level])
            .env("KUBECONFIG", self.path("kubeconfig"))
            .envs(self.sandboxes.environment())
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(log.try_clone().context("opening the log twice")?)
            .stderr(log)
            .kill_on_drop(true)
            .spawn();
        *process = Some(child.with_context(|| format!("starting {}", Path::new(&program).display()))?);
        Ok(())
    }

    /// Waits until it answers.
    pub async fn serves(&self) -> Result<()> {
        let what = format!("the agent of {} to serve; its log is {}", self.node, self.log.display());
        wait::until(&what, SOON, async || {
            if let Some(child) = self.process.lock().await.as_mut()
                && let Some(status) = child.try_wait().context("looking at an agent")?
            {
                bail!("it ended ({status})");
            }
            let answer = socket::request_at(&self.socket(), "GET", "/v1/ipam/healthy", b"").await;
            Ok(answer.ok().filter(|answer| answer.status == 200).map(drop))
        })
        .await
    }

    /// Ends it as a crash would: `kill -9`.
    pub async fn kill(&self) -> Result<ExitStatus> {
        let mut process = self.process.lock().await;
        let child = process.as_mut().context("the agent was not started")?;
        // It may have ended meanwhile.
        let _ = child.start_kill();
        child.wait().await.context("waiting for an agent")
    }

    /// Ends it as an upgrade would, and requires that it ends well.
    pub async fn stop(&self) -> Result<()> {
        let mut process = self.process.lock().await;
        let child = process.as_mut().context("the agent was not started")?;
        if let Some(pid) = child.id().and_then(|id| Pid::from_raw(id.cast_signed())) {
            rustix::process::kill_process(pid, Signal::TERM).context("telling an agent to stop")?;
        }
        let ended = tokio::time::timeout(STOP, child.wait()).await;
        let status = ended.with_context(|| format!("the agent of {} did not stop in {STOP:?}", self.node))??;
        ensure!(status.success(), "the agent of {} ended with {status}", self.node);
        Ok(())
    }

    /// Waits until the process ends; whether it was killed.
    pub async fn ended(&self) -> Result<bool> {
        // Not by waiting with the lock held: others stop it meanwhile.
        wait::until("an agent to end", wait::LONG, async || {
            let mut process = self.process.lock().await;
            let child = process.as_mut().context("the agent was not started")?;
            let status = child.try_wait().context("looking at an agent")?;
            Ok(status.map(|status| status.signal() == Some(Signal::KILL.as_raw())))
        })
        .await
    }

    /// Its process id while it runs.
    pub async fn pid(&self) -> Option<u32> {
        self.process.lock().await.as_ref().and_then(Child::id)
    }

    /// Makes a pod on the Node, with annotations. No kubelet deletes it in the end: [`remove_pod`] does.
    pub async fn make_pod(&self, namespace: &str, name: &str, annotations: &Annotations) -> Result<Pod> {
        let object = pod(name, &self.node, annotations)?;
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        let made = pods.create(&PostParams::default(), &object).await;
        made.with_context(|| format!("making the pod {namespace}/{name}"))
    }

    /// Sends an ADD; nothing but an answer with addresses is good.
    pub async fn add(&self, args: &IpamAddArgs) -> Result<IpamAddResponse> {
        let answer = self.ask("POST", IP, args).await?;
        ensure!(
            answer.status == 200,
            "the ADD was answered with {}: {}",
            answer.status,
            answer.body
        );
        serde_json::from_str(&answer.body).with_context(|| format!("understanding the answer {}", answer.body))
    }

    /// Sends a DEL; nothing but success is good.
    pub async fn del(&self, args: &IpamDelArgs) -> Result<()> {
        let answer = self.ask("DELETE", IP, args).await?;
        ensure!(
            answer.status == 200,
            "the DEL was answered with {}: {}",
            answer.status,
            answer.body
        );
        Ok(())
    }

    /// Sends a request. It is an error that no answer came.
    pub async fn ask(&self, method: &str, path: &str, body: &impl serde::Serialize) -> Result<Answer> {
        let body = serde_json::to_vec(body).context("encoding a request")?;
        socket::request_at(&self.socket(), method, path, &body).await
    }

    /// Sends a request, and tells what became of it.
    pub async fn ask_within(&self, limit: Duration, method: &str, body: &impl serde::Serialize) -> Result<Asked> {
        let body = serde_json::to_vec(body).context("encoding a request")?;
        Ok(socket::ask_at(&self.socket(), method, IP, &body, limit).await)
    }

    /// Ends it, and deletes the Node.
    pub async fn remove(&self) -> Result<()> {
        if self.pid().await.is_some() {
            self.kill().await?;
        }
        // With a Node that was deleted meanwhile its pods go, too.
        let mut identity = pod(&self.identity(), &self.node, &Annotations::new())?;
        identity.metadata.namespace = Some(RELEASE_NAMESPACE.to_owned());
        remove_pod(&self.client, &identity).await?;
        let nodes: Api<Node> = Api::all(self.client.clone());
        nodes
            .delete(&self.node, &DeleteParams::default())
            .await
            .with_context(|| format!("deleting the Node {}", self.node))?;
        Ok(())
    }

    /// What it logged so far.
    pub fn log(&self) -> Result<String> {
        std::fs::read_to_string(&self.log).with_context(|| format!("reading {}", self.log.display()))
    }

    /// Its socket.
    pub fn socket(&self) -> PathBuf {
        self.path("agent.sock")
    }

    /// The folder in which the plugin notes DELs for it.
    pub fn journal(&self) -> PathBuf {
        self.path("journal")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Name of the pod that its token is bound to.
    fn identity(&self) -> String {
        format!("agent-of-{}", self.node)
    }

    /// A token of the agents' account that says on which Node it is used.
    async fn token(&self) -> Result<String> {
        let mut object = pod(&self.identity(), &self.node, &Annotations::new())?;
        if let Some(spec) = &mut object.spec {
            spec.service_account_name = Some(AGENT.to_owned());
            spec.host_network = Some(true);
        }
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), RELEASE_NAMESPACE);
        let made = pods.create(&PostParams::default(), &object).await;
        let made = made.context("making the pod that an agent's token is bound to; is the chart installed?")?;
        let bound = json!({"kind": "Pod", "apiVersion": "v1", "name": made.name_any(), "uid": made.uid()});
        let request: TokenRequest = serde_json::from_value(json!({
            "metadata": {},
            "spec": {"audiences": [], "boundObjectRef": bound, "expirationSeconds": TOKEN},
        }))?;
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client.clone(), RELEASE_NAMESPACE);
        let answer = accounts
            .create_token_request(AGENT, &PostParams::default(), &request)
            .await;
        let answer = answer.context("requesting a token of the agents' account")?;
        Ok(answer.status.context("a token request without status")?.token)
    }
}

/// The arguments of an ADD of a pod's first NIC.
pub fn add_args(pod: &Pod, container: &str) -> IpamAddArgs {
    IpamAddArgs {
        container_id: container.to_owned(),
        if_name: "eth0".to_owned(),
        net_namespace: format!("/run/netns/{container}"),
        pod_namespace: pod.namespace().unwrap_or_default(),
        pod_name: pod.name_any(),
        pod_uid: pod.uid().unwrap_or_default(),
        ..IpamAddArgs::default()
    }
}

/// The arguments of the DEL for an ADD.
pub fn del_args(add: &IpamAddArgs) -> IpamDelArgs {
    IpamDelArgs {
        container_id: add.container_id.clone(),
        if_name: add.if_name.clone(),
        net_namespace: String::new(),
        pod_namespace: add.pod_namespace.clone(),
        pod_name: add.pod_name.clone(),
        pod_uid: add.pod_uid.clone(),
        network_name: add.network_name.clone(),
    }
}

/// Deletes a pod that no kubelet runs, as the kubelet does when all of it has ended.
pub async fn remove_pod(client: &Client, pod: &Pod) -> Result<()> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), &pod.namespace().unwrap_or_default());
    match pods
        .delete(&pod.name_any(), &DeleteParams::default().grace_period(0))
        .await
    {
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
        outcome => outcome
            .map(drop)
            .with_context(|| format!("deleting the pod {}", pod.name_any())),
    }
}

fn option(name: &str, path: &Path) -> OsString {
    let mut option = OsString::from(name);
    option.push(path);
    option
}

/// A Node that nothing is scheduled to.
pub fn without_kubelet(name: &str) -> Result<Node> {
    // Without the label that says its operating system no DaemonSet finds it either.
    let object = json!({
        "metadata": {"name": name, "labels": {"e2e.spiderpool.io/no-kubelet": "true"}},
        "spec": {
            "unschedulable": true,
            "taints": [{"key": "e2e.spiderpool.io/no-kubelet", "effect": "NoSchedule"}],
        },
    });
    serde_json::from_value(object).context("making a Node")
}

/// A pod that nobody starts. That its Node does not answer is no reason to evict it.
pub fn pod(name: &str, node: &str, annotations: &Annotations) -> Result<Pod> {
    let object = json!({
        "metadata": {"name": name, "annotations": annotations},
        "spec": {
            "nodeName": node,
            "tolerations": [{"operator": "Exists"}],
            "automountServiceAccountToken": false,
            "enableServiceLinks": false,
            "terminationGracePeriodSeconds": 0,
            "containers": [{"name": "main", "image": crate::IMAGE}],
        },
    });
    serde_json::from_value(object).context("making a pod")
}
