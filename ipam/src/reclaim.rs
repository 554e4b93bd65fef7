//! Whether a recorded address may be freed because its pod is gone.
//!
//! This is the safe core: an address goes only if a live read showed that no pod of the recorded UID exists, that no
//! endpoint names it, and if both were so already a grace period ago.

/// What a live read of the pod showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PodSeen {
    /// A pod of that name and UID exists and may use its address.
    Alive,
    /// A pod of that name and UID exists but has finished for good.
    Finished,
    /// No pod of that name, or one with another UID.
    Gone,
}

/// What a live read of the endpoint showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndpointSeen {
    /// An endpoint names this pod UID: its node's agent releases the address.
    NamesPod,
    /// None does.
    Absent,
}

/// What to do about a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// The address is rightly taken.
    Keep,
    /// Look again after the grace period.
    LookAgain,
    /// Free it by a compare with the whole recorded owner.
    Free,
}

/// Decides about one record. `suspected` says whether an earlier look, at least a grace period ago, found the same.
pub const fn decide(pod: PodSeen, endpoint: EndpointSeen, suspected: bool) -> Decision {
    match (pod, endpoint) {
        (PodSeen::Gone, EndpointSeen::Absent) if suspected => Decision::Free,
        (PodSeen::Gone, EndpointSeen::Absent) => Decision::LookAgain,
        (PodSeen::Alive | PodSeen::Finished | PodSeen::Gone, _) => Decision::Keep,
    }
}
