//! The one task that writes a pool's records: group commit by compare-and-swap.
//!
//! Every claim and release that waits when a write begins goes into that write. A lone request is written at once. The
//! first try uses the cached object and its resourceVersion, without a read. On a conflict the fresh object is read and the
//! whole batch is planned again, so contention costs a retry and is never mistaken for exhaustion. A write whose outcome is
//! unknown (a timeout) is followed by a read of the pool: the batch is planned on what that shows, and a claim that did land
//! finds its own record.

use super::PoolStore;
use super::job::{self, Job, JobError, Outcome};
use super::pace::Pace;
use super::rewound::is_older;
use super::state::{Pause, PoolState, Unusable};
use crate::kill::{self, Point};
use crate::pause::{pause, pauses};
use crate::tries::asked_for;
use kube::ResourceExt;
use kube::api::PostParams;
use spiderpool_crds::SpiderIPPool;
use spiderpool_ipam::addr;
use spiderpool_ipam::candidates::Rejection;
use spiderpool_kit::backoff::Backoff;
use spiderpool_kit::cache::{Key, Store};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// Most jobs in one write; more wait for the next one.
const BATCH_MAX: usize = 512;

/// How long one request to the API server may take. The caller's deadline cuts it further.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// How long an idle writer stays. Its state is the cache's, so nothing is lost with it.
const IDLE: Duration = Duration::from_secs(60);

/// Serves a pool's jobs until none came for a while or the store is gone.
pub(super) async fn run(store: Arc<PoolStore>, name: String, jobs: mpsc::Receiver<Job>) {
    let mut writer = Writer {
        store,
        name,
        jobs,
        pace: Pace::default(),
        kept: None,
    };
    while let Some(first) = writer.next().await {
        writer.commit(vec![first]).await;
    }
}

/// A pool's writer.
struct Writer {
    store: Arc<PoolStore>,
    name: String,
    jobs: mpsc::Receiver<Job>,
    pace: Pace,
    /// The pool as it was written last: reading a large one again is most of the work on it.
    kept: Option<PoolState>,
}

impl Writer {
    async fn next(&mut self) -> Option<Job> {
        match tokio::time::timeout(IDLE, self.jobs.recv()).await {
            Ok(job) => job,
            Err(_) => {
                // Refuse new senders first, so that a job sent meanwhile is still served.
                self.jobs.close();
                self.jobs.recv().await
            }
        }
    }

    /// Adds to a batch what waits. A try that comes after others takes in what came meanwhile, so that no request waits longer
    /// than one try before its own deadline counts.
    fn fill(&mut self, batch: &mut Vec<Job>) {
        while batch.len() < BATCH_MAX
            && let Ok(job) = self.jobs.try_recv()
        {
            batch.push(job);
        }
    }

    /// Waits for the next try and takes in what comes meanwhile. The wait ends early for a request that has no more time than a try
    /// takes.
    async fn gather(&mut self, wait: Duration, batch: &mut Vec<Job>) {
        let (end, reserve) = (Instant::now() + wait, self.pace.reserve());
        loop {
            let last_moment = |job: &Job| job.deadline().checked_sub(reserve).unwrap_or(end);
            let until = batch.iter().map(last_moment).fold(end, Instant::min);
            if batch.len() >= BATCH_MAX {
                return tokio::time::sleep_until(until).await;
            }
            match tokio::time::timeout_at(until, self.jobs.recv()).await {
                Ok(Some(job)) => batch.push(job),
                Ok(None) => return tokio::time::sleep_until(until).await,
                Err(_) => return,
            }
        }
    }

