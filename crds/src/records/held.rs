//! `status.heldIPs` of a pool: addresses that no pod has and that are not as good as the others.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use spiderpool_ipam::hold::{Note, Reuse};

use super::by_address::{ByAddress, OfAddress};
use super::read::Members;
use crate::types::UnknownMembers;

/// Why an address is held.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum HeldReason {
    /// A host that was not given it answers for it. It is not handed out.
    Quarantined,
    /// It was freed a moment ago, or may be in use by a host unknown: it is handed out when there is no other, if then.
    Cooling,
    /// What a later version wrote. It is not handed out.
    Other(String),
}

impl fmt::Display for HeldReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Quarantined => "Quarantined",
            Self::Cooling => "Cooling",
            Self::Other(text) => text,
        })
    }
}

impl From<String> for HeldReason {
    fn from(text: String) -> Self {
        match text.as_str() {
            "Quarantined" => Self::Quarantined,
            "Cooling" => Self::Cooling,
            _ => Self::Other(text),
        }
    }
}

impl Serialize for HeldReason {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// How one address is held.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Held {
    /// Why.
    pub reason: HeldReason,
    /// Until when; without an end, until somebody takes it out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// Hardware address of the host that answers, or `namespace/name` of the pod that had it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// Members this version does not know.
    #[serde(flatten)]
    pub other: UnknownMembers,
}

impl Held {
    /// A note that is good for a time from now on.
    pub fn new(reason: HeldReason, by: &str, time: Duration, now: Timestamp) -> Self {
        let time = SignedDuration::try_from(time).unwrap_or(SignedDuration::MAX);
        let until = now.checked_add(time).unwrap_or(Timestamp::MAX);
        Self {
            reason,
            // Milliseconds are more than a clock shared by nodes is worth.
            until: Some(Timestamp::from_millisecond(until.as_millisecond()).unwrap_or(until)),
            by: Some(by.to_owned()),
            other: UnknownMembers::new(),
        }
    }

    /// What it means for those who want the address.
    pub fn note(&self) -> Note<'_> {
        // A name of a pod has a namespace before it; a hardware address has no such sign.
        let pod = self.by.as_deref().filter(|by| by.contains('/'));
        match pod {
            _ if self.blocks() => Note::Blocked,
            Some(pod) => Note::Freed(pod),
            None => Note::Doubtful,
        }
    }

    /// Whether the address must not be handed out.
    pub fn blocks(&self) -> bool {
        self.reason != HeldReason::Cooling
    }

    /// Whether it still counts.
    pub fn in_force(&self, now: Timestamp) -> bool {
        self.until.is_none_or(|until| now < until)
    }
}

impl<'de> Deserialize<'de> for Held {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut members = Members::read(deserializer)?;
        Ok(Self {
            reason: members.take::<String, _>("reason")?.unwrap_or_default().into(),
            until: members.take("until")?,
            by: members.take("by")?,
            other: members.rest(),
        })
    }
}

impl OfAddress for Held {
    const FIELD: &'static str = "status.heldIPs";
}

/// The held addresses of one pool.
pub type HeldRecords = ByAddress<Held>;

impl HeldRecords {
    /// The note that an address was freed by a pod now, if it is worth one where so many addresses cool down. That a host answers for
    /// it stays noted.
    pub fn freed(&self, ip: IpAddr, pod: &str, reuse: Reuse, cooling: usize, now: Timestamp) -> Option<Held> {
        let before = self.get(ip).map(Held::note);
        let worth = reuse.takes_note(cooling) && matches!(before, None | Some(Note::Freed(_)));
        worth.then(|| Held::new(HeldReason::Cooling, pod, reuse.time(), now))
    }

    /// How many addresses cool down.
    pub fn cooling(&self) -> usize {
        self.iter().filter(|(_, held)| !held.blocks()).count()
    }

    /// Takes out what no longer counts, and gives it. It is not worth a write of its own, and goes with the next one.
    pub fn expire(&mut self, now: Timestamp) -> Vec<(IpAddr, Held)> {
        self.take_out(|_, held| !held.in_force(now))
    }

    /// Takes out what is over, and gives it.
    pub fn take_out(&mut self, over: impl Fn(IpAddr, &Held) -> bool) -> Vec<(IpAddr, Held)> {
        let all = std::mem::take(&mut self.0).into_iter();
        let (gone, left) = all.partition::<Vec<_>, _>(|(ip, held)| over(*ip, held));
        self.0 = left.into_iter().collect();
        gone
    }
}
