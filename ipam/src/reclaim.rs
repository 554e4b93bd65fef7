//! Whether an address that nobody may have any more is freed.
//!
//! One rule for everybody who frees what no DEL freed: the operator, a node's agent, and whoever checks a cluster. It is asked
//! about one pod UID that a pool's record or an endpoint names, and all it is told ([`Facts`]) was read live, the record first:
//! UIDs do not come back, so a pod that is not found after its record was read is gone for ever.
//!
//! | rule | what it is told | what follows |
//! |---|---|---|
//! | R1 | the pod exists and has neither finished nor is being deleted | kept |
//! | R2 | its workload may make a pod of the same identity again | kept, unless that identity has other addresses by now |
//! | R3 | the endpoint of its name is another pod's, and has this address | kept: that pod takes it over |
//! | R4 | an endpoint or record names a node, and that is Ready | kept: its agent sees whether a sandbox is left |
//! | R5 | as R4, but the endpoint is that of an identity that has ended, and the agent said that no sandbox is left | freed |
//! | R6 | the agent itself asks, and a sandbox is left or may be | kept |
//! | R7 | the agent itself asks, and no sandbox is left | freed, a terminating pod's when its grace is over |
//! | R8 | the kubelet said that the pod finished, which it says only when the sandbox is gone | freed after the grace of the pod, at once where its node was shut down; on a Ready node where nothing names it |
//! | R9 | no node is known, and the pod is gone | freed |
//! | R10 | no node is known, and the pod exists | kept |
//! | R11 | the node is lost, and its agent said before that no sandbox is left, or no address is on record | freed when the pod is gone |
//! | R12 | the node is lost otherwise | as [`OnNodeLost`] says |
//!
//! "Freed" is never at first sight. The first look makes a suspicion, the second one, at the earliest after [`IN_FLIGHT`] or
//! [`SECOND_LOOK`], the decision; and the write compares the whole owner with the one that was looked at.
//!
//! The peer's switches ([`Policy`]) hold in every rule: [`Policy::enabled`] before all, [`Policy::on_ready_node`] in R7 and R8,
//! [`Policy::without_addresses`] in R1, [`Policy::delay`] wherever a grace is waited for.

mod facts;
mod leave;
mod life;
mod policy;

pub use facts::{Facts, Moment, Node, Phase, Pod, Report, Restart, Sandboxes, Standing, Trace};
pub use leave::{FAREWELL, Leave, leave};
pub use policy::{OnNodeLost, Policy};

use life::Life;
use std::time::Duration;

/// How long after a pod was first found gone an ADD of it may still be on its way: as long as an ADD may last. What it took is on
/// record before its endpoint is written.
pub const IN_FLIGHT: Duration = Duration::from_secs(30);

/// Least time between two looks where no ADD can be on its way.
pub const SECOND_LOOK: Duration = Duration::from_secs(5);

/// What to do about the addresses of one pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// They are rightly taken, or not ours to free.
    Keep(Keep),
    /// Nobody seems to have them. Look again, live, after this time.
    Suspect {
        /// How long to wait.
        again: Duration,
    },
    /// Free them by a compare with the whole recorded owner.
    Free(Reason),
}

/// Why addresses are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Keep {
    /// Reclaim is switched off.
    SwitchedOff,
    /// The pod may run.
    Lives,
    /// They wait for the next pod of the identity.
    Identity,
    /// Another pod of the name has this address.
    TakenOver,
    /// The agent of the pod's node frees them.
    Agent,
    /// The agent itself sees a sandbox, or cannot tell.
    Sandbox,
    /// The policy for lost nodes keeps them.
    NodeLost,
    /// A switch keeps what pods on Ready nodes have.
    ReadyNode,
}

/// Why addresses are freed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// No pod of the recorded UID exists.
    PodGone,
    /// The pod finished.
    PodFinished,
    /// The pod is being deleted, its grace is over, and its node has no sandbox of it.
    PodTerminated,
    /// The pod runs, but has no address as far as the API server knows.
    NoAddresses,
    /// The pod kept its addresses, and its workload does not make it again.
    OwnerGone,
    /// No pool has the addresses of the endpoint on record.
    Unrecorded,
    /// The pod runs, with another address for the interface. The agent of its node finds that out, and nobody else may.
    Superseded,
    /// The pod's Node was deleted.
    NodeGone,
    /// The pod's Node is out of service.
    NodeOutOfService,
    /// The pod's Node has not been Ready for as long as the policy says.
    NodeNotReady,
}

