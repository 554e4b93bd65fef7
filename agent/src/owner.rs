//! The application that a pod belongs to: the controller above its ReplicaSet or Job.

use crate::context::Context;
use crate::error::RequestError;
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::core::PartialObjectMeta;
use kube::{Api, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use spiderpool_crds::app::AppKey;
use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// Owners remembered at most. A ReplicaSet has few pods on one node, so old entries are worth little.
const REMEMBERED: usize = 1024;

const READ_TIMEOUT: Duration = Duration::from_secs(5);

/// Applications by the UID of the ReplicaSet or Job, whose controller does not change while it has pods.
#[derive(Debug, Default)]
pub struct Owners {
    by_uid: Mutex<HashMap<String, AppKey>>,
}

/// The application of a pod. A pod without a controller is its own.
pub async fn application(context: &Context, pod: &Pod, deadline: Instant) -> Result<AppKey, RequestError> {
    let namespace = pod.namespace().unwrap_or_default();
    let Some(owner) = controller(pod.owner_references()) else {
        return Ok(AppKey::new("v1", "Pod", &namespace, &pod.name_any()));
    };
    let direct = key(owner, &namespace);
    let parent = match (direct.group.as_str(), direct.kind.as_str()) {
        ("apps", "ReplicaSet") => remember::<ReplicaSet>(context, owner, &namespace, deadline).await?,
        ("batch", "Job") => remember::<Job>(context, owner, &namespace, deadline).await?,
        _ => None,
    };
    Ok(parent.unwrap_or(direct))
}

fn controller(owners: &[OwnerReference]) -> Option<&OwnerReference> {
    owners.iter().find(|owner| owner.controller == Some(true))
}

fn key(owner: &OwnerReference, namespace: &str) -> AppKey {
    AppKey::new(&owner.api_version, &owner.kind, namespace, &owner.name)
}

/// The controller of a ReplicaSet or Job, read once for each.
async fn remember<K>(
    context: &Context,
    owner: &OwnerReference,
    namespace: &str,
    deadline: Instant,
) -> Result<Option<AppKey>, RequestError>
where
    K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope> + DeserializeOwned + Clone + Debug,
{
    {
        let known = context.owners.by_uid.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(app) = known.get(&owner.uid) {
            return Ok(Some(app.clone()));
        }
    }
    let api: Api<PartialObjectMeta<K>> = Api::namespaced(context.client.clone(), namespace);
    let what = || format!("read {} {namespace}/{}, the owner of the Pod", owner.kind, owner.name);
    let limit = deadline.min(Instant::now() + READ_TIMEOUT);
    let found = context.call(limit, what, api.get_metadata_opt(&owner.name)).await?;
    let app = match found.filter(|object| object.metadata.uid.as_deref() == Some(&owner.uid)) {
        // An owner that is gone leaves its pods orphaned: they are about to be deleted, or adopted by another.
        None => return Ok(None),
        Some(object) => {
            controller(object.owner_references()).map_or_else(|| key(owner, namespace), |up| key(up, namespace))
        }
    };
    let mut known = context.owners.by_uid.lock().unwrap_or_else(PoisonError::into_inner);
    if known.len() >= REMEMBERED {
        known.clear();
    }
    known.insert(owner.uid.clone(), app.clone());
    Ok(Some(app))
}
