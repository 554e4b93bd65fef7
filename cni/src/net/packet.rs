//! Raw Ethernet frames on one interface.

use std::{io, time::Duration};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fd::OwnedFd,
    io::Errno,
    net::{
        AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType,
        addr::{SocketAddrArg, SocketAddrLen, SocketAddrOpaque},
        bind, recv, send, socket_with,
    },
};

/// Longest frame looked at. What is asked for fits in the first hundred bytes.
const FRAME: usize = 2048;

/// `struct sockaddr_ll` of packet(7).
#[repr(C)]
struct LinkAddress {
    family: u16,
    protocol: u16,
    index: i32,
    hardware: u16,
    kind: u8,
    length: u8,
    address: [u8; 8],
}

#[expect(
    unsafe_code,
    reason = "the system call library knows no packet address, and says by this trait how to add one"
)]
// SAFETY: the pointer given to the closure is to a whole `struct sockaddr_ll` that lives until the closure returns.
unsafe impl SocketAddrArg for LinkAddress {
    unsafe fn with_sockaddr<R>(&self, f: impl FnOnce(*const SocketAddrOpaque, SocketAddrLen) -> R) -> R {
        f(std::ptr::from_ref(self).cast(), size_of::<Self>() as SocketAddrLen)
    }
}

/// A socket that sends and receives whole frames of one protocol on one interface.
pub(super) struct Packet(OwnedFd);

impl Packet {
    /// Opens the socket in the namespace of this thread.
    pub(super) fn open(index: u32, protocol: u16) -> io::Result<Self> {
        // Without a protocol it receives nothing until it is bound, so no frame of another interface gets in.
        let socket = socket_with(AddressFamily::PACKET, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
        let address = LinkAddress {
            family: AddressFamily::PACKET.as_raw(),
            protocol: protocol.to_be(),
            index: i32::try_from(index).map_err(io::Error::other)?,
            hardware: 0,
            kind: 0,
            length: 0,
            address: [0; 8],
        };
        bind(&socket, &address)?;
        Ok(Self(socket))
    }

    /// Sends a frame.
    pub(super) fn send(&self, frame: &[u8]) -> io::Result<()> {
        loop {
            match send(&self.0, frame, SendFlags::empty()) {
                Err(Errno::INTR) => {}
                sent => return sent.map(drop).map_err(Into::into),
            }
        }
    }

    /// Waits for a frame; `None` when none came in time. An interface that went down meanwhile sends none either.
    pub(super) fn receive(&self, patience: Duration) -> io::Result<Option<Vec<u8>>> {
        let timeout = Timespec::try_from(patience).map_err(io::Error::other)?;
        match poll(&mut [PollFd::new(&self.0, PollFlags::IN)], Some(&timeout)) {
            Ok(0) | Err(Errno::INTR) => return Ok(None),
            Ok(_) => {}
            Err(errno) => return Err(errno.into()),
        }
        let mut buffer = vec![0; FRAME];
        match recv(&self.0, buffer.as_mut_slice(), RecvFlags::DONTWAIT) {
            Ok((_, length)) => {
                buffer.truncate(length);
                Ok(Some(buffer))
            }
            Err(Errno::INTR | Errno::AGAIN | Errno::NETDOWN) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }
}
