//! The pod's endpoint: what it was given, for users, for repeated ADDs and for the release.

mod grant;
mod item;
mod routes;
mod takeover;

pub use grant::Grant;
pub use item::{addresses, answer, item, of_attachment};
pub use routes::unreached;
pub use spiderpool_crds::names::{LABEL_NODE, node_label};

use crate::cancel::Caller;
use crate::context::Context;
use crate::error::RequestError;
use crate::kill::{self, Point};
use crate::sticky::Identity;
use crate::tries::{self, Again, Attempt, Tries, attempt};
use grant::{fresh, merge};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, PostParams, Preconditions};
use kube::core::Status;
use kube::{Api, ResourceExt};
use spiderpool_crds::app::AppKey;
use spiderpool_crds::pod::runtime_uid;
use spiderpool_crds::{NicDetail, SpiderEndpoint, names};
use std::sync::Arc;
use takeover::Takeover;
use tokio::time::Instant;

/// Reads an endpoint live.
pub async fn read(
    context: &Context,
    namespace: &str,
    name: &str,
    deadline: Instant,
) -> Result<Option<SpiderEndpoint>, RequestError> {
    let what = format!("read SpiderEndpoint {namespace}/{name}");
    let api = api(context, namespace);
    tries::read(what, deadline, || api.get_opt(name)).await
}

/// Writes what an ADD got into the pod's endpoint, making it where there is none. The first try is made without a read, on what
/// the cache has; an endpoint of an earlier pod of the same name is taken over in place; `known` is one that was just
/// read, whose pod this one may follow. Between tries it ends when the caller stops waiting. What another ADD got that was not
/// known before this one claimed is not written over.
pub async fn publish(
    context: &Context,
    pod: &Pod,
    app: &AppKey,
    grant: &Grant,
    known: Option<SpiderEndpoint>,
    caller: Caller<'_>,
    deadline: Instant,
) -> Result<SpiderEndpoint, RequestError> {
    let Identity { namespace, name, .. } = &grant.identity;
    let api = api(context, namespace);
    let what = || format!("write SpiderEndpoint {namespace}/{name}");
    let fresh = fresh(context, pod, app, grant);
    let uid = runtime_uid(&pod.metadata).unwrap_or_default();
    let mut tries = Tries::new(what(), deadline);
    let takeover = Takeover {
        context,
        pod,
        identity: &grant.identity,
        uid,
        followed: known.as_ref().map(|known| known.status.current.uid.clone()),
    };
    kill::point(Point::EndpointBefore);
    let cached = || {
        context
            .endpoints
            .get(namespace, name)
            .map(|endpoint| SpiderEndpoint::clone(&endpoint))
    };
    let mut found = match known.or_else(cached) {
        // A pod that keeps its addresses takes over nothing here, so what the cache says of another one is long past.
        Some(old) if grant.identity.keeper.is_some() && takeover.is_unknown(&old) => {
            look(&tries, &api, name, deadline).await?
        }
        found => Attempt::Done(found),
    };
    loop {
        if let Attempt::Done(Some(live)) = &found
            && live.status.current.uid == uid
            && !is_leaving(live, uid)
            && let Some((nic, ip)) = grant.overtaken_by(live)
        {
            return Err(RequestError::Overtaken {
                pod: format!("{namespace}/{}", pod.name_any()),
                nic: nic.to_owned(),
                ip,
                endpoint: Arc::new(learn(context, live.clone())),
            });
        }
        if let Attempt::Done(Some(old)) = &found
            && takeover.is_unknown(old)
        {
            takeover.check(old, deadline).await?;
        }
        let tried = match found {
            Attempt::Again(again) => Attempt::Again(again),
            Attempt::Done(None) => create(&tries, &api, &fresh, deadline).await?,
            Attempt::Done(Some(old)) if is_leaving(&old, uid) => {
                // It is on its way out with its pod. What that pod still holds is in the pools' records, and its DEL finds
                // it there.
                let mut gone = old;
                // An agent may write only what is of its own node and pods, so it takes the endpoint over as it lets it go.
                uid.clone_into(&mut gone.status.current.uid);
                gone.status.current.node.clone_from(&context.node);
                gone.finalizers_mut().retain(|finalizer| finalizer != names::FINALIZER);
                replace(&tries, &api, &gone, deadline).await?;
                Attempt::Again(Again::stale())
            }
            Attempt::Done(Some(mut old)) => {
                merge(&mut old, &fresh, grant);
                replace(&tries, &api, &old, deadline).await?
            }
        };
        match tried {
            Attempt::Done(endpoint) => {
                kill::point(Point::EndpointWritten);
                return Ok(learn(context, endpoint));
            }
            Attempt::Again(again) => caller.or(tries.pause(again)).await??,
        }
        // Also after a try of which nobody knows what became of it: it may have been served, and may be yet.
        found = look(&tries, &api, name, deadline).await?;
    }
}

