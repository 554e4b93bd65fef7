//! The one task that writes a pool's records: group commit by compare-and-swap.
//!
//! Every claim and release that waits when a write begins goes into that write. A lone request is written at once. The
//! first try uses the cached object and its resourceVersion, without a read. On a conflict the fresh object is read and the
//! whole batch is planned again, so contention costs a retry and is never mistaken for exhaustion. A write whose outcome is
//! unknown (a timeout) is followed by a read of the pool: the batch is planned on what that shows, and a claim that did land
//! finds its own record.

use super::PoolStore;
use super::state::{PoolState, Taken};
use crate::kill::{self, Point};
use crate::pause::{pause, pauses};
use kube::ResourceExt;
use kube::api::PostParams;
use spiderpool_crds::SpiderIPPool;
use spiderpool_crds::records::HeldReason;
use spiderpool_ipam::Owner;
use spiderpool_ipam::candidates::Rejection;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

/// Most jobs in one write; more wait for the next one.
const BATCH_MAX: usize = 512;

/// How long one request to the API server may take. The caller's deadline cuts it further.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// How long an idle writer stays. Its state is the cache's, so nothing is lost with it.
const IDLE: Duration = Duration::from_secs(60);

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
    /// The deadline passed. What was sent may have been written; the next request of the same pod finds it.
    #[error("no acknowledged write of IPPool {pool} in time: {message}; the kubelet tries again")]
    Deadline {
        /// Name of the pool.
        pool: String,
        /// What the last try met.
        message: String,
    },
}

/// One request to a pool's writer.
pub(super) enum Job {
    /// Take an address.
    Claim {
        owner: Owner,
        exact: Option<IpAddr>,
        deadline: Instant,
        reply: oneshot::Sender<Result<Claimed, JobError>>,
    },
    /// Give back what a pod's NIC has.
    Release {
        pod: String,
        uid: String,
        nic: String,
        deadline: Instant,
        reply: oneshot::Sender<Result<Vec<IpAddr>, JobError>>,
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
    const fn deadline(&self) -> Instant {
        match self {
            Self::Claim { deadline, .. } | Self::Release { deadline, .. } | Self::Quarantine { deadline, .. } => {
                *deadline
            }
        }
    }

    /// Whether nobody waits for the answer any more. What such a job would take, nobody would give back.
    fn is_abandoned(&self) -> bool {
        match self {
            Self::Claim { reply, .. } => reply.is_closed(),
            Self::Release { reply, .. } => reply.is_closed(),
            Self::Quarantine { reply, .. } => reply.is_closed(),
        }
    }

    fn fail(self, error: JobError) {
        // A caller that went away needs no answer.
        match self {
            Self::Claim { reply, .. } => drop(reply.send(Err(error))),
            Self::Release { reply, .. } => drop(reply.send(Err(error))),
            Self::Quarantine { reply, .. } => drop(reply.send(Err(error))),
        }
    }
}

/// What planning a batch gave to one job.
enum Outcome {
    Claim(Result<Taken, Rejection>),
    Release(Vec<IpAddr>),
    Quarantine(Option<HeldReason>),
}

impl Outcome {
    fn is_change(&self) -> bool {
        match self {
            Self::Claim(taken) => taken.as_ref().is_ok_and(|taken| taken.written),
            Self::Release(freed) => !freed.is_empty(),
            Self::Quarantine(held) => held.is_some(),
        }
    }

