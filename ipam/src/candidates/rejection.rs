//! Why a pool may not serve a request: a stable word for programs, one line of text for people.

use crate::addr::Family;
use std::fmt;
use std::net::IpAddr;

/// Why a pool may not serve a request. Some texts are matched by other software, see the tests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rejection {
    /// There is no pool of this name.
    NotFound,
    /// There is no pool of this family whose name matches the pattern.
    NoMatch,
    /// The pattern cannot be read.
    WrongPattern(&'static str),
    /// It is being deleted.
    Terminating,
    /// The storage of the API server was restored, and not all agents have put on record again what their pods have.
    Restoring,
    /// `spec.disable` is true.
    Disabled,
    /// It holds the other family, or nobody can tell which.
    WrongVersion {
        /// The family that the request needs.
        wanted: Family,
        /// The pool's; none if its spec is broken.
        holds: Option<Family>,
    },
    /// Spec or records do not parse.
    Broken(String),
    /// The operator has not checked its present spec against the other pools, or found it wrong.
    NotReady,
    /// The operator checked its present spec and found that it must not serve.
    Refused(String),
    /// It is meant for others.
    Affinity(Term),
    /// It has no free address.
    Exhausted {
        /// Addresses in use.
        used: u128,
        /// All addresses.
        total: u128,
        /// Addresses that nobody uses but that are reserved or held back.
        held: u128,
    },
    /// All that is free was freed a moment ago, and others are to wait.
    Cooling {
        /// Addresses in use.
        used: u128,
        /// All addresses.
        total: u128,
        /// Addresses that cool down.
        cooling: usize,
        /// Until when the first of them does, as text.
        until: Option<String>,
    },
    /// Its object cannot hold another record.
    RecordLimit {
        /// Records that it holds.
        records: usize,
    },
    /// The address that the pod asks for is none of its addresses.
    AddressOutside(IpAddr),
    /// The address that the pod asks for is somebody else's.
    AddressTaken {
        /// The address.
        address: IpAddr,
        /// `namespace/name` of the pod that has it.
        holder: String,
    },
    /// The address that the pod asks for is reserved or held back.
    AddressHeld {
        /// The address.
        address: IpAddr,
        /// Why and for how long, in words that follow "the address is".
        why: String,
    },
}

/// What a pool demands and a request does not meet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Term {
    /// `spec.nodeName`.
    NodeName {
        /// The pod's node.
        node: String,
        /// The pool's.
        names: Vec<String>,
    },
    /// `spec.nodeAffinity`.
    NodeAffinity {
        /// The pod's node.
        node: String,
        /// What its labels do not meet.
        unmet: String,
    },
    /// `spec.namespaceName`.
    NamespaceName {
        /// The pod's namespace.
        namespace: String,
        /// The pool's.
        names: Vec<String>,
    },
    /// `spec.namespaceAffinity`.
    NamespaceAffinity {
        /// The pod's namespace.
        namespace: String,
        /// What its labels do not meet.
        unmet: String,
    },
    /// `spec.nodeAffinity`, and nobody read the labels of the node.
    NodeUnread {
        /// The pod's node.
        node: String,
    },
    /// `spec.namespaceAffinity`, and nobody read the labels of the namespace.
    NamespaceUnread {
        /// The pod's namespace.
        namespace: String,
    },
    /// `spec.podAffinity`.
    PodAffinity {
        /// What the pod's labels do not meet.
        unmet: String,
    },
    /// `spec.podAffinity` of an automatic pool: it belongs to this application.
    Application(String),
    /// `spec.multusName`.
    MultusName {
        /// The pool's networks.
        names: Vec<String>,
        /// The NIC.
        nic: String,
        /// Its network.
        network: Option<String>,
    },
    /// `match_master_subnet` of the CNI configuration.
    MasterSubnet {
        /// Addresses of the master; none if they are not known.
        master: Option<Vec<IpAddr>>,
    },
}

