//! The annotations that ask for an automatic pool.

use std::collections::BTreeSet;

use super::json::{self, Object};
use super::{AnnotationError, Annotations, Problem};
use crate::names::{ANNOTATION_SUBNET, ANNOTATION_SUBNETS, DEFAULT_NIC};

/// Which of the two annotations a request was made with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// `ipam.spidernet.io/subnets`: a list, one item for each interface.
    Subnets,
    /// `ipam.spidernet.io/subnet`: one interface.
    Subnet,
}

/// The subnets asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubnetRequest {
    /// One item for each interface; never empty, and no interface twice.
    pub items: Vec<SubnetItem>,
    /// Which annotation it was.
    pub form: Form,
}

/// The subnets asked for on one interface. The names of a family are alternatives in order of preference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubnetItem {
    /// The interface.
    pub interface: String,
    /// Names of IPv4 subnets.
    pub ipv4: Vec<String>,
    /// Names of IPv6 subnets; not empty when there are no IPv4 ones.
    pub ipv6: Vec<String>,
}

/// Reads the annotations that ask for an automatic pool; the list form goes first. None when neither is there.
pub fn subnet_request(annotations: &Annotations) -> Result<Option<SubnetRequest>, AnnotationError> {
    let (key, form, example) = if annotations.contains_key(ANNOTATION_SUBNETS) {
        let example = r#"[{"interface":"eth0","ipv4":["subnet-a"]},{"interface":"net1","ipv4":["subnet-b"]}]"#;
        (ANNOTATION_SUBNETS, Form::Subnets, example)
    } else {
        let example = r#"{"ipv4":["subnet-a"],"ipv6":["subnet-b"]}"#;
        (ANNOTATION_SUBNET, Form::Subnet, example)
    };
    let Some(text) = annotations.get(key) else {
        return Ok(None);
    };
    let items = match form {
        Form::Subnets => list_form(text),
        Form::Subnet => object_form(text),
    };
    match items {
        Ok(items) => Ok(Some(SubnetRequest { items, form })),
        Err(problem) => Err(AnnotationError {
            key,
            text: text.clone(),
            problem: problem.into(),
            example,
        }),
    }
}

fn list_form(text: &str) -> Result<Vec<SubnetItem>, Problem> {
    let value = json::parse(text)?;
    let objects = json::list(&value, "a list of objects")?;
    let alone = objects.len() == 1;
    let mut seen = BTreeSet::new();
    objects
        .iter()
        .map(|object| {
            let item = item(object)?;
            if !alone && object.text("interface")?.is_empty() {
                let place = object.place.clone();
                return Err(Problem::NoInterface { place });
            }
            if !seen.insert(item.interface.clone()) {
                return Err(Problem::InterfaceTwice(item.interface));
            }
            Ok(item)
        })
        .collect()
}

fn object_form(text: &str) -> Result<Vec<SubnetItem>, Problem> {
    let value = json::parse(text)?;
    let object = Object::new(&value, "the value".to_owned())?;
    Ok(vec![item(&object)?])
}

fn item(object: &Object<'_>) -> Result<SubnetItem, Problem> {
    let interface = match object.text("interface")? {
        "" => DEFAULT_NIC,
        named => named,
    };
    let (ipv4, ipv6) = object.families("subnet")?;
    Ok(SubnetItem {
        interface: interface.to_owned(),
        ipv4,
        ipv6,
    })
}
