//! What has to be read live before somebody's address is freed.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::ListParams;
use kube::core::{ApiResource, DynamicObject, ObjectMeta, PartialObjectMeta};
use spiderpool_crds::SpiderEndpoint;
use spiderpool_crds::owner;
use spiderpool_crds::pod::runtime_uid;
use spiderpool_crds::sticky::{Keeper, ReadObject, StickyKinds};
use spiderpool_kit::deadline::within;

use crate::application::native::controller;
use crate::context::Context;
use crate::kinds::KindId;
use crate::write::{self, DEADLINE};

/// Reads the workloads that keep addresses.
struct Live<'a>(&'a Context);

impl ReadObject for Live<'_> {
    type Error = write::Error;

    async fn read(
        &self,
        resource: &ApiResource,
        namespace: &str,
        name: &str,
    ) -> Result<Option<DynamicObject>, write::Error> {
        let api: Api<DynamicObject> = Api::namespaced_with(self.0.client.clone(), namespace, resource);
        let what = format!("reading {} {namespace}/{name}", resource.kind);
        match within(DEADLINE, what, api.get_opt(name)).await {
            // Of a kind that nobody defined the API server says so in plain text, in which kube sees no NotFound.
            Err(failure) if failure.status().is_some_and(|status| status.code == 404) => Ok(None),
            found => found.map_err(write::Error::Failed),
        }
    }
}

/// All kinds. Whether addresses are in use does not depend on switches that were set since.
pub(super) const ALL: StickyKinds = StickyKinds {
    sets: true,
    machines: true,
};

/// What may keep the addresses on record under one name.
pub(super) struct Keepers {
    /// As the endpoint of the name says; where there is none, everything that the name allows.
    pub(super) own: Vec<Keeper>,
    /// A virtual machine that is named like the pod that the endpoint is about. Its addresses are on record under the same
    /// name, and the endpoint says nothing of them.
    pub(super) alike: Vec<Keeper>,
}

impl Keepers {
    pub(super) fn of(context: &Context, endpoint: Option<&SpiderEndpoint>, key: &str, counting: StickyKinds) -> Self {
        let possible = Keeper::of_record(key, counting);
        let (own, alike) = match endpoint {
            None => (possible, Vec::new()),
            Some(endpoint) => {
                let own = Keeper::of_endpoint(endpoint, counting);
                let alike = possible
                    .into_iter()
                    .filter(|keeper| keeper.is_machine() && !own.as_ref().is_some_and(Keeper::is_machine));
                let alike = alike.collect();
                (own.into_iter().collect(), alike)
            }
        };
        Self {
            own: known(context, own),
            alike: known(context, alike),
        }
    }

    fn machine(&self) -> Option<&Keeper> {
        self.own.iter().chain(&self.alike).find(|keeper| keeper.is_machine())
    }
}

/// Leaves only kinds that the cluster has: objects of others are no more.
fn known(context: &Context, mut keepers: Vec<Keeper>) -> Vec<Keeper> {
    let exists = |keeper: &mut Keeper| {
        keeper.kinds.retain(|kind| {
            let resource = kind.resource();
            owner::is_native(&resource.group, &resource.kind)
                || !context.caches.crds.is_synced()
                || context
                    .kinds
                    .facts(&KindId::new(resource.group, resource.kind))
                    .is_some()
        });
        !keeper.kinds.is_empty()
    };
    keepers.retain_mut(exists);
    keepers
}

/// Whether one of them may make a pod again.
pub(super) async fn stays(context: &Context, keepers: &[Keeper]) -> Result<bool, write::Error> {
    for keeper in keepers {
        if keeper.stays(&Live(context)).await? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The UID of the pod of a name.
pub(super) async fn pod(context: &Context, namespace: &str, name: &str) -> Result<Option<String>, write::Error> {
    let pods: Api<PartialObjectMeta<Pod>> = Api::namespaced(context.client.clone(), namespace);
    let found = write::look(&pods, name).await?;
    Ok(found.map(|pod| runtime_uid(&pod.metadata).unwrap_or_default().to_owned()))
}

/// The pods of a virtual machine, which have other names than its records, and the pod that has its name.
pub(super) struct MachinePods {
    /// UIDs of all pods in the namespace that have not finished.
    unfinished: BTreeSet<String>,
    /// Whether one of them is the machine's. After a failed migration the records name the pod that the machine did not move
    /// into.
    pub(super) is_running: bool,
}

impl MachinePods {
    /// Nothing, where none of the keepers is a virtual machine.
    pub(super) async fn read(context: &Context, keepers: &Keepers) -> Result<Option<Self>, write::Error> {
        let Some(machine) = keepers.machine() else {
            return Ok(None);
        };
        let namespace = &machine.namespace;
        let pods: Api<Pod> = Api::namespaced(context.client.clone(), namespace);
        let what = format!("listing the Pods of {namespace}");
        let params = ListParams::default().fields("status.phase!=Succeeded,status.phase!=Failed");
        let all = within(DEADLINE, what, pods.list_metadata(&params))
            .await
            .map_err(write::Error::Failed)?;
        let of_machine = |meta: &ObjectMeta| {
            let name = meta.name.as_deref().unwrap_or_default();
            let keeper = Keeper::of_pod(namespace, name, controller(meta), ALL);
            keeper.is_some_and(|keeper| keeper.is_machine() && keeper.owner == machine.owner)
        };
        let metas = || all.items.iter().map(|pod| &pod.metadata);
        Ok(Some(Self {
            unfinished: metas().filter_map(runtime_uid).map(str::to_owned).collect(),
            is_running: metas().any(of_machine),
        }))
    }

    /// Whether a pod of this UID has not finished.
    pub(super) fn has(&self, uid: &str) -> bool {
        self.unfinished.contains(uid)
    }
}
