//! What all controllers share: the caches they read, the writers they write with, and what they remember.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::apps::v1::{ReplicaSet, StatefulSet};
use k8s_openapi::api::batch::v1::Job;
use kube::Client;
use spiderpool_crds::{SpiderEndpoint, SpiderIPPool, SpiderReservedIP, SpiderSubnet};
use spiderpool_kit::cache::{Cache, WaitError};
use spiderpool_kit::lease::Leadership;
use spiderpool_kit::queue::Queue;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::application::Applications;
use crate::config::Config;
use crate::kinds::Kinds;
use crate::kinds::crd::Crd;
use crate::kinds::namespace::NamespaceSketch;
use crate::kinds::node::NodeSketch;
use crate::kinds::owner::Led;
use crate::kinds::pod::PodSketch;
use crate::metrics::Waiting;
use crate::pool::admit::Unaccounted;
use crate::pool::board::Board;
use crate::pool::index;
use crate::pool::restore::Pauses;
use crate::pool::shrink::Marks;
use crate::reclaim::audit::Audits;
use crate::reclaim::settings::Settings;
use crate::reclaim::tally::Tally;
use crate::subnet::hold::Awaited;
use crate::subnet::pace::Pace;
use crate::subnet::placement::Placements;
use crate::write::Writer;
use spiderpool_kit::events::Recorder;

/// How often it is said that a cache is not filled yet.
const PATIENCE: Duration = Duration::from_secs(30);

/// The watched kinds.
#[derive(Clone)]
pub struct Caches {
    /// Subnets.
    pub subnets: Cache<SpiderSubnet>,
    /// Pools.
    pub pools: Cache<SpiderIPPool>,
    /// Reservations.
    pub reserved: Cache<SpiderReservedIP>,
    /// Endpoints, by their node too.
    pub endpoints: Cache<SpiderEndpoint>,
    /// Pods, by the UID of their controller too.
    pub pods: Cache<PodSketch>,
    /// Nodes.
    pub nodes: Cache<NodeSketch>,
    /// Namespaces.
    pub namespaces: Cache<NamespaceSketch>,
    /// Definitions of kinds, by group and kind too.
    pub crds: Cache<Crd>,
    /// ReplicaSets, by the UID of their controller too.
    pub replica_sets: Cache<ReplicaSet>,
    /// Jobs, by the UID of their controller too.
    pub jobs: Cache<Job>,
    /// StatefulSets, which keep the addresses of their pods.
    pub stateful_sets: Cache<StatefulSet>,
}

impl Caches {
    /// The subnets with a network, by its text as written.
    pub fn subnets_with(&self, network: &str) -> Vec<Arc<SpiderSubnet>> {
        self.subnets.indexed(&index::network(network))
    }
}

/// The queues of the controllers.
pub struct Queues {
    /// Names of subnets.
    pub subnets: Queue<String>,
    /// Names of pools.
    pub pools: Queue<String>,
    /// Applications of kinds that are not watched.
    pub kinds: Queue<Led>,
}

/// Everything a controller needs.
pub struct Context {
    /// The settings.
    pub config: Config,
    /// For reads that must not come from a cache.
    pub client: Client,
    /// Whether this replica may write.
    pub leadership: Leadership,
    /// What is read.
    pub caches: Caches,
    /// What applications ask for.
    pub applications: Applications,
    /// The kinds of workload.
    pub kinds: Kinds,
    /// Name of the ClusterRole that rights to read workloads are gathered in, for users' eyes.
    pub workloads_role: String,
    /// What is to be looked at.
    pub queues: Queues,
    /// Writes subnets.
    pub subnets: Writer<SpiderSubnet>,
    /// Writes pools.
    pub pools: Writer<SpiderIPPool>,
    /// Tells users.
    pub recorder: Recorder,
    /// Where applications with a choice were placed.
    pub placements: Placements,
    /// Who waits for addresses.
    pub waiting: Waiting,
    /// Held by the pass over a subnet that shares addresses with others, until its accounting is written.
    pub neighbours: Mutex<()>,
    /// Which pool lays claim to which addresses.
    pub board: Board,
    /// Pools that wait for the accounting of a subnet.
    pub unaccounted: Unaccounted,
    /// What pools have to give up as their pods go.
    pub shrinking: Marks,
    /// How fast passes over one subnet follow each other.
    pub pace: Pace,
    /// Pods whose end changes what becomes of a pool.
    pub awaited: Awaited,
    /// Pauses of pools after a restore of the API server's storage.
    pub pauses: Pauses,
    /// When addresses are reclaimed.
    pub reclaim: Settings,
    /// How many were.
    pub tally: Arc<Tally>,
    /// What checks found.
    pub audits: Audits,
}

