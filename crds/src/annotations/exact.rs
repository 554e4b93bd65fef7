//! The annotation that asks for exact addresses.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde_json::Value;
use spiderpool_ipam::text::parse_addr;
use spiderpool_ipam::{Family, TextError, addr};

use super::json::{self, Object};
use super::{AnnotationError, Annotations, Problem};
use crate::names::ANNOTATION_IP;

/// The addresses asked for on one interface: one of each family at most, and at least one.
pub type ExactAddresses = BTreeMap<Family, IpAddr>;

/// Reads `ipam.spidernet.io/ip`: the exact addresses by interface; none when it is not there.
pub fn exact_addresses(annotations: &Annotations) -> Result<BTreeMap<String, ExactAddresses>, AnnotationError> {
    let key = ANNOTATION_IP;
    let Some(text) = annotations.get(key) else {
        return Ok(BTreeMap::new());
    };
    interfaces(text).map_err(|problem| AnnotationError {
        key,
        text: text.clone(),
        problem: problem.into(),
        example: r#"{"eth0":["10.6.0.33","fd00:6::33"]}"#,
    })
}

fn interfaces(text: &str) -> Result<BTreeMap<String, ExactAddresses>, Problem> {
    let value = json::parse(text)?;
    let object = Object::new(&value, "the value".to_owned())?;
    let interfaces = object
        .members()
        .map(|(nic, value)| Ok((nic.clone(), addresses(value, object.place_of(nic))?)))
        .collect::<Result<BTreeMap<_, _>, Problem>>()?;
    if interfaces.is_empty() {
        return Err(Problem::NoItems);
    }
    Ok(interfaces)
}

fn addresses(value: &Value, place: String) -> Result<ExactAddresses, Problem> {
    let mut addresses = ExactAddresses::new();
    for text in json::texts(value, &place, "a list of addresses")? {
        let address = parse(text).map_err(|source| Problem::Address {
            place: place.clone(),
            source,
        })?;
        let family = Family::of(address);
        if addresses.insert(family, address).is_some() {
            return Err(Problem::FamilyTwice { place, family });
        }
    }
    if addresses.is_empty() {
        return Err(Problem::NoItems);
    }
    Ok(addresses)
}

/// Parses an address of either family.
fn parse(text: &str) -> Result<IpAddr, TextError> {
    let family = if text.contains(':') { Family::V6 } else { Family::V4 };
    parse_addr(family, text).map(|bits| addr::from_bits(family, bits))
}
