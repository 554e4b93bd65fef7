//! What users decide about the addresses of pods that nobody frees.

use std::time::Duration;

/// The switches and times of an installation, and what a pool says otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Whether anything is freed at all.
    pub enabled: bool,
    /// What becomes of addresses on nodes that are lost.
    pub on_node_lost: OnNodeLost,
    /// Whether a pod that keeps nothing loses its addresses on a Ready node while its object exists.
    pub on_ready_node: bool,
    /// Whether a running pod that keeps nothing loses its addresses when its status has none.
    pub without_addresses: bool,
    /// How much longer than the pod's grace to wait.
    pub delay: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            enabled: true,
            on_node_lost: OnNodeLost::OutOfService,
            on_ready_node: true,
            without_addresses: false,
            delay: Duration::ZERO,
        }
    }
}

/// What becomes of the addresses of a pod whose node is lost: not Ready, or gone. A sandbox there may run on for as long as nobody
/// switches the machine off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnNodeLost {
    /// Nothing: they wait until the node is back.
    Keep,
    /// They are freed when the pod is gone or its grace is over, and the node has been lost for this time.
    After(Duration),
    /// They are freed when the pod is gone or its grace is over, and the Node was deleted or has the taint
    /// `node.kubernetes.io/out-of-service`: either says that nothing runs there any more.
    OutOfService,
}

impl OnNodeLost {
    /// The policy of these words, where `time` is that of `After`.
    pub fn parse(word: &str, time: Duration) -> Option<Self> {
        match word {
            "Keep" => Some(Self::Keep),
            "After" => Some(Self::After(time)),
            "OutOfService" => Some(Self::OutOfService),
            _ => None,
        }
    }

    /// The one that frees later. Pools may differ, and what one pod has is freed together.
    #[must_use]
    pub fn stricter(self, other: Self) -> Self {
        match (self, other) {
            (Self::Keep, _) | (_, Self::Keep) => Self::Keep,
            (Self::OutOfService, _) | (_, Self::OutOfService) => Self::OutOfService,
            (Self::After(one), Self::After(two)) => Self::After(one.max(two)),
        }
    }
}