    /// Whether the answer says what the pool has on record, or has not.
    const fn relies_on_records(&self) -> bool {
        match self {
            Self::Claim(taken) => taken.is_ok(),
            Self::Release(_) => true,
            Self::Quarantine(_) => false,
        }
    }
}

/// Serves a pool's jobs until none came for a while or the store is gone.
pub(super) async fn run(store: Arc<PoolStore>, name: String, mut jobs: mpsc::Receiver<Job>) {
    loop {
        let first = match tokio::time::timeout(IDLE, jobs.recv()).await {
            Ok(Some(job)) => job,
            Ok(None) => return,
            Err(_) => {
                // Refuse new senders first, so that a job sent meanwhile is still served.
                jobs.close();
                match jobs.recv().await {
                    Some(job) => job,
                    None => return,
                }
            }
        };
        commit(&store, &name, vec![first], &mut jobs).await;
    }
}

/// Adds to a batch what waits. A try that comes after others takes in what came meanwhile, so that no request waits longer than
/// one try before its own deadline counts.
fn fill(batch: &mut Vec<Job>, jobs: &mut mpsc::Receiver<Job>) {
    while batch.len() < BATCH_MAX
        && let Ok(job) = jobs.try_recv()
    {
        batch.push(job);
    }
}

/// Plans and writes a batch until it is acknowledged or every job's deadline passed.
async fn commit(store: &PoolStore, name: &str, mut batch: Vec<Job>, jobs: &mut mpsc::Receiver<Job>) {
    // The cached object is tried first; whatever goes wrong, the next try is on the object as read live. Of a pool that an
    // unanswered write may have changed, the cache says nothing.
    let known = store.cached(name).filter(|_| !store.doubts().is_raised(name));
    let mut current = known.map(|object| (object, Source::Cache));
    let mut backoff = pauses();
    let mut last_error = String::from("the API server did not answer");
    loop {
        fill(&mut batch, jobs);
        batch = expire(batch, name, &last_error);
        let Some(latest) = batch.iter().map(Job::deadline).max() else {
            return;
        };
        let limit = latest.min(Instant::now() + REQUEST_TIMEOUT);
        let (object, source) = match current.take() {
            Some(found) => found,
            None => match read(store, name, limit).await {
                Ok(Some(object)) => (object, Source::Live),
                Ok(None) => {
                    store.doubts().forget(name);
                    return missing(batch, name);
                }
                Err(message) => {
                    last_error = message;
                    pause(&mut backoff).await;
                    continue;
                }
            },
        };
        let mut state = match PoolState::read(object) {
            Ok(state) => state,
            Err(unusable) => {
                let broken = Rejection::Broken(unusable.to_string());
                batch
                    .into_iter()
                    .for_each(|job| job.fail(rejected(name, broken.clone())));
                return;
            }
        };
        let outcomes = plan(&mut state, &batch, store);
        let version = state.object().resource_version().unwrap_or_default();
        let doubtful = store.doubts().concerns(name, &version);
        if !outcomes.iter().any(Outcome::is_change) {
            let refused = outcomes.iter().any(|outcome| matches!(outcome, Outcome::Claim(Err(_))));
            // "No free address" may be said only of an object that was read live: the cache may be behind a release.
            if refused && source == Source::Cache {
                continue;
            }
            // What is on record counts only once no older write can change it any more.
            if !doubtful || !outcomes.iter().any(Outcome::relies_on_records) {
                let object = state.object().clone();
                return answer(batch, outcomes, &object, name);
            }
            state.fence();
        }
        kill::point(Point::WritePlanned);
        match write(store, name, &state, limit).await {
            // An acknowledged write proves that the object was the newest, so what it refused is truly refused.
            Write::Done(object) => {
                store
                    .doubts()
                    .settle(name, &object.resource_version().unwrap_or_default());
                return answer(batch, outcomes, &object, name);
            }
            Write::Missing => {
                store.doubts().forget(name);
                return missing(batch, name);
            }
            Write::Refused(message) => {
                let error = JobError::Refused {
                    pool: name.to_owned(),
                    message,
                };
                batch.into_iter().for_each(|job| job.fail(error.clone()));
                return;
            }
            Write::Conflict => {
                store.metrics().conflicts.inc();
                last_error = "other writers were faster each time".to_owned();
            }
            Write::Unknown(message) => {
                store.doubts().raise(name, &version);
                last_error = message;
            }
        }
        pause(&mut backoff).await;
    }
}

/// Where the object of a try comes from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Source {
    Cache,
    Live,
}

