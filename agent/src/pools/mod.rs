//! The pools as this node sees them, and the way to change their records.

mod doubt;
mod hold;
mod job;
mod lookup;
mod pace;
mod rests;
mod rewound;
mod size;
mod state;
mod writer;

pub use hold::about as about_held;
pub use job::{Claimed, JobError};
pub use rewound::{Count, Rewound};
pub use state::{Pause, PoolState, Succession, Taken, Unusable};

use crate::kill::{self, Point};
use crate::metrics::PoolMetrics;
use doubt::Doubts;
use job::Job;
use kube::Api;
use rests::Rests;
use rewound::Rewinds;
use spiderpool_crds::records::HeldReason;
use spiderpool_crds::{SpiderIPPool, SpiderReservedIP};
use spiderpool_ipam::{Family, Owner, RangeSet};
use spiderpool_kit::cache::{Cache, Store};
use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

/// Jobs that may wait for one pool's writer. More are told to wait by the channel itself, until their deadline.
const QUEUE: usize = 1024;

/// All pools: a cache to look at, and one writer task for each pool in use.
pub struct PoolStore {
    cache: Cache<SpiderIPPool>,
    reserved: Cache<SpiderReservedIP>,
    api: Api<SpiderIPPool>,
    metrics: PoolMetrics,
    quarantine_percent: u8,
    node: Arc<str>,
    writers: Mutex<HashMap<String, mpsc::Sender<Job>>>,
    doubts: Doubts,
    rewinds: Rewinds,
    starting: AtomicBool,
    rests: Rests,
}

impl PoolStore {
    /// A store over two watch caches. `client` must not retry by itself: the writer does. Of a hundred addresses of a pool at most
    /// `quarantine_percent` are in quarantine at once. What is claimed is on record for pods of `node`. `rewinds` are what other
    /// caches tell of a storage that went back.
    pub fn new(
        cache: Cache<SpiderIPPool>,
        reserved: Cache<SpiderReservedIP>,
        client: kube::Client,
        metrics: PoolMetrics,
        quarantine_percent: u8,
        node: &str,
        mut rewinds: Vec<watch::Receiver<u64>>,
    ) -> Arc<Self> {
        rewinds.extend([cache.rewinds(), reserved.rewinds()]);
        Arc::new(Self {
            rewinds: Rewinds::of(rewinds),
            cache,
            reserved,
            api: Api::all(client),
            metrics,
            quarantine_percent,
            node: Arc::from(node),
            writers: Mutex::default(),
            doubts: Doubts::new(),
            starting: AtomicBool::new(false),
            rests: Rests::default(),
        })
    }

    /// How many of a hundred addresses of a pool may be in quarantine at once.
    const fn quarantine_percent(&self) -> u8 {
        self.quarantine_percent
    }

    /// The watch cache of pools.
    pub const fn cache(&self) -> &Cache<SpiderIPPool> {
        &self.cache
    }

    /// The watch cache of reservations.
    pub const fn reservations(&self) -> &Cache<SpiderReservedIP> {
        &self.reserved
    }

    /// Takes an address of a pool for an owner, the lowest or the exact one, or gives the one that it has there.
    pub async fn claim(
        self: &Arc<Self>,
        pool: &str,
        owner: Owner,
        exact: Option<IpAddr>,
        deadline: Instant,
    ) -> Result<Claimed, JobError> {
        self.claim_beside(pool, owner, exact, Vec::new(), deadline).await
    }

    /// Does what [`Self::claim`] does for an owner that is about to leave some of its addresses.
    pub async fn claim_beside(
        self: &Arc<Self>,
        pool: &str,
        owner: Owner,
        exact: Option<IpAddr>,
        leaving: Vec<IpAddr>,
        deadline: Instant,
    ) -> Result<Claimed, JobError> {
        let (reply, answer) = oneshot::channel();
        let job = Job::Claim {
            owner,
            exact,
            leaving,
            deadline,
            reply,
        };
        self.send(pool, job, deadline).await?;
        kill::point(Point::ClaimQueued);
        answer.await.unwrap_or_else(|_| Err(stopped(pool)))
    }

