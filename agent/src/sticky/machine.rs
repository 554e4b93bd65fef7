//! Pods of virtual machines. Their names are their own, so that several of one machine may run at once, and so may a pod that only
//! shares the machine's name. While any of them runs, the addresses and the endpoint of that name are in use.

use super::{Identity, READ_TIMEOUT, keeper, stays};
use crate::context::Context;
use crate::error::RequestError;
use crate::pods::{self, PodState};
use crate::tries;
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::core::PartialObjectMeta;
use kube::{Api, ResourceExt};
use spiderpool_crds::SpiderEndpoint;
use spiderpool_crds::sticky::{Keeper, StickyKinds};
use tokio::time::Instant;

/// A pod, as far as lists tell.
pub(super) type Seen = PartialObjectMeta<Pod>;

/// Whether a pod is one of a virtual machine.
pub(super) fn is_of(machine: &Keeper, pod: &Seen) -> bool {
    const MACHINES: StickyKinds = StickyKinds {
        sets: false,
        machines: true,
    };
    let controller = pod
        .owner_references()
        .iter()
        .find(|owner| owner.controller == Some(true));
    let keeper = Keeper::of_pod(&machine.namespace, &pod.name_any(), controller, MACHINES);
    keeper.is_some_and(|keeper| keeper.owner == machine.owner)
}

/// The name of a pod of a virtual machine that has not finished, if there is one beside that of a UID.
pub async fn running(
    context: &Context,
    machine: &Keeper,
    except: &str,
    deadline: Instant,
) -> Result<Option<String>, RequestError> {
    let other = |pod: &Seen| is_of(machine, pod) && pod.metadata.uid.as_deref() != Some(except);
    unfinished(context, &machine.namespace, other, deadline).await
}

/// The name of a pod that is wanted and has not finished. One that is terminating may still answer for its addresses.
pub(super) async fn unfinished(
    context: &Context,
    namespace: &str,
    wanted: impl Fn(&Seen) -> bool,
    deadline: Instant,
) -> Result<Option<String>, RequestError> {
    let api: Api<Pod> = Api::namespaced(context.client.clone(), namespace);
    let limit = || deadline.min(Instant::now() + READ_TIMEOUT);
    let what = format!("list the Pods of Namespace {namespace}, of which one may use the same addresses");
    let params = ListParams::default();
    let all = tries::read(what, limit(), || api.list_metadata(&params)).await?;
    for seen in all.items.iter().filter(|seen| wanted(seen)) {
        let name = seen.name_any();
        let what = format!("read Pod {namespace}/{name}");
        let found = tries::read(what, limit(), || api.get_opt(&name)).await?;
        if found.is_some_and(|pod| pod.metadata.uid == seen.metadata.uid && !pods::has_stopped(&pod)) {
            return Ok(Some(name));
        }
    }
    Ok(None)
}

/// Fails while a pod may not take over an endpoint of its name because that is of somebody else who may still run: a virtual
/// machine and a pod may have the same name, two pods may not.
pub async fn refuse_namesake(
    context: &Context,
    pod: &Pod,
    identity: &Identity,
    endpoint: &SpiderEndpoint,
    deadline: Instant,
) -> Result<(), RequestError> {
    let machine = keeper(&context.config, endpoint).filter(Keeper::is_machine);
    let own = identity.keeper.as_ref().filter(|keeper| keeper.is_machine());
    if own.is_some() && own.map(|keeper| &keeper.owner) == machine.as_ref().map(|keeper| &keeper.owner) {
        return Ok(());
    }
    let namespace = &identity.namespace;
    let owner = match &machine {
        Some(machine) => match running(context, machine, "", deadline).await? {
            Some(running) => Some(format!(
                "a virtual machine, whose Pod {namespace}/{running} has not finished"
            )),
            None if stays(context, machine, deadline).await? => {
                Some("a virtual machine, which exists and keeps its addresses".to_owned())
            }
            None => None,
        },
        None => {
            let current = &endpoint.status.current;
            match current.pod_name.as_deref().filter(|name| *name != pod.name_any()) {
                Some(name) => match pods::live(context, namespace, name, &current.uid, deadline).await? {
                    PodState::Alive(_) | PodState::Terminating(_) => {
                        Some(format!("Pod {namespace}/{name}, which has not finished"))
                    }
                    PodState::Finished(_) | PodState::Gone { .. } => None,
                },
                None => None,
            }
        }
    };
    owner.map_or(Ok(()), |owner| {
        Err(RequestError::Unfit {
            pod: format!("{namespace}/{}", pod.name_any()),
            reason: format!(
                "SpiderEndpoint {namespace}/{}, which it would be given, is that of {owner}; give one of the two another name, or \
                 delete the other one first",
                identity.name
            ),
        })
    })
}
