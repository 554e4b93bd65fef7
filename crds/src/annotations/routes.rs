//! The annotation that adds routes to a pod.

use std::net::IpAddr;

use spiderpool_ipam::{Cidr, addr, text};

use super::json::{self, Object};
use super::{AnnotationError, Annotations, Problem};
use crate::names::ANNOTATION_ROUTES;

/// A route beside those of the pools. Destination and next hop are of the same family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExtraRoute {
    /// Destination network.
    pub dst: Cidr,
    /// Next hop.
    pub gw: IpAddr,
}

/// Reads `ipam.spidernet.io/routes`; empty when it is not there.
pub fn routes(annotations: &Annotations) -> Result<Vec<ExtraRoute>, AnnotationError> {
    let key = ANNOTATION_ROUTES;
    let Some(text) = annotations.get(key) else {
        return Ok(Vec::new());
    };
    let parsed = json::parse(text).and_then(|value| {
        if matches!(&value, serde_json::Value::Array(items) if items.is_empty()) {
            return Ok(Vec::new());
        }
        let objects = json::list(&value, "a list of objects")?;
        objects.iter().map(route).collect()
    });
    parsed.map_err(|problem| AnnotationError {
        key,
        text: text.clone(),
        problem: problem.into(),
        example: r#"[{"dst":"192.168.200.0/24","gw":"10.6.0.254"}]"#,
    })
}

fn route(object: &Object<'_>) -> Result<ExtraRoute, Problem> {
    let place = |name: &str| object.place_of(name);
    let dst = Cidr::parse_lenient(object.text("dst")?).map_err(|source| Problem::Address {
        place: place("dst"),
        source,
    })?;
    let gw = text::parse_addr(dst.family(), object.text("gw")?).map_err(|source| Problem::Address {
        place: place("gw"),
        source,
    })?;
    Ok(ExtraRoute {
        dst,
        gw: addr::from_bits(dst.family(), gw),
    })
}
