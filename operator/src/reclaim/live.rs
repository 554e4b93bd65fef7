//! What has to be read live before somebody's address is freed.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::ListParams;
use kube::core::{ApiResource, DynamicObject, PartialObjectMeta};
use spiderpool_crds::owner;
use spiderpool_crds::pod::runtime_uid;
use spiderpool_crds::sticky::{Keeper, ReadObject};
use spiderpool_kit::deadline::within;

use crate::context::Context;
use crate::kinds::KindId;
use crate::write::{self, DEADLINE};

/// Reads the workloads that keep addresses.
pub(super) struct Live<'a>(pub(super) &'a Context);

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
        within(DEADLINE, what, api.get_opt(name))
            .await
            .map_err(write::Error::Failed)
    }
}

/// Leaves only kinds that the cluster has: objects of others are no more.
pub(super) fn known(context: &Context, mut keepers: Vec<Keeper>) -> Vec<Keeper> {
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

/// Whether the pod of a UID exists. The pods of a virtual machine have other names than their records.
pub(super) async fn is_alive(
    context: &Context,
    namespace: &str,
    name: &str,
    uid: &str,
    keepers: &[Keeper],
) -> Result<bool, write::Error> {
    if keepers.iter().any(Keeper::is_machine) {
        return Ok(pods(context, namespace).await?.contains(uid));
    }
    Ok(pod(context, namespace, name).await?.as_deref() == Some(uid))
}

/// The UID of the pod of a name.
pub(super) async fn pod(context: &Context, namespace: &str, name: &str) -> Result<Option<String>, write::Error> {
    let pods: Api<PartialObjectMeta<Pod>> = Api::namespaced(context.client.clone(), namespace);
    let found = write::look(&pods, name).await?;
    Ok(found.map(|pod| runtime_uid(&pod.metadata).unwrap_or_default().to_owned()))
}

/// The UIDs of all pods of a namespace.
pub(super) async fn pods(context: &Context, namespace: &str) -> Result<BTreeSet<String>, write::Error> {
    let pods: Api<Pod> = Api::namespaced(context.client.clone(), namespace);
    let what = format!("listing the Pods of {namespace}");
    let params = ListParams::default();
    let all = within(DEADLINE, what, pods.list_metadata(&params))
        .await
        .map_err(write::Error::Failed)?;
    Ok(all.items.into_iter().filter_map(|pod| pod.metadata.uid).collect())
}
