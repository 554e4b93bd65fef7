//! Takes up the DELs that the plugin noted on the node because nobody could serve them.
//!
//! The plugin writes one file for each attachment (`spiderpool_wire::journal`) and reports success, so that no pod's end waits for
//! an agent. Each is served here as if the plugin had sent it: a DEL compares sandbox and network, so one that comes late frees
//! nothing that a later sandbox uses. The file goes when the DEL is done, not before, so that a crash repeats it. The kernel
//! tells when a file appears; nothing is looked at by the clock but what failed.

use crate::cancel::Cancel;
use crate::command;
use crate::context::Context;
use futures::StreamExt;
use rustix::fs::inotify::WatchFlags;
use spiderpool_kit::backoff::Backoff;
use spiderpool_wire::IpamDelArgs;
use spiderpool_wire::journal::{MAX_ENTRY_BYTES, decode, is_entry, is_unfinished};
use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use watch::{Told, Watch};

pub(crate) mod watch;

/// Entries that are served at a time. They meet in the same few pools, which write once for all of them.
const AT_A_TIME: usize = 16;

/// Pauses before entries that could not be served are tried again. Mostly the API server is away.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Age from which a file that was never finished is that of a plugin which died. Writing one takes milliseconds.
const ABANDONED: Duration = Duration::from_secs(600);

/// Takes up entries until the process stops.
pub async fn run(context: Arc<Context>, folder: PathBuf) {
    let serve = |args: IpamDelArgs| {
        let context = context.clone();
        async move { command::serve(&context, &args, &Cancel::default()).await.is_ok() }
    };
    loop {
        if let Err(error) = replay(&folder, serve).await {
            tracing::error!(
                folder = %folder.display(), %error,
                "DELs noted by the plugin are not taken up; the chart mounts this folder from the host"
            );
        }
        // Nothing tells when a folder can be watched that cannot be now.
        tokio::time::sleep(LONGEST_PAUSE).await;
    }
}

/// Serves every entry until it is done; returns only if the folder cannot be watched.
async fn replay<F: Future<Output = bool>>(folder: &Path, serve: impl Fn(IpamDelArgs) -> F) -> io::Result<()> {
    loop {
        replay_until_removed(folder, &serve).await?;
        tracing::warn!(folder = %folder.display(), "the folder of DELs noted by the plugin was removed; it is made anew");
        // A folder that somebody removes all the time must not keep a core busy.
        tokio::time::sleep(FIRST_PAUSE).await;
    }
}

/// Serves every entry until the folder is removed or renamed: what is watched is a folder and not a name, so another one that
/// has the name by then would be watched by nobody.
async fn replay_until_removed<F: Future<Output = bool>>(
    folder: &Path,
    serve: &impl Fn(IpamDelArgs) -> F,
) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    // What appears from here on is told, what was there before is listed.
    let watch = Watch::new(folder, WatchFlags::MOVED_TO)?;
    let pauses = || Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
    let mut backoff = pauses();
    loop {
        let found = match entries(folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            found => found?,
        };
        let stayed = futures::stream::iter(found)
            .map(|entry| take_up(entry, serve))
            .buffer_unordered(AT_A_TIME)
            .fold(0, |stayed, done| async move { stayed + u32::from(!done) })
            .await;
        let limit = if stayed > 0 {
            backoff.next().unwrap_or(LONGEST_PAUSE)
        } else {
            backoff = pauses();
            Duration::MAX
        };
        if let Ok(told) = tokio::time::timeout(limit, watch.changed()).await
            && told? == Told::Removed
        {
            return Ok(());
        }
    }
}

/// The entries, and an end to what a plugin left unfinished long ago.
fn entries(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        if is_entry(name) {
            found.push(entry.path());
        } else if is_unfinished(name) {
            let age = entry.metadata().and_then(|file| file.modified()).map(|at| at.elapsed());
            if let Ok(Ok(age)) = age
                && age > ABANDONED
            {
                remove(&entry.path());
            }
        }
    }
    Ok(found)
}

/// Serves an entry, and removes it when it is done; false if it stays.
async fn take_up<F: Future<Output = bool>>(path: PathBuf, serve: &impl Fn(IpamDelArgs) -> F) -> bool {
    match read(&path) {
        Ok(Some(args)) => {
            let done = serve(args).await;
            if done {
                remove(&path);
            }
            done
        }
        Ok(None) => {
            // The plugin never leaves such a file, so a disk did. The operator finds addresses of pods that are gone.
            tracing::warn!(entry = %path.display(), "an entry of the journal cannot be read and is dropped");
            remove(&path);
            true
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => true,
        Err(error) => {
            tracing::warn!(entry = %path.display(), %error, "an entry of the journal cannot be read");
            false
        }
    }
}

fn read(path: &Path) -> io::Result<Option<IpamDelArgs>> {
    let mut text = Vec::new();
    let limit = MAX_ENTRY_BYTES as u64 + 1;
    fs::File::open(path)?.take(limit).read_to_end(&mut text)?;
    Ok(decode(&text))
}

fn remove(path: &Path) {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            // It is served again, which frees nothing more.
            tracing::warn!(entry = %path.display(), %error, "an entry of the journal that is done cannot be removed");
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests;
