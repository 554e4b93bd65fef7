//! What a pool's writer is asked for, and what it answers.

use super::state::{Pause, Succession, Taken};
use spiderpool_crds::SpiderIPPool;
use spiderpool_crds::records::HeldReason;
use spiderpool_ipam::Owner;
use spiderpool_ipam::candidates::Rejection;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use tokio::sync::oneshot;
use tokio::time::Instant;

/// What a claim gave, with the pool that it is from.
#[derive(Clone, Debug)]
pub struct Claimed {
    /// The address.
    pub taken: Taken,
    /// The pool as written, or as read if the owner had the address before.
    pub pool: Arc<SpiderIPPool>,
}

/// Why a claim or release failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum JobError {
    /// The pool has no address for the owner, as seen on the newest object.
    #[error("{}", .rejection.about(.pool))]
    Rejected {
        /// Name of the pool.
        pool: String,
        /// Why.
        rejection: Box<Rejection>,
    },
    /// The API server refused the write.
    #[error("the API server refused to write the records of IPPool {pool}: {message}")]
    Refused {
        /// Name of the pool.
        pool: String,
        /// The API server's answer.
        message: String,
    },
    /// The pool could not be read live.
    #[error("IPPool {pool} cannot be read: {message}; try again when the API server answers")]
    Unread {
        /// Name of the pool.
        pool: String,
        /// What the try met.
        message: String,
    },
    /// While the agent starts, what nobody has on record is put back only if whoever asks has looked again since it was found so.
    #[error("IPPool {pool} has {ip} on record for nobody; it is looked at again")]
    Unrecorded {
        /// Name of the pool.
        pool: String,
        /// The address.
        ip: IpAddr,
    },
    /// The deadline passed. What was sent may have been written; the next request of the same pod finds it.
    #[error("no acknowledged write of IPPool {pool} in time: {message}; the kubelet tries again")]
    Deadline {
        /// Name of the pool.
        pool: String,
        /// What the last try met.
        message: String,
    },
}

impl JobError {
    /// Whether the pool may know in a while what it has on record: it pauses after a restore, or cannot be read until somebody mends it.
    pub fn may_pass(&self) -> bool {
        matches!(self, Self::Rejected { rejection, .. } if matches!(**rejection, Rejection::Restoring | Rejection::Broken(_)))
    }

    /// Whether the pool gives out nothing until agents have told what their nodes use.
    pub fn is_restoring(&self) -> bool {
        matches!(self, Self::Rejected { rejection, .. } if **rejection == Rejection::Restoring)
    }
}

/// One request to a pool's writer.
pub(super) enum Job {
    /// Take an address.
    Claim {
        owner: Owner,
        exact: Option<IpAddr>,
        leaving: Vec<IpAddr>,
        deadline: Instant,
        reply: oneshot::Sender<Result<Claimed, JobError>>,
    },
    /// Take over what an earlier pod of the same identity had.
    Succeed {
        ip: IpAddr,
        owner: Owner,
        former: BTreeSet<String>,
        deadline: Instant,
        reply: oneshot::Sender<Result<Succession, JobError>>,
    },
    /// Put back on record what a pod uses.
    Restore {
        ip: IpAddr,
        owner: Owner,
        sure: bool,
        deadline: Instant,
        reply: oneshot::Sender<Result<Succession, JobError>>,
    },
    /// Give back what a pod's NIC has, or one address of that.
    Release {
        owner: Owner,
        only: Option<IpAddr>,
        deadline: Instant,
        reply: oneshot::Sender<Result<Vec<IpAddr>, JobError>>,
    },
    /// Name the node in what a pod has on record without one.
    Place {
        uid: String,
        node: String,
        deadline: Instant,
        reply: oneshot::Sender<Result<(), JobError>>,
    },
    /// Hold the pool up after a restore of the API server's storage, or end that.
    Pause {
        said: Pause,
        deadline: Instant,
        reply: oneshot::Sender<Result<bool, JobError>>,
    },
    /// Keep an address from everybody.
    Quarantine {
        ip: IpAddr,
        owner: Owner,
        by: String,
        deadline: Instant,
        reply: oneshot::Sender<Result<Option<HeldReason>, JobError>>,
    },
}

impl Job {
    pub(super) const fn deadline(&self) -> Instant {
        match self {
            Self::Claim { deadline, .. }
            | Self::Succeed { deadline, .. }
            | Self::Restore { deadline, .. }
            | Self::Release { deadline, .. }
            | Self::Place { deadline, .. }
            | Self::Pause { deadline, .. }
            | Self::Quarantine { deadline, .. } => *deadline,
        }
    }

    /// Whether nobody waits for the answer any more. What such a job would take, nobody would give back.
    pub(super) fn is_abandoned(&self) -> bool {
        match self {
            Self::Claim { reply, .. } => reply.is_closed(),
            Self::Succeed { reply, .. } => reply.is_closed(),
            Self::Restore { reply, .. } => reply.is_closed(),
            Self::Release { reply, .. } => reply.is_closed(),
            Self::Place { reply, .. } => reply.is_closed(),
            Self::Pause { reply, .. } => reply.is_closed(),
            Self::Quarantine { reply, .. } => reply.is_closed(),
        }
    }

    pub(super) fn fail(self, error: JobError) {
        // A caller that went away needs no answer.
        match self {
            Self::Claim { reply, .. } => drop(reply.send(Err(error))),
            Self::Succeed { reply, .. } => drop(reply.send(Err(error))),
            Self::Restore { reply, .. } => drop(reply.send(Err(error))),
            Self::Release { reply, .. } => drop(reply.send(Err(error))),
            Self::Place { reply, .. } => drop(reply.send(Err(error))),
            Self::Pause { reply, .. } => drop(reply.send(Err(error))),
            Self::Quarantine { reply, .. } => drop(reply.send(Err(error))),
        }
    }
}

