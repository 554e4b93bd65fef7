//! Leader election: of several replicas, one writes.
//!
//! Who leads is recorded in a Lease object, in the manner of Kubernetes' own controllers, so that both understand each
//! other's leases. Three rules keep two replicas from leading at once:
//!
//! * Every change of the Lease is a PUT with the resourceVersion it was decided on; a conflict means somebody was faster.
//! * Nobody compares clocks. A lease has expired when its record has not changed for its length **as this process saw it**,
//!   on its own monotonic clock ([`decide`]).
//! * The leader stops earlier (renew deadline) than others may take over (lease length), and [`Leadership::is_leader`] asks
//!   the clock each time, so that a process that was paused finds itself deposed when it goes on.
//!
//! That is politeness, not proof: a write already on its way can arrive late. What must not happen twice is therefore
//! guarded by the resourceVersion or UID of the object written.

use std::time::Duration;

use tokio::time::Instant;

mod leadership;
mod record;
mod runner;

pub use leadership::{Leadership, Terms, WritePermit};
pub use record::Record;
pub use runner::{Error, Lease};

/// The times of an election.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// How long a record must stay unchanged before others may take over.
    pub lease: Duration,
    /// How long after its last renewal a leader goes on leading. Shorter than `lease`.
    pub renew_deadline: Duration,
    /// How often a leader renews and a candidate looks.
    pub retry: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            lease: Duration::from_secs(15),
            renew_deadline: Duration::from_secs(10),
            retry: Duration::from_secs(2),
        }
    }
}

impl Timing {
    /// Times that make sense together, or what is wrong with them.
    pub fn checked(self) -> Result<Self, Error> {
        let ordered = self.lease > self.renew_deadline && self.renew_deadline > self.retry;
        if ordered && !self.retry.is_zero() && self.lease >= Duration::from_secs(1) {
            Ok(self)
        } else {
            Err(Error::Timing(self))
        }
    }
}

/// What to do about the lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Write a record with us as the holder.
    Acquire,
    /// Write our record anew.
    Renew,
    /// Nothing for this long.
    Wait(Duration),
    /// We lead no more: stop writing, then stand again.
    Lost,
}

/// What is known of the lease.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// The record, if there is one.
    pub record: Option<&'a Record>,
    /// When this process first saw the record as it is now.
    pub seen_at: Instant,
    /// If we lead: when the last renewal that succeeded was **sent**.
    pub renewed_at: Option<Instant>,
}

/// Decides from what is known, without clock or IO.
pub fn decide(view: View<'_>, me: &str, now: Instant, timing: Timing) -> Decision {
    let holder = view.record.and_then(Record::holder);
    if let Some(renewed_at) = view.renewed_at {
        let age = now.saturating_duration_since(renewed_at);
        return if holder != Some(me) || age >= timing.renew_deadline {
            Decision::Lost
        } else if age >= timing.retry {
            Decision::Renew
        } else {
            Decision::Wait(timing.retry - age)
        };
    }
    let Some((record, holder)) = view.record.zip(holder) else {
        return Decision::Acquire;
    };
    if holder == me {
        return Decision::Acquire;
    }
    let length = record.length.unwrap_or(timing.lease);
    let age = now.saturating_duration_since(view.seen_at);
    if age >= length {
        Decision::Acquire
    } else {
        Decision::Wait((length - age).min(timing.retry))
    }
}

#[cfg(test)]
mod tests;
