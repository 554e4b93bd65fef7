//! GC: the container runtime says which attachments of a network are in use.
//!
//! What this node's endpoints say was set up for that network and is not in the list is treated as if its DEL had come, once its
//! pod has finished or is gone. Nothing at all happens to what another pod has: the list may be of another runtime than the pod's,
//! or was taken before the pod's ADD ended, and then the attachment is in use. A sandbox that a living pod replaced holds
//! nothing, since an endpoint names the last one.

use crate::context::Context;
use crate::del::{self, Released};
use crate::error::RequestError;
use crate::pods::{self, PodState};
use crate::sandboxes::Attachment;
use crate::sticky;
use crate::sweep;
use kube::ResourceExt;
use spiderpool_crds::SpiderEndpoint;
use spiderpool_crds::pod::seen;
use spiderpool_ipam::reclaim::{Decision, Facts, IN_FLIGHT, Node, Reason, Sandboxes, Standing, Trace, decide};
use spiderpool_wire::{IpamDelArgs, IpamGcArgs, ValidAttachment};
use std::collections::BTreeSet;
use tokio::time::Instant;

/// Gives back what is not in the list and whose pod has ended; tells how many attachments that were.
pub async fn collect(context: &Context, args: &IpamGcArgs) -> Result<usize, RequestError> {
    context.wait_ready(Instant::now() + del::BUDGET).await?;
    let known: BTreeSet<&ValidAttachment> = args.attachments.iter().collect();
    let own = context.endpoints.list().into_iter();
    let unknown: Vec<IpamDelArgs> = own
        .filter(|endpoint| endpoint.status.current.node == context.node)
        .flat_map(|endpoint| {
            unknown(
                &endpoint,
                &sticky::pod_name(context, &endpoint),
                &args.network_name,
                &known,
            )
        })
        .collect();
    let (mut ended, mut failed) = (0, None);
    for args in &unknown {
        let (pod, container) = (format!("{}/{}", args.pod_namespace, args.pod_name), &args.container_id);
        match end(context, args).await {
            Ok(None) => {}
            Ok(Some(released)) => {
                ended += 1;
                tracing::info!(
                    pod,
                    nic = args.if_name,
                    container,
                    ?released,
                    "attachment unknown to the container runtime"
                );
            }
            // The others do not wait for this one; the runtime is told, and asks again.
            Err(error) => failed = failed.or(Some(error)),
        }
    }
    failed.map_or(Ok(ended), Err)
}

/// Serves the DEL that never came, unless the pod may still run.
async fn end(context: &Context, args: &IpamDelArgs) -> Result<Option<Released>, RequestError> {
    let deadline = Instant::now() + del::BUDGET;
    let (namespace, name) = (&args.pod_namespace, &args.pod_name);
    // The cache may be behind, but what ended stays so.
    let pod = match pods::live(context, namespace, name, &args.pod_uid, deadline).await? {
        PodState::Alive(pod) | PodState::Terminating(pod) | PodState::Finished(pod) => Some(seen(&pod)),
        PodState::Gone { .. } => None,
    };
    let facts = Facts {
        trace: Trace::Endpoint,
        pod,
        // Whether another pod comes after it, the DEL asks.
        standing: Standing::Passing,
        node: Node::Own,
        sandboxes: Sandboxes::None,
    };
    // The runtime has looked before.
    match decide(&facts, &context.reclaim.policy, sweep::now(), Some(IN_FLIGHT)) {
        Decision::Free(Reason::PodGone | Reason::PodFinished) if is_there(context, args).await => Ok(None),
        Decision::Free(Reason::PodGone | Reason::PodFinished) => del::del(context, args).await.map(Some),
        // A list of another runtime does not tell, and the pod's own DEL comes.
        Decision::Free(_) | Decision::Keep(_) | Decision::Suspect { .. } => Ok(None),
    }
}

/// Whether the attachment is there all the same: it may be younger than the list.
async fn is_there(context: &Context, args: &IpamDelArgs) -> bool {
    let host = context.sandboxes.look().await;
    let same = |known: &&Attachment| known.container == args.container_id && known.nic == args.if_name;
    host.attachments().into_iter().any(|known| same(&known))
}

/// The DELs that never came.
fn unknown(
    endpoint: &SpiderEndpoint,
    pod: &str,
    network: &str,
    known: &BTreeSet<&ValidAttachment>,
) -> Vec<IpamDelArgs> {
    let current = &endpoint.status.current;
    let items = current.ips.iter();
    items
        .filter(|item| item.network_name.as_deref() == Some(network))
        .filter_map(|item| {
            // Where the sandbox is gone already, its DEL came.
            let attachment = ValidAttachment {
                container_id: item.container_id.clone()?,
                if_name: item.interface.clone(),
            };
            (!known.contains(&attachment)).then(|| IpamDelArgs {
                container_id: attachment.container_id,
                if_name: attachment.if_name,
                net_namespace: String::new(),
                pod_namespace: endpoint.namespace().unwrap_or_default(),
                pod_name: pod.to_owned(),
                pod_uid: current.uid.clone(),
                network_name: network.to_owned(),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use spiderpool_crds::{EndpointStatus, NicDetail, PodAllocation};

    #[test]
    fn only_attachments_of_the_network_that_are_not_listed_are_unknown() {
        let item = |nic: &str, network: Option<&str>, container: Option<&str>| NicDetail {
            interface: nic.to_owned(),
            network_name: network.map(str::to_owned),
            container_id: container.map(str::to_owned),
            ..NicDetail::default()
        };
        let status = EndpointStatus {
            current: PodAllocation {
                uid: "u".to_owned(),
                ips: vec![
                    item("eth0", Some("hall"), Some("c1")),
                    item("net1", Some("hall"), Some("c2")),
                    item("net2", Some("yard"), Some("c2")),
                    item("net3", None, Some("c2")),
                    item("net4", Some("hall"), None),
                ],
                ..PodAllocation::default()
            },
            ..EndpointStatus::default()
        };
        let endpoint = SpiderEndpoint::new("retail", "shop", status);
        let listed = ValidAttachment {
            container_id: "c1".to_owned(),
            if_name: "eth0".to_owned(),
        };
        let unknown = unknown(&endpoint, "shop", "hall", &BTreeSet::from([&listed]));
        let expected = IpamDelArgs {
            container_id: "c2".to_owned(),
            if_name: "net1".to_owned(),
            net_namespace: String::new(),
            pod_namespace: "retail".to_owned(),
            pod_name: "shop".to_owned(),
            pod_uid: "u".to_owned(),
            network_name: "hall".to_owned(),
        };
        assert_eq!(unknown, [expected]);
    }
}
