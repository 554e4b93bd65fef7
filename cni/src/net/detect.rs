//! Asks the segment, before a pod uses an address, whether somebody else does, and whether the gateway is there.
//!
//! It runs while the main plugin waits for its addresses. Those that make the interface first (macvlan, bridge, vlan, SR-IOV) have
//! it in the pod's namespace by then, switched off and without an address. It is switched on for the questions and left as it
//! was found: the kernel announces addresses when an interface goes on, which must come after the addresses. Where nothing can be
//! asked the caller is told so ([`Skipped`]), and the pod is not held up.
//!
//! The question about the own address comes first. Asking the gateway makes it learn who we are, which must not happen with an
//! address of somebody else.

use std::{
    io,
    net::{IpAddr, UdpSocket},
    path::Path,
    time::{Duration, Instant},
};

use thiserror::Error;

use super::{
    arp,
    link::Link,
    mac::Mac,
    ndp,
    packet::Packet,
    probe::{Conflict, Gateway, Probe, Step},
};

/// How long an interface may take to get its carrier. Hardware takes up to two seconds to agree with the switch.
const CARRIER: Duration = Duration::from_secs(3);

/// One address to ask about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The address that the pod is to have.
    pub address: IpAddr,
    /// Ask whether somebody else has it.
    pub conflict: bool,
    /// Ask whether this gateway is there.
    pub gateway: Option<IpAddr>,
}

/// Why an address cannot be used.
#[derive(Debug, Error)]
pub enum Fault {
    /// Somebody has it.
    #[error(
        "ip conflict: {address}, chosen for interface {nic}, is in use by {mac}; take it from that host, or list it in a SpiderReservedIP"
    )]
    Conflict {
        /// Interface of the pod.
        nic: String,
        /// The address.
        address: IpAddr,
        /// Who has it.
        mac: Mac,
    },
    /// The gateway did not answer.
    #[error(
        "gateway {gateway} of {address} is unreachable: nobody answered for it on interface {nic}; check the pool's gateway, the VLAN and the cabling"
    )]
    Unreachable {
        /// Interface of the pod.
        nic: String,
        /// The address.
        address: IpAddr,
        /// The gateway.
        gateway: IpAddr,
    },
    /// The question could not be asked.
    #[error("cannot ask the network about {address} on interface {nic}")]
    Failed {
        /// Interface of the pod.
        nic: String,
        /// The address.
        address: IpAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Why nothing was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Skipped {
    /// The main plugin makes the interface later.
    NoInterface,
    /// An ipvlan interface is delivered only what is for an address that it has already.
    Ipvlan,
    /// Neighbours are not found by ARP or neighbour discovery here.
    NoNeighbours,
}

impl Skipped {
    /// For the log.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoInterface => "the main plugin has not made the interface yet",
            Self::Ipvlan => "an ipvlan interface receives no answers before it has its address",
            Self::NoNeighbours => "the interface is not of the Ethernet kind, or does without ARP",
        }
    }
}

/// Asks about every address, all at the same time. A conflict is told before any other fault.
pub fn detect(netns: &str, nic: &str, targets: &[Target]) -> Result<Option<Skipped>, Vec<Fault>> {
    let failed = |source: io::Error| {
        let first = targets.first().map(|target| Fault::Failed {
            nic: nic.to_owned(),
            address: target.address,
            source,
        });
        first.into_iter().collect::<Vec<_>>()
    };
    let netns = Path::new(netns);
    let link = match super::inside(netns, || Link::find(nic)).map_err(failed)? {
        None => return Ok(Some(Skipped::NoInterface)),
        Some(link) if link.kind == "ipvlan" => return Ok(Some(Skipped::Ipvlan)),
        Some(link) if !link.has_neighbours() => return Ok(Some(Skipped::NoNeighbours)),
        Some(link) => link,
    };
    super::inside(netns, || link.bring_up(CARRIER)).or_else(|error| {
        restore(netns, &link).map_err(failed)?;
        Err(failed(error))
    })?;
    let mut faults: Vec<Fault> = std::thread::scope(|scope| {
        let asked: Vec<_> = targets
            .iter()
            .map(|target| scope.spawn(|| ask(netns, nic, &link, target)))
            .collect();
        let gone = || Err(failed(io::Error::other("the thread that asked failed")));
        asked
            .into_iter()
            .flat_map(|asked| {
                asked
                    .join()
                    .map_or_else(|_| gone(), |asked| asked.map_err(|fault| vec![fault]))
                    .err()
            })
            .flatten()
            .collect()
    });
    if let Err(error) = restore(netns, &link) {
        faults.extend(failed(error));
    }
    if faults.is_empty() {
        return Ok(None);
    }
    faults.sort_by_key(|fault| !matches!(fault, Fault::Conflict { .. }));
    Err(faults)
}

