//! The record inside a Lease object.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease as LeaseObject, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;

/// What an election looks at. Equality means that nobody renewed in between.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Who holds the lease, as written: empty when it was given back.
    pub holder: String,
    /// How long the holder asks others to wait.
    pub length: Option<Duration>,
    /// How often the holder changed.
    pub transitions: i32,
    /// The holder's clock at the last renewal. Only ever compared with itself.
    pub renewed: Option<Timestamp>,
}

impl Record {
    /// The holder, unless the lease was given back.
    pub fn holder(&self) -> Option<&str> {
        Some(self.holder.as_str()).filter(|holder| !holder.is_empty())
    }

    /// Reads the record of a Lease. A Lease without content counts as given back.
    pub fn of(object: &LeaseObject) -> Self {
        let spec = object.spec.as_ref();
        let seconds = spec
            .and_then(|spec| spec.lease_duration_seconds)
            .and_then(|seconds| u64::try_from(seconds).ok());
        Self {
            holder: spec.and_then(|spec| spec.holder_identity.clone()).unwrap_or_default(),
            length: seconds.filter(|seconds| *seconds > 0).map(Duration::from_secs),
            transitions: spec.and_then(|spec| spec.lease_transitions).unwrap_or(0),
            renewed: spec.and_then(|spec| spec.renew_time.as_ref()).map(|time| time.0),
        }
    }
}

fn whole_seconds(length: Duration) -> i32 {
    i32::try_from(length.as_secs()).unwrap_or(i32::MAX).max(1)
}

/// Writes `me` in as the holder. `now` is for human eyes and for telling one renewal from the next.
pub(super) fn hold(object: &mut LeaseObject, me: &str, length: Duration, now: Timestamp) {
    let before = Record::of(object);
    let first = object.spec.is_none();
    let spec = object.spec.get_or_insert_with(LeaseSpec::default);
    if before.holder != me {
        spec.acquire_time = Some(MicroTime(now));
        spec.lease_transitions = Some(if first { 0 } else { before.transitions.saturating_add(1) });
    }
    spec.holder_identity = Some(me.to_owned());
    spec.lease_duration_seconds = Some(whole_seconds(length));
    spec.renew_time = Some(MicroTime(now));
}

/// Gives the lease back. The holder is written as the empty text: leaving the member out would be taken for an old reader's
/// "no opinion" by a merge, and an absent holder with a long duration makes some candidates wait.
pub(super) fn release(object: &mut LeaseObject, now: Timestamp) {
    let spec = object.spec.get_or_insert_with(LeaseSpec::default);
    spec.holder_identity = Some(String::new());
    spec.lease_duration_seconds = Some(1);
    spec.renew_time = Some(MicroTime(now));
}
