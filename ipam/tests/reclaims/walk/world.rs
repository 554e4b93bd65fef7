//! The world that histories happen in.

use super::Step;
use spiderpool_ipam::reclaim::*;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

type Uid = u32;
pub(super) const NAMES: usize = 3;
pub(super) const NODES: usize = 2;
pub(super) const ADDRESSES: usize = 4;
/// How long an ADD may last.
const ADD: i64 = 30;
const GRACE: i64 = 20;

#[derive(Clone, Debug)]
struct PodObject {
    uid: Uid,
    node: usize,
    finished: Option<(Report, i64)>,
    deletion: Option<i64>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Recorded {
    name: usize,
    uid: Uid,
    node: usize,
}

#[derive(Clone, Debug)]
struct EndpointObject {
    uid: Uid,
    node: usize,
    address: usize,
    sandbox: bool,
}

#[derive(Clone, Debug)]
struct Adding {
    name: usize,
    uid: Uid,
    node: usize,
    since: i64,
}

#[derive(Clone, Debug)]
struct Sandbox {
    name: usize,
    uid: Uid,
    node: usize,
    address: usize,
}

#[derive(Clone, Debug)]
struct Machine {
    powered: bool,
    connected: bool,
    silent: bool,
    exists: bool,
    tainted: bool,
    lost: i64,
}

#[derive(Clone, Debug)]
struct Looking {
    since: i64,
    address: usize,
    record: Recorded,
    endpoint: Option<EndpointObject>,
}

#[derive(Debug)]
pub(super) struct World {
    policy: Policy,
    sticky: [bool; NAMES],
    /// Whether records name nodes. Those of earlier versions do not.
    noted: bool,
    ended: [bool; NAMES],
    now: i64,
    next: Uid,
    pods: [Option<PodObject>; NAMES],
    pub(super) records: [Option<Recorded>; ADDRESSES],
    endpoints: [Option<EndpointObject>; NAMES],
    /// Pods that were deleted by force, with their nodes.
    ghosts: Vec<(usize, Uid, usize)>,
    seen_ending: BTreeSet<Uid>,
    adding: Vec<Adding>,
    sandboxes: Vec<Sandbox>,
    machines: [Machine; NODES],
    looking: Option<Looking>,
    suspected: BTreeMap<(usize, Uid), i64>,
    /// What agents suspect, by node.
    compares: [BTreeMap<(usize, Uid), i64>; NODES],
    /// How often the operator freed an address.
    pub(super) freed: usize,
    /// How often agents did so without a DEL.
    pub(super) compared: usize,
}

impl World {
    pub(super) fn new(on_node_lost: OnNodeLost, sticky: [bool; NAMES], noted: bool) -> Self {
        let machine = Machine {
            powered: true,
            connected: true,
            silent: false,
            exists: true,
            tainted: false,
            lost: 0,
        };
        Self {
            policy: Policy {
                on_node_lost,
                ..Policy::default()
            },
            sticky,
            noted,
            ended: [false; NAMES],
            now: 0,
            next: 1,
            pods: [const { None }; NAMES],
            records: [const { None }; ADDRESSES],
            endpoints: [const { None }; NAMES],
            ghosts: Vec::new(),
            seen_ending: BTreeSet::new(),
            adding: Vec::new(),
            sandboxes: Vec::new(),
            machines: [machine.clone(), machine],
            looking: None,
            suspected: BTreeMap::new(),
            compares: [const { BTreeMap::new() }; NODES],
            freed: 0,
            compared: 0,
        }
    }

    /// Whether agent and kubelet of a node work and reach the API server.
    fn serves(&self, node: usize) -> bool {
        let machine = &self.machines[node];
        machine.powered && machine.connected
    }

    fn pod(&self, name: usize, uid: Uid) -> Option<&PodObject> {
        self.pods[name].as_ref().filter(|pod| pod.uid == uid)
    }

