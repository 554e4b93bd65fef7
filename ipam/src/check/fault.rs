//! Findings: what they are called, what they say, and what mends them.

use crate::addr::Family;
use crate::ledger::Owner;
use crate::set::RangeSet;
use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

/// Who has an address, and which pool it is from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct User {
    /// Name of the pool.
    pub pool: String,
    /// Who has it.
    pub owner: Owner,
}

/// A finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A record of a pod that is not there.
    Leak {
        /// Where it is.
        pool: String,
        /// The address.
        address: IpAddr,
        /// Who has it.
        owner: Owner,
    },
    /// An endpoint of a pod that is not there.
    StrayEndpoint {
        /// `namespace/name`.
        endpoint: String,
        /// UID of the pod.
        uid: String,
    },
    /// An address of a pod that is not on record for it.
    MissingRecord {
        /// Where it should be.
        pool: String,
        /// The address.
        address: IpAddr,
        /// Who has it, as the endpoint says.
        owner: Owner,
        /// Whose it is on record: a pod's that is not there.
        instead: Option<Owner>,
    },
    /// An address of two pods.
    Duplicate {
        /// The address.
        address: IpAddr,
        /// The pods.
        users: BTreeSet<User>,
    },
    /// A count that is wrong.
    WrongCount {
        /// The pool.
        pool: String,
        /// Records that it has.
        records: usize,
        /// What it says.
        count: Option<i64>,
    },
    /// Addresses that a subnet did not give to the pool that has them.
    Accounting {
        /// The subnet.
        subnet: String,
        /// The pool.
        pool: String,
        /// The addresses.
        family: Family,
        /// The addresses.
        ranges: RangeSet,
    },
    /// A status that cannot be read.
    Unreadable {
        /// Kind and name.
        object: String,
        /// Why.
        why: String,
    },
}

/// The kinds of findings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// [`Fault::Leak`].
    Leak,
    /// [`Fault::StrayEndpoint`].
    StrayEndpoint,
    /// [`Fault::MissingRecord`].
    MissingRecord,
    /// [`Fault::Duplicate`].
    Duplicate,
    /// [`Fault::WrongCount`].
    WrongCount,
    /// [`Fault::Accounting`].
    Accounting,
    /// [`Fault::Unreadable`].
    Unreadable,
}

/// What a repair does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repair {
    /// Takes a record out.
    Free,
    /// Takes an endpoint out, with the records of its pod.
    Remove,
    /// Puts a pod on record again.
    Record,
    /// Counts again.
    Count,
    /// Has the accounting of the subnet worked on again.
    Account,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 7] = [
        Self::Leak,
        Self::StrayEndpoint,
        Self::MissingRecord,
        Self::Duplicate,
        Self::WrongCount,
        Self::Accounting,
        Self::Unreadable,
    ];

    /// The word in reports and metrics.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Leak => "Leak",
            Self::StrayEndpoint => "StrayEndpoint",
            Self::MissingRecord => "MissingRecord",
            Self::Duplicate => "Duplicate",
            Self::WrongCount => "WrongCount",
            Self::Accounting => "Accounting",
            Self::Unreadable => "Unreadable",
        }
    }
}

impl Repair {
    /// The word in reports.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Free => "Free",
            Self::Remove => "Remove",
            Self::Record => "Record",
            Self::Count => "Count",
            Self::Account => "Account",
        }
    }
}