/// Whether an endpoint goes with a pod before this one, or was let go and is kept by a finalizer of somebody else.
fn is_leaving(endpoint: &SpiderEndpoint, uid: &str) -> bool {
    endpoint.metadata.deletion_timestamp.is_some() && (endpoint.status.current.uid != uid || !has_finalizer(endpoint))
}

/// Whether an endpoint stays until Spiderpool lets it go.
fn has_finalizer(endpoint: &SpiderEndpoint) -> bool {
    endpoint
        .finalizers()
        .iter()
        .any(|finalizer| finalizer == names::FINALIZER)
}

/// Notes that the sandbox of a NIC is gone while its pod lives: the addresses stay the pod's.
pub async fn clear_sandbox(
    context: &Context,
    endpoint: SpiderEndpoint,
    nic: &str,
    container: &str,
    deadline: Instant,
) -> Result<(), RequestError> {
    change(context, endpoint, deadline, |endpoint| {
        let items = endpoint.status.current.ips.iter_mut();
        let mut own = items.filter(|item| item.interface == nic && item.container_id.as_deref() == Some(container));
        own.next().is_some_and(|item| item.container_id.take().is_some())
    })
    .await
    .map(drop)
}

/// Notes that no sandbox of a pod is left, while its addresses stay for another one.
pub async fn clear_sandboxes(
    context: &Context,
    endpoint: SpiderEndpoint,
    deadline: Instant,
) -> Result<(), RequestError> {
    let uid = endpoint.status.current.uid.clone();
    change(context, endpoint, deadline, |endpoint| {
        let current = &mut endpoint.status.current;
        let items = current.ips.iter_mut().filter(|_| current.uid == uid);
        items.filter_map(|item| item.container_id.take()).count() > 0
    })
    .await
    .map(drop)
}

/// Removes NICs whose addresses were freed. The last one takes the endpoint along.
pub async fn remove_nics(
    context: &Context,
    endpoint: SpiderEndpoint,
    uid: &str,
    gone: impl Fn(&NicDetail) -> bool,
    deadline: Instant,
) -> Result<(), RequestError> {
    let changed = change(context, endpoint, deadline, |endpoint| {
        if endpoint.status.current.uid != uid {
            return false;
        }
        endpoint.status.current.ips.retain(|item| !gone(item));
        if endpoint.status.current.ips.is_empty() {
            endpoint
                .finalizers_mut()
                .retain(|finalizer| finalizer != names::FINALIZER);
        }
        true
    })
    .await?;
    let Some(endpoint) = changed.filter(|endpoint| endpoint.status.current.ips.is_empty()) else {
        return Ok(());
    };
    kill::point(Point::EndpointLetGo);
    // One that is on its way out with its pod goes with its last finalizer.
    if endpoint.metadata.deletion_timestamp.is_none() {
        delete(context, endpoint, deadline).await?;
    }
    kill::point(Point::EndpointDeleted);
    Ok(())
}

/// Deletes an endpoint of which nothing is left, unless a new pod takes it over meanwhile.
async fn delete(context: &Context, endpoint: SpiderEndpoint, deadline: Instant) -> Result<(), RequestError> {
    let (namespace, name) = (endpoint.namespace().unwrap_or_default(), endpoint.name_any());
    let api = api(context, &namespace);
    let mut tries = Tries::new(format!("delete SpiderEndpoint {namespace}/{name}"), deadline);
    let uid = endpoint.uid();
    let mut version = endpoint.resource_version();
    loop {
        let preconditions = Preconditions {
            uid: uid.clone(),
            resource_version: version,
        };
        let params = DeleteParams {
            preconditions: Some(preconditions),
            ..DeleteParams::default()
        };
        let stale = |status: &Status| status.is_conflict() || status.is_not_found();
        let again = match attempt(deadline, stale, api.delete(&name, &params)).await {
            Ok(Attempt::Done(_)) => return Ok(()),
            // Gone already, or taken over: both are what is wanted.
            Ok(Attempt::Again(again)) if again.is_stale => return Ok(()),
            Ok(Attempt::Again(again)) => again,
            Err(error) => return Err(tries.refused(&error)),
        };
        tries.pause(again).await?;
        let left = read(context, &namespace, &name, deadline).await?;
        let left = left.filter(|left| left.uid() == uid && left.status.current.ips.is_empty());
        match left {
            Some(left) => version = left.resource_version(),
            None => return Ok(()),
        }
    }
}

