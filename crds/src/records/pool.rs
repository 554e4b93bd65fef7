//! `status.allocatedIPs` of a pool.

use std::fmt;

use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use spiderpool_ipam::{Family, Owner, addr};

use super::by_address::{ByAddress, OfAddress};
use super::{Problem, RecordsError};
use crate::types::UnknownMembers;

/// Who has one address.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// `namespace/name` of the pod.
    pub pod: String,
    /// UID of the pod.
    pub pod_uid: String,
    /// Interface of the pod. Records of the peer have none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nic: Option<String>,
    /// Node whose agent wrote it, and looks after it. Records of the peer and of earlier versions have none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// Members this version does not know.
    #[serde(flatten)]
    pub other: UnknownMembers,
}

/// A pool may have thousands of records, and every write of an agent reads them all. So each member goes where it belongs without
/// a detour.
impl<'de> Deserialize<'de> for Record {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct RecordVisitor;

        impl<'de> Visitor<'de> for RecordVisitor {
            type Value = Record;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_unit<E: de::Error>(self) -> Result<Record, E> {
                Ok(Record::default())
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Record, A::Error> {
                let mut record = Record::default();
                while let Some(member) = map.next_key::<Member>()? {
                    match member {
                        Member::Pod => put(&mut map, "pod", |text| record.pod = text)?,
                        Member::PodUid => put(&mut map, "podUid", |text| record.pod_uid = text)?,
                        Member::Nic => put(&mut map, "nic", |text| record.nic = Some(text))?,
                        Member::Node => put(&mut map, "node", |text| record.node = Some(text))?,
                        Member::Other(name) => drop(record.other.insert(name, map.next_value()?)),
                    }
                }
                Ok(record)
            }
        }

        deserializer.deserialize_any(RecordVisitor)
    }
}

/// Puts a member's text where it belongs. The last one wins, as in Go; `null` is as good as absent.
fn put<'de, A: MapAccess<'de>>(map: &mut A, name: &str, set: impl FnOnce(String)) -> Result<(), A::Error> {
    let text: Option<String> = map
        .next_value()
        .map_err(|error| de::Error::custom(format!("member {name:?}: {error}")))?;
    text.map(set);
    Ok(())
}

/// Name of a record's member, in any case.
enum Member {
    Pod,
    PodUid,
    Nic,
    Node,
    Other(String),
}

impl<'de> Deserialize<'de> for Member {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct MemberVisitor;

        impl Visitor<'_> for MemberVisitor {
            type Value = Member;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a member's name")
            }

            fn visit_str<E: de::Error>(self, name: &str) -> Result<Member, E> {
                Ok(match name {
                    _ if name.eq_ignore_ascii_case("pod") => Member::Pod,
                    _ if name.eq_ignore_ascii_case("podUid") => Member::PodUid,
                    _ if name.eq_ignore_ascii_case("nic") => Member::Nic,
                    _ if name.eq_ignore_ascii_case("node") => Member::Node,
                    _ => Member::Other(name.to_owned()),
                })
            }
        }

        deserializer.deserialize_str(MemberVisitor)
    }
}

impl From<Owner> for Record {
    fn from(owner: Owner) -> Self {
        Self {
            pod: owner.pod,
            pod_uid: owner.uid,
            nic: owner.nic,
            node: None,
            other: UnknownMembers::new(),
        }
    }
}

impl From<&Record> for Owner {
    fn from(record: &Record) -> Self {
        Self {
            pod: record.pod.clone(),
            uid: record.pod_uid.clone(),
            nic: record.nic.clone(),
        }
    }
}

impl OfAddress for Record {
    const FIELD: &'static str = "status.allocatedIPs";
}

/// Who has which address of one pool.
pub type PoolRecords = ByAddress<Record>;

impl PoolRecords {
    /// All records in the form a ledger is built from. A record of the other family is an error, not ignored: it shows that
    /// the string is not this pool's.
    pub fn owners(&self, family: Family) -> Result<Vec<(u128, Owner)>, RecordsError> {
        self.iter()
            .map(|(address, record)| {
                let (found, bits) = addr::to_bits(address);
                if found == family {
                    Ok((bits, record.into()))
                } else {
                    Err(RecordsError {
                        field: Record::FIELD,
                        problem: Problem::Family { address, family },
                    })
                }
            })
            .collect()
    }
}
