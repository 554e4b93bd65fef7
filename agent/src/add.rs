//! ADD: a NIC of a pod gets its addresses.
//!
//! What belongs together is claimed together: all families of the NIC, and where the pod's annotation lists pools for several
//! NICs, all of these at the first ADD. Either everything is claimed, or what the failing request took is given back. A repeated
//! request finds the addresses of the first one by the pod's UID and the NIC, whatever happened in between.
//!
//! [`wanted`] says what is claimed, [`together`] claims all of it or nothing, and [`claim`] one address.

mod claim;
mod together;
mod wanted;

use crate::cancel::{Caller, Cancel};
use crate::choose::Choice;
use crate::context::Context;
use crate::endpoints::{self, Grant};
use crate::error::RequestError;
use crate::kill::{self, Point};
use crate::owner::Application;
use crate::sticky::{self, Identity};
use crate::{pods, tell};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use spiderpool_crds::{NicDetail, PodAllocation, Route, SpiderEndpoint, annotations};
use spiderpool_ipam::Owner;
use spiderpool_ipam::candidates::PodFacts;
use spiderpool_wire::{IpamAddArgs, IpamAddResponse};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use together::Granted;
use tokio::time::Instant;

/// How long an ADD may take. The plugin waits longer (100 s); the kubelet tries again and shows the reason meanwhile, so a
/// user reads it within half a minute.
pub const BUDGET: Duration = Duration::from_secs(30);

/// How much of it an ADD needs that waited for an earlier request of its pod.
const LEAST: Duration = Duration::from_secs(5);

/// One ADD.
struct Request<'a> {
    context: &'a Context,
    args: &'a IpamAddArgs,
    pod: &'a Pod,
    app: &'a Application,
    identity: &'a Identity,
    /// The endpoint of the identity, as far as is known when the request begins.
    known: Option<Arc<SpiderEndpoint>>,
    /// Whether the pod's virtual machine moves to it, and so may still run elsewhere.
    migrating: bool,
    cancel: &'a Cancel,
}

impl Request<'_> {
    fn pod_name(&self) -> String {
        format!("{}/{}", self.args.pod_namespace, self.args.pod_name)
    }

    fn uid(&self) -> &str {
        &self.args.pod_uid
    }

    /// What the pod's endpoint says of it, as far as is known.
    fn current(&self) -> Option<&PodAllocation> {
        let current = self.known.as_ref().map(|known| &known.status.current);
        current.filter(|current| current.uid == self.uid())
    }

    /// Who owns what a NIC gets.
    fn owner(&self, nic: &str) -> Owner {
        Owner {
            pod: self.identity.key(),
            uid: self.uid().to_owned(),
            nic: Some(nic.to_owned()),
        }
    }
}

/// A NIC that addresses are claimed for.
struct Want {
    nic: String,
    choice: Choice,
    facts: PodFacts,
}

/// Serves an ADD. It ends early when it is cancelled while it waits.
pub async fn add(context: &Context, args: &IpamAddArgs, cancel: &Cancel) -> Result<IpamAddResponse, RequestError> {
    let deadline = Instant::now() + BUDGET - together::GIVE_BACK;
    let _known = context.turns.adds().enter(args, cancel);
    cancel.or(args, context.wait_ready(deadline)).await??;
    // A turn that comes too late is of no use: the API server would be blamed for what another request took.
    let turn = tokio::time::timeout_at(deadline - LEAST, context.turns.take(&args.pod_uid));
    let _turn = cancel.or(args, turn).await?.map_err(|_| RequestError::Busy {
        pod: format!("{}/{}", args.pod_namespace, args.pod_name),
    })?;
    kill::point(Point::AddAccepted);
    context
        .sandboxes
        .added(&args.pod_uid, &args.container_id, &args.net_namespace);
    let (namespace, name, uid) = (&args.pod_namespace, &args.pod_name, &args.pod_uid);
    let pod = cancel
        .or(args, pods::of_add(context, namespace, name, uid, deadline))
        .await??;
    kill::point(Point::AddPodFound);
    let mut result = Box::pin(serve(context, args, &pod, None, cancel, deadline)).await;
    if let Err(RequestError::Overtaken { endpoint, .. }) = result {
        result = Box::pin(serve(context, args, &pod, Some(endpoint), cancel, deadline)).await;
    }
    if let Err(error) = &result {
        tell::failed(context, &pod, error);
    }
    kill::point(Point::AddAnswered);
    result
}