fn plan(state: &mut PoolState, batch: &[Job], store: &PoolStore) -> Vec<Outcome> {
    let reserved = store.reserved(state.family());
    // Releases first, so that what they free serves the claims of the same batch.
    let before: Vec<Option<Outcome>> = batch
        .iter()
        .map(|job| match job {
            Job::Release { pod, uid, nic, .. } => Some(Outcome::Release(state.release(pod, uid, nic))),
            Job::Quarantine { ip, owner, by, .. } => Some(Outcome::Quarantine(state.quarantine(*ip, owner, by))),
            Job::Claim { .. } => None,
        })
        .collect();
    batch
        .iter()
        .zip(before)
        .map(|(job, before)| match (job, before) {
            (_, Some(outcome)) => outcome,
            (Job::Claim { owner, exact, .. }, None) => Outcome::Claim(state.claim(owner, *exact, &reserved)),
            (Job::Release { .. } | Job::Quarantine { .. }, None) => Outcome::Release(Vec::new()),
        })
        .collect()
}

fn answer(batch: Vec<Job>, outcomes: Vec<Outcome>, pool: &Arc<SpiderIPPool>, name: &str) {
    for (job, outcome) in batch.into_iter().zip(outcomes) {
        // A caller that went away needs no answer.
        match (job, outcome) {
            (Job::Claim { reply, .. }, Outcome::Claim(Ok(taken))) => {
                drop(reply.send(Ok(Claimed {
                    taken,
                    pool: pool.clone(),
                })));
            }
            (Job::Release { reply, .. }, Outcome::Release(freed)) => drop(reply.send(Ok(freed))),
            (Job::Quarantine { reply, .. }, Outcome::Quarantine(held)) => drop(reply.send(Ok(held))),
            (job, Outcome::Claim(Err(rejection))) => job.fail(rejected(name, rejection)),
            // Outcomes are made of the jobs they stand beside, so there are no other pairs.
            (job, Outcome::Claim(Ok(_)) | Outcome::Release(_) | Outcome::Quarantine(_)) => drop(job),
        }
    }
}

fn rejected(pool: &str, rejection: Rejection) -> JobError {
    JobError::Rejected {
        pool: pool.to_owned(),
        rejection: Box::new(rejection),
    }
}

fn missing(batch: Vec<Job>, name: &str) {
    for job in batch {
        match job {
            // A pool that is gone holds nothing, which is all that a release wants.
            Job::Release { reply, .. } => drop(reply.send(Ok(Vec::new()))),
            Job::Quarantine { reply, .. } => drop(reply.send(Ok(None))),
            claim @ Job::Claim { .. } => claim.fail(rejected(name, Rejection::NotFound)),
        }
    }
}

fn expire(batch: Vec<Job>, name: &str, message: &str) -> Vec<Job> {
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

enum Write {
    Done(Arc<SpiderIPPool>),
    Conflict,
    Missing,
    Refused(String),
    Unknown(String),
}

async fn write(store: &PoolStore, name: &str, state: &PoolState, limit: Instant) -> Write {
    let object = state.to_write();
    store.metrics().writes.inc();
    let params = PostParams::default();
    kill::point(Point::WriteBefore);
    kill::point_soon(Point::WriteUnderWay);
    let put = store.api().replace_status(name, &params, &object);
    match tokio::time::timeout_at(limit, put).await {
        Ok(Ok(object)) => {
            kill::point(Point::WriteAcknowledged);
            Write::Done(store.learn(object))
        }
        Ok(Err(kube::Error::Api(status))) if status.is_conflict() => Write::Conflict,
        Ok(Err(kube::Error::Api(status))) if status.is_not_found() => Write::Missing,
        Ok(Err(kube::Error::Api(status))) if (400..500).contains(&status.code) && status.code != 429 => {
            Write::Refused(status.message)
        }
        Ok(Err(error)) => Write::Unknown(format!("the API server did not take the write: {error}")),
        Err(_) => Write::Unknown("the API server did not answer".to_owned()),
    }
}

/// Reads a pool live.
pub(super) async fn read(store: &PoolStore, name: &str, limit: Instant) -> Result<Option<Arc<SpiderIPPool>>, String> {
    match tokio::time::timeout_at(limit, store.api().get_opt(name)).await {
        Ok(Ok(Some(object))) => Ok(Some(store.learn(object))),
        Ok(Ok(None)) => Ok(None),
        Ok(Err(error)) => Err(format!("the API server did not answer a read: {error}")),
        Err(_) => Err("the API server did not answer a read in time".to_owned()),
    }
}
