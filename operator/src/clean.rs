//! Removes every trace of Spiderpool from the API: for an uninstall that is to leave nothing behind.
//!
//! Definitions are deleted first: a definition that goes refuses new objects, so that operator and agents that still run
//! cannot make pools and endpoints again. Then finalizers are taken off until everything is gone.

use std::time::Duration;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::core::{ApiResource, DynamicObject};
use kube::{Api, Client};
use serde_json::json;
use spiderpool_kit::deadline::{Failure, within};
use tokio::time::Instant;

use crate::write::DEADLINE;

/// Pause between two looks at what is left.
const PAUSE: Duration = Duration::from_millis(500);
/// Objects read at once.
const PAGE: u32 = 500;

/// Why something is left.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A request failed.
    #[error("{0}")]
    Request(#[from] Failure<kube::Error>),
    /// Something did not go in time.
    #[error(
        "{left} still exist after {after:?}; look at their finalizers with kubectl get crd -o yaml, and run this again"
    )]
    Left {
        /// Names of definitions.
        left: String,
        /// How long it was tried.
        after: Duration,
    },
}

/// Deletes the definitions and every object of theirs.
pub async fn run(client: Client, limit: Duration) -> Result<(), Error> {
    let deadline = Instant::now() + limit;
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    let ours = spiderpool_crds::all_crds();
    for definition in &ours {
        let name = definition.metadata.name.as_deref().unwrap_or_default();
        let what = format!("deleting CustomResourceDefinition {name}");
        match within(DEADLINE, what, definitions.delete(name, &DeleteParams::default())).await {
            Ok(_) => tracing::info!(name, "deleting"),
            Err(failure) if failure.is_not_found() => {}
            Err(failure) => return Err(failure.into()),
        }
    }
    loop {
        let mut left = Vec::new();
        for definition in &ours {
            let name = definition.metadata.name.clone().unwrap_or_default();
            let what = format!("reading CustomResourceDefinition {name}");
            if within(DEADLINE, what, definitions.get_opt(&name)).await?.is_some() {
                free_objects(&client, definition).await?;
                left.push(name);
            }
        }
        if left.is_empty() {
            tracing::info!("nothing of Spiderpool is left in the API");
            return Ok(());
        }
        if Instant::now() >= deadline {
            return Err(Error::Left {
                left: left.join(", "),
                after: limit,
            });
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn free_objects(client: &Client, definition: &CustomResourceDefinition) -> Result<(), Error> {
    let Some(version) = definition.spec.versions.first() else {
        return Ok(());
    };
    let group = &definition.spec.group;
    let names = &definition.spec.names;
    let resource = ApiResource {
        group: group.clone(),
        version: version.name.clone(),
        api_version: format!("{group}/{}", version.name),
        kind: names.kind.clone(),
        plural: names.plural.clone(),
    };
    let all: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
    let list = within(
        DEADLINE,
        format!("listing {}", names.plural),
        all.list(&ListParams::default().limit(PAGE)),
    )
    .await;
    let objects = match list {
        Ok(objects) => objects,
        // The definition went in between.
        Err(failure) if failure.is_not_found() => return Ok(()),
        Err(failure) => return Err(failure.into()),
    };
    for object in objects {
        if object.metadata.finalizers.as_ref().is_none_or(Vec::is_empty) {
            continue;
        }
        let name = object.metadata.name.unwrap_or_default();
        let api: Api<DynamicObject> = match &object.metadata.namespace {
            Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
            None => all.clone(),
        };
        let patch = Patch::Merge(json!({"metadata": {"finalizers": null}}));
        let what = format!("taking the finalizers off {} {name}", names.kind);
        match within(DEADLINE, what, api.patch(&name, &PatchParams::default(), &patch)).await {
            Ok(_) => {}
            Err(failure) if failure.is_not_found() => {}
            Err(failure) => return Err(failure.into()),
        }
    }
    Ok(())
}
