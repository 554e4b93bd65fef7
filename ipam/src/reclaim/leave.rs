//! Whether an endpoint may go before the addresses that it names.
//!
//! A namespace that is being deleted waits for the finalizers of its endpoints, and these wait for whoever frees their addresses: an
//! agent that does not run, or a node that nobody has declared off. The addresses have to wait for that; the namespace has not. A
//! record that names its node is decided about as its endpoint was, so nothing is lost with the endpoint.

use super::facts::{Facts, Node, Trace};
use std::time::Duration;

/// How long after a pod was first found gone its agent is left to free what it had. An ADD in a namespace that is being deleted
/// makes no endpoint any more, so none is under way that could want this one.
pub const FAREWELL: Duration = Duration::from_secs(10);

/// Whether an endpoint of a namespace that is being deleted may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leave {
    /// Something of it may be in use, or it alone says where its pod was.
    Stays,
    /// Not before this time has passed.
    Later(Duration),
    /// Its records name the node, then it goes.
    Now,
}

/// Decides about the endpoint of one pod, in a namespace that is being deleted. `waited` is as in [`super::decide`].
pub fn leave(facts: &Facts, waited: Option<Duration>) -> Leave {
    let named = matches!(facts.trace, Trace::Endpoint | Trace::Unrecorded);
    if !named || facts.pod.is_some() || facts.node == Node::Unknown {
        return Leave::Stays;
    }
    let left = FAREWELL.saturating_sub(waited.unwrap_or_default());
    match waited {
        Some(_) if left.is_zero() => Leave::Now,
        _ => Leave::Later(left),
    }
}

#[cfg(test)]
mod tests {
    use super::super::facts::{Moment, Phase, Pod, Report, Restart, Sandboxes, Standing};
    use super::*;

    #[test]
    fn only_the_endpoint_of_a_pod_that_was_found_gone_twice_leaves() {
        let facts = |trace, node, pod: Option<Pod>| Facts {
            trace,
            pod,
            standing: Standing::Passing,
            node,
            sandboxes: Sandboxes::Some,
        };
        let pod = Pod {
            phase: Phase::Failed,
            restart: Restart::Ends,
            deletion: Some(Moment(0)),
            report: Report::Kubelet,
            ended: Moment(0),
            grace: Duration::ZERO,
            has_addresses: false,
        };
        let second = Duration::from_secs(1);
        let nodes = [
            Node::Ready,
            Node::Gone,
            Node::NotReady {
                since: Moment(0),
                in_service: true,
            },
        ];
        for node in nodes {
            for trace in [Trace::Endpoint, Trace::Unrecorded] {
                let gone = facts(trace, node, None);
                assert_eq!(leave(&gone, None), Leave::Later(FAREWELL));
                assert_eq!(leave(&gone, Some(FAREWELL - second)), Leave::Later(second));
                assert_eq!(leave(&gone, Some(FAREWELL)), Leave::Now);
                assert_eq!(
                    leave(&facts(trace, node, Some(pod.clone())), Some(FAREWELL)),
                    Leave::Stays
                );
            }
            for trace in [Trace::TakenOver, Trace::Replaced, Trace::Record] {
                assert_eq!(leave(&facts(trace, node, None), Some(FAREWELL)), Leave::Stays);
            }
        }
        assert_eq!(
            leave(&facts(Trace::Endpoint, Node::Unknown, None), Some(FAREWELL)),
            Leave::Stays
        );
    }
}