/// `known` is the pod's endpoint, if the cache may not have it yet.
async fn serve(
    context: &Context,
    args: &IpamAddArgs,
    pod: &Pod,
    known: Option<Arc<SpiderEndpoint>>,
    cancel: &Cancel,
    deadline: Instant,
) -> Result<IpamAddResponse, RequestError> {
    let app = cancel.or(args, context.owners.application(pod, deadline)).await??;
    let identity = Identity::of(&context.config, pod);
    let migrating = Box::pin(sticky::is_migrating(context, pod, &identity, deadline)).await?;
    let request = Request {
        context,
        args,
        pod,
        app: &app,
        identity: &identity,
        known: known.or_else(|| context.endpoints.get(&identity.namespace, &identity.name)),
        migrating,
        cancel,
    };
    let routes = custom_routes(pod)?;
    cancel.or(args, wanted::look_again(&request, deadline)).await??;
    let wants = cancel.or(args, wanted::wanted(&request, deadline)).await??;
    kill::point(Point::AddChosen);
    let nics: Vec<&str> = wants.iter().map(|want| want.nic.as_str()).collect();
    let inherit = sticky::inherit(context, pod, &identity, &nics, migrating, deadline);
    let mut inheritance = Box::pin(inherit).await?;
    let granted = match together::claim(&request, &wants, deadline).await {
        Err(error @ RequestError::NoPool { .. }) => {
            context.owners.forget(pod);
            return Err(error);
        }
        granted => granted?,
    };
    kill::point(Point::AddClaimed);
    let reused = |granted: &Granted<'_>| granted.claims.iter().any(|claimed| !claimed.taken.new);
    // Whoever took over has just seen that the pod exists.
    if inheritance.endpoint.is_none() && granted.iter().any(reused) {
        let (namespace, name) = (&args.pod_namespace, &args.pod_name);
        let still = pods::still_alive(context, namespace, name, request.uid(), deadline);
        if let Err(error) = cancel.or(args, still).await.and_then(|still| still) {
            together::give_back(&request, &granted, deadline + together::GIVE_BACK).await;
            return Err(error);
        }
    }
    let items = granted.iter().map(|granted| item(args, granted)).collect();
    let grant = Grant {
        items,
        routes,
        identity: identity.clone(),
        inherited: std::mem::take(&mut inheritance.nics),
        known: request.known.clone(),
    };
    kill::point(Point::EndpointPlanned);
    let caller = Caller { args, cancel };
    let publish = endpoints::publish(context, pod, &app.key, &grant, inheritance.endpoint, caller, deadline);
    let endpoint = match Box::pin(publish).await {
        Ok(endpoint) => endpoint,
        Err(error) => {
            together::give_back(&request, &granted, deadline + together::GIVE_BACK).await;
            return Err(error);
        }
    };
    tell_unreached(context, pod, &endpoint.status.current.ips, &grant.routes);
    let given: Vec<(&str, Vec<IpAddr>)> = granted.iter().map(Granted::given).collect();
    sticky::leave(context, &identity, request.uid(), &given, inheritance.left, deadline).await;
    let mut answer = endpoints::answer(&endpoint);
    for ip in &mut answer.ips {
        // While a virtual machine moves, its old place answers for its addresses.
        ip.enable_ip_conflict_detection = context.config.enable_ip_conflict_detection && !migrating;
        ip.enable_gateway_detection = context.config.enable_gateway_detection;
    }
    Ok(answer)
}

/// What the endpoint says of a NIC. A NIC whose own ADD is still to come has no sandbox and no network yet.
fn item(args: &IpamAddArgs, granted: &Granted<'_>) -> NicDetail {
    let Want { nic, choice, .. } = granted.want;
    let item = endpoints::item(nic, choice.asked.clean_gateway, &granted.claims);
    if *nic == args.if_name {
        endpoints::of_attachment(item, &args.container_id, &args.network_name)
    } else {
        item
    }
}

/// Tells of routes of the annotation that cannot be set up, once all NICs of the pod are known.
fn tell_unreached(context: &Context, pod: &Pod, nics: &[NicDetail], routes: &[Route]) {
    let further = annotations::networks(pod.annotations()).further.len();
    let unreached = endpoints::unreached(nics, routes);
    if !unreached.is_empty() && nics.len() > further {
        tell::unreached(context, pod, nics, &unreached);
    }
}

fn custom_routes(pod: &Pod) -> Result<Vec<Route>, RequestError> {
    let pod_name = || format!("{}/{}", pod.namespace().unwrap_or_default(), pod.name_any());
    let routes = annotations::routes(pod.annotations()).map_err(|source| RequestError::Annotation {
        pod: pod_name(),
        source,
    })?;
    Ok(routes
        .into_iter()
        .map(|route| Route {
            dst: route.dst.to_string(),
            gw: route.gw.to_string(),
            ..Route::default()
        })
        .collect())
}