    /// Plans and writes a batch until it is acknowledged or every job's deadline passed.
    async fn commit(&mut self, mut batch: Vec<Job>) {
        let (store, name) = (self.store.clone(), self.name.clone());
        // The cached object is tried first. When another writer was faster, the watch tells what it wrote; whatever else goes
        // wrong, the next try is on the object as read live.
        let mut from = Source::Cache;
        let mut backoff = pauses();
        let mut last_error = String::from("the API server did not answer");
        loop {
            let wait = self.pace.pause(Instant::now());
            if !wait.is_zero() {
                self.gather(wait, &mut batch).await;
            }
            self.fill(&mut batch);
            batch = job::expire(batch, &name, &last_error);
            let Some(latest) = batch.iter().map(Job::deadline).max() else {
                return;
            };
            let limit = latest.min(Instant::now() + REQUEST_TIMEOUT);
            let (object, source) = match self.known(from) {
                Some(object) => (object, Source::Cache),
                None => match read(&store, &name, limit).await {
                    Ok(Some(object)) => (object, Source::Live),
                    Ok(None) => {
                        store.doubts().forget(&name);
                        return job::missing(batch, &name);
                    }
                    Err(unread) => {
                        last_error = unread.message;
                        hold_off(unread.after, latest, &mut backoff).await;
                        continue;
                    }
                },
            };
            from = Source::Live;
            let mut state = match self.state(object) {
                Ok(state) => state,
                Err(unusable) => {
                    let broken = Rejection::Broken(unusable.to_string());
                    let failed = |job: Job| job.fail(job::rejected(&name, broken.clone()));
                    return batch.into_iter().for_each(failed);
                }
            };
            let unrecorded = unrecorded(&state, &batch);
            let outcomes = plan(&mut state, &batch, &store);
            let restored = |job: usize| outcomes.get(job).is_some_and(Outcome::is_change);
            if store.is_starting() && unrecorded.into_iter().any(restored) {
                // The cache may be late.
                if source == Source::Cache {
                    continue;
                }
                state.pause(Pause::Begin, &store.node);
                // Other pools may lack what nodes use whose agents do not run yet.
                store.rewinds.noticed();
            }
            let version = state.object().resource_version().unwrap_or_default();
            let doubtful = store.doubts().concerns(&name, &version);
            if !outcomes.iter().any(Outcome::is_change) {
                let refused = outcomes.iter().any(Outcome::is_refusal);
                // "No free address" may be said only of an object that was read live: the cache may be behind a release.
                if refused && source == Source::Cache {
                    continue;
                }
                // What is on record counts only once no older write can change it any more.
                if !doubtful || !outcomes.iter().any(Outcome::relies_on_records) {
                    let object = state.object().clone();
                    return job::answer(batch, outcomes, &object, &name);
                }
                state.fence();
            }
            kill::point(Point::WritePlanned);
            let began = Instant::now();
            match write(&store, &name, &state, limit).await {
                // An acknowledged write proves that the object was the newest, so what it refused is truly refused.
                Write::Done(object) => {
                    store
                        .doubts()
                        .settle(&name, &object.resource_version().unwrap_or_default());
                    self.pace.won(Instant::now(), began.elapsed());
                    job::answer(batch, outcomes, &object, &name);
                    self.kept = Some(state.written_as(object));
                    return;
                }
                Write::Missing => {
                    store.doubts().forget(&name);
                    return job::missing(batch, &name);
                }
                Write::Refused(message) => {
                    let error = JobError::Refused {
                        pool: name.clone(),
                        message,
                    };
                    return batch.into_iter().for_each(|job| job.fail(error.clone()));
                }
                Write::Conflict => {
                    store.metrics().conflicts.inc();
                    last_error = "exhaust all retries: other writers were faster each time".to_owned();
                    self.pace.lost(Instant::now());
                    from = self.news(&version, limit, &mut backoff).await;
                }
                Write::Busy { after, message } => {
                    last_error = message;
                    hold_off(after, latest, &mut backoff).await;
                }
                Write::Unknown(message) => {
                    store.doubts().raise(&name, &version);
                    last_error = message;
                    pause(&mut backoff).await;
                }
            }
        }
    }

