//! The annotations that name pools.

use std::collections::BTreeSet;

use super::json::{self, Object};
use super::{AnnotationError, Annotations, Networks, Problem};
use crate::names::{ANNOTATION_IPPOOL, ANNOTATION_IPPOOLS, ANNOTATION_MULTUS_NETWORKS};

/// The pools asked for, as written: names may be patterns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolRequest {
    /// IPv4 pools in order of preference.
    pub ipv4: Vec<String>,
    /// IPv6 pools in order of preference; not empty when there are no IPv4 ones.
    pub ipv6: Vec<String>,
}

/// The pools asked for on one interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolItem {
    /// The interface. Either all items have one, or none has: they then go with the interfaces in the order of Multus.
    pub interface: Option<String>,
    /// The pools.
    pub pools: PoolRequest,
    /// Whether no default route is set up on the interface.
    pub clean_gateway: bool,
}

/// Reads `ipam.spidernet.io/ippool`; none when it is not there.
pub fn ippool(annotations: &Annotations) -> Result<Option<PoolRequest>, AnnotationError> {
    let Some(text) = annotations.get(ANNOTATION_IPPOOL) else {
        return Ok(None);
    };
    let parsed = json::parse(text).and_then(|value| {
        let object = Object::new(&value, "the value".to_owned())?;
        pools(&object)
    });
    parsed.map(Some).map_err(|problem| wrong_object(text, problem))
}

/// What is said of a wrong value of `ipam.spidernet.io/ippool`.
pub(super) fn wrong_object(text: &str, problem: Problem) -> AnnotationError {
    AnnotationError {
        key: ANNOTATION_IPPOOL,
        text: text.to_owned(),
        problem: problem.into(),
        example: r#"{"ipv4":["pool-a"],"ipv6":["pool-b"]}"#,
    }
}

/// Reads `ipam.spidernet.io/ippools`; none when it is not there, otherwise at least one item and no interface twice.
pub fn ippools(annotations: &Annotations) -> Result<Option<Vec<PoolItem>>, AnnotationError> {
    let Some(text) = annotations.get(ANNOTATION_IPPOOLS) else {
        return Ok(None);
    };
    items(text).map(Some).map_err(|problem| wrong_list(text, problem))
}

/// What is said of a wrong value of `ipam.spidernet.io/ippools`.
pub(super) fn wrong_list(text: &str, problem: Problem) -> AnnotationError {
    AnnotationError {
        key: ANNOTATION_IPPOOLS,
        text: text.to_owned(),
        problem: problem.into(),
        example: r#"[{"interface":"eth0","ipv4":["pool-a"]},{"interface":"net1","ipv4":["pool-b"]}]"#,
    }
}

/// The interfaces of the items of [`ippools`], in their order. One that no network of Multus names goes by the name that it would
/// have. The error says what to write instead.
pub fn interfaces(items: &[PoolItem], networks: &Networks) -> Result<Vec<String>, String> {
    let mut nics = Vec::with_capacity(items.len());
    let mut seen = BTreeSet::new();
    for (place, item) in items.iter().enumerate() {
        let nic = match &item.interface {
            Some(interface) => interface.clone(),
            None => networks.nic(place),
        };
        if !seen.insert(nic.clone()) {
            return Err(format!(
                "annotation {ANNOTATION_IPPOOLS} lists pools for interfaces without naming them, and annotation \
                 {ANNOTATION_MULTUS_NETWORKS} gives two of them the name {nic}; name the interface in each item"
            ));
        }
        nics.push(nic);
    }
    Ok(nics)
}

fn items(text: &str) -> Result<Vec<PoolItem>, Problem> {
    let value = json::parse(text)?;
    let objects = json::list(&value, "a list of objects")?;
    let mut items = Vec::with_capacity(objects.len());
    let mut seen = BTreeSet::new();
    for object in &objects {
        let named = object.text("interface")?;
        if !named.is_empty() && !seen.insert(named) {
            return Err(Problem::InterfaceTwice(named.to_owned()));
        }
        items.push(PoolItem {
            interface: (!named.is_empty()).then(|| named.to_owned()),
            pools: pools(object)?,
            clean_gateway: object.flag("cleangateway")?.unwrap_or(false),
        });
    }
    let unnamed = objects.iter().zip(&items).find(|(_, item)| item.interface.is_none());
    match unnamed {
        Some((object, _)) if !seen.is_empty() => Err(Problem::NoInterface {
            place: object.place.clone(),
        }),
        _ => Ok(items),
    }
}

fn pools(object: &Object<'_>) -> Result<PoolRequest, Problem> {
    let (ipv4, ipv6) = object.families("pool")?;
    Ok(PoolRequest { ipv4, ipv6 })
}
