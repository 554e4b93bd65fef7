//! Neighbour solicitations, and what neighbour discovery says about who has an address (RFC 4861, RFC 4862).

use std::net::Ipv6Addr;

use super::mac::Mac;

/// Ethernet protocol.
pub(super) const PROTOCOL: u16 = 0x86dd;

/// All nodes of the link, to which the owner of an address answers a duplicate address detection.
pub(super) const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

const ICMP: u8 = 58;
const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;
const OPTION_SOURCE: u8 = 1;
const OPTION_TARGET: u8 = 2;
/// A router decrements it, so that a message from elsewhere does not have it.
const HOP_LIMIT: u8 = 255;
/// Ethernet, IPv6 and the fixed part of the message.
const ETHERNET: usize = 14;
const IP: usize = 40;
const MESSAGE: usize = 24;

/// The group that everybody with such an address listens to.
pub(super) fn solicited_node(address: Ipv6Addr) -> Ipv6Addr {
    let [.., a, b, c] = address.octets();
    Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | u16::from(a), u16::from_be_bytes([b, c]))
}

fn group_mac(group: Ipv6Addr) -> Mac {
    let [.., a, b, c, d] = group.octets();
    Mac([0x33, 0x33, a, b, c, d])
}

/// Asks who has an address. From the unspecified address it is a probe, and names no hardware address, so that no neighbour
/// learns an address that may not be ours; from another one the answer comes to us alone.
pub(super) fn solicitation(mac: Mac, asker: Ipv6Addr, wanted: Ipv6Addr) -> Vec<u8> {
    let group = solicited_node(wanted);
    let mut message = vec![SOLICITATION, 0, 0, 0, 0, 0, 0, 0];
    message.extend(wanted.octets());
    if !asker.is_unspecified() {
        message.extend([OPTION_SOURCE, 1]);
        message.extend(mac.0);
    }
    let sum = checksum(asker, group, &message);
    message.splice(2..4, sum);
    let mut frame = Vec::with_capacity(ETHERNET + IP + message.len());
    frame.extend(group_mac(group).0);
    frame.extend(mac.0);
    frame.extend(PROTOCOL.to_be_bytes());
    frame.extend([0x60, 0, 0, 0]);
    frame.extend(u16::try_from(message.len()).unwrap_or_default().to_be_bytes());
    frame.extend([ICMP, HOP_LIMIT]);
    frame.extend(asker.octets());
    frame.extend(group.octets());
    frame.extend(message);
    frame
}

/// The Internet checksum over the message and the pseudo header. The field itself is zero in `message`.
fn checksum(source: Ipv6Addr, destination: Ipv6Addr, message: &[u8]) -> [u8; 2] {
    let length = u32::try_from(message.len()).unwrap_or_default();
    let mut sum = u64::from(ICMP) + u64::from(length);
    for bytes in [&source.octets()[..], &destination.octets()[..], message] {
        for pair in bytes.chunks(2) {
            let low = pair.get(1).copied().unwrap_or_default();
            sum += u64::from(u16::from_be_bytes([pair.first().copied().unwrap_or_default(), low]));
        }
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    (!(sum as u16)).to_be_bytes()
}

/// What a frame of neighbour discovery says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Said {
    sender: Mac,
    /// Whether the sender has the address; otherwise it probes for it.
    has: bool,
    address: Ipv6Addr,
}

fn read(frame: &[u8]) -> Option<Said> {
    let ip = frame.get(ETHERNET..)?;
    let message = ip.get(IP..)?;
    let plain = frame.get(12..14)? == PROTOCOL.to_be_bytes() && *ip.get(6)? == ICMP && *ip.get(7)? == HOP_LIMIT;
    if !plain || *message.get(1)? != 0 {
        return None;
    }
    let source = Ipv6Addr::from(*ip.get(8..)?.first_chunk::<16>()?);
    let address = Ipv6Addr::from(*message.get(8..)?.first_chunk::<16>()?);
    let ethernet = Mac::read(frame.get(6..)?)?;
    match *message.first()? {
        ADVERTISEMENT => Some(Said {
            sender: target_option(message.get(MESSAGE..)?).unwrap_or(ethernet),
            has: true,
            address,
        }),
        SOLICITATION if source.is_unspecified() => Some(Said {
            sender: ethernet,
            has: false,
            address,
        }),
        _ => None,
    }
}