    /// The cached object, if it is to be tried. Of a pool that an unanswered write may have changed, the cache says nothing, nor when
    /// the storage of the API server may have gone back.
    fn known(&self, from: Source) -> Option<Arc<SpiderIPPool>> {
        // While the watch is broken the API server may be another one, with an older storage.
        let told = self.store.cache().is_healthy() && self.store.suspended().is_none();
        let asked = told && from == Source::Cache && !self.store.doubts().is_raised(&self.name);
        self.store.cached(&self.name).filter(|_| asked)
    }

    /// Waits a moment for the watch to show another version than the one that lost, and tells where to look for it.
    async fn news(&self, lost: &str, limit: Instant, backoff: &mut Backoff) -> Source {
        let key = Key::new("", &self.name);
        let cache = self.store.cache();
        let newer = |pools: &Store<SpiderIPPool>| {
            let pool = pools.get(&key)?;
            (pool.resource_version().as_deref() != Some(lost)).then_some(())
        };
        let until = limit.min(Instant::now() + self.pace.news());
        if cache.is_healthy() && cache.wait(until, newer).await.is_ok() {
            return Source::Cache;
        }
        pause(backoff).await;
        Source::Live
    }

    /// What requests are planned on.
    fn state(&mut self, object: Arc<SpiderIPPool>) -> Result<PoolState, Unusable> {
        let rests = self.store.rests();
        match self.kept.take().map(|kept| kept.carry_over(&object, rests)) {
            Some(Some(state)) => Ok(state),
            Some(None) | None => PoolState::read_resting(object, rests).map(|state| state.on(self.store.node.clone())),
        }
    }
}

/// Where the object of a try comes from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Source {
    Cache,
    Live,
}

/// Which of the jobs put back on record what nobody has on record.
fn unrecorded(state: &PoolState, batch: &[Job]) -> Vec<usize> {
    let jobs = batch.iter().enumerate();
    let unrecorded = jobs.filter(|(_, job)| match job {
        Job::Restore { ip, .. } => is_unrecorded(state, *ip),
        _ => false,
    });
    unrecorded.map(|(place, _)| place).collect()
}

fn is_unrecorded(state: &PoolState, ip: IpAddr) -> bool {
    state.ledger().owner(addr::to_bits(ip).1).is_none()
}

fn plan(state: &mut PoolState, batch: &[Job], store: &PoolStore) -> Vec<Outcome> {
    let reserved = store.reserved(state.family());
    let paused: Vec<Option<Outcome>> = batch
        .iter()
        .map(|job| match job {
            Job::Pause { said, .. } => Some(Outcome::Pause(state.pause(*said, &store.node))),
            _ => None,
        })
        .collect();
    // As it was read, or as it is to be: neither is the time to give anything out.
    let held_up = state.object().is_restoring() || state.is_restoring() || store.suspended().is_some();
    // Releases first, so that what they free serves the claims of the same batch.
    let before: Vec<Option<Outcome>> = batch
        .iter()
        .zip(paused)
        .map(|(job, paused)| match job {
            // Also what is on record for who asks may be somebody else's by now.
            Job::Claim { .. } | Job::Succeed { .. } if held_up => Some(Outcome::Claim(Err(Rejection::Restoring))),
            Job::Pause { .. } => paused,
            Job::Release { owner, only, .. } => {
                let nic = owner.nic.as_deref().unwrap_or_default();
                let freed = state.release_some(&owner.pod, &owner.uid, nic, *only);
                Some(Outcome::Release(freed))
            }
            Job::Quarantine { ip, owner, by, .. } => {
                let percent = store.quarantine_percent();
                Some(Outcome::Quarantine(state.quarantine(*ip, owner, by, percent)))
            }
            Job::Place { uid, node, .. } => Some(Outcome::Place(state.place_all(uid, node))),
            Job::Claim { .. } | Job::Succeed { .. } | Job::Restore { .. } => None,
        })
        .collect();
    // What a pod had goes before what another one picks.
    let before: Vec<Option<Outcome>> = batch
        .iter()
        .zip(before)
        .map(|(job, before)| match job {
            // What is on record may be of the past, and the pool does not say so yet.
            Job::Restore { .. } if store.suspended().is_some() && !state.is_restoring() => {
                Some(Outcome::Claim(Err(Rejection::Restoring)))
            }
            Job::Restore { ip, sure: false, .. } if store.is_starting() && is_unrecorded(state, *ip) => {
                Some(Outcome::Unrecorded(*ip))
            }
            Job::Restore { ip, owner, .. } => Some(Outcome::Succeed(state.restore(*ip, owner))),
            Job::Succeed { ip, owner, former, .. } if before.is_none() => {
                Some(Outcome::Succeed(state.succeed(*ip, owner, former, &reserved)))
            }
            _ => before,
        })
        .collect();
    batch
        .iter()
        .zip(before)
        .map(|(job, before)| match (job, before) {
            (_, Some(outcome)) => outcome,
            (
                Job::Claim {
                    owner, exact, leaving, ..
                },
                None,
            ) => Outcome::Claim(state.claim_beside(owner, *exact, leaving, &reserved)),
            (
                Job::Succeed { .. }
                | Job::Restore { .. }
                | Job::Release { .. }
                | Job::Place { .. }
                | Job::Pause { .. }
                | Job::Quarantine { .. },
                None,
            ) => Outcome::Release(Vec::new()),
        })
        .collect()
}

