//! A route netlink socket: requests, their answers, and attributes, as far as interfaces and addresses need them.
//!
//! The plugin lives for some milliseconds and asks three questions; a client library with a runtime of its own would cost more
//! than all of them. Layout: rtnetlink(7) and netlink(7); numbers are in the byte order of the machine.

use std::{io, time::Duration};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fd::OwnedFd,
    io::Errno,
    net::{
        AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, netlink::SocketAddrNetlink, recv, send,
        socket_with,
    },
};

use crate::deadline::Deadline;

/// The kernel answers at once; this only bounds what a broken one could do to us.
const PATIENCE: Duration = Duration::from_secs(2);

/// Room for one batch of messages; the kernel fills at most 32 KiB.
const BUFFER: usize = 32 * 1024;

const HEADER: usize = 16;
const ERROR: u16 = 2;
const DONE: u16 = 3;
const FLAG_REQUEST: u16 = 1;
const FLAG_ACK: u16 = 4;
const FLAG_DUMP: u16 = 0x300;
/// Set in an attribute's type when it holds attributes.
const NESTED: u16 = 0x8000;

/// How a request is answered.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Ask {
    /// By one message, or an error.
    One,
    /// By nothing but success or an error.
    Change,
    /// By any number of messages.
    All,
}

/// A message without its header.
pub(super) struct Message {
    pub(super) kind: u16,
    pub(super) body: Vec<u8>,
}

/// A socket in the namespace of the thread that opened it.
pub(super) struct Netlink(OwnedFd);

impl Netlink {
    /// A socket for requests.
    pub(super) fn open() -> io::Result<Self> {
        Ok(Self(socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC,
            None,
        )?))
    }

    /// A socket that hears what changes in these groups.
    pub(super) fn listen(groups: u32) -> io::Result<Self> {
        let socket = Self::open()?;
        bind(&socket.0, &SocketAddrNetlink::new(0, groups))?;
        Ok(socket)
    }

    /// Sends a request and collects the answer.
    pub(super) fn ask(&self, kind: u16, ask: Ask, body: &[u8]) -> io::Result<Vec<Message>> {
        let flags = match ask {
            Ask::One => FLAG_REQUEST,
            Ask::Change => FLAG_REQUEST | FLAG_ACK,
            Ask::All => FLAG_REQUEST | FLAG_DUMP,
        };
        let length = u32::try_from(HEADER + body.len()).map_err(io::Error::other)?;
        let mut request = length.to_ne_bytes().to_vec();
        request.extend(kind.to_ne_bytes());
        request.extend(flags.to_ne_bytes());
        request.extend([0; 8]);
        request.extend(body);
        send(&self.0, &request, SendFlags::empty())?;
        let deadline = Deadline::after(PATIENCE);
        let mut answer = Vec::new();
        loop {
            for message in self.hear(deadline)? {
                match message.kind {
                    DONE => return Ok(answer),
                    ERROR => {
                        return match number(&message.body, 0).unwrap_or_default().cast_signed() {
                            0 => Ok(answer),
                            code => Err(io::Error::from_raw_os_error(code.saturating_neg())),
                        };
                    }
                    _ => answer.push(message),
                }
            }
            if ask == Ask::One && !answer.is_empty() {
                return Ok(answer);
            }
        }
    }

    /// Waits for messages.
    pub(super) fn hear(&self, deadline: Deadline) -> io::Result<Vec<Message>> {
        let mut buffer = vec![0; BUFFER];
        loop {
            let timeout = Timespec::try_from(deadline.timeout()?).map_err(io::Error::other)?;
            match poll(&mut [PollFd::new(&self.0, PollFlags::IN)], Some(&timeout)) {
                Ok(0) | Err(Errno::INTR) => continue,
                Ok(_) => {}
                Err(errno) => return Err(errno.into()),
            }
            match recv(&self.0, buffer.as_mut_slice(), RecvFlags::DONTWAIT) {
                Ok((_, length)) => return Ok(messages(buffer.get(..length).unwrap_or(&buffer))),
                Err(Errno::INTR | Errno::AGAIN) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}

/// Takes a datagram apart.
fn messages(mut bytes: &[u8]) -> Vec<Message> {
    let mut found = Vec::new();
    while let Some(length) = number(bytes, 0).map(|length| length as usize)
        && let (Some(kind), Some(body)) = (short(bytes, 4), bytes.get(HEADER..length))
    {
        found.push(Message {
            kind,
            body: body.to_vec(),
        });
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    found
}

/// The attributes in bytes, by type.
pub(super) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(short(bytes, 0)?);
        let kind = short(bytes, 2)? & !NESTED;
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// An attribute as it is sent.
pub(super) fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
    let mut bytes = length.to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// The 16-bit number at an offset.
pub(super) fn short(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().copied().map(u16::from_ne_bytes)
}

/// The 32-bit number at an offset.
pub(super) fn number(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().copied().map(u32::from_ne_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_read_as_they_are_written_and_broken_ones_end_the_list() {
        let mut bytes = attribute(3, b"net1\0");
        bytes.extend(attribute(18 | NESTED, &attribute(1, b"macvlan")));
        let read: Vec<_> = attributes(&bytes).collect();
        assert_eq!(read[0], (3, b"net1\0".as_slice()));
        assert_eq!(read[1].0, 18);
        assert_eq!(attributes(read[1].1).next(), Some((1, b"macvlan".as_slice())));
        for cut in 0..bytes.len() {
            assert!(attributes(&bytes[..cut]).count() <= 2);
        }
        assert_eq!(attributes(&[0, 0, 0, 0]).count(), 0);
    }

    #[test]
    fn messages_of_a_lying_length_are_not_read() {
        for length in [0_u32, 3, 15, 17, u32::MAX] {
            let mut bytes = length.to_ne_bytes().to_vec();
            bytes.extend([0; 12]);
            assert_eq!(messages(&bytes).len(), 0, "{length}");
        }
    }
}
