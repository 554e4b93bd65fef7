//! A way to the API server that a test can shut, for one agent and nobody else.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::cluster::Cluster;

/// What becomes of connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// They go through.
    Open,
    /// They stay, and nothing comes through: a server that hangs, or a cable that was pulled.
    Frozen,
    /// They are reset: a server that ended.
    Closed,
}

/// A listener in the cluster's network that leads to the API server.
pub struct Gate {
    address: SocketAddr,
    way: watch::Sender<Way>,
    _serving: JoinSet<()>,
}

impl Gate {
    /// Opens a gate at the API server's address, on a port of its own.
    pub async fn open(cluster: &Cluster) -> Result<Self> {
        let server = cluster.api_server()?;
        let (host, _) = server
            .rsplit_once(':')
            .with_context(|| format!("{server} has no port"))?;
        let listener = TcpListener::bind(format!("{host}:0"))
            .await
            .with_context(|| format!("listening on {host}"))?;
        let address = listener.local_addr().context("reading the gate's address")?;
        let (way, seen) = watch::channel(Way::Open);
        let mut serving = JoinSet::new();
        serving.spawn(serve(listener, server, seen));
        Ok(Self {
            address,
            way,
            _serving: serving,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Changes the way of all connections, those that are there and those that come.
    pub fn set(&self, way: Way) {
        self.way.send_replace(way);
    }
}

async fn serve(listener: TcpListener, server: String, way: watch::Receiver<Way>) {
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        if *way.borrow() == Way::Closed {
            continue;
        }
        let (server, way) = (server.clone(), way.clone());
        connections.spawn(async move {
            let Ok(server) = TcpStream::connect(server).await else {
                return;
            };
            pass(client, server, way).await;
        });
        // Those that ended need no place.
        while connections.try_join_next().is_some() {}
    }
}

/// Passes bytes both ways until one side ends or the gate closes.
async fn pass(client: TcpStream, server: TcpStream, way: watch::Receiver<Way>) {
    let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
    let mut closed = way.clone();
    tokio::select! {
        () = copy(from_client, to_server, way.clone()) => {}
        () = copy(from_server, to_client, way) => {}
        _ = closed.wait_for(|way| *way == Way::Closed) => {}
    }
}

async fn copy(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut way: watch::Receiver<Way>) {
    let mut bytes = vec![0; 64 * 1024];
    loop {
        let Ok(count) = from.read(&mut bytes).await else { return };
        let some = bytes.get(..count).unwrap_or_default();
        // What was read while it is frozen is held back, and goes on its way later.
        if some.is_empty() || way.wait_for(|way| *way == Way::Open).await.is_err() || to.write_all(some).await.is_err()
        {
            return;
        }
    }
}