impl Term {
    /// The field that says so.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::NodeName { .. } => "nodeName",
            Self::NodeAffinity { .. } | Self::NodeUnread { .. } => "nodeAffinity",
            Self::NamespaceName { .. } => "namespaceName",
            Self::NamespaceAffinity { .. } | Self::NamespaceUnread { .. } => "namespaceAffinity",
            Self::PodAffinity { .. } | Self::Application(_) => "podAffinity",
            Self::MultusName { .. } => "multusName",
            Self::MasterSubnet { .. } => "match_master_subnet",
        }
    }
}

impl Rejection {
    /// The words of a pool that has no room.
    pub const USED_OUT: [&str; 3] = ["PoolExhausted", "RecordLimit", "PoolCooling"];

    /// The reason as one word that stays.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::NotFound | Self::NoMatch => "NotFound",
            Self::WrongPattern(_) => "WrongPattern",
            Self::Terminating => "Terminating",
            Self::Restoring => "Restoring",
            Self::Disabled => "Disabled",
            Self::WrongVersion { .. } => "WrongVersion",
            Self::Broken(_) => "Broken",
            Self::NotReady | Self::Refused(_) => "NotReady",
            Self::Affinity(_) => "AffinityRejected",
            Self::Exhausted { .. } => Self::USED_OUT[0],
            Self::RecordLimit { .. } => Self::USED_OUT[1],
            Self::Cooling { .. } => Self::USED_OUT[2],
            Self::AddressOutside(_) => "AddressOutside",
            Self::AddressTaken { .. } => "AddressTaken",
            Self::AddressHeld { .. } => "AddressHeld",
        }
    }

    /// The word with the figure or field that belongs to it: `PoolExhausted 200/200`, `AffinityRejected nodeName`.
    pub fn head(&self) -> String {
        let word = self.word();
        match self {
            Self::Exhausted { used, total, .. } | Self::Cooling { used, total, .. } => format!("{word} {used}/{total}"),
            Self::Affinity(term) => format!("{word} {}", term.word()),
            Self::RecordLimit { records } => format!("{word} {records}"),
            _ => word.to_owned(),
        }
    }

    /// The reason as a sentence about the named pool.
    pub fn about<'a>(&'a self, pool: &'a str) -> impl fmt::Display + 'a {
        About { rejection: self, pool }
    }

    /// The reason as one line: its head, and the sentence.
    pub fn line(&self, pool: &str) -> String {
        format!("{}: {}", self.head(), self.about(pool))
    }
}

struct About<'a> {
    rejection: &'a Rejection,
    pool: &'a str,
}

