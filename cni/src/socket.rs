//! A unix socket on which every step, also connecting, ends at one deadline.

use std::{
    io::{self, Read, Write},
    os::unix::net::UnixStream,
    path::Path,
};

use rustix::{
    io::Errno,
    net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, sockopt},
};

use crate::deadline::Deadline;

/// A connected socket.
#[derive(Debug)]
pub struct Socket {
    stream: UnixStream,
    deadline: Deadline,
}

impl Socket {
    /// Connects. The standard library's connect has no time limit, and a listener with a full queue makes it wait.
    pub fn connect(path: &Path, deadline: Deadline) -> io::Result<Self> {
        let address = SocketAddrUnix::new(path)?;
        let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        loop {
            sockopt::set_socket_timeout(&socket, sockopt::Timeout::Send, Some(deadline.timeout()?))?;
            match rustix::net::connect(&socket, &address) {
                Ok(()) => {
                    return Ok(Self {
                        stream: socket.into(),
                        deadline,
                    });
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Err(io::ErrorKind::TimedOut.into()),
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}

impl Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(Some(self.deadline.timeout()?))?;
        self.stream.read(buffer).map_err(expired)
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(Some(self.deadline.timeout()?))?;
        self.stream.write(bytes).map_err(expired)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The kernel reports an expired socket timeout as "would block".
fn expired(error: io::Error) -> io::Error {
    if error.kind() == io::ErrorKind::WouldBlock {
        io::ErrorKind::TimedOut.into()
    } else {
        error
    }
}
