//! Tells that something happened in a folder.

use rustix::fs::inotify::{CreateFlags, WatchFlags, add_watch, init};
use std::io;
use std::path::Path;
use tokio::net::unix::pipe::Receiver;

/// The kernel's watch of a folder.
pub(super) struct Watch {
    /// To the runtime it is like the reading end of a pipe.
    events: Receiver,
}

impl Watch {
    /// Begins to watch.
    pub(super) fn new(folder: &Path, wanted: WatchFlags) -> io::Result<Self> {
        let events = init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        add_watch(&events, folder, wanted)?;
        Ok(Self {
            events: Receiver::from_owned_fd_unchecked(events)?,
        })
    }

    /// Waits until something happened since the last call, or since the watch began. What it was does not matter.
    pub(super) async fn changed(&self) -> io::Result<()> {
        // Room for many events; one with the longest name has 272 bytes.
        let mut events = [0; 4096];
        let mut any = false;
        loop {
            match self.events.try_read(&mut events) {
                Ok(_) => any = true,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && any => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.events.readable().await?,
                Err(error) => return Err(error),
            }
        }
    }
}
