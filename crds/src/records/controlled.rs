//! `status.controlledIPPools` of a subnet.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry as MapEntry;

use serde::{Deserialize, Deserializer, Serialize};
use spiderpool_ipam::accounting::{self, Entries, Entry};
use spiderpool_ipam::{Family, text};

use super::read::{Members, document};
use super::{ACCOUNTING_BYTES, Problem, RecordsError};
use crate::types::UnknownMembers;

const FIELD: &str = "status.controlledIPPools";

/// What one pool was given.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ControlledPool {
    /// The addresses as ranges. The peer writes null for an automatic pool that was given none.
    pub ips: Option<Vec<String>>,
    /// Key of the application. It is present for automatic pools and for no others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub application: Option<String>,
    /// Members this version does not know.
    #[serde(flatten)]
    pub other: UnknownMembers,
}

impl<'de> Deserialize<'de> for ControlledPool {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut members = Members::read(deserializer)?;
        Ok(Self {
            ips: members.take("ips")?,
            application: members.take("application")?,
            other: members.rest(),
        })
    }
}

/// Which pool was given which addresses of a subnet, by pool name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ControlledPools(BTreeMap<String, ControlledPool>);

impl ControlledPools {
    /// No pool was given anything.
    pub fn new() -> Self {
        Self::default()
    }

    /// Parses the text of the status field.
    pub fn parse(text: &str) -> Result<Self, RecordsError> {
        let corrupted = |problem| RecordsError { field: FIELD, problem };
        let mut pools = BTreeMap::new();
        for (name, pool) in document::<ControlledPool>(text).map_err(corrupted)? {
            match pools.entry(name) {
                MapEntry::Vacant(vacant) => {
                    vacant.insert(pool);
                }
                MapEntry::Occupied(occupied) => {
                    return Err(corrupted(Problem::Duplicate(occupied.key().clone())));
                }
            }
        }
        Ok(Self(pools))
    }

    /// Parses the status field; an absent one has no pools.
    pub fn parse_opt(text: Option<&str>) -> Result<Self, RecordsError> {
        text.map_or_else(|| Ok(Self::default()), Self::parse)
    }

    /// The text of the status field; none when there are no pools.
    pub fn to_status(&self) -> Option<String> {
        if self.0.is_empty() {
            return None;
        }
        // Serialising string keys and plain values cannot fail.
        serde_json::to_string(&self.0).ok()
    }

    /// How long the accounting's text may become by the measure of [`accounting::text_bytes`], these being the entries that
    /// were read from this document. Entries that others wrote may say more than the measure knows of.
    pub fn accounting_limit(&self, entries: &Entries) -> usize {
        let text = self.to_status().map_or(0, |text| text.len());
        let beyond = text.saturating_sub(accounting::text_bytes(entries));
        ACCOUNTING_BYTES.saturating_sub(beyond)
    }

    /// All pools, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &ControlledPool)> {
        self.0.iter().map(|(name, pool)| (name.as_str(), pool))
    }

    /// What all pools were given, in the form the accounting rules work on.
    pub fn entries(&self, family: Family) -> Result<Entries, RecordsError> {
        self.iter()
            .map(|(name, pool)| {
                let texts = pool.ips.as_deref().unwrap_or_default();
                let ranges = text::parse_ranges(family, texts).map_err(|source| RecordsError {
                    field: FIELD,
                    problem: Problem::Ranges {
                        pool: name.to_owned(),
                        source,
                    },
                })?;
                let application = pool.application.clone();
                Ok((name.to_owned(), Entry { ranges, application }))
            })
            .collect()
    }

    /// Makes the document say what these entries say. Entries that stay keep their unknown members, and entries that did
    /// not change keep their text.
    pub fn set_entries(&mut self, family: Family, entries: &Entries) {
        self.0.retain(|name, _| entries.contains_key(name));
        for (name, entry) in entries {
            self.set(family, name, entry);
        }
    }

    /// Makes the document say what this entry says about one pool.
    pub fn set(&mut self, family: Family, name: &str, entry: &Entry) {
        let pool = self.0.entry(name.to_owned()).or_default();
        let said = text::parse_ranges(family, pool.ips.as_deref().unwrap_or_default());
        // A pool that was given nothing has null there, as the peer writes it.
        if said.as_ref() != Ok(&entry.ranges) {
            pool.ips = Some(text::print_ranges(family, &entry.ranges));
        }
        pool.application.clone_from(&entry.application);
    }

    /// What one pool was given.
    pub fn get(&self, name: &str) -> Option<&ControlledPool> {
        self.0.get(name)
    }

    /// Takes a pool out.
    pub fn remove(&mut self, name: &str) -> Option<ControlledPool> {
        self.0.remove(name)
    }

    /// Number of pools.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are no pools.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
