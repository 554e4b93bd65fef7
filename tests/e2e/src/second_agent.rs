//! A second agent on a real node: the program, rights and node of the one that the chart started, and beside it. It has a socket, a
//! journal, switches and a way to the API server of its own, so that a test may kill it, cut it off and switch on what is off, while
//! all other tests go on. Plugins are led to it by their configuration.

use std::fs;
use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use spiderpool_wire::journal;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::Child;

use crate::node::{AGENT, Node, enter};
use crate::scene::Scene;
use crate::socket::{Answer, request_on};
use crate::wait::{self, SOON};

/// A folder that the node and the agent's container have in common.
const SHARED: &str = "/var/run/spidernet";
/// The configuration in the container.
const CONFIG: &str = "tmp/spiderpool/config-map/conf.yml";
/// Ports of the health checks begin here; each scene has one.
const PORTS: u16 = 21_000;

/// The agent. It is killed when this is dropped.
pub struct SecondAgent<'a> {
    node: &'a Node,
    name: String,
    port: u16,
    api: Option<SocketAddr>,
    child: Option<Child>,
    log: Arc<Mutex<String>>,
}

impl<'a> SecondAgent<'a> {
    /// Prepares the agent of a scene on a node, with these keys of its configuration changed. It does not run yet.
    pub async fn prepare(scene: &Scene, node: &'a Node, changed: &[(&str, bool)]) -> Result<Self> {
        let agent = Self {
            node,
            name: format!("e2e-{}", scene.number),
            port: PORTS + scene.number,
            api: None,
            child: None,
            log: Arc::default(),
        };
        let pid = node.process(AGENT)?.pid;
        let text =
            fs::read_to_string(format!("/proc/{pid}/root/{CONFIG}")).context("reading the agent's configuration")?;
        let mut config: Value = serde_saphyr::from_str(&text).context("understanding the agent's configuration")?;
        config["ipamUnixSocketPath"] = json!(agent.socket());
        for (key, on) in changed {
            ensure!(config[key].is_boolean(), "the configuration has no switch {key}");
            config[key] = json!(on);
        }
        // JSON is YAML, too.
        node.sh(&format!("cat > {}", agent.config()), &config.to_string())
            .await?;
        Ok(agent)
    }

    /// Lets it reach the API server at this address only, from its next start on.
    pub fn by_way_of(&mut self, api: SocketAddr) {
        self.api = Some(api);
    }

    /// Its socket on the node.
    pub fn socket(&self) -> String {
        format!("{SHARED}/{}.sock", self.name)
    }

    /// Its journal on the node.
    pub fn journal(&self) -> String {
        format!("{SHARED}/{}.journal", self.name)
    }

    fn config(&self) -> String {
        format!("{SHARED}/{}.yml", self.name)
    }

    /// The members of `ipam` that lead plugins to it.
    pub fn ipam(&self) -> Value {
        json!({
            "ipam_unix_socket_path": self.socket(),
            "journal_path": self.journal(),
            "log_file_path": format!("{SHARED}/{}.log", self.name),
        })
    }

    /// Starts it and waits until it serves.
    pub async fn start(&mut self) -> Result<()> {
        let pid = self.node.process(AGENT)?.pid;
        let environment = fs::read(format!("/proc/{pid}/environ")).context("reading the agent's environment")?;
        let program = fs::read_link(format!("/proc/{pid}/exe")).context("finding the agent's program")?;
        let mut command = enter(pid, &["--net", "--mount", "--uts"]);
        command.arg(program);
        command.args(["daemon", "--config-path", &self.config()]);
        for pair in environment.split(|byte| *byte == 0) {
            if let Some((name, value)) = String::from_utf8_lossy(pair).split_once('=')
                && name != "PATH"
            {
                command.env(name, value);
            }
        }
        command.env("SPIDERPOOL_HEALTH_PORT", self.port.to_string());
        command.env("SPIDERPOOL_ENABLED_METRIC", "false");
        command.env("SPIDERPOOL_JOURNAL_PATH", self.journal());
        self.share_notes().await?;
        if let Some(api) = self.api {
            command.env("KUBERNETES_SERVICE_HOST", api.ip().to_string());
            command.env("KUBERNETES_SERVICE_PORT", api.port().to_string());
        }
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().context("starting an agent")?;
        for output in [
            child.stdout.take().map(|output| Box::new(output) as Output),
            child.stderr.take().map(|output| Box::new(output) as Output),
        ] {
            tokio::spawn(collect(output.context("no output of the agent")?, self.log.clone()));
        }
        self.child = Some(child);
        let healthy = wait::until("an agent of the test to serve", SOON, async || {
            let ended = self.child.as_mut().map(Child::try_wait).transpose()?.flatten();
            ensure!(ended.is_none(), "the agent ended: {ended:?}\n{}", self.log());
            let answer = self.request("GET", "/v1/ipam/healthy", b"").await;
            Ok(answer.ok().filter(|answer| answer.status == 200))
        });
        healthy.await.map(drop)
    }

    /// Lets both agents know of the DELs that either begins. A sandbox whose address the other one has freed looks as if the API
    /// server's storage had lost it.
    async fn share_notes(&self) -> Result<()> {
        let journal = self.journal();
        let (path, ended) = (journal::DEFAULT_PATH, "ended");
        let link = format!("mkdir -p -m 700 {journal} && ln -sfn {path}/{ended} {journal}/{ended}");
        self.node.sh(&link, "").await.map(drop)
    }

    /// Sends it a request.
    pub async fn request(&self, method: &str, path: &str, body: &[u8]) -> Result<Answer> {
        request_on(self.node, &self.socket(), method, path, body).await
    }

    /// Kills it, as a crash would.
    pub async fn kill(&mut self) -> Result<()> {
        let mut child = self.child.take().context("the agent does not run")?;
        child.kill().await.context("killing an agent")
    }

    /// What it logged so far.
    pub fn log(&self) -> String {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The names of the files in its journal.
    pub async fn entries(&self) -> Result<Vec<String>> {
        let script = format!("mkdir -p -m 700 {0}; ls -A {0}", self.journal());
        let names = self.node.sh(&script, "").await?;
        // Beside them stands by which start of the machine an agent ran.
        let entries = names.lines().filter(|name| !matches!(*name, "boot" | "ended"));
        Ok(entries.map(str::to_owned).collect())
    }

    /// Ends it and removes its files.
    pub async fn end(mut self) -> Result<()> {
        if self.child.is_some() {
            self.kill().await?;
        }
        let script = format!("rm -rf {SHARED}/{}.*", self.name);
        self.node.sh(&script, "").await.map(drop)
    }
}

type Output = Box<dyn AsyncRead + Send + Unpin>;

async fn collect(output: Output, log: Arc<Mutex<String>>) {
    let mut lines = BufReader::new(output).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
        log.push_str(&line);
        log.push('\n');
    }
}
