//! The agent's unix socket, talked to as the CNI plugin does, and as nobody should.

use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use crate::node::Node;

/// The socket's path on a node.
pub const PATH: &str = "/var/run/spidernet/spiderpool.sock";
/// Its path of the API for taking and giving back addresses.
pub const IP: &str = "/v1/ipam/ip";

/// Longer than the agent works on any request.
pub const DEADLINE: Duration = Duration::from_secs(100);

/// An agent waits five seconds for a request. Who sends it later, on a machine that has other things to do, finds nobody there.
const SENT_WITHIN: Duration = Duration::from_secs(4);

/// An answer of the agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// The body as text.
    pub body: String,
}

impl Answer {
    /// The reason of a failure, which is a JSON string.
    pub fn reason(&self) -> Result<String> {
        serde_json::from_str(&self.body).with_context(|| format!("the body {:?} is not a JSON string", self.body))
    }

    /// The body as JSON.
    pub fn json(&self) -> Result<Value> {
        serde_json::from_str(&self.body).with_context(|| format!("the body {:?} is not JSON", self.body))
    }
}

/// Connects to the agent of a node.
pub async fn connect(node: &Node) -> Result<UnixStream> {
    connect_to(node, PATH).await
}

async fn connect_to(node: &Node, socket: &str) -> Result<UnixStream> {
    let socket: OwnedFd = node.open(socket)?;
    // By way of the descriptor: the path leads there in the node's file system only.
    let path = format!("/proc/self/fd/{}", socket.as_raw_fd());
    let stream = UnixStream::connect(path).await;
    stream.with_context(|| format!("connecting to the agent of node {}", node.name))
}

/// Sends a request to the agent of a node.
pub async fn request(node: &Node, method: &str, path: &str, body: &[u8]) -> Result<Answer> {
    request_on(node, PATH, method, path, body).await
}

/// Sends a request to the agent that listens on a socket of a node.
pub async fn request_on(node: &Node, socket: &str, method: &str, path: &str, body: &[u8]) -> Result<Answer> {
    let what = || format!("{method} {path} at the agent of node {} on {socket}", node.name);
    let exchange = async {
        let stream = connect_to(node, socket).await?;
        exchange(stream, method, path, body, &mut None).await
    };
    match tokio::time::timeout(DEADLINE, exchange).await {
        Ok(answer) => answer.with_context(what),
        Err(_) => bail!("no answer in {DEADLINE:?} to {}", what()),
    }
}

/// Sends a request to an agent by the path of its socket.
pub async fn request_at(socket: &Path, method: &str, path: &str, body: &[u8]) -> Result<Answer> {
    let what = || format!("{method} {path} at the agent of {}", socket.display());
    let exchange = async {
        let stream = UnixStream::connect(socket).await.context("connecting")?;
        exchange(stream, method, path, body, &mut None).await
    };
    match tokio::time::timeout(DEADLINE, exchange).await {
        Ok(answer) => answer.with_context(what),
        Err(_) => bail!("no answer in {DEADLINE:?} to {}", what()),
    }
}

/// What became of a request.
#[derive(Clone, Debug)]
pub enum Asked {
    /// It was answered.
    Answered(Answer),
    /// Nobody took it.
    NotTaken(String),
    /// A process took it, and did not answer.
    Unanswered {
        /// The process.
        pid: Option<i32>,
        /// What happened instead.
        why: String,
    },
}

/// Sends a request to an agent by the path of its socket, and tells one that nobody took from one that was not answered in time.
pub async fn ask_at(socket: &Path, method: &str, path: &str, body: &[u8], limit: Duration) -> Asked {
    let started = Instant::now();
    let stream = match UnixStream::connect(socket).await {
        Ok(stream) => stream,
        Err(error) => return Asked::NotTaken(format!("connecting to {}: {error}", socket.display())),
    };
    let pid = stream.peer_cred().ok().and_then(|peer| peer.pid());
    let mut sent = None;
    let outcome = tokio::time::timeout(limit, exchange(stream, method, path, body, &mut sent)).await;
    let is_late = sent.is_none_or(|sent: Instant| sent.duration_since(started) > SENT_WITHIN);
    match outcome {
        Ok(Ok(answer)) => Asked::Answered(answer),
        Ok(Err(error)) if is_late => Asked::NotTaken(format!("it was sent too late: {error:#}")),
        Ok(Err(error)) => Asked::Unanswered {
            pid,
            why: format!("{error:#}"),
        },
        Err(_) => Asked::Unanswered {
            pid,
            why: format!("no answer in {limit:?}"),
        },
    }
}

async fn exchange(
    mut stream: UnixStream,
    method: &str,
    path: &str,
    body: &[u8],
    sent: &mut Option<Instant>,
) -> Result<Answer> {
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    let (mut reader, mut writer) = stream.split();
    let send = async {
        writer.write_all(head.as_bytes()).await?;
        writer.write_all(body).await?;
        *sent = Some(Instant::now());
        Ok::<(), std::io::Error>(())
    };
    let mut answer = Vec::new();
    // An agent that refuses a long body answers before it has read it, so a failed write is no failure yet.
    let (_, read) = futures::future::join(send, reader.read_to_end(&mut answer)).await;
    if answer.is_empty() {
        read.context("reading the answer")?;
        bail!("the connection was closed without an answer");
    }
    parse(&answer)
}

fn parse(answer: &[u8]) -> Result<Answer> {
    let text = String::from_utf8_lossy(answer);
    let (head, body) = text
        .split_once("\r\n\r\n")
        .context("the answer has no end of its head")?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    // An agent that is killed while it answers leaves a part, which must not be taken for the answer.
    let mut headers = head.lines().filter_map(|line| line.split_once(": "));
    let length = headers.find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    if let Some((_, length)) = length {
        ensure!(
            length.parse() == Ok(body.len()),
            "the connection was closed after {} of {length} bytes of the body",
            body.len()
        );
    }
    Ok(Answer {
        status: status.with_context(|| format!("the answer has no status: {head}"))?,
        body: body.to_owned(),
    })
}