/// What planning a batch gave to one job.
pub(super) enum Outcome {
    Claim(Result<Taken, Rejection>),
    Succeed(Succession),
    /// What is to be put back is on record for nobody.
    Unrecorded(IpAddr),
    Release(Vec<IpAddr>),
    /// How many records were changed; none if there was no room.
    Place(Option<usize>),
    /// Whether it changed anything.
    Pause(bool),
    Quarantine(Option<HeldReason>),
}

impl Outcome {
    pub(super) fn is_change(&self) -> bool {
        match self {
            Self::Claim(taken) => taken.as_ref().is_ok_and(|taken| taken.written),
            Self::Succeed(succession) => *succession == Succession::Own { written: true },
            Self::Release(freed) => !freed.is_empty(),
            Self::Place(placed) => placed.is_some_and(|placed| placed > 0),
            Self::Pause(changed) => *changed,
            Self::Quarantine(held) => held.is_some(),
            Self::Unrecorded(_) => false,
        }
    }

    /// Whether the answer says what the pool has on record, or has not.
    pub(super) const fn relies_on_records(&self) -> bool {
        match self {
            Self::Claim(taken) => taken.is_ok(),
            Self::Succeed(succession) => matches!(succession, Succession::Own { .. }),
            Self::Release(_) => true,
            Self::Place(placed) => placed.is_some(),
            Self::Pause(_) | Self::Quarantine(_) | Self::Unrecorded(_) => false,
        }
    }

    /// Whether it is a refusal, or says that there is nothing to do, which an object of the cache cannot justify.
    pub(super) const fn is_refusal(&self) -> bool {
        matches!(
            self,
            Self::Claim(Err(_))
                | Self::Unrecorded(_)
                | Self::Place(None | Some(0))
                | Self::Pause(false)
                | Self::Succeed(Succession::Other(_) | Succession::Lost(_))
        )
    }
}

/// Tells everybody what the batch gave, where `pool` is the object with all of it.
pub(super) fn answer(batch: Vec<Job>, outcomes: Vec<Outcome>, pool: &Arc<SpiderIPPool>, name: &str) {
    for (job, outcome) in batch.into_iter().zip(outcomes) {
        // A caller that went away needs no answer.
        match (job, outcome) {
            (Job::Claim { reply, .. }, Outcome::Claim(Ok(taken))) => {
                drop(reply.send(Ok(Claimed {
                    taken,
                    pool: pool.clone(),
                })));
            }
            (Job::Succeed { reply, .. } | Job::Restore { reply, .. }, Outcome::Succeed(succession)) => {
                drop(reply.send(Ok(succession)))
            }
            (Job::Release { reply, .. }, Outcome::Release(freed)) => drop(reply.send(Ok(freed))),
            (Job::Place { reply, .. }, Outcome::Place(Some(_))) => drop(reply.send(Ok(()))),
            (job @ Job::Place { .. }, Outcome::Place(None)) => job.fail(JobError::Refused {
                pool: name.to_owned(),
                message: "its object has no room for the names of nodes".to_owned(),
            }),
            (Job::Pause { reply, .. }, Outcome::Pause(changed)) => drop(reply.send(Ok(changed))),
            (Job::Quarantine { reply, .. }, Outcome::Quarantine(held)) => drop(reply.send(Ok(held))),
            (job, Outcome::Unrecorded(ip)) => {
                let pool = name.to_owned();
                job.fail(JobError::Unrecorded { pool, ip });
            }
            (job, Outcome::Claim(Err(rejection))) => job.fail(rejected(name, rejection)),
            // Outcomes are made of the jobs they stand beside, so there are no other pairs.
            (
                job,
                Outcome::Claim(Ok(_))
                | Outcome::Succeed(_)
                | Outcome::Release(_)
                | Outcome::Place(_)
                | Outcome::Pause(_)
                | Outcome::Quarantine(_),
            ) => {
                drop(job);
            }
        }
    }
}

/// That a pool has no address for an owner.
pub(super) fn rejected(pool: &str, rejection: Rejection) -> JobError {
    JobError::Rejected {
        pool: pool.to_owned(),
        rejection: Box::new(rejection),
    }
}

/// Tells everybody that there is no such pool.
pub(super) fn missing(batch: Vec<Job>, name: &str) {
    for job in batch {
        match job {
            // A pool that is gone holds nothing, which is all that a release wants.
            Job::Release { reply, .. } => drop(reply.send(Ok(Vec::new()))),
            Job::Place { reply, .. } => drop(reply.send(Ok(()))),
            Job::Pause { reply, .. } => drop(reply.send(Ok(false))),
            Job::Quarantine { reply, .. } => drop(reply.send(Ok(None))),
            Job::Succeed { reply, .. } | Job::Restore { reply, .. } => {
                drop(reply.send(Ok(Succession::Lost(Rejection::NotFound))))
            }
            claim @ Job::Claim { .. } => claim.fail(rejected(name, Rejection::NotFound)),
        }
    }
}

/// Leaves what somebody still waits for in time; the others are told what the last try met.
pub(super) fn expire(batch: Vec<Job>, name: &str, message: &str) -> Vec<Job> {
    let now = Instant::now();
    let waited_for = batch.into_iter().filter(|job| !job.is_abandoned());
    let (live, dead): (Vec<Job>, Vec<Job>) = waited_for.partition(|job| job.deadline() > now);
    for job in dead {
        job.fail(JobError::Deadline {
            pool: name.to_owned(),
            message: message.to_owned(),
        });
    }
    live
}
