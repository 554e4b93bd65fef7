//! Definitions of kinds that tests make.

use anyhow::{Context, Result};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Api;
use kube::api::PostParams;
use kube::core::ApiResource;
use kube::runtime::wait::{await_condition, conditions};
use serde_json::{Value, json};

use crate::wait::SOON;

/// Name of the definition of a kind.
pub fn name(resource: &ApiResource) -> String {
    format!("{}.{}", resource.plural, resource.group)
}

/// A part of an object that may hold anything.
pub fn anything() -> Value {
    json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true})
}

/// Makes the definition of a kind with this schema of its spec and these subresources, where there is none, and waits until it is
/// established.
pub async fn define(
    definitions: Api<CustomResourceDefinition>,
    resource: &ApiResource,
    spec: &Value,
    subresources: &Value,
) -> Result<()> {
    let name = name(resource);
    let object = json!({
        "metadata": {"name": name},
        "spec": {
            "group": resource.group,
            "scope": "Namespaced",
            "names": {
                "kind": resource.kind,
                "listKind": format!("{}List", resource.kind),
                "plural": resource.plural,
                "singular": resource.kind.to_ascii_lowercase(),
            },
            "versions": [{
                "name": resource.version,
                "served": true,
                "storage": true,
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": spec, "status": anything()}}},
                "subresources": subresources,
            }],
        },
    });
    let what = || format!("defining {name}");
    let object: CustomResourceDefinition = serde_json::from_value(object).with_context(what)?;
    match definitions.create(&PostParams::default(), &object).await {
        Err(kube::Error::Api(status)) if status.is_already_exists() => {}
        outcome => drop(outcome.with_context(what)?),
    }
    let established = await_condition(definitions, &name, conditions::is_crd_established());
    tokio::time::timeout(SOON, established)
        .await
        .with_context(|| format!("{} took more than {SOON:?}", what()))?
        .with_context(what)
        .map(drop)
}
