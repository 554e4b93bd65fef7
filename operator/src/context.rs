//! What all controllers share: the caches they read, the writers they write with, and what they remember.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use kube::core::PartialObjectMeta;
use spiderpool_crds::{SpiderEndpoint, SpiderIPPool, SpiderReservedIP, SpiderSubnet};
use spiderpool_kit::cache::Cache;
use spiderpool_kit::lease::Leadership;
use spiderpool_kit::queue::Queue;

use crate::application::Applications;
use crate::config::Config;
use crate::metrics::Waiting;
use crate::pool::index;
use crate::pool::shrink::Marks;
use crate::subnet::placement::Placements;
use crate::write::Writer;
use spiderpool_kit::events::Recorder;

/// The watched kinds.
#[derive(Clone)]
pub struct Caches {
    /// Subnets.
    pub subnets: Cache<SpiderSubnet>,
    /// Pools.
    pub pools: Cache<SpiderIPPool>,
    /// Reservations.
    pub reserved: Cache<SpiderReservedIP>,
    /// Endpoints.
    pub endpoints: Cache<SpiderEndpoint>,
    /// Names and UIDs of pods.
    pub pods: Cache<PartialObjectMeta<Pod>>,
    /// Deployments.
    pub deployments: Cache<Deployment>,
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
    /// What pools have to give up as their pods go.
    pub shrinking: Marks,
}
