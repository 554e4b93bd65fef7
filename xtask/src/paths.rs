//! Where things are: the checkout, the state of clusters, hashes of files.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

/// Parent of all clusters' state. Short, since unix socket paths end at 108 bytes, and outside any checkout.
pub const STATE_ROOT: &str = "/var/tmp/spiderpool-dev";

/// The root of this checkout.
pub fn checkout() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_path_buf()
}

/// SHA-256 as lower-case hex.
pub fn hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Writes a file as a whole: a reader sees the old content or the new.
pub fn write_atomically(file: &Path, bytes: &[u8]) -> Result<()> {
    let attempt = || -> std::io::Result<()> {
        let folder = file.parent().unwrap_or(Path::new("/"));
        let mut scratch = tempfile::NamedTempFile::new_in(folder)?;
        std::io::Write::write_all(&mut scratch, bytes)?;
        scratch.persist(file)?;
        Ok(())
    };
    attempt().with_context(|| format!("writing {}", file.display()))
}

/// Makes a folder and its parents.
pub fn make_folder(folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder).with_context(|| format!("making the folder {}", folder.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hash_is_sha256_in_hex() {
        assert!(hash(b"abc").starts_with("ba7816bf8f01cfea414140de5dae2223"));
    }

    #[test]
    fn the_checkout_holds_the_workspace() {
        assert!(checkout().join("Cargo.lock").is_file());
    }
}