impl fmt::Display for About<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pool = self.pool;
        match self.rejection {
            Rejection::NotFound => write!(f, "IPPool {pool} does not exist"),
            Rejection::NoMatch => write!(f, "no IPPool of this IP version has a name that matches {pool:?}"),
            Rejection::WrongPattern(problem) => {
                write!(f, "{pool:?} is neither a name nor a pattern of names: {problem}")
            }
            Rejection::Terminating => write!(f, "IPPool {pool} is being deleted"),
            Rejection::Restoring => write!(
                f,
                "IPPool {pool} gives out nothing for less than a minute: the storage of the API server was restored, and the agents \
                 put on record again what their pods have"
            ),
            Rejection::Disabled => write!(f, "IPPool {pool} is disabled (spec.disable)"),
            Rejection::WrongVersion {
                wanted,
                holds: Some(holds),
            } => {
                write!(f, "IPPool {pool} holds {holds} addresses, not {wanted} ones")
            }
            Rejection::WrongVersion { holds: None, .. } => {
                write!(
                    f,
                    "the IP version of IPPool {pool} is not known, since its spec is broken; its condition Ready says why"
                )
            }
            Rejection::Broken(problem) => f.write_str(problem),
            Rejection::NotReady => write!(
                f,
                "IPPool {pool} is not checked yet, or refused: the operator has not set its condition Ready for the present \
                 spec; see `kubectl describe sp {pool}`"
            ),
            Rejection::Refused(why) => write!(f, "IPPool {pool} is not ready: {why}"),
            Rejection::Affinity(term) => about_term(f, term, pool),
            Rejection::Exhausted { total: 0, .. } => write!(
                f,
                "all IP addresses used out in IPPool {pool}: it has none, since its ips without its excludeIPs leave none"
            ),
            Rejection::Exhausted { used, total, held } => {
                write!(
                    f,
                    "all IP addresses used out in IPPool {pool}: {used} of {total} in use"
                )?;
                if *held > 0 {
                    write!(f, ", {held} reserved or held back")?;
                }
                Ok(())
            }
            Rejection::Cooling {
                used,
                total,
                cooling,
                until,
            } => {
                write!(
                    f,
                    "all IP addresses used out in IPPool {pool}: {used} of {total} in use, {cooling} cool down \
                     (spec.reuseCooldown)"
                )?;
                until
                    .iter()
                    .try_for_each(|until| write!(f, ", the first of them until {until}"))
            }
            Rejection::RecordLimit { records } => write!(
                f,
                "IPPool {pool} counts as full: with {records} records its object is as large as the API server takes; make \
                 another pool"
            ),
            Rejection::AddressOutside(address) => write!(f, "{address} is none of the addresses of IPPool {pool}"),
            Rejection::AddressTaken { address, holder } => {
                write!(f, "{address} of IPPool {pool} is in use by Pod {holder}")
            }
            Rejection::AddressHeld { address, why } => write!(f, "{address} of IPPool {pool} is {why}"),
        }
    }
}

fn about_term(f: &mut fmt::Formatter<'_>, term: &Term, pool: &str) -> fmt::Result {
    match term {
        Term::NodeName { node, names } => {
            let names = names.join(" ");
            write!(
                f,
                "unmatched Node name of IPPool {pool}: it is for [{names}], and the Pod is on {node}"
            )
        }
        Term::NodeAffinity { node, unmet } => write!(
            f,
            "unmatched Node name of IPPool {pool}: labels of Node {node} do not meet its nodeAffinity {unmet}"
        ),
        Term::NamespaceName { namespace, names } => {
            let names = names.join(" ");
            write!(
                f,
                "unmatched Namespace of IPPool {pool}: it is for [{names}], and the Pod is in {namespace}"
            )
        }
        Term::NamespaceAffinity { namespace, unmet } => write!(
            f,
            "unmatched Namespace of IPPool {pool}: labels of Namespace {namespace} do not meet its namespaceAffinity {unmet}"
        ),
        Term::NodeUnread { node } => write!(
            f,
            "the nodeAffinity of IPPool {pool} is new, and the labels of Node {node} have not been read for it yet"
        ),
        Term::NamespaceUnread { namespace } => write!(
            f,
            "the namespaceAffinity of IPPool {pool} is new, and the labels of Namespace {namespace} have not been read for it yet"
        ),
        Term::PodAffinity { unmet } => write!(
            f,
            "unmatched Pod labels of IPPool {pool}: they do not meet its podAffinity {unmet}"
        ),
        Term::Application(app) => write!(f, "IPPool {pool} belongs to application {app}"),
        Term::MultusName { names, nic, network } => {
            let names = names.join(" ");
            let network = network.as_deref().unwrap_or("not known");
            write!(
                f,
                "the spec.multusName [{names}] in the IPPool {pool} used by the Pod interface {nic} is not matched: the \
                 network of the interface is {network}"
            )
        }
        Term::MasterSubnet { master: None } => write!(
            f,
            "the subnet of IPPool {pool} cannot be compared with the master's: the addresses of the master are not known"
        ),
        Term::MasterSubnet {
            master: Some(addresses),
        } => {
            let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
            let addresses = addresses.join(" ");
            write!(
                f,
                "no address of the master [{addresses}] is in the subnet of IPPool {pool}"
            )
        }
    }
}
