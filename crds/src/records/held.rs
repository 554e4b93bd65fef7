//! `status.heldIPs` of a pool: addresses that no pod has and that are not as good as the others.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::by_address::{ByAddress, OfAddress};
use super::read::Members;
use crate::types::UnknownMembers;

/// Why an address is held.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum HeldReason {
    /// A host that was not given it answers for it. It is not handed out.
    Quarantined,
    /// It was freed a moment ago, or may be in use by a host unknown: it is handed out when there is no other.
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
    /// Takes out what no longer counts, and gives it. It is not worth a write of its own, and goes with the next one.
    pub fn expire(&mut self, now: Timestamp) -> Vec<(IpAddr, Held)> {
        let (left, gone) = std::mem::take(&mut self.0)
            .into_iter()
            .partition::<BTreeMap<_, _>, _>(|(_, held)| held.in_force(now));
        self.0 = left;
        gone.into_iter().collect()
    }
}
