//! The pod's endpoint: what it was given, for users, for repeated ADDs and for the release.

mod item;
mod routes;

pub use item::{addresses, answer, item, of_attachment};
pub use routes::unreached;

use crate::context::Context;
use crate::error::RequestError;
use crate::kill::{self, Point};
use crate::pause::{pause, pauses};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{DeleteParams, PostParams, Preconditions};
use kube::{Api, ResourceExt};
use spiderpool_crds::app::AppKey;
use spiderpool_crds::{EndpointStatus, NicDetail, PodAllocation, Route, SpiderEndpoint, names};
use std::future::Future;
use std::time::Duration;
use tokio::time::Instant;

const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// Label with the node of an endpoint, so that an agent need not watch the endpoints of all nodes.
pub const LABEL_NODE: &str = "ipam.spidernet.io/node";

/// Longest label value.
const LABEL_MAX: usize = 63;

/// The label value of a node name. Names that do not fit are cut; the endpoint itself names the node in full.
pub fn node_label(node: &str) -> String {
    let cut: String = node.chars().take(LABEL_MAX).collect();
    cut.trim_end_matches(['.', '-', '_']).to_owned()
}

/// Reads an endpoint live.
pub async fn read(
    context: &Context,
    namespace: &str,
    name: &str,
    deadline: Instant,
) -> Result<Option<SpiderEndpoint>, RequestError> {
    let what = || format!("read SpiderEndpoint {namespace}/{name}");
    context
        .call(limit(deadline), what, api(context, namespace).get_opt(name))
        .await
}

/// What an ADD got.
#[derive(Clone, Debug, Default)]
pub struct Grant {
    /// The NICs.
    pub items: Vec<NicDetail>,
    /// Routes that the pod's annotation adds.
    pub routes: Vec<Route>,
}

/// Writes what an ADD got into the pod's endpoint, making it where there is none. The first try is the POST without a read;
/// an endpoint of an earlier pod of the same name is taken over in place.
pub async fn publish(
    context: &Context,
    pod: &Pod,
    app: &AppKey,
    grant: &Grant,
    deadline: Instant,
) -> Result<SpiderEndpoint, RequestError> {
    let (namespace, name) = (pod.namespace().unwrap_or_default(), pod.name_any());
    let api = api(context, &namespace);
    let what = || format!("write SpiderEndpoint {namespace}/{name}");
    let fresh = fresh(context, pod, app, grant);
    kill::point(Point::EndpointBefore);
    let created = attempt(context, deadline, what, api.create(&PostParams::default(), &fresh)).await?;
    if let Attempt::Done(endpoint) = created {
        kill::point(Point::EndpointWritten);
        return Ok(learn(context, endpoint));
    }
    let uid = pod.uid().unwrap_or_default();
    let mut backoff = pauses();
    loop {
        let tried = match read(context, &namespace, &name, deadline).await? {
            None => attempt(context, deadline, what, api.create(&PostParams::default(), &fresh)).await?,
            Some(old) if old.metadata.deletion_timestamp.is_some() && old.status.current.uid != uid => {
                // It is on its way out with its pod. What that pod still holds is in the pools' records, and its DEL finds
                // it there.
                let mut gone = old;
                // An agent may write only what is of its own node, so it takes the endpoint over as it lets it go.
                gone.status.current.node.clone_from(&context.node);
                gone.finalizers_mut().retain(|finalizer| finalizer != names::FINALIZER);
                attempt(
                    context,
                    deadline,
                    what,
                    api.replace(&name, &PostParams::default(), &gone),
                )
                .await?;
                Attempt::Again
            }
            Some(mut old) => {
                merge(&mut old, &fresh, grant);
                attempt(
                    context,
                    deadline,
                    what,
                    api.replace(&name, &PostParams::default(), &old),
                )
                .await?
            }
        };
        match tried {
            Attempt::Done(endpoint) => {
                kill::point(Point::EndpointWritten);
                return Ok(learn(context, endpoint));
            }
            Attempt::Again if Instant::now() >= deadline => {
                let reason = "other writers were faster each time".to_owned();
                return Err(RequestError::Api { what: what(), reason });
            }
            Attempt::Again => pause(&mut backoff).await,
        }
    }
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
    let (namespace, name) = (endpoint.namespace().unwrap_or_default(), endpoint.name_any());
    let preconditions = Preconditions {
        uid: endpoint.uid(),
        resource_version: endpoint.resource_version(),
    };
    let delete = DeleteParams {
        preconditions: Some(preconditions),
        ..DeleteParams::default()
    };
    let what = || format!("delete SpiderEndpoint {namespace}/{name}");
    // Gone already, or taken over by a new pod meanwhile: both are what is wanted.
    kill::point(Point::EndpointLetGo);
    attempt(context, deadline, what, api(context, &namespace).delete(&name, &delete)).await?;
    kill::point(Point::EndpointDeleted);
    Ok(())
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
    let what = || format!("write SpiderEndpoint {namespace}/{name}");
    let mut backoff = pauses();
    let mut current = endpoint;
    loop {
        if !edit(&mut current) {
            return Ok(None);
        }
        match attempt(
            context,
            deadline,
            what,
            api.replace(&name, &PostParams::default(), &current),
        )
        .await?
        {
            Attempt::Done(written) => return Ok(Some(learn(context, written))),
            Attempt::Again if Instant::now() >= deadline => {
                let reason = "other writers were faster each time".to_owned();
                return Err(RequestError::Api { what: what(), reason });
            }
            Attempt::Again => pause(&mut backoff).await,
        }
        match read(context, &namespace, &name, deadline).await? {
            Some(fresh) => current = fresh,
            None => return Ok(None),
        }
    }
}

