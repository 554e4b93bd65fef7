//! The unix socket of the CNI plugin: made so that only root may connect, and served so that no client can hurt another.

use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UnixListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

/// Connections served at once. Each plugin run makes one; the rest wait in the listen queue until one ends.
const CONNECTIONS: usize = 4096;

/// How long a client may take to send the head of its request. Idle connections end here and make room.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// Why the socket could not be made.
#[derive(Debug, thiserror::Error)]
#[error("cannot {what} {path}: {source}; the chart mounts its folder from the host (global.ipamUNIXSocketHostPath)")]
pub struct SocketError {
    what: &'static str,
    path: PathBuf,
    source: io::Error,
}

/// Makes the socket with mode 0600 in a folder with mode 0700. A socket that an earlier agent left is replaced.
pub fn listen(path: &Path) -> Result<UnixListener, SocketError> {
    let failed = |what| {
        move |source| SocketError {
            what,
            path: path.to_owned(),
            source,
        }
    };
    let folder = path.parent().unwrap_or_else(|| Path::new("."));
    fs::create_dir_all(folder).map_err(failed("make the folder of"))?;
    fs::set_permissions(folder, fs::Permissions::from_mode(0o700)).map_err(failed("restrict the folder of"))?;
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed("remove the old")(error)),
        _ => {}
    }
    // The folder is closed to others already, so nobody connects before the mode is set.
    let listener = UnixListener::bind(path).map_err(failed("listen on"))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(failed("restrict"))?;
    Ok(listener)
}

/// Serves connections until told to stop.
pub async fn serve(listener: UnixListener, router: axum::Router, stop: CancellationToken) {
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(permit) = room.clone().acquire_owned().await else {
            return;
        };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => return,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of descriptors, for instance: connections that end free some.
                tracing::warn!(%error, "cannot accept a connection of the CNI plugin");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let service = TowerToHyperService::new(router.clone());
        tokio::spawn(async move {
            let _permit = permit;
            let mut server = hyper::server::conn::http1::Builder::new();
            server
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_TIMEOUT)
                .keep_alive(false)
                .half_close(true);
            if let Err(error) = server.serve_connection(TokioIo::new(stream), service).await {
                tracing::debug!(%error, "connection of the CNI plugin ended");
            }
        });
    }
}