impl Fault {
    /// Its kind.
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Leak { .. } => Kind::Leak,
            Self::StrayEndpoint { .. } => Kind::StrayEndpoint,
            Self::MissingRecord { .. } => Kind::MissingRecord,
            Self::Duplicate { .. } => Kind::Duplicate,
            Self::WrongCount { .. } => Kind::WrongCount,
            Self::Accounting { .. } => Kind::Accounting,
            Self::Unreadable { .. } => Kind::Unreadable,
        }
    }

    /// A name that the same finding has in every report, and no other finding has.
    pub fn id(&self) -> String {
        let kind = self.kind().word();
        let nic = |owner: &Owner| owner.nic.clone().unwrap_or_default();
        match self {
            Self::Leak { pool, address, owner } => format!("{kind}/{pool}/{address}/{}/{}", owner.uid, nic(owner)),
            Self::StrayEndpoint { endpoint, uid } => format!("{kind}/{endpoint}/{uid}"),
            Self::MissingRecord {
                pool, address, owner, ..
            } => format!("{kind}/{pool}/{address}/{}/{}", owner.uid, nic(owner)),
            Self::Duplicate { address, users } => {
                let uids: BTreeSet<&str> = users.iter().map(|user| user.owner.uid.as_str()).collect();
                let uids: Vec<&str> = uids.into_iter().collect();
                format!("{kind}/{address}/{}", uids.join("+"))
            }
            Self::WrongCount { pool, .. } => format!("{kind}/{pool}"),
            Self::Accounting { subnet, pool, .. } => format!("{kind}/{subnet}/{pool}"),
            Self::Unreadable { object, .. } => format!("{kind}/{object}"),
        }
    }

    /// What would mend it, if anything but a person can. Of two pods with one address nobody knows which one has to go.
    pub const fn repair(&self) -> Option<Repair> {
        match self {
            Self::Leak { .. } => Some(Repair::Free),
            Self::StrayEndpoint { .. } => Some(Repair::Remove),
            Self::MissingRecord { instead: None, .. } => Some(Repair::Record),
            Self::WrongCount { .. } => Some(Repair::Count),
            Self::Accounting { .. } => Some(Repair::Account),
            Self::MissingRecord { instead: Some(_), .. } | Self::Duplicate { .. } | Self::Unreadable { .. } => None,
        }
    }

    /// The address it is about.
    pub const fn address(&self) -> Option<IpAddr> {
        match self {
            Self::Leak { address, .. } | Self::MissingRecord { address, .. } | Self::Duplicate { address, .. } => {
                Some(*address)
            }
            Self::StrayEndpoint { .. }
            | Self::WrongCount { .. }
            | Self::Accounting { .. }
            | Self::Unreadable { .. } => None,
        }
    }

    /// The pods it is about.
    pub fn owners(&self) -> Vec<&Owner> {
        match self {
            Self::Leak { owner, .. } => vec![owner],
            Self::MissingRecord { owner, instead, .. } => [owner].into_iter().chain(instead).collect(),
            Self::Duplicate { users, .. } => users.iter().map(|user| &user.owner).collect(),
            Self::StrayEndpoint { .. }
            | Self::WrongCount { .. }
            | Self::Accounting { .. }
            | Self::Unreadable { .. } => Vec::new(),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Leak { pool, address, owner } => write!(
                f,
                "IPPool {pool} has {address} on record for {}, and there is no such pod",
                Named(owner)
            ),
            Self::StrayEndpoint { endpoint, uid } => {
                write!(
                    f,
                    "SpiderEndpoint {endpoint} is of the pod with UID {uid}, and there is no such pod"
                )
            }
            Self::MissingRecord {
                pool,
                address,
                owner,
                instead: None,
            } => write!(
                f,
                "{} has {address} by its SpiderEndpoint, and IPPool {pool} has it on record for nobody",
                Named(owner)
            ),
            Self::MissingRecord {
                pool,
                address,
                owner,
                instead: Some(other),
            } => write!(
                f,
                "{} has {address} by its SpiderEndpoint, and IPPool {pool} has it on record for {}, which is gone; delete Pod {} \
                 to have it get another one",
                Named(owner),
                Named(other),
                owner.pod
            ),
            Self::Duplicate { address, users } => {
                write!(f, "{address} is used by several pods:")?;
                for (at, User { pool, owner }) in users.iter().enumerate() {
                    let comma = if at == 0 { "" } else { "," };
                    write!(f, "{comma} {} out of IPPool {pool}", Named(owner))?;
                }
                write!(f, "; delete all of them but one")
            }
            Self::WrongCount { pool, records, count } => {
                let count = count.map_or_else(|| "none".to_owned(), |count| count.to_string());
                write!(
                    f,
                    "IPPool {pool} has {records} addresses on record, and its allocatedIPCount is {count}"
                )
            }
            Self::Accounting {
                subnet,
                pool,
                family,
                ranges,
            } => {
                let ranges = crate::text::print_ranges(*family, ranges).join(" ");
                write!(
                    f,
                    "IPPool {pool} has {ranges}, which the accounting of SpiderSubnet {subnet} does not give it"
                )
            }
            Self::Unreadable { object, why } => write!(f, "{object}: {why}"),
        }
    }
}

struct Named<'a>(&'a Owner);

impl fmt::Display for Named<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pod {} with UID {}", self.0.pod, self.0.uid)?;
        self.0.nic.iter().try_for_each(|nic| write!(f, ", interface {nic},"))
    }
}
