//! Whether a recorded address may be freed because its pod is gone.
//!
//! This is the safe core: an address goes only if a live read showed that no pod of the recorded UID exists, that no
//! endpoint names it, and if both were so already a grace period ago. The address of a pod that keeps it goes only when the
//! pod may not come again, or has another one by now.

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
    /// An endpoint of the same name is another pod's, and has this address: that pod takes it over.
    NamesAddress,
    /// An endpoint of the same name is another pod's, and has other addresses.
    NamesOthers,
    /// There is none.
    Absent,
}

/// Whether the workload of a pod that keeps its addresses may make the pod again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It may.
    Stays,
    /// It may not, or the pod keeps no addresses.
    Ends,
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
pub const fn decide(pod: PodSeen, endpoint: EndpointSeen, standing: Standing, suspected: bool) -> Decision {
    match (pod, endpoint, standing) {
        (PodSeen::Alive | PodSeen::Finished, _, _)
        | (_, EndpointSeen::NamesPod, _)
        | (_, EndpointSeen::NamesAddress | EndpointSeen::Absent, Standing::Stays) => Decision::Keep,
        (PodSeen::Gone, _, _) if suspected => Decision::Free,
        (PodSeen::Gone, _, _) => Decision::LookAgain,
    }
}

/// Whether an endpoint and what it has may be freed by somebody else than its node's agent: its pod kept the addresses, was
/// gone when that could not come again yet or with the node, and now it cannot.
pub const fn may_end(pod: PodSeen, standing: Standing) -> bool {
    matches!((pod, standing), (PodSeen::Gone, Standing::Ends))
}
