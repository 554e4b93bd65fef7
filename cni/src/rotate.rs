//! An append-only file that many short processes share, rotated by size.
//!
//! Each line is one `write` on a file opened for appending, so lines of several processes do not mix. Who finds the file too large
//! takes a lock on it and looks again whether the path still leads to that file: a process that lost the race sees that it was
//! renamed and writes to the new one. A line written to a file while it is being renamed ends in the rotated file, so none is lost.

use std::{
    ffi::OsStr,
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::SystemTime,
};

use jiff::Timestamp;
use rustix::fs::{CWD, OFlags, RenameFlags, renameat_with};

use crate::conf::LogConf;

/// Shortest time stamp in the name of a rotated file, to the millisecond; ours go on to the microsecond.
const STAMP_LENGTH: usize = "2026-01-31T12-00-00.000".len();

/// Appends one line, and rotates the file first when it has reached its size.
pub fn append(conf: &LogConf, line: &[u8], now: Timestamp) -> io::Result<()> {
    let mut file = open(&conf.path)?;
    let metadata = file.metadata()?;
    if metadata.is_file() && metadata.len() > 0 && metadata.len().saturating_add(line.len() as u64) > conf.max_bytes {
        let rotated = rotate(conf, &file, now);
        if let Ok(()) = rotated {
            file = open(&conf.path)?;
        }
        // A full log is still a log: the line is written before the failure is reported.
        return file.write_all(line).and(rotated);
    }
    file.write_all(line)
}

fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    // not blocking: a path that is a pipe without a reader must not stop the command
    options
        .append(true)
        .create(true)
        .mode(0o640)
        .custom_flags(OFlags::NONBLOCK.bits() as i32);
    match options.open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if let Some(parent) = path.parent() {
                DirBuilder::new().recursive(true).mode(0o755).create(parent)?;
            }
            options.open(path)
        }
        other => other,
    }
}

/// Renames the file unless another process has done it or is at it.
fn rotate(conf: &LogConf, file: &File, now: Timestamp) -> io::Result<()> {
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Ok(()),
        Err(TryLockError::Error(error)) => return Err(error),
    }
    let ours = file.metadata()?;
    match fs::metadata(&conf.path) {
        Ok(current) if (current.dev(), current.ino()) == (ours.dev(), ours.ino()) => {}
        Ok(_) => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    }
    let stamp = now.strftime("%Y-%m-%dT%H-%M-%S%.6f");
    let (stem, extension) = name_parts(&conf.path);
    let rotated = conf.path.with_file_name(format!("{stem}-{stamp}{extension}"));
    renameat_with(CWD, &conf.path, CWD, &rotated, RenameFlags::NOREPLACE)?;
    prune(conf, now)
}

/// Removes rotated files that are too many or too old.
fn prune(conf: &LogConf, now: Timestamp) -> io::Result<()> {
    let mut rotated = rotated_files(&conf.path)?;
    rotated.sort();
    let surplus = conf.max_backups.map_or(0, |keep| rotated.len().saturating_sub(keep));
    let oldest = conf.max_age.and_then(|age| SystemTime::from(now).checked_sub(age));
    for (index, file) in rotated.iter().enumerate() {
        let is_old = || oldest.is_some_and(|oldest| matches!(modified(file), Ok(at) if at < oldest));
        if index < surplus || is_old() {
            match fs::remove_file(file) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
    }
    Ok(())
}

fn modified(file: &Path) -> io::Result<SystemTime> {
    fs::metadata(file)?.modified()
}

/// Files next to the log whose name is the log's with a time stamp, and no others.
fn rotated_files(path: &Path) -> io::Result<Vec<PathBuf>> {
    let (stem, extension) = name_parts(path);
    let parent = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let mut found = Vec::new();
    for entry in fs::read_dir(parent)? {
        let entry = entry?;
        let name = entry.file_name();
        let stamp = name
            .to_str()
            .and_then(|name| name.strip_prefix(&stem)?.strip_prefix('-')?.strip_suffix(&extension));
        if stamp.is_some_and(is_stamp) {
            found.push(entry.path());
        }
    }
    Ok(found)
}

fn is_stamp(text: &str) -> bool {
    text.len() >= STAMP_LENGTH && text.bytes().all(|byte| byte.is_ascii_digit() || b"-T.".contains(&byte))
}

fn name_parts(path: &Path) -> (String, String) {
    let text = |part: Option<&OsStr>| part.unwrap_or_default().to_string_lossy().into_owned();
    let extension = match text(path.extension()) {
        extension if extension.is_empty() => extension,
        extension => format!(".{extension}"),
    };
    (text(path.file_stem()), extension)
}

#[cfg(test)]
mod tests;