    /// Frees what a pod's NIC has in a pool, comparing the whole owner. Returns what was freed; nothing is no error.
    pub async fn release(
        self: &Arc<Self>,
        pool: &str,
        pod: &str,
        uid: &str,
        nic: &str,
        deadline: Instant,
    ) -> Result<Vec<IpAddr>, JobError> {
        let owner = Owner {
            pod: pod.to_owned(),
            uid: uid.to_owned(),
            nic: Some(nic.to_owned()),
        };
        self.release_some(pool, owner, None, deadline).await
    }

    /// Does what [`Self::release`] does, or for one address only.
    pub async fn release_some(
        self: &Arc<Self>,
        pool: &str,
        owner: Owner,
        only: Option<IpAddr>,
        deadline: Instant,
    ) -> Result<Vec<IpAddr>, JobError> {
        let (reply, answer) = oneshot::channel();
        let job = Job::Release {
            owner,
            only,
            deadline,
            reply,
        };
        self.send(pool, job, deadline).await?;
        kill::point(Point::ReleaseQueued);
        answer.await.unwrap_or_else(|_| Err(stopped(pool)))
    }

    /// Has an owner take over an address that its identity had under one of the `former` UIDs. Who asks has seen that no pod of
    /// these exists.
    pub async fn succeed(
        self: &Arc<Self>,
        pool: &str,
        ip: IpAddr,
        owner: Owner,
        former: BTreeSet<String>,
        deadline: Instant,
    ) -> Result<Succession, JobError> {
        let (reply, answer) = oneshot::channel();
        let job = Job::Succeed {
            ip,
            owner,
            former,
            deadline,
            reply,
        };
        self.send(pool, job, deadline).await?;
        answer.await.unwrap_or_else(|_| Err(stopped(pool)))
    }

    /// Puts back on record an address that a sandbox of this node uses, if it is free. While the agent starts, only who is sure of the
    /// sandbox gets back what nobody has on record: see [`Self::set_starting`].
    pub async fn restore(
        self: &Arc<Self>,
        pool: &str,
        ip: IpAddr,
        owner: Owner,
        sure: bool,
        deadline: Instant,
    ) -> Result<Succession, JobError> {
        let (reply, answer) = oneshot::channel();
        let job = Job::Restore {
            ip,
            owner,
            sure,
            deadline,
            reply,
        };
        self.send(pool, job, deadline).await?;
        answer.await.unwrap_or_else(|_| Err(stopped(pool)))
    }

    /// Names the node in what a pod of another node has on record in a pool without one. The cache may say that nothing has to be
    /// written.
    pub async fn place(self: &Arc<Self>, pool: &str, uid: &str, node: &str, deadline: Instant) -> Result<(), JobError> {
        let (reply, answer) = oneshot::channel();
        let job = Job::Place {
            uid: uid.to_owned(),
            node: node.to_owned(),
            deadline,
            reply,
        };
        self.send(pool, job, deadline).await?;
        answer.await.unwrap_or_else(|_| Err(stopped(pool)))
    }

    /// Keeps an address from everybody because a foreign host answers for it, and frees it in the same write if this owner had
    /// it. Tells what became of it; nothing if nothing changed.
    pub async fn quarantine(
        self: &Arc<Self>,
        pool: &str,
        ip: IpAddr,
        owner: Owner,
        by: &str,
        deadline: Instant,
    ) -> Result<Option<HeldReason>, JobError> {
        let (reply, answer) = oneshot::channel();
        let job = Job::Quarantine {
            ip,
            owner,
            by: by.to_owned(),
            deadline,
            reply,
        };
        self.send(pool, job, deadline).await?;
        answer.await.unwrap_or_else(|_| Err(stopped(pool)))
    }

    /// Says something of a pause after a restore of the API server's storage; tells whether that was news.
    pub async fn pause(self: &Arc<Self>, pool: &str, said: Pause, deadline: Instant) -> Result<bool, JobError> {
        let (reply, answer) = oneshot::channel();
        let job = Job::Pause { said, deadline, reply };
        self.send(pool, job, deadline).await?;
        answer.await.unwrap_or_else(|_| Err(stopped(pool)))
    }

