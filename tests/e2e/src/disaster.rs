//! What happens to a control plane: its API server goes away, its etcd dies or is slow.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::sleep_until;

use crate::cluster::Cluster;
use crate::component::{Daemon, Down, Kept};
use crate::wait::{self, LONG};

const API_SERVER: &str = "kube-apiserver";
const ETCD: &str = "etcd";

/// The option of the API server that says where etcd is.
const SERVERS: &str = "--etcd-servers=";

/// So many pieces may be on their way in one direction of a connection.
const PIECES: usize = 1024;

/// Waits until the API server answers, and tells how long that took.
pub async fn answers(cluster: &Cluster) -> Result<Duration> {
    let began = Instant::now();
    wait::until("the API server to answer", LONG, async || {
        Ok(cluster.client.apiserver_version().await.ok().map(drop))
    })
    .await?;
    Ok(began.elapsed())
}

/// The API server is away for so long, and in that time etcd dies. Tells how long the API server then took to answer.
pub async fn outage(cluster: &Cluster, away: Duration) -> Result<Duration> {
    let (server, etcd) = stop(cluster).await?;
    tokio::time::sleep(away).await;
    etcd.start()?;
    server.start()?;
    answers(cluster).await
}

/// The folder of etcd's data, in that of the cluster.
const DATA: &str = "etcd";

/// A copy of what etcd had, taken cold. It is removed when this is dropped.
pub struct Snapshot {
    folder: TempDir,
    kept: Kept,
}

impl Snapshot {
    /// Copies what etcd has, while neither it nor the API server runs.
    pub async fn take(cluster: &Cluster) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("etcd-").tempdir_in(cluster.folder());
        let snapshot = Self {
            folder: folder.context("making a folder for a snapshot")?,
            kept: Kept::look(cluster)?,
        };
        let (server, etcd) = stop(cluster).await?;
        let copied = copy(&cluster.folder().join(DATA), snapshot.folder.path());
        etcd.start()?;
        server.start()?;
        copied?;
        answers(cluster).await?;
        Ok(snapshot)
    }

    /// Puts it back. Whoever of the control plane and the nodes trusts its caches is started anew, as the documentation of etcd asks.
    pub async fn restore(&self, cluster: &Cluster) -> Result<()> {
        for revived in self.kept.revive(cluster) {
            revived?;
        }
        let mut others = Vec::new();
        for name in ["kube-controller-manager", "kube-scheduler"] {
            others.push(Daemon::of_control_plane(cluster, name)?.kill().await?);
        }
        for node in &cluster.nodes {
            others.push(Daemon::of_node(cluster, "kubelet", node)?.kill().await?);
        }
        let (server, etcd) = stop(cluster).await?;
        let data = cluster.folder().join(DATA);
        let put_back = std::fs::remove_dir_all(&data)
            .context("removing etcd's data")
            .and_then(|()| copy(self.folder.path(), &data));
        etcd.start()?;
        server.start()?;
        put_back?;
        answers(cluster).await?;
        for daemon in others {
            daemon.start()?;
        }
        Ok(())
    }
}

/// The API server goes first: it would wait for etcd.
async fn stop(cluster: &Cluster) -> Result<(Down, Down)> {
    let server = Daemon::of_control_plane(cluster, API_SERVER)?.kill().await?;
    let etcd = Daemon::of_control_plane(cluster, ETCD)?.kill().await?;
    Ok((server, etcd))
}

/// Copies a folder with all that is in it.
fn copy(from: &Path, to: &Path) -> Result<()> {
    let copied = std::process::Command::new("cp")
        .args(["-a", "--"])
        .arg(from.join("."))
        .arg(to)
        .status();
    let copied = copied.context("starting cp")?;
    anyhow::ensure!(
        copied.success(),
        "copying {} to {} failed",
        from.display(),
        to.display()
    );
    Ok(())
}

/// An etcd that answers late, until this ends.
pub struct Slow {
    cluster: Cluster,
    servers: String,
    _forwards: JoinSet<()>,
}

impl Slow {
    /// Puts a way that takes so long between the API server and etcd. The API server is started anew for it.
    pub async fn start(cluster: &Cluster, late: Duration) -> Result<Self> {
        let server = Daemon::of_control_plane(cluster, API_SERVER)?;
        let servers = server.option(SERVERS)?;
        let etcd = servers.trim_start_matches("https://").to_owned();
        let host = etcd.split(':').next().context("etcd has no host")?.to_owned();
        let listener = TcpListener::bind((host, 0))
            .await
            .context("listening in etcd's place")?;
        let own = listener.local_addr().context("reading an address")?;
        let mut forwards = JoinSet::new();
        forwards.spawn(forward(listener, etcd, late));
        let slow = Self {
            cluster: cluster.clone(),
            servers,
            _forwards: forwards,
        };
        server
            .kill()
            .await?
            .start_as(|server| server.with(SERVERS, &format!("https://{own}")))?;
        match answers(cluster).await {
            Ok(_) => Ok(slow),
            Err(error) => {
                slow.end().await?;
                Err(error)
            }
        }
    }

    /// The API server is started with the straight way again.
    pub async fn end(self) -> Result<()> {
        let server = Daemon::of_control_plane(&self.cluster, API_SERVER)?.kill().await?;
        server.start_as(|server| server.with(SERVERS, &self.servers))?;
        answers(&self.cluster).await.map(drop)
    }
}

async fn forward(listener: TcpListener, to: String, late: Duration) {
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        while connections.try_join_next().is_some() {}
        let to = to.clone();
        connections.spawn(async move {
            let Ok(server) = TcpStream::connect(to).await else {
                return;
            };
            let _ = server.set_nodelay(true);
            let _ = client.set_nodelay(true);
            let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
            tokio::select! {
                () = pass(from_client, to_server, Duration::ZERO) => {}
                () = pass(from_server, to_client, late) => {}
            }
        });
    }
}

/// Passes bytes on, each so late. What comes behind is not held up by that.
async fn pass(mut from: impl AsyncReadExt + Unpin, mut to: impl AsyncWriteExt + Unpin, late: Duration) {
    let (send, mut pieces) = mpsc::channel::<(tokio::time::Instant, Vec<u8>)>(PIECES);
    let read = async move {
        let mut bytes = vec![0; 64 * 1024];
        while let Ok(count) = from.read(&mut bytes).await {
            let some = bytes.get(..count).unwrap_or_default().to_vec();
            if some.is_empty() || send.send((tokio::time::Instant::now() + late, some)).await.is_err() {
                return;
            }
        }
    };
    let write = async move {
        while let Some((at, piece)) = pieces.recv().await {
            sleep_until(at).await;
            if to.write_all(&piece).await.is_err() {
                return;
            }
        }
    };
    futures::future::join(read, write).await;
}
