//! Interfaces and their addresses in the namespace of the calling thread.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::Path,
    time::Duration,
};

use super::{
    mac::Mac,
    netlink::{Ask, Message, Netlink, attribute, attributes, number, short},
};
use crate::deadline::Deadline;

const NEW_LINK: u16 = 16;
const GET_LINK: u16 = 18;
const GET_ADDRESS: u16 = 22;
/// Multicast group of changes to interfaces, as a bit.
const GROUP_LINK: u32 = 1;

const LINK_ADDRESS: u16 = 1;
const LINK_NAME: u16 = 3;
/// Index of the interface that this one is made of.
const LINK_LOWER: u16 = 5;
const LINK_INFO: u16 = 18;
/// Name of the device on its bus.
const LINK_DEVICE: u16 = 56;
const LINK_INFO_KIND: u16 = 1;
const ADDRESS: u16 = 1;
const ADDRESS_LOCAL: u16 = 2;

const UP: u32 = 0x1;
const NO_ARP: u32 = 0x80;
const LOWER_UP: u32 = 0x1_0000;

const ETHERNET: u16 = 1;

/// An interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) index: u32,
    pub(super) mac: Mac,
    /// What made it, such as `macvlan`; empty for hardware.
    pub(super) kind: String,
    /// Index of the interface that this one is made of, in the namespace of that.
    pub(super) lower: Option<u32>,
    /// Name of the device on its bus, such as `0000:3b:02.1`; none where there is no device.
    pub(super) device: Option<String>,
    hardware: u16,
    flags: u32,
}

impl Link {
    /// Finds an interface by name; `None` if there is none.
    pub(super) fn find(name: &str) -> io::Result<Option<Self>> {
        let mut body = vec![0; 16];
        let mut text = name.as_bytes().to_vec();
        text.push(0);
        body.extend(attribute(LINK_NAME, &text));
        match Netlink::open()?.ask(GET_LINK, Ask::One, &body) {
            Ok(messages) => Ok(messages.iter().find_map(Self::read)),
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::NODEV.raw_os_error()) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn read(message: &Message) -> Option<Self> {
        if message.kind != NEW_LINK {
            return None;
        }
        let mut link = Self {
            index: number(&message.body, 4)?,
            flags: number(&message.body, 8)?,
            hardware: short(&message.body, 2)?,
            mac: Mac::default(),
            kind: String::new(),
            lower: None,
            device: None,
        };
        for (kind, value) in attributes(message.body.get(16..)?) {
            match kind {
                LINK_ADDRESS => link.mac = Mac::read(value).unwrap_or_default(),
                LINK_LOWER => link.lower = number(value, 0),
                LINK_DEVICE => link.device = Some(text(value)),
                LINK_INFO => {
                    let kind = attributes(value).find(|(kind, _)| *kind == LINK_INFO_KIND);
                    link.kind = kind.map(|(_, bytes)| text(bytes)).unwrap_or_default();
                }
                _ => {}
            }
        }
        Some(link)
    }

    pub(super) fn is_up(&self) -> bool {
        self.flags & UP != 0
    }

    /// Whether neighbours are asked for by ARP and neighbour discovery.
    pub(super) fn has_neighbours(&self) -> bool {
        self.hardware == ETHERNET && self.flags & NO_ARP == 0
    }

    /// Switches the interface on or off.
    pub(super) fn set_up(&self, up: bool) -> io::Result<()> {
        let mut body = vec![0; 4];
        body.extend(self.index.to_ne_bytes());
        body.extend(if up { UP } else { 0 }.to_ne_bytes());
        body.extend(UP.to_ne_bytes());
        Netlink::open()?.ask(NEW_LINK, Ask::Change, &body).map(drop)
    }

    /// Switches the interface on and waits until frames can be sent. What changes is told by the kernel.
    pub(super) fn bring_up(&self, patience: Duration) -> io::Result<()> {
        // Listening begins before the look, or the change between the two would be missed.
        let changes = Netlink::listen(GROUP_LINK)?;
        self.set_up(true)?;
        let mut body = vec![0; 4];
        body.extend(self.index.to_ne_bytes());
        body.extend([0; 8]);
        let now = Netlink::open()?.ask(GET_LINK, Ask::One, &body)?;
        let deadline = Deadline::after(patience);
        let mut news = now;
        loop {
            let works = |link: &Self| link.index == self.index && link.flags & (UP | LOWER_UP) == UP | LOWER_UP;
            if news.iter().filter_map(Self::read).any(|link| works(&link)) {
                return Ok(());
            }
            news = changes.hear(deadline).map_err(|error| match error.kind() {
                io::ErrorKind::TimedOut => io::Error::new(error.kind(), "it has no carrier"),
                _ => error,
            })?;
        }
    }
}

/// The addresses of an interface in a namespace; `None` if there is no such interface.
pub fn addresses(netns: &Path, name: &str) -> io::Result<Option<Vec<IpAddr>>> {
    super::inside(netns, || {
        let Some(link) = Link::find(name)? else {
            return Ok(None);
        };
        addresses_of(link.index).map(Some)
    })
}

/// The addresses of an interface in the namespace of the calling thread.
pub(super) fn addresses_of(index: u32) -> io::Result<Vec<IpAddr>> {
    let messages = Netlink::open()?.ask(GET_ADDRESS, Ask::All, &[0; 8])?;
    let own = messages
        .iter()
        .filter(|message| number(&message.body, 4) == Some(index));
    Ok(own.filter_map(|message| read_address(&message.body)).collect())
}

/// A text of the kernel, which ends with a zero byte.
fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim_end_matches('\0').to_owned()
}

/// The address of a message; for a point-to-point link the local one of the two.
fn read_address(body: &[u8]) -> Option<IpAddr> {
    let found = |wanted: u16| attributes(body.get(8..).unwrap_or_default()).find(|(kind, _)| *kind == wanted);
    let (_, bytes) = found(ADDRESS_LOCAL).or_else(|| found(ADDRESS))?;
    match bytes.len() {
        4 => bytes.first_chunk::<4>().map(|bytes| Ipv4Addr::from(*bytes).into()),
        16 => bytes.first_chunk::<16>().map(|bytes| Ipv6Addr::from(*bytes).into()),
        _ => None,
    }
}
