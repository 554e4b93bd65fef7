//! Why a request of the CNI plugin failed, as the user reads it in the pod's Event.

use crate::cancel;
use crate::pools::JobError;
use spiderpool_crds::SpiderEndpoint;
use spiderpool_crds::annotations::AnnotationError;
use spiderpool_ipam::candidates::Rejection;
use spiderpool_kit::discovery::Unknown;
use std::net::IpAddr;
use std::sync::Arc;

/// Why a request failed. Every text says what was attempted, on what, and what the reader can do.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// No pod of that UID is known to the API server.
    #[error(
        "Pod {pod} with UID {uid} is not known: {seen}; if the Pod exists, the kubelet tries again with its present UID"
    )]
    UnknownPod {
        /// `namespace/name`.
        pod: String,
        /// UID of the request.
        uid: String,
        /// What a live read showed.
        seen: String,
    },
    /// The pod runs elsewhere.
    #[error("Pod {pod} is scheduled to node {node:?}, not to this node {own:?}")]
    OtherNode {
        /// `namespace/name`.
        pod: String,
        /// Its node.
        node: String,
        /// The agent's node.
        own: String,
    },
    /// The pod is terminating or has finished.
    #[error("Pod {pod} with UID {uid} is terminating or has finished, so it gets no address")]
    DeadPod {
        /// `namespace/name`.
        pod: String,
        /// UID of the request.
        uid: String,
    },
    /// An annotation does not parse.
    #[error("Pod {pod}: {source}")]
    Annotation {
        /// `namespace/name`.
        pod: String,
        /// What is wrong.
        #[source]
        source: AnnotationError,
    },
    /// An annotation of the pod's namespace does not parse.
    #[error("Pod {pod} takes the default pools of its Namespace {namespace}: {source}")]
    NamespaceAnnotation {
        /// `namespace/name`.
        pod: String,
        /// The namespace.
        namespace: String,
        /// What is wrong.
        #[source]
        source: AnnotationError,
    },
    /// The pod's annotation asks for what does not fit the pod.
    #[error("Pod {pod}: {reason}")]
    Unfit {
        /// `namespace/name`.
        pod: String,
        /// What does not fit, and what to write.
        reason: String,
    },
    /// It cannot be told which application the pod belongs to.
    #[error(
        "cannot tell whether Pod {pod} belongs to {child} or to {owner} above it: {source}; the kubelet tries again; listing the \
         kind in ipam.spiderSubnet.autoPool.workloadKinds of the chart settles it"
    )]
    Owner {
        /// `namespace/name`.
        pod: String,
        /// Kind and name of the pod's controller.
        child: String,
        /// Kind and name of what controls that one.
        owner: String,
        /// What is not known.
        #[source]
        source: Box<Unknown>,
    },
    /// No pool has an address for the pod.
    #[error("{}: {}", self.headline(), .reasons.join("; "))]
    NoPool {
        /// `namespace/name`.
        pod: String,
        /// The interface.
        nic: String,
        /// `IPv4` or `IPv6`.
        family: String,
        /// One reason for each pool that was looked at, and what else is to say.
        reasons: Vec<String>,
    },
    /// A pool's records could not be written.
    #[error("{0}")]
    Pool(#[from] JobError),
    /// The API server did not answer in time, or refused.
    #[error("cannot {what}: {reason}")]
    Api {
        /// What was attempted.
        what: String,
        /// Why it failed.
        reason: String,
    },
    /// The pod's namespace takes no new objects.
    #[error(
        "cannot write the SpiderEndpoint of Pod {pod}: Namespace {namespace} is being deleted or is gone, and its Pods go with \
         it: {answer}"
    )]
    NamespaceEnds {
        /// `namespace/name`.
        pod: String,
        /// The namespace.
        namespace: String,
        /// What the API server said.
        answer: String,
    },
    /// Another request of the pod took all the time.
    #[error(
        "an earlier ADD or DEL of Pod {pod} is still running on this node, and one is served after the other; the kubelet tries \
         again; if this goes on, the log of the spiderpool agent of the node says what that request waits for"
    )]
    Busy {
        /// `namespace/name`.
        pod: String,
    },
    /// Nobody waits for the ADD any more.
    #[error("the ADD of Pod {pod} NIC {nic} was {reason}")]
    Cancelled {
        /// `namespace/name`.
        pod: String,
        /// The interface.
        nic: String,
        /// Why it need not go on.
        reason: cancel::Reason,
    },
    /// An earlier ADD of the pod got another address, which this one did not know of.
    #[error(
        "an earlier ADD gave NIC {nic} of Pod {pod} the address {ip}, of which the spiderpool agent of the node heard too late; the \
         kubelet tries again"
    )]
    Overtaken {
        /// `namespace/name`.
        pod: String,
        /// The interface.
        nic: String,
        /// What it has.
        ip: IpAddr,
        /// The endpoint that says so.
        endpoint: Arc<SpiderEndpoint>,
    },
    /// The agent has just started and does not know the cluster yet.
    #[error(
        "the spiderpool agent of node {node} has not read {missing} from the API server yet; the kubelet tries again"
    )]
    NotReady {
        /// The agent's node.
        node: String,
        /// What it waits for.
        missing: String,
    },
}

impl RequestError {
    /// The error without the reasons that are told one by one.
    pub fn headline(&self) -> String {
        match self {
            Self::NoPool { pod, nic, family, .. } => {
                format!("no IPPool available for Pod {pod} NIC {nic} {family}")
            }
            other => other.to_string(),
        }
    }

    /// The class for logs and metrics: a closed set.
    pub fn class(&self) -> &'static str {
        match self {
            Self::UnknownPod { .. } | Self::OtherNode { .. } | Self::DeadPod { .. } | Self::NamespaceEnds { .. } => {
                "pod"
            }
            Self::Annotation { .. } | Self::NamespaceAnnotation { .. } | Self::Unfit { .. } => "wrong_input",
            Self::NoPool { reasons, .. } if reasons.iter().any(|reason| is_used_out(reason)) => "ip_used_out",
            Self::NoPool { .. } | Self::Pool(JobError::Rejected { .. }) => "no_available_pool",
            Self::Pool(
                JobError::Refused { .. }
                | JobError::Unread { .. }
                | JobError::Unrecorded { .. }
                | JobError::Deadline { .. },
            )
            | Self::Api { .. }
            | Self::Overtaken { .. }
            | Self::Owner { .. } => "api",
            Self::NotReady { .. } => "not_ready",
            Self::Cancelled { .. } => "cancelled",
            Self::Busy { .. } => "busy",
        }
    }
}

/// Whether a reason is that a pool has no room.
fn is_used_out(reason: &str) -> bool {
    let word = reason.split([' ', ':']).next();
    word.is_some_and(|word| Rejection::USED_OUT.contains(&word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pools_without_room_are_counted_apart() {
        let no_pool = |reasons: &[&str]| RequestError::NoPool {
            pod: "retail/shop".to_owned(),
            nic: "eth0".to_owned(),
            family: "IPv4".to_owned(),
            reasons: reasons.iter().map(|reason| (*reason).to_owned()).collect(),
        };
        let full = Rejection::Exhausted {
            used: 2,
            total: 2,
            held: 0,
        };
        let line = format!("{}: all IP addresses used out", full.head());
        assert_eq!(no_pool(&["asked for by annotation", &line]).class(), "ip_used_out");
        assert_eq!(
            no_pool(&["Disabled: IPPool off is disabled"]).class(),
            "no_available_pool"
        );
    }
}