    fn is_alive(&self, name: usize, uid: Uid) -> bool {
        self.pod(name, uid)
            .is_some_and(|pod| pod.finished.is_none() && pod.deletion.is_none())
    }

    fn is_kept(&self, name: usize) -> bool {
        self.sticky[name] && !self.ended[name]
    }

    pub(super) fn step(&mut self, step: &Step) {
        match *step {
            Step::Create { name, node } => self.create(name, node),
            Step::Begin { name } => {
                let alive = self.pods[name].clone().filter(|pod| self.is_alive(name, pod.uid));
                if let Some(pod) = alive {
                    self.begin(name, pod.uid, pod.node);
                }
            }
            Step::BeginLate { at } => {
                let ghost = self.ghosts.get(at).copied();
                if let Some((name, uid, node)) = ghost.filter(|(_, uid, _)| !self.seen_ending.contains(uid)) {
                    self.begin(name, uid, node);
                }
            }
            Step::Answer { at } => self.answer(at),
            Step::Restart { name } => self.stop(name),
            Step::Delete { name } => {
                let until = self.now + GRACE;
                if let Some(pod) = &mut self.pods[name] {
                    pod.deletion.get_or_insert(until);
                }
            }
            Step::ForceDelete { name } => {
                let pod = self.pods[name].take();
                self.ghosts.extend(pod.map(|pod| (name, pod.uid, pod.node)));
            }
            Step::Tidy { node } => self.tidy(node),
            Step::Finish { name } => self.finish(name),
            Step::CollectPods { name } => self.collect(name),
            Step::CutOff { node } => {
                // Nobody can tell a machine that is cut off from one that is off, so a time frees what may run.
                if !matches!(self.policy.on_node_lost, OnNodeLost::After(_)) {
                    self.lose(node);
                    self.machines[node].connected = false;
                }
            }
            Step::FallSilent { node } => {
                if !matches!(self.policy.on_node_lost, OnNodeLost::After(_)) {
                    self.lose(node);
                }
            }
            Step::SwitchOff { node } => {
                self.lose(node);
                self.machines[node].connected = false;
                self.machines[node].powered = false;
                self.sandboxes.retain(|sandbox| sandbox.node != node);
                self.adding.retain(|adding| adding.node != node);
            }
            Step::Return { node } => {
                let lost = self.machines[node].lost;
                self.machines[node] = Machine {
                    powered: true,
                    connected: true,
                    silent: false,
                    exists: true,
                    tainted: false,
                    lost,
                };
            }
            Step::Taint { node } => self.machines[node].tainted |= !self.machines[node].powered,
            Step::DeleteNode { node } => self.machines[node].exists &= self.machines[node].powered,
            Step::ScaleDown { name } => self.ended[name] = true,
            Step::Time { seconds } => {
                self.now += seconds;
                self.adding.retain(|adding| self.now < adding.since + ADD);
            }
            Step::Read { address } => self.read(address),
            Step::Act => self.act(),
            Step::Compare { node } => self.compare(node),
            Step::StartAgent { node } => self.compares[node].clear(),
        }
    }

    /// The control plane hears nothing of a node any more.
    fn lose(&mut self, node: usize) {
        let machine = &mut self.machines[node];
        if !std::mem::replace(&mut machine.silent, true) {
            machine.lost = self.now;
        }
    }

    fn create(&mut self, name: usize, node: usize) {
        if self.pods[name].is_none() && self.machines[node].exists && !self.machines[node].tainted {
            self.pods[name] = Some(PodObject {
                uid: self.next,
                node,
                finished: None,
                deletion: None,
            });
            self.next += 1;
        }
    }

