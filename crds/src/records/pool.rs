//! `status.allocatedIPs` of a pool.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use spiderpool_ipam::{Family, Owner, addr};

use super::read::document;
use super::{Problem, RecordsError};
use crate::types::UnknownMembers;

const FIELD: &str = "status.allocatedIPs";

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

/// Who has which address of one pool.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PoolRecords(BTreeMap<IpAddr, Record>);

impl PoolRecords {
    /// No address in use.
    pub fn new() -> Self {
        Self::default()
    }

    /// Parses the text of the status field.
    pub fn parse(text: &str) -> Result<Self, RecordsError> {
        let corrupted = |problem| RecordsError { field: FIELD, problem };
        let mut records = BTreeMap::new();
        for (key, record) in document::<Record>(text).map_err(corrupted)? {
            let address = parse_key(&key).map_err(corrupted)?;
            if records.insert(address, record).is_some() {
                return Err(corrupted(Problem::Duplicate(key)));
            }
        }
        Ok(Self(records))
    }

    /// Parses the status field; an absent one has no records.
    pub fn parse_opt(text: Option<&str>) -> Result<Self, RecordsError> {
        text.map_or_else(|| Ok(Self::default()), Self::parse)
    }

    /// The text of the status field; none when there are no records.
    pub fn to_status(&self) -> Option<String> {
        if self.0.is_empty() {
            return None;
        }
        // Keys are ordered as text, not as numbers: 10.0.0.10 goes before 10.0.0.9.
        let by_text: BTreeMap<String, &Record> = self.0.iter().map(|(ip, record)| (ip.to_string(), record)).collect();
        // Serialising string keys and plain values cannot fail.
        serde_json::to_string(&by_text).ok()
    }

    /// All records, by address.
    pub fn iter(&self) -> impl Iterator<Item = (IpAddr, &Record)> {
        self.0.iter().map(|(&ip, record)| (ip, record))
    }

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
                        field: FIELD,
                        problem: Problem::Family { address, family },
                    })
                }
            })
            .collect()
    }

    /// The record of an address.
    pub fn get(&self, address: IpAddr) -> Option<&Record> {
        self.0.get(&address)
    }

    /// Puts a record in; gives back the one it replaced.
    pub fn insert(&mut self, address: IpAddr, record: Record) -> Option<Record> {
        self.0.insert(address, record)
    }

    /// Takes a record out.
    pub fn remove(&mut self, address: IpAddr) -> Option<Record> {
        self.0.remove(&address)
    }

    /// Number of addresses in use.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether no address is in use.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

pub(super) fn parse_key(key: &str) -> Result<IpAddr, Problem> {
    let address: IpAddr = key.parse().map_err(|_| Problem::Address(key.to_owned()))?;
    let canonical = address.to_canonical();
    if canonical == address && address.to_string() == key {
        Ok(address)
    } else {
        Err(Problem::NotCanonical {
            key: key.to_owned(),
            canonical,
        })
    }
}
