//! What an uninstall leaves behind: nothing that nobody can delete, or nothing at all.
//!
//! [`leftovers`] takes the finalizers off endpoints, which nobody would do later: namespaces and pods with them could not be deleted
//! any more. Records and everything else that users made stay for who installs again. The Lease of the election goes.
//!
//! [`run`] removes definitions and objects. Definitions are deleted first: a definition that goes refuses new objects, so that operator
//! and agents that still run cannot make pools and endpoints again. Then finalizers are taken off until everything is gone.

mod lease;

use std::time::Duration;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::core::{ApiResource, DynamicObject, ObjectMeta};
use kube::{Api, Client};
use serde_json::json;
use spiderpool_crds::{SpiderEndpoint, names};
use spiderpool_kit::deadline::{Failure, within};
use tokio::time::Instant;

use crate::daemon::LEASE;
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
    /// Endpoints get finalizers faster than these are taken off.
    #[error("endpoints still get finalizers after {after:?}; see that no agent runs any more, and run this again")]
    Held {
        /// How long it was tried.
        after: Duration,
    },
    /// A controller that runs holds the lease.
    #[error("{holder} still holds Lease {name}; see that no controller runs any more, and run this again")]
    Led {
        /// Namespace and name of the lease.
        name: String,
        /// Who holds it.
        holder: String,
    },
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
            tracing::info!("no definition of Spiderpool is left in the API");
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

/// Takes our finalizer off every endpoint, and deletes the Lease in the namespace of the controller.
pub async fn leftovers(client: Client, namespace: &str, limit: Duration) -> Result<(), Error> {
    let deadline = Instant::now() + limit;
    finalizers(&client, deadline, limit).await?;
    lease::delete(client, namespace, LEASE, deadline).await
}

/// Until a list shows no endpoint that has it.
async fn finalizers(client: &Client, deadline: Instant, limit: Duration) -> Result<(), Error> {
    let mut total = 0_usize;
    loop {
        let freed = free_endpoints(client).await?;
        if freed == 0 {
            tracing::info!(total, "no endpoint has a finalizer of Spiderpool");
            return Ok(());
        }
        total += freed;
        if Instant::now() >= deadline {
            return Err(Error::Held { after: limit });
        }
    }
}

/// Whether there is no such kind. Of a path that it does not know at all the API server says so in another form than of an object.
fn is_unknown(failure: &Failure<kube::Error>) -> bool {
    failure.status().is_some_and(|status| status.code == 404)
}

/// Goes through all endpoints once; tells how many had our finalizer.
async fn free_endpoints(client: &Client) -> Result<usize, Error> {
    let all: Api<SpiderEndpoint> = Api::all(client.clone());
    let mut params = ListParams::default().limit(PAGE);
    let mut found = 0;
    loop {
        let page = within(DEADLINE, "listing SpiderEndpoints", all.list_metadata(&params)).await;
        let page = match page {
            Ok(page) => page,
            Err(failure) if is_unknown(&failure) => return Ok(0),
            Err(failure) => return Err(failure.into()),
        };
        for endpoint in &page.items {
            if let Some(patch) = without_finalizer(&endpoint.metadata) {
                found += 1;
                free_endpoint(client, &endpoint.metadata, &patch).await?;
            }
        }
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params.continue_token = Some(token),
            None => return Ok(found),
        }
    }
}

async fn free_endpoint(client: &Client, meta: &ObjectMeta, patch: &serde_json::Value) -> Result<(), Error> {
    let (namespace, name) = (
        meta.namespace.as_deref().unwrap_or_default(),
        meta.name.as_deref().unwrap_or_default(),
    );
    let api: Api<SpiderEndpoint> = Api::namespaced(client.clone(), namespace);
    let what = format!("taking the finalizer off SpiderEndpoint {namespace}/{name}");
    let params = PatchParams::default();
    match within(DEADLINE, what, api.patch_metadata(name, &params, &Patch::Merge(patch))).await {
        Ok(_) => Ok(()),
        // It is gone, or somebody changed it: the next list shows whether something is left to do.
        Err(failure) if failure.is_not_found() || failure.is_conflict() => Ok(()),
        Err(failure) => Err(failure.into()),
    }
}

/// What takes our finalizer off, and leaves those of others; none if there is nothing to take off. It holds only for the version that
/// was read.
fn without_finalizer(meta: &ObjectMeta) -> Option<serde_json::Value> {
    let all = meta.finalizers.as_deref().unwrap_or_default();
    let others: Vec<&String> = all.iter().filter(|finalizer| *finalizer != names::FINALIZER).collect();
    (others.len() < all.len())
        .then(|| json!({"metadata": {"resourceVersion": meta.resource_version, "finalizers": others}}))
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
        Err(failure) if is_unknown(&failure) => return Ok(()),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_finalizer_goes_and_only_from_what_was_read() {
        let meta = |finalizers: &[&str]| ObjectMeta {
            resource_version: Some("7".to_owned()),
            finalizers: Some(finalizers.iter().map(|finalizer| (*finalizer).to_owned()).collect()),
            ..ObjectMeta::default()
        };
        let patch = without_finalizer(&meta(&["their.org/hold", names::FINALIZER]));
        let expected = json!({"metadata": {"resourceVersion": "7", "finalizers": ["their.org/hold"]}});
        assert_eq!(patch, Some(expected));
        assert_eq!(without_finalizer(&meta(&["their.org/hold"])), None);
        assert_eq!(without_finalizer(&ObjectMeta::default()), None);
    }
}