    fn begin(&mut self, name: usize, uid: Uid, node: usize) {
        let busy = self.adding.iter().any(|adding| adding.uid == uid);
        let running = self.sandboxes.iter().any(|sandbox| sandbox.uid == uid);
        if !self.serves(node) || busy || running {
            return;
        }
        let holds = |wanted: &dyn Fn(&Recorded) -> bool| {
            let mut records = self.records.iter();
            records.position(|record| record.as_ref().is_some_and(wanted))
        };
        // A pod that keeps its addresses takes over what the last one of its identity had, while it exists itself.
        let heir = self.is_kept(name) && self.pod(name, uid).is_some();
        let own = holds(&|record| record.uid == uid);
        if own.is_some() && self.pod(name, uid).is_none() {
            // Who relies on a record of before looks whether the pod is still there: it may have been found gone long since.
            return;
        }
        let former = holds(&|record| heir && record.name == name);
        let free = self.records.iter().position(Option::is_none);
        let Some(address) = own.or(former).or(free) else { return };
        if let Some(former) = &self.records[address] {
            // That its predecessor was deleted by force is somebody's word that it is dead.
            let former = former.uid;
            self.sandboxes.retain(|sandbox| sandbox.uid != former);
            self.adding.retain(|adding| adding.uid != former);
        }
        self.records[address] = Some(Recorded { name, uid, node });
        let since = self.now;
        self.adding.push(Adding { name, uid, node, since });
    }

    fn answer(&mut self, at: usize) {
        if self.adding.is_empty() {
            return;
        }
        let adding = self.adding.remove(at % self.adding.len());
        if !self.serves(adding.node) {
            return;
        }
        let other = self.endpoints[adding.name]
            .as_ref()
            .filter(|endpoint| endpoint.uid != adding.uid);
        if let Some(other) = other {
            // Only the pod of the name writes over another's, and not where that was all that told of its node.
            if self.pod(adding.name, adding.uid).is_none() || other.sandbox && !self.noted {
                return;
            }
        }
        let own = |record: &Option<Recorded>| record.as_ref().is_some_and(|record| record.uid == adding.uid);
        // The ADD knows what it took, and asks no more whether it is still there.
        let found = self.records.iter().position(own);
        assert!(found.is_some(), "the record of an ADD under way was freed: {adding:?}");
        let Some(address) = found else { return };
        self.endpoints[adding.name] = Some(EndpointObject {
            uid: adding.uid,
            node: adding.node,
            address,
            sandbox: true,
        });
        self.sandboxes.push(Sandbox {
            name: adding.name,
            uid: adding.uid,
            node: adding.node,
            address,
        });
    }

    /// Ends the sandbox of the pod of a name, and serves its DEL where that can be.
    fn stop(&mut self, name: usize) {
        let Some(pod) = &self.pods[name] else { return };
        let (uid, node) = (pod.uid, pod.node);
        if self.machines[node].powered {
            self.end(name, uid, node);
        }
    }

    fn end(&mut self, name: usize, uid: Uid, node: usize) {
        self.sandboxes.retain(|sandbox| sandbox.uid != uid);
        self.adding.retain(|adding| adding.uid != uid);
        if !self.serves(node) {
            return;
        }
        let alive = self.is_alive(name, uid);
        if !alive {
            // An agent that served this DEL has seen that the pod is on its way out.
            self.seen_ending.insert(uid);
        }
        let kept = alive || self.is_kept(name);
        if kept {
            if let Some(endpoint) = self.endpoints[name].as_mut().filter(|endpoint| endpoint.uid == uid) {
                endpoint.sandbox = false;
            }
            return;
        }
        for record in &mut self.records {
            record.take_if(|record| record.uid == uid);
        }
        self.endpoints[name].take_if(|endpoint| endpoint.uid == uid);
    }

    /// What a kubelet that reaches the API server ends: pods that are gone, and those whose grace is over, which then go.
    fn tidy(&mut self, node: usize) {
        if !self.serves(node) {
            return;
        }
        let unwanted = |sandbox: &&Sandbox| {
            let deleted = |pod: &PodObject| pod.deletion.is_some_and(|until| until <= self.now);
            sandbox.node == node && self.pod(sandbox.name, sandbox.uid).is_none_or(deleted)
        };
        let ending: Vec<Sandbox> = self.sandboxes.iter().filter(unwanted).cloned().collect();
        for sandbox in ending {
            self.end(sandbox.name, sandbox.uid, node);
        }
        for pod in &mut self.pods {
            let runs = |uid| self.sandboxes.iter().any(|sandbox| sandbox.uid == uid);
            pod.take_if(|pod| pod.node == node && pod.deletion.is_some() && !runs(pod.uid));
        }
    }

