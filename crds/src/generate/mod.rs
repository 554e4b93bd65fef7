//! The CRDs as the API server gets them.
//!
//! schemars describes the Rust types; what Kubernetes wants said differently is corrected here, for all kinds alike. The
//! validation rules are added from `rules`.

mod columns;
mod rules;
mod schema;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::core::CustomResourceExt;
use serde_json::Value;

use crate::types::{SpiderEndpoint, SpiderIPPool, SpiderReservedIP, SpiderSubnet};

pub(crate) use schema::root_schema;

/// The CRDs of all kinds, ordered by name.
pub fn all_crds() -> Vec<CustomResourceDefinition> {
    let mut crds = vec![
        SpiderEndpoint::crd(),
        SpiderIPPool::crd(),
        SpiderReservedIP::crd(),
        SpiderSubnet::crd(),
    ];
    for crd in &mut crds {
        crd.spec.names.list_kind = Some(format!("{}List", crd.spec.names.kind));
        for version in &mut crd.spec.versions {
            version.additional_printer_columns = Some(columns::of_kind(&crd.spec.names.kind));
            if let Some(root) = version
                .schema
                .as_mut()
                .and_then(|validation| validation.open_api_v3_schema.as_mut())
            {
                schema::finish_root(root);
                rules::add(&crd.spec.names.kind, root);
            }
        }
    }
    crds
}

/// File name and content of the YAML of each CRD, as committed in the chart.
///
/// The text depends on nothing but this crate: no time, no version of a tool, keys in byte order.
pub fn yaml_files() -> Result<Vec<(String, String)>, YamlError> {
    all_crds()
        .iter()
        .map(|crd| {
            let name = crd.metadata.name.clone().unwrap_or_default();
            let to_error = |reason: String| YamlError {
                name: name.clone(),
                reason,
            };
            // By way of a JSON value, because its maps are ordered.
            let mut value = serde_json::to_value(crd).map_err(|error| to_error(error.to_string()))?;
            whole_numbers(&mut value);
            let yaml = serde_saphyr::to_string(&value).map_err(|error| to_error(error.to_string()))?;
            Ok((format!("{name}.yaml"), format!("{HEADER}{yaml}")))
        })
        .collect()
}

/// Limits are floating-point numbers in the Kubernetes types; people write them without a fraction.
#[expect(clippy::cast_possible_truncation, reason = "checked: the value is whole and small")]
fn whole_numbers(value: &mut Value) {
    match value {
        Value::Number(number) if number.is_f64() => {
            if let Some(float) = number
                .as_f64()
                .filter(|float| float.fract() == 0.0 && float.abs() < 1e15)
            {
                *number = (float as i64).into();
            }
        }
        Value::Array(items) => items.iter_mut().for_each(whole_numbers),
        Value::Object(members) => members.values_mut().for_each(whole_numbers),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// A CRD that could not be written as YAML.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("writing the CRD {name} as YAML failed: {reason}")]
pub struct YamlError {
    /// Name of the CRD.
    pub name: String,
    /// Why.
    pub reason: String,
}

const HEADER: &str = "# Generated from the Rust types in crds/ by `cargo xtask crds`. Do not edit.\n";
