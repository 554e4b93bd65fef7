//! Leaves a DEL on the node that the agent could not serve, so that the pod's end does not wait for it.
//!
//! The agent takes the entry up when it is there again. What the entry says and how it is called is in `spiderpool_wire::journal`.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use spiderpool_wire::{
    IpamDelArgs,
    journal::{MAX_ENTRIES, Unfit, encode, file_name, is_entry, unfinished_name},
};
use thiserror::Error;

/// Why no entry could be left.
#[derive(Debug, Error)]
pub enum Error {
    /// The attachment does not fit.
    #[error("cannot note the DEL in {}", .0.display())]
    Unfit(PathBuf, #[source] Unfit),
    /// Nobody took up what is there.
    #[error("cannot note the DEL in {}: {MAX_ENTRIES} entries wait there for an agent", .0.display())]
    Full(PathBuf),
    /// The folder or file cannot be written.
    #[error("cannot note the DEL in {}", .0.display())]
    Io(PathBuf, #[source] io::Error),
}

/// Leaves an entry. When this returns, it is on the disk; before that there is none, whatever happens.
pub fn leave(folder: &Path, args: &IpamDelArgs) -> Result<(), Error> {
    let unfit = |source| Error::Unfit(folder.to_owned(), source);
    let failed = |source| Error::Io(folder.to_owned(), source);
    let name = file_name(args).map_err(unfit)?;
    let text = encode(args).map_err(unfit)?;
    make(folder).map_err(failed)?;
    let place = folder.join(&name);
    if !place.exists() && entries(folder).map_err(failed)? >= MAX_ENTRIES {
        return Err(Error::Full(folder.to_owned()));
    }
    let fresh = folder.join(unfinished_name(&name, std::process::id()));
    write(&fresh, &text)
        .and_then(|()| fs::rename(&fresh, &place))
        .and_then(|()| File::open(folder)?.sync_all())
        .map_err(|error| {
            // What cannot be removed is removed by the agent when it is old.
            let _ = fs::remove_file(&fresh);
            failed(error)
        })
}

/// Makes a folder where there is none. When this returns, its name is on the disk as well: an entry in a folder that a crash
/// takes away is no entry.
fn make(folder: &Path) -> io::Result<()> {
    let parent = folder.parent().filter(|parent| !parent.as_os_str().is_empty());
    match (DirBuilder::new().mode(0o700).create(folder), parent) {
        (Ok(()), _) => {}
        (Err(error), _) if error.kind() == io::ErrorKind::AlreadyExists && folder.is_dir() => return Ok(()),
        (Err(error), Some(parent)) if error.kind() == io::ErrorKind::NotFound => {
            make(parent)?;
            return make(folder);
        }
        (Err(error), _) => return Err(error),
    }
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}

fn write(path: &Path, text: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(text)?;
    file.sync_all()
}

fn entries(folder: &Path) -> io::Result<usize> {
    let mut count = 0;
    for entry in fs::read_dir(folder)? {
        count += usize::from(entry?.file_name().to_str().is_some_and(is_entry));
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use spiderpool_wire::journal::decode;

    use super::*;

    fn args(container: &str) -> IpamDelArgs {
        IpamDelArgs {
            container_id: container.to_owned(),
            if_name: "eth0".to_owned(),
            pod_name: "oven-1".to_owned(),
            ..IpamDelArgs::default()
        }
    }

    fn found(folder: &Path) -> Vec<IpamDelArgs> {
        let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        files.map(|path| decode(&fs::read(path).unwrap()).unwrap()).collect()
    }

    #[test]
    fn a_repeated_entry_is_one_entry_and_nothing_else_stays() {
        let host = tempfile::tempdir().unwrap();
        let folder = host.path().join("a/b");
        for _ in 0..2 {
            leave(&folder, &args("c1")).unwrap();
        }
        assert_eq!(found(&folder), [args("c1")]);
        leave(&folder, &args("c2")).unwrap();
        assert_eq!(found(&folder).len(), 2);
    }

    #[test]
    fn an_unfinished_entry_of_a_crashed_writer_is_in_nobodys_way() {
        let host = tempfile::tempdir().unwrap();
        let name = file_name(&args("c1")).unwrap();
        fs::write(host.path().join(unfinished_name(&name, std::process::id())), "{").unwrap();
        leave(host.path(), &args("c1")).unwrap();
        assert_eq!(found(host.path()), [args("c1")]);
    }

    #[test]
    fn a_full_journal_takes_nothing_new_and_says_so() {
        let host = tempfile::tempdir().unwrap();
        leave(host.path(), &args("c1")).unwrap();
        for n in 1..MAX_ENTRIES {
            fs::write(host.path().join(format!("x{n}@eth0.del")), "").unwrap();
        }
        leave(host.path(), &args("c1")).unwrap();
        let error = leave(host.path(), &args("c2")).unwrap_err();
        assert!(matches!(error, Error::Full(_)), "{error}");
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_named() {
        let host = tempfile::tempdir().unwrap();
        let file = host.path().join("file");
        fs::write(&file, "").unwrap();
        let error = leave(&file.join("journal"), &args("c1")).unwrap_err().to_string();
        assert!(error.contains("file/journal"), "{error}");
    }
}