/// Waits until a cache is filled, and says `late` meanwhile; for ever if the process stops first, which ends whoever waits.
pub(crate) async fn filled<W: Future<Output = Result<(), WaitError>>>(late: &str, synced: impl Fn(Instant) -> W) {
    while let Err(error) = synced(Instant::now() + PATIENCE).await {
        if matches!(error, WaitError::Stopping) {
            return std::future::pending().await;
        }
        tracing::warn!(%error, "{late}");
    }
}

#[cfg(test)]
impl Context {
    /// A context whose caches are filled by hand. Its client has nobody to speak to. Within a runtime.
    pub fn detached() -> Self {
        let config = kube::Config::new("http://127.0.0.1:9".parse().unwrap());
        Self::of(Client::try_from(config).unwrap())
    }

    /// As [`Self::detached`], with somebody to speak to.
    pub fn of(client: Client) -> Self {
        use spiderpool_crds::sticky::StickyKinds;
        use spiderpool_kit::cache::Options;
        use spiderpool_kit::metrics::{Metrics, QueueMetrics};
        use std::time::Duration;

        let leadership = Leadership::alone();
        let caches = Caches {
            subnets: Cache::detached(Options::default().index(index::keys_of_subnet)),
            pools: Cache::detached(Options::default().index(index::keys)),
            reserved: Cache::detached(Options::default()),
            endpoints: Cache::detached(Options::default().index(crate::reclaim::by_node)),
            nodes: Cache::detached(Options::default()),
            namespaces: Cache::detached(Options::default()),
            pods: Cache::detached(Options::default()),
            crds: Cache::detached(Options::default()),
            replica_sets: Cache::detached(Options::default()),
            jobs: Cache::detached(Options::default()),
            stateful_sets: Cache::detached(Options::default()),
        };
        let metrics = QueueMetrics::register(&Metrics::new());
        Self {
            config: Config {
                ipv4: true,
                ipv6: true,
                subnets: true,
                automatic_pools: true,
                redundant_addresses: 0,
                max_addresses: None,
                sticky: StickyKinds {
                    sets: true,
                    machines: true,
                },
                workload_kinds: Vec::new(),
            },
            leadership: leadership.clone(),
            applications: Applications::default(),
            kinds: Kinds::new(Vec::new(), Vec::new(), caches.crds.clone()),
            workloads_role: "workloads".to_owned(),
            queues: Queues {
                subnets: Queue::new("subnets", &metrics),
                pools: Queue::new("pools", &metrics),
                kinds: Queue::new("kinds", &metrics),
            },
            subnets: Writer::new(client.clone(), caches.subnets.clone(), leadership.clone()),
            pools: Writer::new(client.clone(), caches.pools.clone(), leadership),
            client,
            caches,
            recorder: Recorder::silent(),
            placements: Placements::default(),
            waiting: Waiting::default(),
            neighbours: Mutex::default(),
            board: Board::default(),
            unaccounted: Unaccounted::default(),
            shrinking: Marks::default(),
            pace: Pace::default(),
            awaited: Awaited::default(),
            pauses: Pauses::default(),
            reclaim: Settings {
                policy: spiderpool_ipam::reclaim::Policy::default(),
                after: Duration::from_secs(300),
                every: Duration::from_secs(600),
            },
            tally: Arc::default(),
            audits: Audits::default(),
        }
    }
}
