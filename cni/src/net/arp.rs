//! ARP requests, and what ARP frames say about who has an address (RFC 826, RFC 5227).

use std::net::Ipv4Addr;

use super::mac::Mac;

/// Ethernet protocol.
pub(super) const PROTOCOL: u16 = 0x0806;

/// The frame's least length; drivers do not all pad.
const LEAST: usize = 60;

const REQUEST: [u8; 2] = [0, 1];
/// Ethernet and IPv4, with the lengths of their addresses.
const KIND: [u8; 6] = [0, 1, 0x08, 0x00, 6, 4];

/// Asks everybody who has an address. `asker` is the address of who asks: unspecified in a probe, so that no neighbour learns an
/// address that may not be ours.
pub(super) fn request(mac: Mac, asker: Ipv4Addr, wanted: Ipv4Addr) -> Vec<u8> {
    let mut frame = Vec::with_capacity(LEAST);
    frame.extend(Mac::BROADCAST.0);
    frame.extend(mac.0);
    frame.extend(PROTOCOL.to_be_bytes());
    frame.extend(KIND);
    frame.extend(REQUEST);
    frame.extend(mac.0);
    frame.extend(asker.octets());
    frame.extend([0; 6]);
    frame.extend(wanted.octets());
    frame.resize(LEAST, 0);
    frame
}

/// What an ARP frame says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Said {
    sender: Mac,
    has: Ipv4Addr,
    wants: Ipv4Addr,
}

fn read(frame: &[u8]) -> Option<Said> {
    let body = frame.get(14..)?;
    if frame.get(12..14)? != PROTOCOL.to_be_bytes() || body.get(..6)? != KIND {
        return None;
    }
    let address = |at: usize| body.get(at..)?.first_chunk::<4>().map(|bytes| Ipv4Addr::from(*bytes));
    Some(Said {
        sender: Mac::read(body.get(8..)?)?,
        has: address(14)?,
        wants: address(24)?,
    })
}

/// Who says that it has the address, or is about to take it: any ARP frame with that sender, and a probe for it.
pub(super) fn claimant(frame: &[u8], own: Mac, address: Ipv4Addr) -> Option<Mac> {
    let said = read(frame)?;
    let claims = said.has == address || (said.has.is_unspecified() && said.wants == address);
    (claims && said.sender != own).then_some(said.sender)
}

/// Who says that it has the address.
pub(super) fn holder(frame: &[u8], address: Ipv4Addr) -> Option<Mac> {
    read(frame).filter(|said| said.has == address).map(|said| said.sender)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: Mac = Mac([2, 0, 0, 0, 0, 1]);
    const OTHER: Mac = Mac([2, 0, 0, 0, 0, 9]);
    const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 61, 2, 9);

    #[test]
    fn a_probe_names_no_sender_address() {
        let frame = request(OWN, Ipv4Addr::UNSPECIFIED, ADDRESS);
        let expected = "ffffffffffff0200000000010806\
                        0001080006040001020000000001000000000000000000000a3d0209";
        let text: String = frame.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(text, format!("{expected:0<120}"));
    }

    #[test]
    fn a_claim_is_any_frame_from_the_address_or_anothers_probe_for_it() {
        let other = Ipv4Addr::new(10, 61, 0, 1);
        for (frame, claimed) in [
            (request(OTHER, ADDRESS, other), true),
            (request(OTHER, ADDRESS, ADDRESS), true),
            (request(OTHER, Ipv4Addr::UNSPECIFIED, ADDRESS), true),
            (request(OTHER, other, ADDRESS), false),
            (request(OTHER, other, other), false),
            (request(OWN, Ipv4Addr::UNSPECIFIED, ADDRESS), false),
        ] {
            assert_eq!(claimant(&frame, OWN, ADDRESS), claimed.then_some(OTHER));
        }
        assert_eq!(holder(&request(OTHER, other, ADDRESS), other), Some(OTHER));
        assert_eq!(holder(&request(OTHER, Ipv4Addr::UNSPECIFIED, other), other), None);
    }

    #[test]
    fn cut_frames_and_other_protocols_say_nothing() {
        let frame = request(OTHER, ADDRESS, ADDRESS);
        for cut in 0..42 {
            assert_eq!(claimant(&frame[..cut], OWN, ADDRESS), None, "{cut}");
        }
        for at in [12, 14, 16, 18, 19] {
            let mut frame = frame.clone();
            frame[at] ^= 0x80;
            assert_eq!(claimant(&frame, OWN, ADDRESS), None, "{at}");
        }
    }
}