fn restore(netns: &Path, link: &Link) -> io::Result<()> {
    if link.is_up() {
        return Ok(());
    }
    super::inside(netns, || link.set_up(false))
}

fn ask(netns: &Path, nic: &str, link: &Link, target: &Target) -> Result<(), Fault> {
    let address = target.address;
    let failed = |source| Fault::Failed {
        nic: nic.to_owned(),
        address,
        source,
    };
    let holder = super::inside(netns, || {
        if target.conflict {
            conflict(link, address)
        } else {
            Ok(None)
        }
    });
    if let Some(mac) = holder.map_err(failed)? {
        return Err(Fault::Conflict {
            nic: nic.to_owned(),
            address,
            mac,
        });
    }
    let Some(gateway) = target.gateway else { return Ok(()) };
    if super::inside(netns, || is_there(link, address, gateway)).map_err(failed)? {
        return Ok(());
    }
    Err(Fault::Unreachable {
        nic: nic.to_owned(),
        address,
        gateway,
    })
}

fn conflict(link: &Link, address: IpAddr) -> io::Result<Option<Mac>> {
    let own = link.mac;
    match address {
        IpAddr::V4(ip) => {
            let frame = arp::request(own, [0; 4].into(), ip);
            let socket = Packet::open(link.index, arp::PROTOCOL)?;
            drive(&socket, Conflict::default(), &frame, |frame| {
                arp::claimant(frame, own, ip)
            })
        }
        IpAddr::V6(ip) => {
            // The answer goes to a group, and so does another one's probe; a switch may forward them to members only.
            let member = UdpSocket::bind("[::]:0")?;
            for group in [ndp::ALL_NODES, ndp::solicited_node(ip)] {
                member.join_multicast_v6(&group, link.index)?;
            }
            let frame = ndp::solicitation(own, [0; 16].into(), ip);
            let socket = Packet::open(link.index, ndp::PROTOCOL)?;
            drive(&socket, Conflict::default(), &frame, |frame| {
                ndp::claimant(frame, own, ip)
            })
        }
    }
}

fn is_there(link: &Link, address: IpAddr, gateway: IpAddr) -> io::Result<bool> {
    match (address, gateway) {
        (IpAddr::V4(ip), IpAddr::V4(gateway)) => {
            let frame = arp::request(link.mac, ip, gateway);
            let socket = Packet::open(link.index, arp::PROTOCOL)?;
            drive(&socket, Gateway::default(), &frame, |frame| arp::holder(frame, gateway))
        }
        (IpAddr::V6(ip), IpAddr::V6(gateway)) => {
            let frame = ndp::solicitation(link.mac, ip, gateway);
            let socket = Packet::open(link.index, ndp::PROTOCOL)?;
            drive(&socket, Gateway::default(), &frame, |frame| ndp::holder(frame, gateway))
        }
        _ => Err(io::Error::other(
            "the gateway is of the other IP version than the address",
        )),
    }
}

/// Puts a question to the segment until the verdict. A question that cannot be sent is put again when the next one is due;
/// only if none could be sent there is no verdict.
fn drive<P: Probe>(
    socket: &Packet,
    mut probe: P,
    question: &[u8],
    answer: impl Fn(&[u8]) -> Option<Mac>,
) -> io::Result<P::Verdict> {
    let start = Instant::now();
    let (mut sent, mut trouble) = (false, None);
    loop {
        let now = start.elapsed();
        match probe.step(now) {
            Step::Done(verdict) => {
                return match trouble {
                    Some(error) if !sent => Err(error),
                    _ => Ok(verdict),
                };
            }
            Step::Send => match socket.send(question) {
                Ok(()) => sent = true,
                Err(error) => trouble = Some(error),
            },
            Step::Listen(until) => {
                let frame = socket.receive(until.saturating_sub(now))?;
                if let Some(mac) = frame.as_deref().and_then(&answer) {
                    probe.hear(start.elapsed(), mac);
                }
            }
        }
    }
}
