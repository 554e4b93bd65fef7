//! The reasons that are told, and what users meet: each with the symptom that it keeps from them.

use spiderpool_ipam::reclaim::*;
use std::time::Duration;

const NOW: Moment = Moment(1_000_000);
const LONG: Option<Duration> = Some(Duration::from_secs(3600));

fn gone(trace: Trace, node: Node) -> Facts {
    Facts {
        trace,
        pod: None,
        standing: Standing::Passing,
        node,
        sandboxes: Sandboxes::Some,
    }
}

fn pod(phase: Phase) -> Pod {
    Pod {
        phase,
        restart: Restart::Ends,
        deletion: None,
        report: Report::Kubelet,
        ended: NOW,
        grace: Duration::from_secs(30),
        has_addresses: true,
    }
}

fn decided(facts: &Facts) -> Decision {
    decide(facts, &Policy::default(), NOW, LONG)
}

const LOST: Node = Node::NotReady {
    since: Moment(0),
    in_service: true,
};
const OUT_OF_SERVICE: Node = Node::NotReady {
    since: Moment(0),
    in_service: false,
};

#[test]
fn a_pod_that_was_deleted_by_force_on_a_lost_node_keeps_its_address_until_the_node_is_off_for_certain() {
    assert_eq!(decided(&gone(Trace::Endpoint, LOST)), Decision::Keep(Keep::NodeLost));
    let freed = |node| decided(&gone(Trace::Endpoint, node));
    assert_eq!(freed(OUT_OF_SERVICE), Decision::Free(Reason::NodeOutOfService));
    assert_eq!(freed(Node::Gone), Decision::Free(Reason::NodeGone));
    assert_eq!(freed(Node::Ready), Decision::Keep(Keep::Agent));
}

#[test]
fn with_a_time_the_address_goes_when_the_node_was_lost_for_that_long() {
    let policy = Policy {
        on_node_lost: OnNodeLost::After(Duration::from_secs(600)),
        ..Policy::default()
    };
    let node = |since| Node::NotReady {
        since: Moment(NOW.0 - since),
        in_service: true,
    };
    let decided = |since| decide(&gone(Trace::Endpoint, node(since)), &policy, NOW, LONG);
    let again = Duration::from_secs(100);
    assert_eq!(decided(500), Decision::Suspect { again });
    assert_eq!(decided(600), Decision::Free(Reason::NodeNotReady));
}

#[test]
fn a_job_s_pod_gives_its_address_back_while_its_object_stays() {
    let mut facts = gone(Trace::Endpoint, LOST);
    facts.pod = Some(pod(Phase::Succeeded));
    let again = Duration::from_secs(30);
    assert_eq!(decided(&facts), Decision::Suspect { again });
    facts.pod = Some(Pod {
        ended: Moment(NOW.0 - 30),
        ..pod(Phase::Succeeded)
    });
    assert_eq!(decided(&facts), Decision::Free(Reason::PodFinished));
    facts.trace = Trace::Record;
    facts.node = Node::Ready;
    assert_eq!(decided(&facts), Decision::Free(Reason::PodFinished));
}

#[test]
fn the_pods_of_a_node_that_was_shut_down_in_order_wait_for_nothing() {
    let mut facts = gone(Trace::Endpoint, LOST);
    facts.pod = Some(Pod {
        report: Report::Shutdown,
        ..pod(Phase::Failed)
    });
    let policy = Policy::default();
    let first = decide(&facts, &policy, NOW, None);
    assert_eq!(first, Decision::Suspect { again: Duration::ZERO });
    let second = decide(&facts, &policy, NOW, Some(Duration::ZERO));
    assert_eq!(second, Decision::Free(Reason::PodFinished));
}

#[test]
fn that_somebody_else_calls_a_pod_failed_does_not_end_its_sandbox() {
    let mut facts = gone(Trace::Endpoint, LOST);
    facts.pod = Some(Pod {
        report: Report::Other,
        ..pod(Phase::Failed)
    });
    assert_eq!(decided(&facts), Decision::Keep(Keep::NodeLost));
}

#[test]
fn a_set_s_pod_that_is_restarted_keeps_its_address_whatever_its_state_is() {
    for node in [Node::Unknown, Node::Ready, LOST, OUT_OF_SERVICE, Node::Gone] {
        for pod in [
            None,
            Some(pod(Phase::Failed)),
            Some(Pod {
                deletion: Some(NOW),
                ..pod(Phase::Running)
            }),
        ] {
            let facts = Facts {
                pod,
                standing: Standing::Stays,
                ..gone(Trace::Endpoint, node)
            };
            assert_eq!(decided(&facts), Decision::Keep(Keep::Identity));
        }
    }
}

#[test]
fn a_set_that_was_scaled_down_gives_up_what_its_agent_saw_end() {
    let ends = |node, sandboxes| {
        decided(&Facts {
            standing: Standing::Ends,
            sandboxes,
            ..gone(Trace::Endpoint, node)
        })
    };
    assert_eq!(ends(Node::Ready, Sandboxes::None), Decision::Free(Reason::OwnerGone));
    assert_eq!(ends(LOST, Sandboxes::None), Decision::Free(Reason::OwnerGone));
    assert_eq!(ends(Node::Ready, Sandboxes::Some), Decision::Keep(Keep::Agent));
    assert_eq!(ends(LOST, Sandboxes::Some), Decision::Keep(Keep::NodeLost));
    assert_eq!(ends(Node::Gone, Sandboxes::Some), Decision::Free(Reason::NodeGone));
}

#[test]
fn a_record_that_nobody_knows_goes_when_no_add_can_be_on_its_way() {
    let facts = gone(Trace::Record, Node::Unknown);
    let after = |seconds| decide(&facts, &Policy::default(), NOW, Some(Duration::from_secs(seconds)));
    let again = Duration::from_secs(1);
    assert_eq!(after(29), Decision::Suspect { again });
    assert_eq!(after(30), Decision::Free(Reason::PodGone));
    let unrecorded = gone(Trace::Unrecorded, LOST);
    assert_eq!(decided(&unrecorded), Decision::Free(Reason::Unrecorded));
}

#[test]
fn a_terminating_pod_has_its_grace_once_and_not_twice() {
    let mut facts = gone(Trace::Endpoint, OUT_OF_SERVICE);
    facts.pod = Some(Pod {
        deletion: Some(Moment(NOW.0 + 7)),
        ..pod(Phase::Running)
    });
    let again = Duration::from_secs(7);
    assert_eq!(decided(&facts), Decision::Suspect { again });
    let late = decide(&facts, &Policy::default(), NOW.after(again), LONG);
    assert_eq!(late, Decision::Free(Reason::NodeOutOfService));
}

#[test]
fn of_several_policies_the_one_that_frees_later_holds() {
    use OnNodeLost::{After, Keep, OutOfService};
    let (soon, late) = (After(Duration::from_secs(1)), After(Duration::from_secs(2)));
    for (one, two, expected) in [
        (Keep, soon, Keep),
        (OutOfService, Keep, Keep),
        (OutOfService, late, OutOfService),
        (soon, late, late),
        (OutOfService, OutOfService, OutOfService),
    ] {
        assert_eq!(one.stricter(two), expected);
        assert_eq!(two.stricter(one), expected);
    }
    let time = Duration::from_secs(5);
    assert_eq!(OnNodeLost::parse("After", time), Some(After(time)));
    assert_eq!(OnNodeLost::parse("Keep", time), Some(Keep));
    assert_eq!(OnNodeLost::parse("OutOfService", time), Some(OutOfService));
    assert_eq!(OnNodeLost::parse("keep", time), None);
}
