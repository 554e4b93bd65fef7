//! What may have ended, as far as the caches tell. It costs no request, and frees nothing.

use super::books::Books;
use crate::context::Context;
use crate::pods;
use crate::sandboxes::{Look, Said};
use crate::sticky;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use spiderpool_crds::pod::seen;
use spiderpool_crds::records::PoolRecords;
use spiderpool_crds::{PodAllocation, SpiderEndpoint, SpiderIPPool};
use spiderpool_ipam::Owner;
use spiderpool_ipam::reclaim::{Phase, Sandboxes};
use spiderpool_kit::cache::Key;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use tokio::time::Instant;

/// What is decided about as one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Subject {
    /// The endpoint of a pod UID on this node, with what is on record for that.
    Endpoint { key: Key, uid: String },
    /// One address that is on record for a pod of this node, and that no endpoint of that pod speaks for.
    Record { pool: String, ip: IpAddr, owner: Owner },
}

impl Subject {
    /// The pod's UID.
    pub(super) fn uid(&self) -> &str {
        match self {
            Self::Endpoint { uid, .. } => uid,
            Self::Record { owner, .. } => &owner.uid,
        }
    }

    /// The name that it is on record under.
    pub(super) fn pod(&self) -> String {
        match self {
            Self::Endpoint { key, .. } => key.to_string(),
            Self::Record { owner, .. } => owner.pod.clone(),
        }
    }
}

/// By what a change of the objects is seen: their versions.
pub(super) type Print = (Option<String>, Option<String>);

/// What may have ended.
pub(super) struct Candidate {
    pub(super) print: Print,
    /// What the endpoint says of sandboxes; nothing if there is none.
    told: Option<Told>,
}

/// What an endpoint says of the sandboxes of its pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Told {
    /// Those that were set up and whose DEL did not come.
    pub(super) containers: BTreeSet<String>,
    /// Whether one was set up at all, as far as is known: the peer does not say.
    pub(super) was_set_up: bool,
}

impl Told {
    /// By an endpoint.
    pub(super) fn by(current: &PodAllocation) -> Self {
        let items = current.ips.iter();
        Self {
            containers: items.clone().filter_map(|item| item.container_id.clone()).collect(),
            was_set_up: items.clone().any(|item| item.network_name.is_some()),
        }
    }

    /// Whether it tells the operator that no sandbox is left. One that never named any does not, as all of the peer's.
    fn says_gone(&self) -> bool {
        self.containers.is_empty() && self.was_set_up
    }

    /// What is known of the sandboxes, with what the host shows.
    pub(super) fn said(&self, context: &Context, host: &Look<'_>, uid: &str) -> Said {
        // Each of them had its DEL, or none was set up.
        if self.containers.is_empty() && (self.was_set_up || is_ours(context, uid)) {
            return Sandboxes::None.into();
        }
        let containers: Vec<&str> = self.containers.iter().map(String::as_str).collect();
        by_host(context, host, uid, &containers)
    }
}

/// Whether no record of a pod is the peer's, whose endpoints say nothing of sandboxes, and whose records name no NIC.
fn is_ours(context: &Context, uid: &str) -> bool {
    let pools = context.pools.recording(uid);
    let records = |pool: &Arc<SpiderIPPool>| pool.records().ok();
    !pools.is_empty()
        && pools.iter().map(records).all(|records| {
            let named = |records: PoolRecords| {
                let mut own = records.iter().filter(|(_, record)| record.pod_uid == uid);
                own.all(|(_, record)| record.nic.is_some())
            };
            records.is_some_and(named)
        })
}

/// What the host shows of a pod, if that counts.
pub(super) fn by_host(context: &Context, host: &Look<'_>, uid: &str, containers: &[&str]) -> Said {
    match counts(context, host) {
        true => host.of(uid, containers),
        false => Sandboxes::Unsaid.into(),
    }
}

/// Whether what the host shows counts. A runtime that keeps no result of any pod that lives here keeps them somewhere else.
pub(crate) fn counts(context: &Context, host: &Look<'_>) -> bool {
    let endpoints = context.endpoints.list();
    let lives = |endpoint: &&Arc<SpiderEndpoint>| {
        let current = &endpoint.status.current;
        let is_set_up = current.ips.iter().any(|item| item.container_id.is_some());
        current.node == context.node
            && is_set_up
            && pod_of(context, endpoint).is_some_and(|pod| seen(&pod).phase == Phase::Running && pods::is_alive(&pod))
    };
    let mut living = endpoints.iter().filter(lives).peekable();
    let nobody = living.peek().is_none();
    context.reclaim.by_host && (nobody || living.any(|endpoint| host.knows(&endpoint.status.current.uid)))
}

