//! Every combination of what may be known about a pod. What has to follow is said by statements that know nothing of each other:
//! if one of them keeps what the pod has, it is kept; otherwise it goes as soon as time allows it.

use spiderpool_ipam::reclaim::*;
use std::time::Duration;

const NOW: Moment = Moment(1_000_000);
const GRACE: u64 = 40;

/// One combination.
struct Row {
    facts: Facts,
    policy: Policy,
    waited: Option<Duration>,
}

fn moment(offset: i64) -> Moment {
    Moment(NOW.0 + offset)
}

/// Every pod that there may be. Who reported its end, and when that was, makes a difference only if it finished; whether it has
/// addresses, only while it runs.
fn pods() -> Vec<Option<Pod>> {
    use Phase::{Failed, Pending, Running, Succeeded, Unknown};
    let pod = |phase, restart, deletion| Pod {
        phase,
        restart,
        deletion,
        report: Report::Kubelet,
        ended: moment(-1000),
        grace: Duration::from_secs(GRACE),
        has_addresses: true,
    };
    let mut pods = vec![None];
    for deletion in [None, Some(moment(20)), Some(moment(-20))] {
        for (phase, restart) in [
            (Pending, Restart::Always),
            (Running, Restart::Always),
            (Succeeded, Restart::Always),
            (Unknown, Restart::Ends),
        ] {
            pods.push(Some(pod(phase, restart, deletion)));
        }
        pods.push(Some(Pod {
            has_addresses: false,
            ..pod(Running, Restart::Ends, deletion)
        }));
        for (phase, restart) in [(Succeeded, Restart::Ends), (Failed, Restart::Always)] {
            for report in [Report::Kubelet, Report::Shutdown, Report::Other] {
                // With its grace of 40 seconds, one that ended ten seconds ago is in its grace.
                for ended in [moment(-10), moment(-1000)] {
                    pods.push(Some(Pod {
                        report,
                        ended,
                        ..pod(phase, restart, deletion)
                    }));
                }
            }
        }
    }
    pods
}

fn nodes() -> [Node; 7] {
    let not_ready = |offset, in_service| Node::NotReady {
        since: moment(offset),
        in_service,
    };
    [
        Node::Unknown,
        Node::Own,
        Node::Ready,
        not_ready(-5, true),
        not_ready(-500, true),
        not_ready(-5, false),
        Node::Gone,
    ]
}

fn policies() -> Vec<Policy> {
    let mut policies = Vec::new();
    let after = OnNodeLost::After(Duration::from_secs(100));
    for on_node_lost in [OnNodeLost::Keep, after, OnNodeLost::OutOfService] {
        for on_ready_node in [true, false] {
            for without_addresses in [true, false] {
                policies.push(Policy {
                    enabled: true,
                    on_node_lost,
                    on_ready_node,
                    without_addresses,
                    delay: Duration::ZERO,
                });
            }
        }
    }
    policies
}

fn for_each_row(mut look: impl FnMut(&Row)) {
    use Trace::{Endpoint, Record, Replaced, TakenOver, Unrecorded};
    for trace in [Endpoint, Unrecorded, TakenOver, Replaced, Record] {
        for pod in pods() {
            for standing in [Standing::Passing, Standing::Stays, Standing::Ends] {
                for node in nodes() {
                    for sandboxes in [Sandboxes::Some, Sandboxes::None, Sandboxes::Unsaid] {
                        for policy in policies() {
                            for waited in [None, Some(Duration::from_secs(6)), Some(Duration::from_secs(200))] {
                                look(&Row {
                                    facts: Facts {
                                        trace,
                                        pod: pod.clone(),
                                        standing,
                                        node,
                                        sandboxes,
                                    },
                                    policy,
                                    waited,
                                });
                            }
                        }
                    }
                }
            }
        }
    }
}

/// The words that statements are made of.
impl Row {
    fn is_gone(&self) -> bool {
        self.facts.pod.is_none()
    }

    fn is_over(pod: &Pod) -> bool {
        pod.phase == Phase::Failed || (pod.phase == Phase::Succeeded && pod.restart == Restart::Ends)
    }

    fn kubelet_says_over(&self) -> bool {
        let pod = self.facts.pod.as_ref();
        pod.is_some_and(|pod| Self::is_over(pod) && pod.report != Report::Other)
    }

    fn runs_by_its_object(&self) -> bool {
        let pod = self.facts.pod.as_ref();
        pod.is_some_and(|pod| !Self::is_over(pod) && pod.deletion.is_none())
    }

    fn keeps_nothing(&self) -> bool {
        self.facts.standing == Standing::Passing
    }