enum Attempt<T> {
    Done(T),
    /// The object is not what the write was planned on: it exists, is gone, or has another resourceVersion.
    Again,
}

async fn attempt<T>(
    context: &Context,
    deadline: Instant,
    what: impl Fn() -> String,
    call: impl Future<Output = Result<T, kube::Error>>,
) -> Result<Attempt<T>, RequestError> {
    let stale =
        |status: &kube::core::Status| status.is_conflict() || status.is_already_exists() || status.is_not_found();
    let call = async {
        match call.await {
            Ok(value) => Ok(Attempt::Done(value)),
            Err(kube::Error::Api(status)) if stale(&status) && !is_namespace_terminating(&status.message) => {
                Ok(Attempt::Again)
            }
            Err(error) => Err(error),
        }
    };
    context.call(limit(deadline), what, call).await
}

/// A namespace that is being deleted takes no new objects; trying again would be in vain.
fn is_namespace_terminating(message: &str) -> bool {
    message.contains("is being terminated")
}

fn fresh(context: &Context, pod: &Pod, app: &AppKey, grant: &Grant) -> SpiderEndpoint {
    let (namespace, name) = (pod.namespace().unwrap_or_default(), pod.name_any());
    let uid = pod.uid().unwrap_or_default();
    let status = EndpointStatus {
        current: PodAllocation {
            uid: uid.clone(),
            node: context.node.clone(),
            ips: grant.merged(Vec::new()),
            ..PodAllocation::default()
        },
        owner_controller_type: app.kind.clone(),
        owner_controller_name: app.name.clone(),
        ..EndpointStatus::default()
    };
    let mut endpoint = SpiderEndpoint::new(&namespace, &name, status);
    endpoint.metadata.finalizers = Some(vec![names::FINALIZER.to_owned()]);
    endpoint
        .labels_mut()
        .insert(LABEL_NODE.to_owned(), node_label(&context.node));
    endpoint.metadata.owner_references = Some(vec![OwnerReference {
        api_version: "v1".to_owned(),
        kind: "Pod".to_owned(),
        name,
        uid,
        ..OwnerReference::default()
    }]);
    endpoint
}

impl Grant {
    /// The NICs of a pod once these are granted. A NIC whose own ADD is still to come keeps the sandbox that it had.
    fn merged(&self, mut nics: Vec<NicDetail>) -> Vec<NicDetail> {
        for item in &self.items {
            match nics.iter_mut().find(|own| own.interface == item.interface) {
                Some(own) => {
                    let old = std::mem::take(own);
                    let sandbox = item.container_id.is_some();
                    *own = NicDetail {
                        container_id: if sandbox {
                            item.container_id.clone()
                        } else {
                            old.container_id
                        },
                        network_name: if sandbox {
                            item.network_name.clone()
                        } else {
                            old.network_name
                        },
                        other: old.other,
                        ..item.clone()
                    };
                }
                None => nics.push(item.clone()),
            }
        }
        let granted: Vec<&str> = self.items.iter().map(|item| item.interface.as_str()).collect();
        routes::attach(&mut nics, &granted, &self.routes);
        nics
    }
}

/// Brings an endpoint that exists up to date: NICs more for the same pod, everything anew for another pod.
fn merge(old: &mut SpiderEndpoint, fresh: &SpiderEndpoint, grant: &Grant) {
    if old.status.current.uid == fresh.status.current.uid {
        let nics = std::mem::take(&mut old.status.current.ips);
        old.status.current.ips = grant.merged(nics);
    } else {
        old.status.current.ips.clone_from(&fresh.status.current.ips);
        old.metadata.owner_references = fresh.metadata.owner_references.clone();
    }
    old.status.current.uid.clone_from(&fresh.status.current.uid);
    old.status.current.node.clone_from(&fresh.status.current.node);
    old.status
        .owner_controller_type
        .clone_from(&fresh.status.owner_controller_type);
    old.status
        .owner_controller_name
        .clone_from(&fresh.status.owner_controller_name);
    old.labels_mut().extend(fresh.labels().clone());
    if !old.finalizers().iter().any(|finalizer| finalizer == names::FINALIZER)
        && old.metadata.deletion_timestamp.is_none()
    {
        old.finalizers_mut().push(names::FINALIZER.to_owned());
    }
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

fn limit(deadline: Instant) -> Instant {
    deadline.min(Instant::now() + REQUEST_TIMEOUT)
}
