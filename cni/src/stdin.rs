//! Standard input under a deadline and a size limit: a runtime that keeps the pipe open must not keep a plugin alive for ever.

use std::{
    io::{self, Read},
    os::fd::AsFd,
};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::deadline::Deadline;

/// Largest network configuration read. Real ones have a few kilobytes; CHECK and DEL carry the previous result on top.
pub const MAX_CONFIG_BYTES: usize = 1024 * 1024;

/// Reads to the end.
pub fn read(mut input: impl Read + AsFd, deadline: Deadline) -> io::Result<Vec<u8>> {
    let mut config = Vec::new();
    let mut part = [0; 8192];
    loop {
        let timeout = Timespec::try_from(deadline.timeout()?).map_err(io::Error::other)?;
        match poll(&mut [PollFd::new(&input, PollFlags::IN)], Some(&timeout)) {
            Ok(0) => return Err(io::ErrorKind::TimedOut.into()),
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => continue,
            Err(errno) => return Err(errno.into()),
        }
        let read = match input.read(&mut part) {
            Ok(0) => return Ok(config),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        if config.len() + read > MAX_CONFIG_BYTES {
            return Err(io::Error::new(
                io::ErrorKind::FileTooLarge,
                format!("more than {MAX_CONFIG_BYTES} bytes"),
            ));
        }
        config.extend(part.iter().take(read));
    }
}
