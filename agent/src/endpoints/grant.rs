//! The endpoint that says what an ADD got.

use super::{LABEL_NODE, addresses, node_label, routes};
use crate::context::Context;
use crate::sticky::Identity;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::ResourceExt;
use spiderpool_crds::app::AppKey;
use spiderpool_crds::pod::runtime_uid;
use spiderpool_crds::{EndpointStatus, NicDetail, PodAllocation, Route, SpiderEndpoint, names};
use std::net::IpAddr;
use std::sync::Arc;

/// What an ADD got.
#[derive(Clone, Debug)]
pub struct Grant {
    /// The NICs.
    pub items: Vec<NicDetail>,
    /// Routes that the pod's annotation adds.
    pub routes: Vec<Route>,
    /// Whose endpoint it is.
    pub identity: Identity,
    /// NICs that an earlier pod of the identity had, and whose own ADD is still to come.
    pub inherited: Vec<NicDetail>,
    /// The endpoint as it was known before anything was claimed.
    pub known: Option<Arc<SpiderEndpoint>>,
}

/// The endpoint of a pod that has none.
pub(super) fn fresh(context: &Context, pod: &Pod, app: &AppKey, grant: &Grant) -> SpiderEndpoint {
    let Identity {
        namespace,
        name,
        keeper,
    } = &grant.identity;
    let pod_name = pod.name_any();
    let uid = runtime_uid(&pod.metadata).unwrap_or_default().to_owned();
    let status = EndpointStatus {
        current: PodAllocation {
            uid,
            pod_name: Some(pod_name.clone()).filter(|pod_name| pod_name != name),
            node: context.node.clone(),
            ips: grant.merged(grant.inherited.clone()),
            ..PodAllocation::default()
        },
        owner_controller_type: app.kind.clone(),
        owner_controller_name: app.name.clone(),
        owner_controller_api_version: keeper.is_some().then(|| app.api_version()),
        ..EndpointStatus::default()
    };
    let mut endpoint = SpiderEndpoint::new(namespace, name, status);
    endpoint.metadata.finalizers = Some(vec![names::FINALIZER.to_owned()]);
    endpoint
        .labels_mut()
        .insert(LABEL_NODE.to_owned(), node_label(&context.node));
    // What is kept outlives the pod.
    let owner = keeper.is_none().then(|| OwnerReference {
        api_version: "v1".to_owned(),
        kind: "Pod".to_owned(),
        name: pod_name,
        uid: pod.uid().unwrap_or_default(),
        ..OwnerReference::default()
    });
    endpoint.metadata.owner_references = owner.map(|owner| vec![owner]);
    endpoint
}

impl Grant {
    /// What an endpoint of the same pod gives a NIC instead of what is granted, without that it was known before: an ADD of which was
    /// heard too late.
    pub(super) fn overtaken_by(&self, live: &SpiderEndpoint) -> Option<(&str, IpAddr)> {
        let uid = &live.status.current.uid;
        let known = self.known.as_ref().filter(|known| known.status.current.uid == *uid);
        let known = known.map_or(&[][..], |known| &known.status.current.ips);
        self.items.iter().find_map(|granted| {
            let of_nic = |item: &&NicDetail| item.interface == granted.interface;
            let was_known = |ip| known.iter().filter(of_nic).any(|item| addresses(item).contains(&ip));
            let instead = |ip: &IpAddr| {
                let mut own = addresses(granted).into_iter();
                own.any(|own| own.is_ipv4() == ip.is_ipv4() && own != *ip) && !was_known(*ip)
            };
            let mut given = live.status.current.ips.iter().filter(of_nic).flat_map(addresses);
            given.find(instead).map(|ip| (granted.interface.as_str(), ip))
        })
    }

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
pub(super) fn merge(old: &mut SpiderEndpoint, fresh: &SpiderEndpoint, grant: &Grant) {
    if old.status.current.uid == fresh.status.current.uid {
        let nics = std::mem::take(&mut old.status.current.ips);
        old.status.current.ips = grant.merged(nics);
    } else {
        old.status.current.ips.clone_from(&fresh.status.current.ips);
    }
    // Also of the same pod's: a version that did not keep its addresses tied the endpoint to the pod.
    old.metadata.owner_references = fresh.metadata.owner_references.clone();
    old.status.current.uid.clone_from(&fresh.status.current.uid);
    old.status.current.pod_name.clone_from(&fresh.status.current.pod_name);
    old.status.current.node.clone_from(&fresh.status.current.node);
    old.status
        .owner_controller_api_version
        .clone_from(&fresh.status.owner_controller_api_version);
    old.status
        .owner_controller_type
        .clone_from(&fresh.status.owner_controller_type);
    old.status
        .owner_controller_name
        .clone_from(&fresh.status.owner_controller_name);
    old.labels_mut().extend(fresh.labels().clone());
    if !super::has_finalizer(old) && old.metadata.deletion_timestamp.is_none() {
        old.finalizers_mut().push(names::FINALIZER.to_owned());
    }
}
