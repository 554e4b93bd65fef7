//! One connection to an agent, kept open: the figures are the agent's and not those of connecting.

use std::path::Path;

use anyhow::{Context, Result};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

/// A connection to an agent's socket.
pub(crate) struct Line {
    stream: BufReader<UnixStream>,
}

/// A request ready to be sent.
#[derive(Clone, Debug)]
pub(crate) struct Request(Vec<u8>);

impl Request {
    pub(crate) fn new(method: &str, path: &str, body: &impl serde::Serialize) -> Result<Self> {
        let body = serde_json::to_vec(body).context("encoding a request")?;
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        Ok(Self([head.into_bytes(), body].concat()))
    }
}

impl Line {
    pub(crate) async fn open(socket: &Path) -> Result<Self> {
        let stream = UnixStream::connect(socket).await;
        let stream = stream.with_context(|| format!("connecting to {}", socket.display()))?;
        Ok(Self {
            stream: BufReader::new(stream),
        })
    }

    /// Sends a request and reads the answer: status and body.
    pub(crate) async fn exchange(&mut self, request: &Request) -> Result<(u16, Vec<u8>)> {
        self.stream
            .get_mut()
            .write_all(&request.0)
            .await
            .context("sending a request")?;
        let mut line = String::new();
        let (mut status, mut length) = (None, 0);
        loop {
            line.clear();
            let read = self.stream.read_line(&mut line).await.context("reading an answer")?;
            anyhow::ensure!(read > 0, "the connection was closed within an answer");
            let text = line.trim_end();
            if text.is_empty() {
                break;
            }
            if status.is_none() {
                status = text.split(' ').nth(1).and_then(|status| status.parse().ok());
            } else if let Some((name, value)) = text.split_once(": ")
                && name.eq_ignore_ascii_case("content-length")
            {
                length = value.parse().context("reading the length of an answer")?;
            }
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).await.context("reading an answer")?;
        Ok((status.context("an answer without status")?, body))
    }
}
