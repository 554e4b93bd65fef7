//! What has to be read live before somebody's address is freed.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::ListParams;
use kube::core::{ApiResource, DynamicObject, ObjectMeta};
use spiderpool_crds::SpiderEndpoint;
use spiderpool_crds::owner;
use spiderpool_crds::pod::runtime_uid;
use spiderpool_crds::sticky::{Keeper, ReadObject, StickyKinds};
use spiderpool_ipam::reclaim::{Facts, Moment, Node, Phase, Pod as Seen, Report, Restart, Standing, Trace};
use spiderpool_kit::deadline::within;

use super::case::{Case, Subject, of_pool};
use super::facts;
use crate::application::native::controller;
use crate::context::Context;
use crate::kinds::KindId;
use crate::kinds::node::NodeSketch;
use crate::kinds::pod::PodSketch;
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
        let (own, alike) = Keeper::beside(endpoint, key, counting);
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

/// A case with its endpoint as it is now.
pub(super) async fn endpoint(context: &Context, case: &Case) -> Result<Case, write::Error> {
    let endpoints: Api<SpiderEndpoint> = Api::namespaced(context.client.clone(), &case.key.namespace);
    let endpoint = write::look(&endpoints, &case.key.name).await?;
    Ok(Case {
        endpoint: endpoint.map(Arc::new),
        ..case.clone()
    })
}

/// What the rule wants to know of a subject of a case whose endpoint was just read.
pub(super) async fn facts(context: &Context, case: &Case, subject: &Subject) -> Result<Facts, write::Error> {
    let (found, machine) = pod(context, case, subject).await?;
    let mut trace = case.trace(subject);
    if trace == Trace::Unrecorded && is_recorded(context, case).await? {
        trace = Trace::Endpoint;
    }
    let keepers = facts::keepers(context, case, subject);
    // The record may be that of a machine, and what the endpoint names is not instead of it.
    let alike = stays(context, &keepers.alike).await?;
    let standing = if alike || stays(context, &keepers.own).await? {
        Standing::Stays
    } else if keepers.own.is_empty() && keepers.alike.is_empty() {
        Standing::Passing
    } else {
        Standing::Ends
    };
    let node = match facts::name_of_node(case, subject, found.as_ref()) {
        Some(name) => facts::seen(node(context, name).await?.as_ref()),
        None => Node::Unknown,
    };
    Ok(Facts {
        trace: if alike && trace == Trace::Replaced {
            Trace::Record
        } else {
            trace
        },
        pod: found.as_ref().map(PodSketch::seen).or(machine),
        standing,
        node,
        sandboxes: case.sandboxes(subject),
    })
}

async fn node(context: &Context, name: &str) -> Result<Option<NodeSketch>, write::Error> {
    let nodes: Api<NodeSketch> = Api::all(context.client.clone());
    write::look(&nodes, name).await
}

/// The pod that a subject names, by its own name; else one of a virtual machine, of which only is known that it may run.
async fn pod(
    context: &Context,
    case: &Case,
    subject: &Subject,
) -> Result<(Option<PodSketch>, Option<Seen>), write::Error> {
    let uid = case.uid(subject);
    let pods: Api<PodSketch> = Api::namespaced(context.client.clone(), &case.key.namespace);
    let found = write::look(&pods, case.pod(subject)).await?;
    let own = found.filter(|pod| pod.is(uid));
    let ended = |pod: &PodSketch| matches!(pod.seen().phase, Phase::Succeeded | Phase::Failed);
    // Of a virtual machine whose migration failed, the pod that it did not move to has ended and another one runs.
    if own.as_ref().is_some_and(|pod| !ended(pod)) {
        return Ok((own, None));
    }
    let keepers = Keepers::of(context, case.endpoint.as_deref(), &case.key.to_string(), ALL);
    let Some(pods) = MachinePods::read(context, &keepers).await? else {
        return Ok((own, None));
    };
    let of_machine = keepers.own.iter().any(Keeper::is_machine);
    let runs = match subject {
        // Whichever pod of the machine it names, the machine uses what it has.
        Subject::Endpoint(_) => of_machine && pods.is_running,
        // An endpoint of the machine says what its pods use, whichever of them the record names.
        Subject::Record(_) => pods.is_running && !(case.endpoint.is_some() && keepers.alike.is_empty()),
    };
    if pods.has(uid) || runs {
        return Ok((None, Some(RUNS)));
    }
    Ok((own, None))
}

/// A pod of which only is known that it may run.
const RUNS: Seen = Seen {
    phase: Phase::Unknown,
    restart: Restart::Always,
    deletion: None,
    report: Report::Kubelet,
    ended: Moment(0),
    grace: Duration::ZERO,
    has_addresses: true,
};

/// Whether a pool has something on record under the name, which the cache did not know yet, or cannot be read.
async fn is_recorded(context: &Context, case: &Case) -> Result<bool, write::Error> {
    let items = case.endpoint.iter().flat_map(|endpoint| &endpoint.status.current.ips);
    let pools: BTreeSet<&str> = items
        .flat_map(|item| item.addresses())
        .filter_map(|(_, pool)| pool)
        .collect();
    for pool in pools {
        let Some(live) = context.pools.read(pool).await? else {
            continue;
        };
        let mut found = live.records().is_err();
        of_pool(&live, |record| found |= record.owner.pod == case.key.to_string());
        if found {
            return Ok(true);
        }
    }
    Ok(false)
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
