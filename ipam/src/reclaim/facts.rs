//! What has to be known before an address is freed.

use std::time::Duration;

/// A moment of the cluster's clock, in seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(pub i64);

impl Moment {
    /// This moment, so much later.
    #[must_use]
    pub fn after(self, time: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(time.as_secs()).unwrap_or(i64::MAX)))
    }

    /// How far in the future it is, seen from another moment; zero if it is past.
    pub fn since(self, now: Self) -> Duration {
        Duration::from_secs(u64::try_from(self.0.saturating_sub(now.0)).unwrap_or(0))
    }
}

/// What was read, live, of the pod that a record or endpoint names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// What names the pod.
    pub trace: Trace,
    /// The pod of exactly this UID; none if there is no such pod, whatever has its name.
    pub pod: Option<Pod>,
    /// Whether its addresses wait for another pod.
    pub standing: Standing,
    /// The node that the endpoint or the record names, else that of the pod.
    pub node: Node,
    /// What that node's agent said of it.
    pub sandboxes: Sandboxes,
}

/// What names a pod and its addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trace {
    /// An endpoint of its UID; what is on record for it goes with that.
    Endpoint,
    /// An endpoint of its UID, of whose addresses no pool has one on record.
    Unrecorded,
    /// A record. The endpoint of the name is another pod's, and has this very address.
    TakenOver,
    /// A record. The endpoint of the name is another pod's, and has other addresses.
    Replaced,
    /// A record. There is no endpoint of the name.
    Record,
}

/// Whether addresses wait for the next pod of an identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// The pod keeps nothing.
    Passing,
    /// Its workload may make it again.
    Stays,
    /// It kept them, and its workload does not make it again.
    Ends,
}

/// The node of a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Node {
    /// Nothing names one.
    Unknown,
    /// The node of the agent that asks.
    Own,
    /// Another one, that is Ready.
    Ready,
    /// Another one, that is not.
    NotReady {
        /// Since when.
        since: Moment,
        /// Whether it has no taint that says that it is out of service.
        in_service: bool,
    },
    /// There is no Node of the name any more.
    Gone,
}

/// What a node's agent said of the sandboxes of a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sandboxes {
    /// There is one that was set up with the addresses, as far as it said.
    Some,
    /// There is none any more.
    None,
    /// Nothing.
    Unsaid,
}

/// A pod as the API server has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    /// Its phase.
    pub phase: Phase,
    /// Its restart policy.
    pub restart: Restart,
    /// Its deletionTimestamp: when its grace is over.
    pub deletion: Option<Moment>,
    /// Who said that it finished. Means nothing in other phases.
    pub report: Report,
    /// When its last container ended, or the best that is known of that.
    pub ended: Moment,
    /// Its terminationGracePeriodSeconds.
    pub grace: Duration,
    /// Whether its status has addresses.
    pub has_addresses: bool,
}

/// Phase of a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Not all of its containers were started.
    Pending,
    /// Some containers run or are started again.
    Running,
    /// All ended well.
    Succeeded,
    /// One did not end well, or the pod was evicted, preempted or refused.
    Failed,
    /// What the API server does not know, or a later version says.
    Unknown,
}

/// Whether containers that ended are started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restart {
    /// Whatever happens.
    Always,
    /// If they failed, or never.
    Ends,
}

/// Who said that a pod finished.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Report {
    /// Its kubelet, which says so when the sandbox is gone.
    Kubelet,
    /// Its kubelet, because the node is shut down.
    Shutdown,
    /// Somebody who has not seen it, as the garbage collector of pods on nodes that are gone.
    Other,
}
