//! What a pod's object says of whether something of it runs.

use super::facts::{Moment, Phase, Pod, Report, Restart};

/// How far a pod is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Life {
    /// It runs or will.
    Lives,
    /// It runs, and its status has no address.
    Bare,
    /// It is on its way out, and its containers may run on. At the end of its grace they should not, if it has one.
    Ending { until: Option<Moment> },
    /// Nothing of it runs: its kubelet said so. What it had is kept for its grace.
    Stopped { until: Moment },
    /// There is no such pod.
    Gone,
}

impl Life {
    pub(super) fn of(pod: Option<&Pod>) -> Self {
        let Some(pod) = pod else { return Self::Gone };
        match pod.report {
            Report::Kubelet if pod.is_finished() => Self::Stopped {
                until: pod.ended.after(pod.grace),
            },
            Report::Shutdown if pod.is_finished() => Self::Stopped { until: pod.ended },
            Report::Other if pod.is_finished() => Self::Ending { until: pod.deletion },
            Report::Kubelet | Report::Shutdown | Report::Other => match pod.deletion {
                Some(until) => Self::Ending { until: Some(until) },
                None if pod.phase == Phase::Running && !pod.has_addresses => Self::Bare,
                None => Self::Lives,
            },
        }
    }
}

impl Pod {
    /// Whether it has finished for good. Whatever its restart policy, a pod that was evicted, preempted, out of time or on a node
    /// that was shut down never runs again; one that ended well and is to run always does.
    pub fn is_finished(&self) -> bool {
        match self.phase {
            Phase::Failed => true,
            Phase::Succeeded => self.restart == Restart::Ends,
            Phase::Pending | Phase::Running | Phase::Unknown => false,
        }
    }

    /// Whether it has finished by the word of its kubelet, which looked: nothing of it runs any more.
    pub fn has_stopped(&self) -> bool {
        self.is_finished() && self.report != Report::Other
    }
}
