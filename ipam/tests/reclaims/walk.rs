//! Random histories of pods, nodes and reads: an address that a sandbox uses is never freed.
//!
//! The world below is what the rules are told about: kubelets that start and stop sandboxes, agents that record and give back,
//! machines that are cut off, switched off and come back, pods that are deleted with and without a grace and made again under the
//! same name, and an operator that reads one object after the other while all of this goes on. Its last word is always: whoever
//! runs with an address has it on record. So no two run with the same one.

mod world;

use proptest::prelude::*;
use spiderpool_ipam::reclaim::OnNodeLost;
use std::time::Duration;
use world::{ADDRESSES, NAMES, NODES, World};

#[derive(Clone, Debug)]
pub(crate) enum Step {
    Create {
        name: usize,
        node: usize,
    },
    /// The kubelet starts a sandbox: the agent records an address.
    Begin {
        name: usize,
    },
    /// The same for a pod that was deleted by force, as long as kubelet and agent have not heard of it.
    BeginLate {
        at: usize,
    },
    /// The agent writes the endpoint and answers: from now on the sandbox has the address.
    Answer {
        at: usize,
    },
    /// The sandbox dies and the kubelet reports its end, to be made anew.
    Restart {
        name: usize,
    },
    Delete {
        name: usize,
    },
    ForceDelete {
        name: usize,
    },
    /// The kubelet ends what the API server does not want any more.
    Tidy {
        node: usize,
    },
    /// The containers end by themselves.
    Finish {
        name: usize,
    },
    /// The garbage collector of pods of nodes that are off.
    CollectPods {
        name: usize,
    },
    CutOff {
        node: usize,
    },
    /// The kubelet does not report any more, and all else goes on.
    FallSilent {
        node: usize,
    },
    SwitchOff {
        node: usize,
    },
    /// Back, with all that runs there if it was only cut off.
    Return {
        node: usize,
    },
    /// Whoever is certain that a machine is off says so.
    Taint {
        node: usize,
    },
    DeleteNode {
        node: usize,
    },
    ScaleDown {
        name: usize,
    },
    Time {
        seconds: i64,
    },
    /// The operator reads the record of an address, and its endpoint.
    Read {
        address: usize,
    },
    /// It reads the rest, and acts.
    Act,
    /// The agent of a node compares what is on record for its node with its sandboxes, and acts.
    Compare {
        node: usize,
    },
    /// It is started anew, and remembers no suspicion.
    StartAgent {
        node: usize,
    },
}

/// Steps out of bytes: what, and of which name, node or time. A strategy for each step would take most of the time.
fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = any::<(u8, u8)>().prop_map(|(what, which)| {
        let which = usize::from(which);
        let (name, node) = (which % NAMES, which / NAMES % NODES);
        match what % 80 {
            0..6 => Step::Create { name, node },
            6..14 => Step::Begin { name },
            14..16 => Step::BeginLate { at: which % 6 },
            16..24 => Step::Answer { at: which },
            24 => Step::Restart { name },
            25..27 => Step::Delete { name },
            27..30 => Step::ForceDelete { name },
            30..32 => Step::Tidy { node },
            32 => Step::Finish { name },
            33 => Step::CollectPods { name },
            34..36 => Step::CutOff { node },
            36 => Step::FallSilent { node },
            37 => Step::SwitchOff { node },
            38..40 => Step::Return { node },
            40 => Step::Taint { node },
            41 => Step::DeleteNode { node },
            42 => Step::ScaleDown { name },
            43..49 => Step::Time {
                seconds: [0, 1, 2, 5, 8, 11, 20, 29, 30, 31, 44][which % 11],
            },
            49..61 => Step::Read {
                address: which % ADDRESSES,
            },
            61..72 => Step::Act,
            72..79 => Step::Compare { node },
            _ => Step::StartAgent { node },
        }
    });
    prop::collection::vec(step, 1..160)
}

fn policies() -> impl Strategy<Value = OnNodeLost> {
    prop_oneof![
        Just(OnNodeLost::Keep),
        Just(OnNodeLost::OutOfService),
        Just(OnNodeLost::After(Duration::ZERO)),
        Just(OnNodeLost::After(Duration::from_secs(60))),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]
    #[test]
    fn no_address_is_freed_that_a_running_sandbox_has(
        on_node_lost in policies(), sticky in any::<[bool; NAMES]>(), noted in any::<bool>(), steps in steps()
    ) {
        let mut world = World::new(on_node_lost, sticky, noted);
        for step in &steps {
            world.step(step);
            world.check();
        }
    }

    #[test]
    fn what_nobody_has_is_free_in_the_end(
        on_node_lost in policies(), sticky in any::<[bool; NAMES]>(), noted in any::<bool>(), steps in steps()
    ) {
        let mut world = World::new(on_node_lost, sticky, noted);
        for step in &steps {
            world.step(step);
        }
        // Every pod goes, every workload too, and every node comes back once.
        for name in 0..NAMES {
            world.step(&Step::ScaleDown { name });
            world.step(&Step::ForceDelete { name });
        }
        world.step(&Step::Time { seconds: 100 });
        for node in 0..NODES {
            world.step(&Step::Return { node });
            world.step(&Step::Tidy { node });
        }
        // Agents look twice, and then the operator at what only they kept it from.
        for _ in 0..4 {
            for node in 0..NODES {
                world.step(&Step::Compare { node });
            }
            for address in 0..ADDRESSES {
                world.step(&Step::Read { address });
                world.step(&Step::Act);
            }
            world.step(&Step::Time { seconds: 100 });
        }
        prop_assert_eq!(&world.records, &[const { None }; ADDRESSES]);
    }
}

#[test]
fn histories_are_such_that_addresses_are_freed() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;
    let mut runner = TestRunner::deterministic();
    for on_node_lost in [
        OnNodeLost::Keep,
        OnNodeLost::OutOfService,
        OnNodeLost::After(Duration::ZERO),
    ] {
        for noted in [true, false] {
            let freed = (0..1000).map(|_| {
                let history = (any::<[bool; NAMES]>(), steps()).new_tree(&mut runner).unwrap();
                let (sticky, steps) = history.current();
                let mut world = World::new(on_node_lost, sticky, noted);
                steps.iter().for_each(|step| world.step(step));
                (world.freed, world.compared)
            });
            let (freed, compared): (Vec<usize>, Vec<usize>) = freed.unzip();
            let (freed, compared): (usize, usize) = (freed.iter().sum(), compared.iter().sum());
            assert!(
                freed > 0 && compared > 0,
                "{freed} by the operator and {compared} by agents with {on_node_lost:?} {noted}"
            );
        }
    }
}
