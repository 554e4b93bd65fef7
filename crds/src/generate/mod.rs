//! The CRDs as the API server gets them.
//!
//! schemars describes the Rust types; what Kubernetes wants said differently is corrected here, for all kinds alike. The
//! validation rules are added from `rules`.

mod schema;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceColumnDefinition, CustomResourceDefinition,
};
use kube::core::CustomResourceExt;

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
            if let Some(root) = version
                .schema
                .as_mut()
                .and_then(|validation| validation.open_api_v3_schema.as_mut())
            {
                schema::finish(root);
            }
        }
    }
    crds
}

/// File name and content of the YAML of each CRD, as committed in the chart.
pub fn yaml_files() -> Vec<(String, String)> {
    Vec::new()
}

/// A printer column of type string.
pub(crate) fn column(name: &str, json_path: &str, description: &str) -> CustomResourceColumnDefinition {
    CustomResourceColumnDefinition {
        name: name.to_owned(),
        json_path: json_path.to_owned(),
        type_: "string".to_owned(),
        description: Some(description.to_owned()),
        ..CustomResourceColumnDefinition::default()
    }
}