impl Reason {
    /// All reasons.
    pub const ALL: [Self; 10] = [
        Self::PodGone,
        Self::PodFinished,
        Self::PodTerminated,
        Self::NoAddresses,
        Self::OwnerGone,
        Self::Unrecorded,
        Self::Superseded,
        Self::NodeGone,
        Self::NodeOutOfService,
        Self::NodeNotReady,
    ];

    /// The word in metrics and logs.
    pub const fn word(self) -> &'static str {
        match self {
            Self::PodGone => "PodGone",
            Self::PodFinished => "PodFinished",
            Self::PodTerminated => "PodTerminated",
            Self::NoAddresses => "NoAddresses",
            Self::OwnerGone => "OwnerGone",
            Self::Unrecorded => "Unrecorded",
            Self::Superseded => "Superseded",
            Self::NodeGone => "NodeGone",
            Self::NodeOutOfService => "NodeOutOfService",
            Self::NodeNotReady => "NodeNotReady",
        }
    }
}

/// What may be freed, and when.
struct Release {
    reason: Reason,
    /// Not before this moment of the cluster's clock.
    until: Option<Moment>,
    /// Nor before this time since the first look.
    after: Duration,
}

impl Release {
    const fn now(reason: Reason) -> Self {
        Self {
            reason,
            until: None,
            after: Duration::ZERO,
        }
    }

    /// At the end of a grace, if there is one, and as much later as the policy says.
    fn delayed(reason: Reason, until: Option<Moment>, policy: &Policy) -> Self {
        Self {
            reason,
            until: until.map(|until| until.after(policy.delay)),
            after: if until.is_none() { policy.delay } else { Duration::ZERO },
        }
    }
}

/// Decides about what one pod has. `waited` is the time from the end of the first live look that found that the pod uses it no more
/// to the beginning of this one; none if this is the first.
pub fn decide(facts: &Facts, policy: &Policy, now: Moment, waited: Option<Duration>) -> Decision {
    let life = Life::of(facts.pod.as_ref());
    let release = match judge(facts, &life, policy) {
        Ok(release) => release,
        Err(keep) => return Decision::Keep(keep),
    };
    let least = confirmation(facts, &life) + release.after;
    let left = least.saturating_sub(waited.unwrap_or_default());
    let left = left.max(release.until.map_or(Duration::ZERO, |until| until.since(now)));
    match waited {
        Some(_) if left.is_zero() => Decision::Free(release.reason),
        _ => Decision::Suspect { again: left },
    }
}

/// How long two looks are apart.
const fn confirmation(facts: &Facts, life: &Life) -> Duration {
    match (facts.trace, life, facts.node, facts.sandboxes) {
        // Its kubelet is done with it, so no ADD of it is under way.
        (Trace::Endpoint | Trace::Unrecorded, Life::Stopped { .. }, _, _) => Duration::ZERO,
        // An agent takes its turn after the ADDs of the pod.
        (Trace::Endpoint, _, Node::Own, _) => SECOND_LOOK,
        // Whatever is under way there, the sandbox was counted in.
        (Trace::Endpoint, _, Node::NotReady { .. } | Node::Gone, Sandboxes::Some | Sandboxes::Unsaid) => SECOND_LOOK,
        _ => IN_FLIGHT,
    }
}

fn judge(facts: &Facts, life: &Life, policy: &Policy) -> Result<Release, Keep> {
    if !policy.enabled {
        return Err(Keep::SwitchedOff);
    }
    let passing = facts.standing == Standing::Passing;
    match life {
        Life::Lives => return Err(Keep::Lives),
        Life::Bare if !passing || !policy.without_addresses => return Err(Keep::Lives),
        _ => {}
    }
    let elsewhere = facts.trace == Trace::Replaced && *life == Life::Gone;
    if facts.standing == Standing::Stays && !elsewhere {
        return Err(Keep::Identity);
    }
    if facts.trace == Trace::TakenOver {
        return Err(Keep::TakenOver);
    }
    match &facts.node {
        Node::Own => own(facts, life, policy),
        Node::Ready => ready(facts, life, policy),
        Node::Unknown => unknown(facts, life, policy),
        Node::NotReady { .. } | Node::Gone => lost(facts, life, policy),
    }
}