    /// What was noticed of the API server's storage going back and not dealt with. Until [`Self::resume`] nothing is given out.
    pub fn suspended(&self) -> Option<Count> {
        self.rewinds.open()
    }

    /// Whether any pool gives out nothing until agents have told what their nodes use, as far as is known here.
    pub fn are_pausing(&self) -> bool {
        let any = |pools: &Store<SpiderIPPool>| pools.iter().any(|pool| pool.is_restoring());
        self.suspended().is_some() || self.cache.read(any)
    }

    /// So much of it was dealt with.
    pub fn resume(&self, dealt: Count) {
        self.rewinds.done(dealt);
    }

    /// Tells when the storage is found to have gone back.
    pub fn rewound(&self) -> Rewound {
        self.rewinds.watch()
    }

    /// Forgets what was known of writes under way, as a process that starts: all of it was about resourceVersions that mean nothing
    /// any more.
    pub fn distrust(&self) {
        self.doubts.restart();
    }

    /// While an agent starts, an address that a sandbox uses and nobody has on record shows that the storage may have gone back
    /// while it did not run. Then the pool is paused in the write that puts it back on record. An agent that still ends may have freed
    /// it the moment before, so whoever finds it has to look at the sandbox again.
    pub fn set_starting(&self, starting: bool) {
        self.starting.store(starting, Ordering::Relaxed);
    }

    fn is_starting(&self) -> bool {
        self.starting.load(Ordering::Relaxed)
    }

    async fn send(self: &Arc<Self>, pool: &str, job: Job, deadline: Instant) -> Result<(), JobError> {
        loop {
            let sender = self.writer(pool);
            match tokio::time::timeout_at(deadline, sender.reserve()).await {
                Ok(Ok(slot)) => {
                    slot.send(job);
                    return Ok(());
                }
                // The writer went idle between the look-up and now; the next look-up starts another.
                Ok(Err(_)) => self.forget(pool, &sender),
                Err(_) => {
                    let message = "too many requests wait for this pool".to_owned();
                    return Err(JobError::Deadline {
                        pool: pool.to_owned(),
                        message,
                    });
                }
            }
        }
    }

    fn forget(&self, pool: &str, sender: &mpsc::Sender<Job>) {
        let mut writers = self.writers.lock().unwrap_or_else(PoisonError::into_inner);
        if writers.get(pool).is_some_and(|own| own.same_channel(sender)) {
            writers.remove(pool);
        }
    }

    fn writer(self: &Arc<Self>, pool: &str) -> mpsc::Sender<Job> {
        let mut writers = self.writers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sender) = writers.get(pool) {
            return sender.clone();
        }
        let (sender, jobs) = mpsc::channel(QUEUE);
        writers.insert(pool.to_owned(), sender.clone());
        tokio::spawn(writer::run(self.clone(), pool.to_owned(), jobs));
        sender
    }

    fn cached(&self, pool: &str) -> Option<Arc<SpiderIPPool>> {
        self.cache.get("", pool)
    }

    /// Takes in what a write or live read returned, so that the next look at the cache sees it.
    fn learn(&self, mut object: SpiderIPPool) -> Arc<SpiderIPPool> {
        // As in the cache: a write without them leaves them as they are.
        object.metadata.managed_fields = None;
        self.cache.learn(object.clone());
        Arc::new(object)
    }

    const fn api(&self) -> &Api<SpiderIPPool> {
        &self.api
    }

    const fn metrics(&self) -> &PoolMetrics {
        &self.metrics
    }

    const fn doubts(&self) -> &Doubts {
        &self.doubts
    }

    const fn rests(&self) -> &Rests {
        &self.rests
    }

    /// Reserved addresses of a family.
    pub fn reserved(&self, family: Family) -> RangeSet {
        self.reserved
            .list()
            .iter()
            .filter(|reserved| reserved.metadata.deletion_timestamp.is_none())
            .fold(RangeSet::new(), |all, reserved| all.union(&reserved.kept_back(family)))
    }
}

fn stopped(pool: &str) -> JobError {
    JobError::Deadline {
        pool: pool.to_owned(),
        message: "the agent is stopping".to_owned(),
    }
}
