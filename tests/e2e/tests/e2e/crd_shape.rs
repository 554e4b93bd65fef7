//! What users see of the kinds themselves: the tables of `kubectl get` and the texts of `kubectl explain`.

use anyhow::{Context, Result, ensure};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Api;
use serde_json::Value;
use spiderpool_crds::names::API_VERSION;
use spiderpool_e2e::cluster::Cluster;

const KINDS: [&str; 4] = ["spiderendpoints", "spiderippools", "spiderreservedips", "spidersubnets"];

/// The columns of a table as the API server makes it for kubectl: name and priority.
async fn columns(cluster: &Cluster, plural: &str) -> Result<Vec<(String, i64)>> {
    let request = http::Request::get(format!("/apis/{API_VERSION}/{plural}?limit=1"))
        .header("Accept", "application/json;as=Table;v=v1;g=meta.k8s.io")
        .body(Vec::new())?;
    let table: Value = cluster
        .client
        .request(request)
        .await
        .with_context(|| format!("getting {plural} as a table"))?;
    let definitions = table["columnDefinitions"]
        .as_array()
        .context("the table has no columns")?;
    let column = |column: &Value| Some((column["name"].as_str()?.to_owned(), column["priority"].as_i64()?));
    definitions
        .iter()
        .map(|definition| column(definition).context("a column without a name"))
        .collect()
}

async fn check_columns(plural: &str, plain: &[&str], wide: &[&str]) -> Result<()> {
    let cluster = Cluster::open().await?;
    let found = columns(&cluster, plural).await?;
    let expected: Vec<(String, i64)> = ["Name"]
        .iter()
        .chain(plain)
        .map(|name| ((*name).to_owned(), 0))
        .chain(wide.iter().map(|name| ((*name).to_owned(), 10)))
        .collect();
    ensure!(
        found == expected,
        "kubectl get {plural} shows {found:?} and not {expected:?}"
    );
    Ok(())
}

#[tokio::test]
async fn columns_of_subnets_are_those_of_earlier_releases() -> Result<()> {
    check_columns(
        "spidersubnets",
        &["VERSION", "SUBNET", "ALLOCATED-IP-COUNT", "TOTAL-IP-COUNT"],
        &[],
    )
    .await
}

#[tokio::test]
async fn columns_of_pools_are_those_of_earlier_releases() -> Result<()> {
    let plain = ["VERSION", "SUBNET", "ALLOCATED-IP-COUNT", "TOTAL-IP-COUNT", "DEFAULT"];
    check_columns(
        "spiderippools",
        &plain,
        &["DISABLE", "NodeName", "MultusName", "APP-NAMESPACE"],
    )
    .await
}

#[tokio::test]
async fn columns_of_reserved_addresses_are_those_of_earlier_releases() -> Result<()> {
    check_columns("spiderreservedips", &["VERSION"], &[]).await
}

#[tokio::test]
async fn columns_of_endpoints_are_those_of_earlier_releases() -> Result<()> {
    check_columns(
        "spiderendpoints",
        &["INTERFACE", "IPV4POOL", "IPV4", "IPV6POOL", "IPV6", "NODE"],
        &[],
    )
    .await
}

#[tokio::test]
async fn every_field_has_a_description() -> Result<()> {
    let cluster = Cluster::open().await?;
    let crds: Api<CustomResourceDefinition> = Api::all(cluster.client.clone());
    let mut bare = Vec::new();
    for plural in KINDS {
        let crd = crds.get(&format!("{plural}.spiderpool.spidernet.io")).await?;
        let version = crd.spec.versions.first().context("a CRD without a version")?;
        let schema = serde_json::to_value(version.schema.as_ref().context("a CRD without a schema")?)?;
        fields_without_description(&schema["openAPIV3Schema"], plural, &mut bare);
    }
    ensure!(bare.is_empty(), "kubectl explain has no description of {bare:?}");
    Ok(())
}

/// Walks a schema. What every object has is described by Kubernetes itself.
fn fields_without_description(schema: &Value, path: &str, bare: &mut Vec<String>) {
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        if ["apiVersion", "kind", "metadata"].contains(&name.as_str()) {
            continue;
        }
        if field["description"].as_str().is_none_or(|text| text.trim().is_empty()) {
            bare.push(path.clone());
        }
        fields_without_description(field, &path, bare);
    }
    for inner in ["items", "additionalProperties"] {
        if schema[inner].is_object() {
            fields_without_description(&schema[inner], path, bare);
        }
    }
}

#[tokio::test]
async fn short_names_and_category_are_served() -> Result<()> {
    let cluster = Cluster::open().await?;
    let resources = cluster.client.list_api_group_resources(API_VERSION).await?;
    let short = |plural: &str| {
        let mut of_kind = resources.resources.iter().filter(|resource| resource.name == plural);
        of_kind.next().map(|resource| {
            (
                resource.short_names.clone().unwrap_or_default(),
                resource.categories.clone().unwrap_or_default(),
            )
        })
    };
    for (plural, name) in KINDS.into_iter().zip(["se", "sp", "sr", "ss"]) {
        let found = short(plural).with_context(|| format!("{plural} is not served"))?;
        ensure!(
            found == (vec![name.to_owned()], vec!["spiderpool".to_owned()]),
            "{plural} has {found:?}"
        );
    }
    Ok(())
}