    fn finish(&mut self, name: usize) {
        let Some(pod) = self.pods[name].clone().filter(|pod| self.serves(pod.node)) else {
            return;
        };
        // The kubelet reports the end when the sandbox is gone.
        self.end(name, pod.uid, pod.node);
        if let Some(pod) = &mut self.pods[name] {
            pod.finished.get_or_insert((Report::Kubelet, self.now));
        }
    }

    fn collect(&mut self, name: usize) {
        let off = |pod: &PodObject| !self.machines[pod.node].exists || self.machines[pod.node].tainted;
        let now = self.now;
        if self.pods[name].as_ref().is_some_and(off)
            && let Some(pod) = &mut self.pods[name]
        {
            pod.finished.get_or_insert((Report::Other, now));
        }
    }

    fn read(&mut self, address: usize) {
        self.looking = self.records[address].clone().map(|record| Looking {
            since: self.now,
            address,
            endpoint: self.endpoints[record.name].clone(),
            record,
        });
    }

    fn act(&mut self) {
        let Some(look) = self.looking.take() else { return };
        let (name, uid) = (look.record.name, look.record.uid);
        let named = look.endpoint.as_ref().filter(|endpoint| endpoint.uid == uid);
        let trace = match &look.endpoint {
            Some(_) if named.is_some() => Trace::Endpoint,
            Some(endpoint) if endpoint.address == look.address => Trace::TakenOver,
            Some(_) => Trace::Replaced,
            None => Trace::Record,
        };
        let pod = self.pod(name, uid);
        let of_endpoint = named.map(|endpoint| endpoint.node);
        let of_record = Some(look.record.node).filter(|_| self.noted);
        let machine = of_endpoint
            .or(of_record)
            .or(pod.map(|pod| pod.node))
            .map(|node| &self.machines[node]);
        let node = match machine {
            None => Node::Unknown,
            Some(machine) => machine.seen(),
        };
        let facts = Facts {
            trace,
            pod: pod.map(seen),
            standing: self.standing(name),
            node,
            sandboxes: match named {
                Some(endpoint) if endpoint.sandbox => Sandboxes::Some,
                Some(_) => Sandboxes::None,
                None => Sandboxes::Unsaid,
            },
        };
        let subject = (look.address, uid);
        let since = self.suspected.get(&subject).copied();
        // What was read first may be out of date by now: the look is as old as that.
        let waited = since.map(|since| Moment(look.since).since(Moment(since)));
        match decide(&facts, &self.policy, Moment(self.now), waited) {
            Decision::Keep(Keep::Lives) => drop(self.suspected.remove(&subject)),
            // What is counted is how long the pod has not used it, whatever it is kept for.
            Decision::Keep(_) | Decision::Suspect { .. } => drop(self.suspected.entry(subject).or_insert(self.now)),
            // By a compare with the whole owner.
            Decision::Free(_) if self.records[look.address].as_ref() == Some(&look.record) => {
                self.records[look.address] = None;
                self.endpoints[name].take_if(|endpoint| endpoint.uid == uid);
                self.suspected.remove(&subject);
                self.freed += 1;
            }
            Decision::Free(_) => drop(self.suspected.remove(&subject)),
        }
    }

