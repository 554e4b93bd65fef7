//! Puts the CNI plugin on the host.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Why the plugin could not be installed.
#[derive(Debug, thiserror::Error)]
#[error("cannot install CNI plugin {from} as {to}: {source}")]
pub struct InstallError {
    from: PathBuf,
    to: PathBuf,
    source: io::Error,
}

/// Copies a plugin into the host's folder of CNI binaries. It is written beside its place and renamed, so that a plugin
/// that is running or being started is never half written.
pub fn install(from: &Path, folder: &Path) -> Result<PathBuf, InstallError> {
    let name = from.file_name().unwrap_or_default();
    let to = folder.join(name);
    let failed = |source| InstallError {
        from: from.to_owned(),
        to: to.clone(),
        source,
    };
    let mut hidden = std::ffi::OsString::from(".");
    hidden.push(name);
    hidden.push(".new");
    let fresh = folder.join(hidden);
    fs::create_dir_all(folder).map_err(failed)?;
    fs::copy(from, &fresh).map_err(failed)?;
    fs::set_permissions(&fresh, fs::Permissions::from_mode(0o755)).map_err(failed)?;
    fs::File::open(&fresh)
        .and_then(|file| file.sync_all())
        .map_err(failed)?;
    fs::rename(&fresh, &to).map_err(failed)?;
    Ok(to)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plugin_is_replaced_as_a_whole_and_nothing_else_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let from = dir.path().join("spiderpool");
        let folder = dir.path().join("host/bin");
        for text in ["one", "two"] {
            fs::write(&from, text).unwrap();
            let to = install(&from, &folder).unwrap();
            assert_eq!(fs::read_to_string(&to).unwrap(), text);
            assert_eq!(fs::metadata(&to).unwrap().permissions().mode() & 0o777, 0o755);
        }
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
        let error = install(&dir.path().join("absent"), &folder).unwrap_err().to_string();
        assert!(error.contains("absent"), "{error}");
    }
}
