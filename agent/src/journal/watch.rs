//! Tells that something happened in a folder.

use rustix::fs::inotify::{CreateFlags, ReadFlags, WatchFlags, add_watch, init};
use std::io;
use std::path::Path;
use tokio::net::unix::pipe::Receiver;

/// Bytes of an event before the name: watch, mask, cookie and the length of the name, of four bytes each.
const HEADER: usize = 16;

/// What the kernel told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    /// Something happened in the folder.
    Changed,
    /// The folder does not have its name any more, and nothing will be told again.
    Removed,
}

/// The kernel's watch of a folder.
pub(crate) struct Watch {
    /// To the runtime it is like the reading end of a pipe.
    events: Receiver,
}

impl Watch {
    /// Begins to watch.
    pub(crate) fn new(folder: &Path, wanted: WatchFlags) -> io::Result<Self> {
        let events = init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        let ended = WatchFlags::DELETE_SELF | WatchFlags::MOVE_SELF;
        add_watch(&events, folder, wanted | ended)?;
        Ok(Self {
            events: Receiver::from_owned_fd_unchecked(events)?,
        })
    }

    /// Waits until something happened since the last call, or since the watch began.
    pub(crate) async fn changed(&self) -> io::Result<Told> {
        // Room for many events; one with the longest name has 272 bytes.
        let mut events = [0; 4096];
        let mut told = None;
        loop {
            match self.events.try_read(&mut events) {
                Ok(length) if is_removed(events.get(..length).unwrap_or_default()) => told = Some(Told::Removed),
                Ok(_) => told = told.or(Some(Told::Changed)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => match told {
                    Some(told) => return Ok(told),
                    None => self.events.readable().await?,
                },
                Err(error) => return Err(error),
            }
        }
    }
}

/// Whether one of these events ends the watch.
fn is_removed(mut events: &[u8]) -> bool {
    let ended = ReadFlags::DELETE_SELF | ReadFlags::MOVE_SELF | ReadFlags::IGNORED | ReadFlags::UNMOUNT;
    while let Some((header, rest)) = events.split_first_chunk::<HEADER>() {
        let word = |at: usize| {
            let bytes = header.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
            u32::from_ne_bytes(bytes.unwrap_or_default())
        };
        if ReadFlags::from_bits_retain(word(4)).intersects(ended) {
            return true;
        }
        let name = usize::try_from(word(12)).unwrap_or(usize::MAX);
        events = rest.get(name..).unwrap_or_default();
    }
    false
}
