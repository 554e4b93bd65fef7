//! The unix socket of the CNI plugin, made so that only root may connect.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use tokio::net::UnixListener;

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
