//! Reading JSON objects without losing what serde's maps would lose: duplicate keys, and the case of member names.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{DeserializeOwned, Deserializer, MapAccess, Visitor};
use serde::{Deserialize, de};
use serde_json::Value;

use super::Problem;
use crate::types::UnknownMembers;

/// A JSON object as its pairs, in the order of the text. `null` has none.
struct Pairs<V>(Vec<(String, V)>);

impl<'de, V: Deserialize<'de>> Deserialize<'de> for Pairs<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct PairsVisitor<V>(PhantomData<V>);

        impl<'de, V: Deserialize<'de>> Visitor<'de> for PairsVisitor<V> {
            type Value = Pairs<V>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_unit<E: de::Error>(self) -> Result<Self::Value, E> {
                Ok(Pairs(Vec::new()))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Pairs(pairs))
            }
        }

        deserializer.deserialize_any(PairsVisitor(PhantomData))
    }
}

/// The pairs of the object that a status string holds. An empty string is no document.
pub(super) fn document<V: DeserializeOwned>(text: &str) -> Result<Vec<(String, V)>, Problem> {
    if text.trim().is_empty() {
        return Ok(Vec::new());
    }
    serde_json::from_str::<Pairs<V>>(text)
        .map(|pairs| pairs.0)
        .map_err(|error| Problem::Json(error.to_string()))
}

/// The members of one record. Known ones are taken out by name in any case; what stays is unknown.
pub(super) struct Members(Vec<(String, Value)>);

impl Members {
    pub(super) fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Pairs::deserialize(deserializer).map(|pairs| Self(pairs.0))
    }

    /// Takes a member out. The last one wins, as in Go; `null` is as good as absent.
    pub(super) fn take<T: DeserializeOwned, E: de::Error>(&mut self, name: &str) -> Result<Option<T>, E> {
        let mut found = None;
        for (_, value) in self.0.extract_if(.., |(key, _)| key.eq_ignore_ascii_case(name)) {
            if !value.is_null() {
                found = Some(value);
            }
        }
        found
            .map(|value| serde_json::from_value(value).map_err(|error| E::custom(format!("member {name:?}: {error}"))))
            .transpose()
    }

    pub(super) fn rest(self) -> UnknownMembers {
        self.0.into_iter().collect()
    }
}