/// R6, R7.
fn own(facts: &Facts, life: &Life, policy: &Policy) -> Result<Release, Keep> {
    if facts.sandboxes != Sandboxes::None {
        return Err(Keep::Sandbox);
    }
    let left_over = facts.standing == Standing::Passing && !policy.on_ready_node;
    match life {
        Life::Ending { .. } if left_over => Err(Keep::ReadyNode),
        Life::Ending { until } => Ok(Release::delayed(Reason::PodTerminated, *until, policy)),
        Life::Stopped { .. } => Ok(Release::now(Reason::PodFinished)),
        Life::Lives | Life::Bare | Life::Gone => Ok(ended(facts, life, policy)),
    }
}

/// R4, R5 and the part of R8 for records that nothing names.
fn ready(facts: &Facts, life: &Life, policy: &Policy) -> Result<Release, Keep> {
    let named = matches!(facts.trace, Trace::Endpoint | Trace::Unrecorded);
    match life {
        Life::Gone if named && facts.standing == Standing::Ends && facts.sandboxes == Sandboxes::None => {
            Ok(ended(facts, life, policy))
        }
        Life::Stopped { .. } if !named && facts.standing == Standing::Passing && !policy.on_ready_node => {
            Err(Keep::ReadyNode)
        }
        Life::Stopped { until } if !named => Ok(Release::delayed(Reason::PodFinished, Some(*until), policy)),
        _ => Err(Keep::Agent),
    }
}

/// R9, R10.
fn unknown(facts: &Facts, life: &Life, policy: &Policy) -> Result<Release, Keep> {
    match life {
        Life::Gone => Ok(ended(facts, life, policy)),
        Life::Stopped { until } => Ok(Release::delayed(Reason::PodFinished, Some(*until), policy)),
        Life::Lives | Life::Bare | Life::Ending { .. } => Err(Keep::Lives),
    }
}

/// R11, R12, and R8 for nodes that are lost.
fn lost(facts: &Facts, life: &Life, policy: &Policy) -> Result<Release, Keep> {
    let nothing_left = facts.sandboxes == Sandboxes::None || facts.trace == Trace::Unrecorded;
    let until = match life {
        Life::Gone if nothing_left => return Ok(ended(facts, life, policy)),
        Life::Stopped { until } if policy.on_node_lost != OnNodeLost::Keep => {
            return Ok(Release::delayed(Reason::PodFinished, Some(*until), policy));
        }
        Life::Ending { until } => *until,
        Life::Stopped { .. } | Life::Lives | Life::Bare | Life::Gone => None,
    };
    let (reason, since) = match facts.node {
        Node::NotReady {
            since,
            in_service: true,
        } => (Reason::NodeNotReady, Some(since)),
        Node::NotReady { since, .. } => (Reason::NodeOutOfService, Some(since)),
        Node::Gone | Node::Unknown | Node::Own | Node::Ready => (Reason::NodeGone, None),
    };
    let release = Release::delayed(reason, until, policy);
    match policy.on_node_lost {
        OnNodeLost::Keep => Err(Keep::NodeLost),
        OnNodeLost::OutOfService if reason == Reason::NodeNotReady => Err(Keep::NodeLost),
        OnNodeLost::OutOfService => Ok(release),
        OnNodeLost::After(time) => Ok(Release {
            until: release.until.max(since.map(|since| since.after(time))),
            // When a Node was deleted is not told, so it counts from when that was seen.
            after: if since.is_none() {
                release.after.max(time)
            } else {
                release.after
            },
            ..release
        }),
    }
}

/// What is there without a pod, or with one that has no addresses.
fn ended(facts: &Facts, life: &Life, policy: &Policy) -> Release {
    let reason = match (facts.trace, facts.standing) {
        _ if *life == Life::Bare => Reason::NoAddresses,
        (Trace::Unrecorded, _) => Reason::Unrecorded,
        (_, Standing::Ends) => Reason::OwnerGone,
        _ => Reason::PodGone,
    };
    Release::delayed(reason, None, policy)
}
