//! Pods that keep their addresses over restart, re-creation and a move to another node: those of StatefulSets and virtual
//! machines.
//!
//! Such a pod has an identity ([`Identity`]) that outlives it. Its endpoint and the records of its addresses stay when the pod
//! goes, as long as its workload may make it again ([`stays`]). The next pod of the identity is its heir: it takes over what the
//! records say ([`inherit`]), by a write that puts its UID in the place of the earlier one, and only when no pod of that UID
//! lives. What may not serve it any more is left behind once it has something else ([`Keeping`]).
//!
//! Who keeps addresses and which of them may still serve is the rule of [`spiderpool_ipam::sticky`].

mod former;
mod inherit;
mod keep;
mod machine;
mod migration;

pub use inherit::{Inheritance, inherit};
pub use keep::{Heirloom, Holder, Keeping, heirlooms, leave};
pub use machine::{refuse_namesake, running};
pub use migration::is_migrating;

use crate::config::Config;
use crate::context::Context;
use crate::error::RequestError;
use crate::tries;
use k8s_openapi::api::core::v1::Pod;
use kube::core::{ApiResource, DynamicObject};
use kube::{Api, ResourceExt};
use spiderpool_crds::SpiderEndpoint;
use spiderpool_crds::sticky::{Keeper, ReadObject, StickyKinds};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How long one read may take.
const READ_TIMEOUT: Duration = Duration::from_secs(5);

/// Under which name a pod's addresses are recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Namespace.
    pub namespace: String,
    /// Name of the pod's endpoint, and in the records of pools: the pod's own, or that of its virtual machine.
    pub name: String,
    /// What keeps its addresses, if they are kept.
    pub keeper: Option<Keeper>,
}

impl Identity {
    /// `namespace/name`.
    pub fn key(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }

    /// Of a pod.
    pub fn of(config: &Config, pod: &Pod) -> Self {
        let (namespace, name) = (pod.namespace().unwrap_or_default(), pod.name_any());
        let controller = pod
            .owner_references()
            .iter()
            .find(|owner| owner.controller == Some(true));
        let keeper = Keeper::of_pod(&namespace, &name, controller, kinds(config));
        Self {
            name: keeper.as_ref().map_or(name, |keeper| keeper.name.clone()),
            namespace,
            keeper,
        }
    }

    /// Of a pod that may be gone. Of a virtual machine's, only the endpoint tells.
    pub fn of_gone(context: &Context, namespace: &str, name: &str, uid: &str) -> Self {
        let pod = context.pods.get(namespace, name);
        if let Some(pod) = pod.filter(|pod| pod.uid().as_deref() == Some(uid)) {
            return Self::of(&context.config, &pod);
        }
        let endpoints = context.endpoints.list().into_iter();
        let mut of_pod = endpoints.filter(|endpoint| {
            endpoint.status.current.uid == uid && endpoint.namespace().as_deref() == Some(namespace)
        });
        Self {
            namespace: namespace.to_owned(),
            name: of_pod
                .next()
                .map_or_else(|| name.to_owned(), |endpoint| endpoint.name_any()),
            keeper: None,
        }
    }
}

fn kinds(config: &Config) -> StickyKinds {
    StickyKinds {
        sets: config.enable_stateful_set,
        machines: config.enable_kubevirt_static_ip,
    }
}

/// What keeps the addresses of an endpoint, if they are kept.
pub fn keeper(config: &Config, endpoint: &SpiderEndpoint) -> Option<Keeper> {
    Keeper::of_endpoint(endpoint, kinds(config))
}

/// What may keep the addresses on record under a name, beside the endpoint of that name, see [`Keeper::beside`].
pub fn keepers_beside(config: &Config, endpoint: Option<&SpiderEndpoint>, key: &str) -> (Vec<Keeper>, Vec<Keeper>) {
    Keeper::beside(endpoint, key, kinds(config))
}

/// Name of the pod that an endpoint of this node is about.
pub fn pod_name(context: &Context, endpoint: &SpiderEndpoint) -> String {
    let (namespace, current) = (endpoint.namespace(), &endpoint.status.current);
    let of_uid = |pod: &Arc<Pod>| pod.uid().as_ref() == Some(&current.uid) && pod.namespace() == namespace;
    let named = || current.pod_name.clone().unwrap_or_else(|| endpoint.name_any());
    if context
        .pods
        .get(&namespace.clone().unwrap_or_default(), &named())
        .is_some()
    {
        return named();
    }
    let found = context.pods.list().into_iter().find(of_uid);
    found.map_or_else(named, |pod| pod.name_any())
}

/// Whether the workload of an identity may make a pod of it again. Read live, because addresses are freed or kept for it.
pub async fn stays(context: &Context, keeper: &Keeper, deadline: Instant) -> Result<bool, RequestError> {
    // Rare, and larger than the rest of a request.
    Box::pin(keeper.stays(&Live { context, deadline })).await
}

/// Reads live.
struct Live<'a> {
    context: &'a Context,
    deadline: Instant,
}

impl ReadObject for Live<'_> {
    type Error = RequestError;

    async fn read(
        &self,
        resource: &ApiResource,
        namespace: &str,
        name: &str,
    ) -> Result<Option<DynamicObject>, RequestError> {
        let api: Api<DynamicObject> = Api::namespaced_with(self.context.client.clone(), namespace, resource);
        let what = format!(
            "read {} {namespace}/{name}, which keeps the addresses of its pods",
            resource.kind
        );
        let limit = self.deadline.min(Instant::now() + READ_TIMEOUT);
        let read = || async {
            match api.get_opt(name).await {
                // Where there is no such kind, there is no object of it either. The API server says that in plain text.
                Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
                found => found,
            }
        };
        tries::read(what, limit, read).await
    }
}