    pub(super) fn check(&self) {
        for sandbox in &self.sandboxes {
            let record = &self.records[sandbox.address];
            let own = record.as_ref().is_some_and(|record| record.uid == sandbox.uid);
            assert!(own, "{sandbox:?} runs with an address that is on record for {record:?}");
        }
    }
}

impl Machine {
    const fn seen(&self) -> Node {
        match self {
            Self { exists: false, .. } => Node::Gone,
            Self { silent: false, .. } => Node::Ready,
            Self { lost, tainted, .. } => Node::NotReady {
                since: Moment(*lost),
                in_service: !*tainted,
            },
        }
    }
}

fn seen(pod: &PodObject) -> Pod {
    Pod {
        phase: if pod.finished.is_some() {
            Phase::Failed
        } else {
            Phase::Running
        },
        restart: Restart::Ends,
        deletion: pod.deletion.map(Moment),
        report: pod.finished.map_or(Report::Kubelet, |(report, _)| report),
        ended: Moment(pod.finished.map_or(0, |(_, at)| at)),
        grace: Duration::from_secs(20),
        has_addresses: true,
    }
}

impl World {
    /// What a node's agent finds when it compares what is on record for its node with its sandboxes.
    fn compare(&mut self, node: usize) {
        if !self.serves(node) {
            return;
        }
        for address in 0..ADDRESSES {
            if let Some(record) = self.records[address].clone() {
                self.compare_one(node, address, &record);
            }
        }
        for name in 0..NAMES {
            self.compare_endpoint(node, name);
        }
    }

    /// An endpoint of the node that names what is on record for nobody, or for the next pod of its name.
    fn compare_endpoint(&mut self, node: usize, name: usize) {
        let Some(endpoint) = self.endpoints[name].clone().filter(|endpoint| endpoint.node == node) else {
            return;
        };
        let uid = endpoint.uid;
        let recorded = self.records.iter().flatten().any(|record| record.uid == uid);
        if recorded || self.adding.iter().any(|adding| adding.uid == uid) {
            return;
        }
        let decision = self.compared(node, ADDRESSES + name, name, uid, Trace::Unrecorded);
        if let Decision::Free(_) = decision {
            self.endpoints[name] = None;
        }
    }

    fn compare_one(&mut self, node: usize, address: usize, record: &Recorded) {
        let (name, uid) = (record.name, record.uid);
        let named = self.endpoints[name]
            .as_ref()
            .filter(|endpoint| endpoint.uid == uid && endpoint.node == node);
        if named.is_none() && !(self.noted && record.node == node) {
            return;
        }
        // It takes its turn after the ADDs of the pod.
        if self.adding.iter().any(|adding| adding.uid == uid) {
            return;
        }
        let trace = if named.is_some() {
            Trace::Endpoint
        } else {
            Trace::Record
        };
        if let Decision::Free(_) = self.compared(node, address, name, uid, trace) {
            self.records[address] = None;
            self.endpoints[name].take_if(|endpoint| endpoint.uid == uid);
            self.compared += 1;
        }
    }

    /// What the agent of a node decides about a pod, by what it is told by its own sandboxes.
    fn compared(&mut self, node: usize, what: usize, name: usize, uid: Uid, trace: Trace) -> Decision {
        let runs = self.sandboxes.iter().any(|sandbox| sandbox.uid == uid);
        let facts = Facts {
            trace,
            pod: self.pod(name, uid).map(seen),
            standing: self.standing(name),
            node: Node::Own,
            sandboxes: if runs { Sandboxes::Some } else { Sandboxes::None },
        };
        let since = self.compares[node].get(&(what, uid)).copied();
        let waited = since.map(|since| Moment(self.now).since(Moment(since)));
        let decision = decide(&facts, &self.policy, Moment(self.now), waited);
        match decision {
            Decision::Keep(Keep::Lives | Keep::Sandbox) | Decision::Free(_) => {
                self.compares[node].remove(&(what, uid));
            }
            Decision::Keep(_) | Decision::Suspect { .. } => {
                self.compares[node].entry((what, uid)).or_insert(self.now);
            }
        }
        decision
    }

    const fn standing(&self, name: usize) -> Standing {
        match (self.sticky[name], self.ended[name]) {
            (false, _) => Standing::Passing,
            (true, false) => Standing::Stays,
            (true, true) => Standing::Ends,
        }
    }
}
