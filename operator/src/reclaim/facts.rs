//! What the caches know of a subject. It raises suspicions and frees nothing.

use spiderpool_crds::sticky::{Keeper, StickyKind};
use spiderpool_ipam::reclaim::{Facts, Moment, Node, Standing};
use spiderpool_kit::clock;

use super::case::{Case, Subject};
use super::live::Keepers;
use crate::context::Context;
use crate::kinds::node::{NodeSketch, moment};
use crate::kinds::pod::PodSketch;

/// The time by the clock of this machine.
pub(super) fn now() -> Moment {
    moment(clock::now())
}

/// What the caches know. Where they do not tell whether a workload stays, it does not: then it is read.
pub(super) fn cached(context: &Context, case: &Case, subject: &Subject) -> Facts {
    let pods = &context.caches.pods;
    let pod = pods.get(&case.key.namespace, case.pod(subject));
    let pod = pod.filter(|pod| pod.is(case.uid(subject)));
    let node = |name: &str| context.caches.nodes.get("", name);
    Facts {
        trace: case.trace(subject),
        node: node_of(case, subject, pod.as_deref(), |name| seen(node(name).as_deref())),
        pod: pod.as_deref().map(PodSketch::seen),
        standing: standing(context, case, subject),
        sandboxes: case.sandboxes(subject),
    }
}

/// The node that endpoint, record or pod name.
pub(super) fn name_of_node<'a>(case: &'a Case, subject: &'a Subject, pod: Option<&'a PodSketch>) -> Option<&'a str> {
    case.node(subject).or_else(|| pod.and_then(PodSketch::node))
}

fn node_of(case: &Case, subject: &Subject, pod: Option<&PodSketch>, look: impl FnOnce(&str) -> Node) -> Node {
    name_of_node(case, subject, pod).map_or(Node::Unknown, look)
}

/// What a Node is to the rule.
pub(super) fn seen(node: Option<&NodeSketch>) -> Node {
    node.map_or(Node::Gone, NodeSketch::seen)
}

fn standing(context: &Context, case: &Case, subject: &Subject) -> Standing {
    let keepers = keepers(context, case, subject);
    if is_settled(context, case, subject) {
        Standing::Stays
    } else if keepers.own.is_empty() && keepers.alike.is_empty() {
        Standing::Passing
    } else {
        Standing::Ends
    }
}

/// What may keep the addresses of a subject.
pub(super) fn keepers(context: &Context, case: &Case, subject: &Subject) -> Keepers {
    let mut keepers = Keepers::of(
        context,
        case.endpoint.as_deref(),
        &case.key.to_string(),
        context.config.sticky,
    );
    if let Subject::Endpoint(_) = subject {
        // What is on record for others under its name is decided about for itself.
        keepers.alike.clear();
    }
    keepers
}

/// Whether the cache of StatefulSets says that the pod may come again, which is how it is for almost all. A set that changes
/// is looked at anew.
pub(super) fn is_settled(context: &Context, case: &Case, subject: &Subject) -> bool {
    let is_member = |keeper: &Keeper| {
        let set = context.caches.stateful_sets.get(&keeper.namespace, &keeper.owner);
        keeper.kinds.contains(&StickyKind::StatefulSet) && set.is_some_and(|set| keeper.is_member(&set))
    };
    keepers(context, case, subject).own.iter().any(is_member)
}
