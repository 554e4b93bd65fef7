//! Things that are built or fetched once and kept outside the checkout, one folder per version.
//!
//! A folder appears under its name only when it is complete; a file lock makes two runs build it once.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::paths;

/// The cache folder: `$XDG_CACHE_HOME/spiderpool-dev`, else `~/.cache/spiderpool-dev`.
#[derive(Clone, Debug)]
pub struct Cache {
    root: PathBuf,
}

/// An exclusive lock on a file, released when dropped (and by the kernel when the process dies).
#[derive(Debug)]
pub struct Lock(#[allow(dead_code, reason = "held for its drop")] File);

impl Lock {
    /// Waits for the lock; `on_wait` is told once when somebody else has it.
    pub fn take(file: &Path, on_wait: impl FnOnce()) -> Result<Self> {
        let open = File::options().create(true).append(true).open(file);
        let open = open.with_context(|| format!("opening the lock {}", file.display()))?;
        match open.try_lock() {
            Ok(()) => return Ok(Self(open)),
            Err(TryLockError::WouldBlock) => on_wait(),
            Err(TryLockError::Error(err)) => return Err(err).with_context(|| format!("locking {}", file.display())),
        }
        open.lock().with_context(|| format!("locking {}", file.display()))?;
        Ok(Self(open))
    }
}

impl Cache {
    /// The user's cache, made if absent.
    pub fn open() -> Result<Self> {
        let base = match std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from) {
            Some(folder) if folder.is_absolute() => folder,
            _ => {
                let home = std::env::var_os("HOME").context("neither XDG_CACHE_HOME nor HOME says where caches go")?;
                PathBuf::from(home).join(".cache")
            }
        };
        Self::at(base.join("spiderpool-dev"))
    }

    /// A cache in a folder of the caller's choice.
    pub fn at(root: PathBuf) -> Result<Self> {
        paths::make_folder(&root)?;
        Ok(Self { root })
    }

    /// Where the cache is.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The folder of a thing in a version, if it is there.
    pub fn find(&self, name: &str, key: &str) -> Option<PathBuf> {
        let folder = self.folder_of(name, key);
        folder.is_dir().then_some(folder)
    }

    /// The folder of a thing in a version; `build` fills it if it is not there yet.
    pub fn folder(&self, name: &str, key: &str, build: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
        if let Some(folder) = self.find(name, key) {
            return Ok(folder);
        }
        let _lock = Lock::take(&self.root.join(format!("{name}.lock")), || {})?;
        if let Some(folder) = self.find(name, key) {
            return Ok(folder);
        }
        // A name of its own and not a random one: what a killed build left is found and removed.
        let partial = self.root.join(format!("{name}.partial"));
        remove_all(&partial)?;
        paths::make_folder(&partial)?;
        build(&partial)?;
        let folder = self.folder_of(name, key);
        std::fs::rename(&partial, &folder).with_context(|| format!("completing {}", folder.display()))?;
        Ok(folder)
    }

    fn folder_of(&self, name: &str, key: &str) -> PathBuf {
        self.root.join(format!("{name}-{key}"))
    }
}

/// Removes a folder with all it holds; absent is fine.
pub fn remove_all(folder: &Path) -> Result<()> {
    match std::fs::remove_dir_all(folder) {
        Err(err) if err.kind() != std::io::ErrorKind::NotFound => {
            Err(err).with_context(|| format!("removing {}", folder.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn builds_once_and_only_keeps_what_is_complete() {
        let scratch = tempfile::tempdir().unwrap();
        let cache = Cache::at(scratch.path().join("c")).unwrap();
        assert!(cache.folder("x", "1", |_| anyhow::bail!("half way")).is_err());
        assert!(cache.find("x", "1").is_none());
        let built = cache
            .folder("x", "1", |into| Ok(std::fs::write(into.join("f"), "1")?))
            .unwrap();
        assert_eq!(std::fs::read_to_string(built.join("f")).unwrap(), "1");
        assert_eq!(cache.folder("x", "1", |_| anyhow::bail!("built twice")).unwrap(), built);
    }

    #[test]
    fn a_lock_excludes_and_is_released() {
        let scratch = tempfile::tempdir().unwrap();
        let file = scratch.path().join("l");
        let first = Lock::take(&file, || {}).unwrap();
        let other = File::options().append(true).open(&file).unwrap();
        assert!(other.try_lock().is_err());
        drop(first);
        assert!(other.try_lock().is_ok());
    }
}
