//! The documents that say something of addresses.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::read::document;
use super::{Problem, RecordsError};

/// What a status string says of one address.
pub trait OfAddress: Serialize + DeserializeOwned {
    /// Path of the status field.
    const FIELD: &'static str;
}

/// What a status string says, by address.
#[derive(Clone, Debug, PartialEq)]
pub struct ByAddress<V>(pub(super) BTreeMap<IpAddr, V>);

impl<V> Default for ByAddress<V> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<V: OfAddress> ByAddress<V> {
    /// Nothing is said.
    pub fn new() -> Self {
        Self::default()
    }

    /// Parses the text of the status field.
    pub fn parse(text: &str) -> Result<Self, RecordsError> {
        let corrupted = |problem| RecordsError {
            field: V::FIELD,
            problem,
        };
        let mut records = BTreeMap::new();
        for (key, record) in document::<V>(text).map_err(corrupted)? {
            let address = parse_key(&key).map_err(corrupted)?;
            if records.insert(address, record).is_some() {
                return Err(corrupted(Problem::Duplicate(key)));
            }
        }
        Ok(Self(records))
    }

    /// Parses the status field; an absent one says nothing.
    pub fn parse_opt(text: Option<&str>) -> Result<Self, RecordsError> {
        text.map_or_else(|| Ok(Self::default()), Self::parse)
    }

    /// The text of the status field; none when nothing is said.
    pub fn to_status(&self) -> Option<String> {
        if self.0.is_empty() {
            return None;
        }
        // Keys are ordered as text, not as numbers: 10.0.0.10 goes before 10.0.0.9.
        let by_text: BTreeMap<String, &V> = self.0.iter().map(|(ip, record)| (ip.to_string(), record)).collect();
        // Serialising string keys and plain values cannot fail.
        serde_json::to_string(&by_text).ok()
    }

    /// Everything, by address.
    pub fn iter(&self) -> impl Iterator<Item = (IpAddr, &V)> {
        self.0.iter().map(|(&ip, record)| (ip, record))
    }

    /// What is said of an address.
    pub fn get(&self, address: IpAddr) -> Option<&V> {
        self.0.get(&address)
    }

    /// Says something of an address; gives back what was said before.
    pub fn insert(&mut self, address: IpAddr, record: V) -> Option<V> {
        self.0.insert(address, record)
    }

    /// Says nothing of an address any more.
    pub fn remove(&mut self, address: IpAddr) -> Option<V> {
        self.0.remove(&address)
    }

    /// Of how many addresses something is said.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nothing is said.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

fn parse_key(key: &str) -> Result<IpAddr, Problem> {
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