impl Candidate {
    /// Nothing if no sandbox is left, so that a live look may free something; else when to look again, if that is known.
    pub(super) fn sandbox(&self, context: &Context, host: &Look<'_>, uid: &str) -> Option<Option<Instant>> {
        let said = match &self.told {
            Some(told) => told.said(context, host, uid),
            None => by_host(context, host, uid, &[]),
        };
        match said.word {
            Sandboxes::None => None,
            // An endpoint of a pod that is gone, and of whose addresses none is on record, goes unless a sandbox is seen.
            Sandboxes::Unsaid
                if self.told.is_some() && self.print.1.is_none() && context.pools.recording(uid).is_empty() =>
            {
                None
            }
            Sandboxes::Some | Sandboxes::Unsaid => Some(said.again),
        }
    }
}

/// Everything on this node that may have ended.
pub(super) fn all(context: &Context, books: &Books) -> BTreeMap<Subject, Candidate> {
    let mut found = BTreeMap::new();
    let mut named = BTreeSet::new();
    for endpoint in context.endpoints.list() {
        let current = &endpoint.status.current;
        if current.node != context.node {
            continue;
        }
        named.insert((key_of(&endpoint).to_string(), current.uid.clone()));
        let pod = pod_of(context, &endpoint);
        if let Some(candidate) = of_endpoint(context, &endpoint, pod.as_deref()) {
            let subject = Subject::Endpoint {
                key: key_of(&endpoint),
                uid: current.uid.clone(),
            };
            found.insert(subject, candidate);
        }
    }
    for (pool, ip, owner) in books.own() {
        if named.contains(&(owner.pod.clone(), owner.uid.clone())) {
            continue;
        }
        let pod = by_uid(context, &owner.uid);
        if pod.as_deref().is_none_or(|pod| may_have_ended(context, pod)) {
            let candidate = Candidate {
                print: (None, pod.and_then(|pod| pod.resource_version())),
                told: None,
            };
            let subject = Subject::Record {
                pool: pool.to_owned(),
                ip,
                owner: owner.clone(),
            };
            found.insert(subject, candidate);
        }
    }
    found
}

fn of_endpoint(context: &Context, endpoint: &SpiderEndpoint, pod: Option<&Pod>) -> Option<Candidate> {
    let told = Told::by(&endpoint.status.current);
    // What outlives its pod is the operator's, once it is told that no sandbox is left.
    if told.says_gone() && sticky::keeper(&context.config, endpoint).is_some() {
        return None;
    }
    pod.is_none_or(|pod| may_have_ended(context, pod)).then(|| Candidate {
        print: (endpoint.resource_version(), pod.and_then(ResourceExt::resource_version)),
        told: Some(told),
    })
}

fn may_have_ended(context: &Context, pod: &Pod) -> bool {
    let seen = seen(pod);
    let bare = seen.phase == Phase::Running && !seen.has_addresses && context.reclaim.policy.without_addresses;
    bare || !pods::is_alive(pod)
}

/// Where an endpoint is.
pub(super) fn key_of(endpoint: &SpiderEndpoint) -> Key {
    Key::new(endpoint.namespace().unwrap_or_default(), endpoint.name_any())
}

/// The pod of exactly the UID that an endpoint names.
fn pod_of(context: &Context, endpoint: &SpiderEndpoint) -> Option<Arc<Pod>> {
    let current = &endpoint.status.current;
    let name = current.pod_name.clone().unwrap_or_else(|| endpoint.name_any());
    let named = context.pods.get(&endpoint.namespace().unwrap_or_default(), &name);
    named
        .filter(|pod| pods::has_uid(pod, &current.uid))
        .or_else(|| by_uid(context, &current.uid))
}

/// The pod of a UID.
pub(super) fn by_uid(context: &Context, uid: &str) -> Option<Arc<Pod>> {
    context.pods.list().into_iter().find(|pod| pods::has_uid(pod, uid))
}

#[cfg(test)]
mod tests {
    use super::*;
    use spiderpool_crds::NicDetail;

    #[test]
    fn an_endpoint_that_never_named_a_sandbox_does_not_say_that_it_is_gone() {
        let says_gone = |items: &[(Option<&str>, Option<&str>)]| {
            let item = |(container, network): &(Option<&str>, Option<&str>)| NicDetail {
                container_id: container.map(str::to_owned),
                network_name: network.map(str::to_owned),
                ..NicDetail::default()
            };
            let current = PodAllocation {
                ips: items.iter().map(item).collect(),
                ..PodAllocation::default()
            };
            Told::by(&current).says_gone()
        };
        assert!(says_gone(&[(None, Some("lan"))]));
        // A NIC whose ADD never came.
        assert!(says_gone(&[(None, Some("lan")), (None, None)]));
        assert!(!says_gone(&[(Some("c"), Some("lan"))]));
        assert!(!says_gone(&[(Some("c"), Some("lan")), (None, Some("lan"))]));
        // The peer's.
        assert!(!says_gone(&[(None, None)]));
        assert!(!says_gone(&[]));
    }
}