enum Write {
    Done(Arc<SpiderIPPool>),
    Conflict,
    Missing,
    Refused(String),
    /// It was turned away unseen, and should not come again for so long.
    Busy {
        after: Duration,
        message: String,
    },
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
        Ok(Err(kube::Error::Api(status))) if status.code == 429 => Write::Busy {
            after: asked_for(&status),
            message: format!("the API server did not take the write: {}", status.message),
        },
        Ok(Err(kube::Error::Api(status))) if (400..500).contains(&status.code) => Write::Refused(status.message),
        Ok(Err(error)) => Write::Unknown(format!("the API server did not take the write: {error}")),
        Err(_) => Write::Unknown("the API server did not answer".to_owned()),
    }
}

/// Why a pool could not be read.
pub(super) struct Unread {
    pub(super) message: String,
    /// How long the server wants to be left alone.
    after: Duration,
}

/// Reads a pool live.
pub(super) async fn read(store: &PoolStore, name: &str, limit: Instant) -> Result<Option<Arc<SpiderIPPool>>, Unread> {
    let unread = |message: String, after: Duration| Err(Unread { message, after });
    let known = store.cached(name).filter(|_| !store.cache().read(Store::is_distrusted));
    let mut found = tokio::time::timeout_at(limit, store.api().get_opt(name)).await;
    // What was known when it was asked: what is learnt meanwhile may be newer than the answer.
    let went_back = |found: &_| matches!(found, Ok(Ok(Some(object))) if is_older(object, known.as_deref()));
    if went_back(&found) {
        // A single stale answer is not believed.
        found = tokio::time::timeout_at(limit, store.api().get_opt(name)).await;
        if went_back(&found) {
            tracing::error!(
                pool = name,
                "the API server went back to an older state, as after a restore of its storage"
            );
            store.rewinds.noticed();
        }
    }
    match found {
        Ok(Ok(Some(object))) => {
            let version = object.resource_version().unwrap_or_default();
            store.doubts().seen(name, &version);
            Ok(Some(store.learn(object)))
        }
        Ok(Ok(None)) => Ok(None),
        Ok(Err(error)) => {
            let after = match &error {
                kube::Error::Api(status) => asked_for(status),
                _ => Duration::ZERO,
            };
            unread(format!("the API server did not answer a read: {error}"), after)
        }
        Err(_) => unread(
            "the API server did not answer a read in time".to_owned(),
            Duration::ZERO,
        ),
    }
}

/// Pauses for as long as the server asked for, with jitter on top; not past the last deadline of those who wait.
async fn hold_off(after: Duration, latest: Instant, backoff: &mut Backoff) {
    let wait = async {
        tokio::time::sleep(after).await;
        pause(backoff).await;
    };
    // Either way it is time to look who still waits.
    let _ = tokio::time::timeout_at(latest, wait).await;
}