    fn counts_as_without_addresses(&self) -> bool {
        let pod = self.facts.pod.as_ref();
        let bare = pod.is_some_and(|pod| pod.phase == Phase::Running && !pod.has_addresses);
        bare && self.policy.without_addresses && self.keeps_nothing()
    }

    fn is_named_by_endpoint(&self) -> bool {
        matches!(self.facts.trace, Trace::Endpoint | Trace::Unrecorded)
    }

    fn on_lost_node(&self) -> bool {
        matches!(self.facts.node, Node::NotReady { .. } | Node::Gone)
    }

    fn off_for_certain(&self) -> bool {
        matches!(self.facts.node, Node::NotReady { in_service: false, .. } | Node::Gone)
    }

    fn agent_saw_the_end(&self) -> bool {
        self.facts.sandboxes == Sandboxes::None
    }

    fn no_address_is_at_stake(&self) -> bool {
        self.facts.trace == Trace::Unrecorded
    }
}

/// What is true of some rows, in words and as a test.
type Statement = (&'static str, fn(&Row) -> bool);

/// Each says of some rows that what the pod has is kept.
const KEPT: [Statement; 10] = [
    ("who runs keeps", |row| {
        row.runs_by_its_object() && !row.counts_as_without_addresses()
    }),
    (
        "an identity that may come again keeps, unless it has other addresses",
        |row| row.facts.standing == Standing::Stays && !(row.is_gone() && row.facts.trace == Trace::Replaced),
    ),
    ("what another pod of the name has is not freed under it", |row| {
        row.facts.trace == Trace::TakenOver
    }),
    ("on a Ready node only the agent frees what endpoints name", |row| {
        let ended = row.is_gone() && row.facts.standing == Standing::Ends && row.agent_saw_the_end();
        row.facts.node == Node::Ready && row.is_named_by_endpoint() && !ended
    }),
    (
        "on a Ready node nobody else frees what a record says, until the kubelet is done",
        |row| row.facts.node == Node::Ready && !row.is_named_by_endpoint() && !row.kubelet_says_over(),
    ),
    ("the switch for Ready nodes keeps what finished pods have", |row| {
        let switched = !row.policy.on_ready_node && row.keeps_nothing();
        switched && row.facts.node == Node::Ready && row.kubelet_says_over()
    }),
    ("an agent frees nothing while a sandbox may be there", |row| {
        row.facts.node == Node::Own && !row.agent_saw_the_end()
    }),
    (
        "the switch for Ready nodes binds the agent while a pod terminates",
        |row| {
            let switched = !row.policy.on_ready_node && row.keeps_nothing();
            let terminating = !row.is_gone() && !row.kubelet_says_over() && !row.runs_by_its_object();
            switched && row.facts.node == Node::Own && terminating
        },
    ),
    (
        "without a node nobody can say that a pod that is there has ended",
        |row| row.facts.node == Node::Unknown && !row.is_gone() && !row.kubelet_says_over(),
    ),
    (
        "what may run on a lost node is kept until the policy says otherwise",
        |row| {
            let harmless = row.is_gone() && (row.agent_saw_the_end() || row.no_address_is_at_stake());
            let allowed = match row.policy.on_node_lost {
                OnNodeLost::Keep => false,
                OnNodeLost::OutOfService => row.off_for_certain() || row.kubelet_says_over(),
                OnNodeLost::After(_) => true,
            };
            row.on_lost_node() && !harmless && !allowed
        },
    ),
];

/// Each says of some rows that it is too early.
const EARLY: [Statement; 7] = [
    ("nothing goes at first sight", |row| row.waited.is_none()),
    ("a terminating pod has its grace", |row| {
        let until = row.facts.pod.as_ref().and_then(|pod| pod.deletion);
        let in_grace = until.is_some_and(|until| until > NOW);
        in_grace && !row.kubelet_says_over()
    }),
    (
        "a finished pod has its grace, but for its own agent and where the node was shut down",
        |row| {
            let waits = |pod: &Pod| pod.report == Report::Kubelet && pod.ended.0 + 40 > NOW.0;
            let pod = row.facts.pod.as_ref();
            row.kubelet_says_over() && row.facts.node != Node::Own && pod.is_some_and(waits)
        },
    ),
    ("an ADD may be under way for a record that no endpoint names", |row| {
        row.waited < Some(IN_FLIGHT) && !row.is_named_by_endpoint()
    }),
    ("an ADD may be under way for an endpoint that has no sandbox", |row| {
        let empty = row.agent_saw_the_end() && row.facts.node != Node::Own || row.no_address_is_at_stake();
        row.waited < Some(IN_FLIGHT) && !row.kubelet_says_over() && empty
    }),
    ("an ADD may be under way for an endpoint of no node", |row| {
        row.waited < Some(IN_FLIGHT) && !row.kubelet_says_over() && row.facts.node == Node::Unknown
    }),
    ("the time of the policy begins with the loss of the node", |row| {
        let OnNodeLost::After(time) = row.policy.on_node_lost else {
            return false;
        };
        let harmless = row.is_gone() && (row.agent_saw_the_end() || row.no_address_is_at_stake());
        let early = match row.facts.node {
            Node::NotReady { since, .. } => since.after(time) > NOW,
            // Whoever sees it gone does not know since when.
            Node::Gone => row.waited < Some(time),
            Node::Unknown | Node::Own | Node::Ready => false,
        };
        early && !harmless && !row.kubelet_says_over()
    }),
];

#[test]
fn every_combination_is_decided_as_the_statements_say() {
    let (mut kept, mut early, mut freed) = ([0usize; KEPT.len()], [0usize; EARLY.len()], 0usize);
    for_each_row(|row| {
        let keeping = KEPT.iter().position(|(_, says)| says(row));
        let waiting = EARLY.iter().position(|(_, says)| says(row));
        let decision = decide(&row.facts, &row.policy, NOW, row.waited);
        let about = || {
            format!(
                "{:?}\n{:?}\nwaited {:?}: {decision:?}",
                row.facts, row.policy, row.waited
            )
        };
        match (keeping, waiting, decision) {
            (Some(at), _, Decision::Keep(_)) => kept[at] += 1,
            (None, Some(at), Decision::Suspect { .. }) => early[at] += 1,
            (None, None, Decision::Free(_)) => freed += 1,
            (Some(at), ..) => panic!("{}\n{}", KEPT[at].0, about()),
            (None, Some(at), _) => panic!("{}\n{}", EARLY[at].0, about()),
            (None, None, _) => panic!("nothing is against freeing it\n{}", about()),
        }
    });
    assert!(freed > 0);
    // A statement that never decides anything says nothing.
    for (count, (name, _)) in kept.iter().zip(KEPT).chain(early.iter().zip(EARLY)) {
        assert!(*count > 0, "{name}");
    }
}

#[test]
fn looking_again_when_told_to_is_not_too_early() {
    for_each_row(|row| {
        let Decision::Suspect { again } = decide(&row.facts, &row.policy, NOW, row.waited) else {
            return;
        };
        let later = NOW.after(again);
        let waited = row.waited.unwrap_or_default() + again;
        let decision = decide(&row.facts, &row.policy, later, Some(waited));
        assert!(
            matches!(decision, Decision::Free(_)),
            "{:?} {:?}: {decision:?}",
            row.facts,
            row.policy
        );
        if again > Duration::from_secs(1) {
            let second = Duration::from_secs(1);
            let before = decide(&row.facts, &row.policy, Moment(later.0 - 1), Some(waited - second));
            assert_eq!(
                before,
                Decision::Suspect { again: second },
                "{:?} {:?}",
                row.facts,
                row.policy
            );
        }
    });
}

#[test]
fn switched_off_it_frees_nothing() {
    for_each_row(|row| {
        let policy = Policy {
            enabled: false,
            ..row.policy
        };
        let decision = decide(&row.facts, &policy, NOW, row.waited);
        assert_eq!(decision, Decision::Keep(Keep::SwitchedOff));
    });
}

#[test]
fn what_is_waited_more_is_waited_wherever_a_grace_is() {
    let delay = Duration::from_secs(3600);
    for_each_row(|row| {
        let policy = Policy { delay, ..row.policy };
        let patient = decide(&row.facts, &policy, NOW, row.waited);
        let decision = decide(&row.facts, &row.policy, NOW, row.waited);
        // Its own agent knows that nothing of it is left.
        let by_agent = row.facts.node == Node::Own && row.kubelet_says_over();
        match (patient, decision) {
            (Decision::Keep(one), Decision::Keep(two)) => assert_eq!(one, two),
            (Decision::Suspect { again }, Decision::Suspect { again: sooner }) => assert!(again >= sooner),
            (Decision::Suspect { .. }, Decision::Free(_)) => {}
            (Decision::Free(one), Decision::Free(two)) => {
                assert_eq!(one, two);
                assert!(by_agent, "{:?} {policy:?}", row.facts);
            }
            other => panic!("{:?} {policy:?}: {other:?}", row.facts),
        }
    });
}
