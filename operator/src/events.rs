//! Events: what the operator tells users where they look, on the workload.
//!
//! A pass over a subnet repeats what it found each time it runs. The recorder below counts a repeated text up at most once
//! a minute, so passes simply tell how things stand.

use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use spiderpool_kit::events::{Recorder, Severity};

/// After this time a finding that lasts is told again, since Events expire.
pub const REPEAT: Duration = Duration::from_secs(600);

/// Reasons of Events. Users and their tools match on them, so they do not change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// A pool was made.
    Created,
    /// A pool was given or has given up addresses.
    Resized,
    /// A pool was deleted.
    Deleted,
    /// A pool gives up more addresses as pods go.
    Shrinking,
    /// A pool is smaller than wanted, since its subnet has no more addresses.
    WaitingForAddresses,
    /// An annotation does not parse.
    AnnotationInvalid,
    /// No subnet of the name exists.
    SubnetNotFound,
    /// The subnet is of the other IP version.
    SubnetWrongFamily,
    /// Something is wrong with the subnet, so that it must not be used.
    SubnetInvalid,
    /// Something is wrong with the pool, so that it must not be used.
    PoolInvalid,
    /// The subnet is being deleted.
    SubnetTerminating,
    /// The subnet has too few free addresses for a new pool.
    SubnetExhausted,
    /// The subnet's accounting would become too long for its status.
    AccountingLimit,
    /// The subnet's free addresses lie so scattered that a pool would have too many ranges.
    Fragmented,
    /// The pool is being deleted; a new one is made when it is gone.
    PoolTerminating,
    /// The API server refused the pool.
    PoolRefused,
    /// Hosts use addresses of a pool that were not given them.
    ForeignHosts,
    /// The storage of the API server was restored, and a pool gives out nothing for a while.
    Restoring,
    /// It gives out addresses again.
    Restored,
    /// The pool has addresses of another one, which comes first.
    Overlap,
    /// Something is wrong with a reservation.
    ReservedIPInvalid,
    /// A rolling update can never go on, since there is no spare address.
    SurgeBlocked,
    /// More addresses are asked for than the configuration allows.
    LimitExceeded,
    /// The operator may not read the kind of the workload.
    MissingPermission,
    /// Workloads of the kind cannot have pools.
    KindUnsupported,
}

impl Reason {
    /// The word in the Event.
    pub fn word(self) -> String {
        format!("{self:?}")
    }

    /// Whether somebody should look.
    pub const fn severity(self) -> Severity {
        match self {
            Self::Created | Self::Resized | Self::Deleted | Self::Shrinking | Self::Restored => Severity::Normal,
            Self::WaitingForAddresses
            | Self::AnnotationInvalid
            | Self::SubnetNotFound
            | Self::SubnetWrongFamily
            | Self::SubnetInvalid
            | Self::PoolInvalid
            | Self::SubnetTerminating
            | Self::SubnetExhausted
            | Self::AccountingLimit
            | Self::Fragmented
            | Self::PoolTerminating
            | Self::PoolRefused
            | Self::ForeignHosts
            | Self::Overlap
            | Self::Restoring
            | Self::ReservedIPInvalid
            | Self::SurgeBlocked
            | Self::LimitExceeded
            | Self::MissingPermission
            | Self::KindUnsupported => Severity::Warning,
        }
    }
}

/// Tells something about an object.
pub fn tell(recorder: &Recorder, about: ObjectReference, reason: Reason, note: &str) {
    recorder.tell(about, reason.severity(), &reason.word(), "ManageIPPool", note);
}