/// The hardware address that an advertisement names.
fn target_option(mut options: &[u8]) -> Option<Mac> {
    loop {
        let kind = *options.first()?;
        let length = usize::from(*options.get(1)?) * 8;
        let option = options.get(..length).filter(|option| !option.is_empty())?;
        if kind == OPTION_TARGET {
            return Mac::read(option.get(2..)?);
        }
        options = options.get(length..)?;
    }
}

/// Who says that it has the address, or is about to take it.
pub(super) fn claimant(frame: &[u8], own: Mac, address: Ipv6Addr) -> Option<Mac> {
    read(frame)
        .filter(|said| said.address == address && said.sender != own)
        .map(|said| said.sender)
}

/// Who says that it has the address.
pub(super) fn holder(frame: &[u8], address: Ipv6Addr) -> Option<Mac> {
    read(frame)
        .filter(|said| said.has && said.address == address)
        .map(|said| said.sender)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: Mac = Mac([2, 0, 0, 0, 0, 1]);
    const OTHER: Mac = Mac([2, 0, 0, 0, 0, 9]);
    const ADDRESS: Ipv6Addr = Ipv6Addr::new(0xfd61, 0, 0, 0, 0, 0xff, 0x1234, 0x5678);

    fn advertisement(named: Option<Mac>) -> Vec<u8> {
        let mut frame = solicitation(OTHER, ADDRESS, ADDRESS);
        frame.truncate(ETHERNET + IP + MESSAGE);
        frame[ETHERNET + IP] = ADVERTISEMENT;
        if let Some(mac) = named {
            frame.extend([14, 1, 0, 0, 0, 0, 0, 0, OPTION_TARGET, 1]);
            frame.extend(mac.0);
        }
        frame
    }

    #[test]
    fn a_probe_comes_from_nowhere_and_goes_to_the_solicited_nodes() {
        let frame = solicitation(OWN, Ipv6Addr::UNSPECIFIED, ADDRESS);
        assert_eq!(
            solicited_node(ADDRESS),
            "ff02::1:ff34:5678".parse::<Ipv6Addr>().unwrap()
        );
        assert_eq!(frame[..6], [0x33, 0x33, 0xff, 0x34, 0x56, 0x78]);
        assert_eq!(frame.len(), ETHERNET + IP + MESSAGE, "no option");
        // sender's and receiver's sums add up to all ones
        let message = &frame[ETHERNET + IP..];
        assert_eq!(
            checksum(Ipv6Addr::UNSPECIFIED, solicited_node(ADDRESS), message),
            [0, 0]
        );
        let frame = solicitation(OWN, ADDRESS, "fe80::1".parse().unwrap());
        assert_eq!(frame[frame.len() - 8..], [1, 1, 2, 0, 0, 0, 0, 1]);
    }

    #[test]
    fn a_claim_is_an_advertisement_or_anothers_probe() {
        let gateway = "fe80::1".parse().unwrap();
        for (frame, claimed) in [
            (advertisement(Some(OTHER)), Some(OTHER)),
            (advertisement(None), Some(OTHER)),
            (advertisement(Some(OWN)), None),
            (solicitation(OTHER, Ipv6Addr::UNSPECIFIED, ADDRESS), Some(OTHER)),
            (solicitation(OWN, Ipv6Addr::UNSPECIFIED, ADDRESS), None),
            (solicitation(OTHER, gateway, ADDRESS), None),
        ] {
            assert_eq!(claimant(&frame, OWN, ADDRESS), claimed);
        }
        assert_eq!(holder(&advertisement(None), ADDRESS), Some(OTHER));
        assert_eq!(holder(&advertisement(None), gateway), None);
        assert_eq!(
            holder(&solicitation(OTHER, Ipv6Addr::UNSPECIFIED, ADDRESS), ADDRESS),
            None
        );
    }

    #[test]
    fn cut_forwarded_and_foreign_frames_say_nothing() {
        let frame = advertisement(Some(OTHER));
        for cut in 0..ETHERNET + IP + MESSAGE {
            assert_eq!(claimant(&frame[..cut], OWN, ADDRESS), None, "{cut}");
        }
        for at in [12, ETHERNET + 6, ETHERNET + 7, ETHERNET + IP, ETHERNET + IP + 1] {
            let mut frame = frame.clone();
            frame[at] ^= 0x80;
            assert_eq!(claimant(&frame, OWN, ADDRESS), None, "{at}");
        }
        let mut endless = advertisement(None);
        endless.extend([0; 64]);
        assert_eq!(claimant(&endless, OWN, ADDRESS), Some(OTHER));
    }
}