/// Reads, edits and writes an endpoint until no other writer was in between. `edit` says whether anything changed.
/// Nothing is returned where there is nothing to change any more.
async fn change(
    context: &Context,
    endpoint: SpiderEndpoint,
    deadline: Instant,
    edit: impl Fn(&mut SpiderEndpoint) -> bool,
) -> Result<Option<SpiderEndpoint>, RequestError> {
    let (namespace, name) = (endpoint.namespace().unwrap_or_default(), endpoint.name_any());
    let api = api(context, &namespace);
    let mut tries = Tries::new(format!("write SpiderEndpoint {namespace}/{name}"), deadline);
    let mut current = endpoint;
    loop {
        if !edit(&mut current) {
            return Ok(None);
        }
        match replace(&tries, &api, &current, deadline).await? {
            Attempt::Done(written) => return Ok(Some(learn(context, written))),
            Attempt::Again(again) => tries.pause(again).await?,
        }
        match read(context, &namespace, &name, deadline).await? {
            Some(fresh) => current = fresh,
            None => return Ok(None),
        }
    }
}

async fn look(
    tries: &Tries,
    api: &Api<SpiderEndpoint>,
    name: &str,
    deadline: Instant,
) -> Result<Attempt<Option<SpiderEndpoint>>, RequestError> {
    let found = attempt(deadline, |_| false, api.get_opt(name)).await;
    found.map_err(|error| tries.refused(&error))
}

/// Replaces an endpoint if it is still the one that was read.
async fn replace(
    tries: &Tries,
    api: &Api<SpiderEndpoint>,
    endpoint: &SpiderEndpoint,
    deadline: Instant,
) -> Result<Attempt<SpiderEndpoint>, RequestError> {
    let stale = |status: &Status| status.is_conflict() || status.is_not_found();
    let (name, params) = (endpoint.name_any(), PostParams::default());
    let written = attempt(deadline, stale, api.replace(&name, &params, endpoint)).await;
    written.map_err(|error| tries.refused(&error))
}

/// Makes an endpoint unless there is one.
async fn create(
    tries: &Tries,
    api: &Api<SpiderEndpoint>,
    endpoint: &SpiderEndpoint,
    deadline: Instant,
) -> Result<Attempt<SpiderEndpoint>, RequestError> {
    let params = PostParams::default();
    let made = attempt(deadline, Status::is_already_exists, api.create(&params, endpoint)).await;
    made.map_err(|error| match &error {
        kube::Error::Api(status) if is_namespace_ending(status) => RequestError::NamespaceEnds {
            pod: format!("{}/{}", endpoint.namespace().unwrap_or_default(), endpoint.name_any()),
            namespace: endpoint.namespace().unwrap_or_default(),
            answer: status.message.clone(),
        },
        _ => tries.refused(&error),
    })
}

/// Whether nothing can be made because of the namespace. It takes no new objects from the moment that it is being deleted, and
/// then there is none.
fn is_namespace_ending(status: &Status) -> bool {
    let missing = status.code == 404 && status.message.contains("namespaces ");
    missing || status.message.contains("is being terminated")
}

fn learn(context: &Context, endpoint: SpiderEndpoint) -> SpiderEndpoint {
    // The cache holds what has this node's label; an object without it would stay there for ever.
    if endpoint
        .labels()
        .get(LABEL_NODE)
        .is_some_and(|label| *label == node_label(&context.node))
    {
        context.endpoints.learn(endpoint.clone());
    }
    endpoint
}

fn api(context: &Context, namespace: &str) -> Api<SpiderEndpoint> {
    Api::namespaced(context.client.clone(), namespace)
}
