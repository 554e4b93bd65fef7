//! What every request handler needs.

use crate::config::Config;
use crate::error::RequestError;
use crate::metrics::Metrics;
use crate::owner::Owners;
use crate::pools::PoolStore;
use crate::sandboxes::Sandboxes;
use crate::serial::Turns;
use crate::surroundings::Surroundings;
use crate::sweep::Reclaim;
use k8s_openapi::api::core::v1::Pod;
use spiderpool_crds::SpiderEndpoint;
use spiderpool_kit::cache::Cache;
use spiderpool_kit::events::Recorder;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

/// How long a request waits for the first lists of a starting agent.
const SYNC_WAIT: Duration = Duration::from_secs(10);

/// Shared state of the agent.
pub struct Context {
    /// The node this agent runs on.
    pub node: String,
    /// Namespace of the agent: network attachments named without one are looked for there.
    pub namespace: String,
    /// Network attachment of the first interface of pods that name none, `namespace/name`; empty if it is not known.
    pub cluster_network: String,
    /// Switches of the installation.
    pub config: Config,
    /// API client that answers promptly: it does not retry by itself.
    pub client: kube::Client,
    /// Pods of this node.
    pub pods: Cache<Pod>,
    /// Endpoints of this node.
    pub endpoints: Cache<SpiderEndpoint>,
    /// All pools.
    pub pools: Arc<PoolStore>,
    /// Applications of pods.
    pub owners: Owners,
    /// Namespaces and nodes.
    pub surroundings: Surroundings,
    /// Tells pods why they get no address.
    pub recorder: Recorder,
    /// One request of a pod at a time.
    pub turns: Turns,
    /// What this node shows of sandboxes.
    pub sandboxes: Sandboxes,
    /// What is freed that no DEL freed.
    pub reclaim: Reclaim,
    /// Whether what the sandboxes of this node use was compared with what the pools have on record.
    pub rechecked: watch::Sender<bool>,
    /// Counters.
    pub metrics: Metrics,
}

impl Context {
    /// Waits for [`Self::ready`]: an agent that was just restarted is so within a moment, and a failed ADD is repeated by the
    /// kubelet only after ten seconds.
    pub async fn wait_ready(&self, deadline: Instant) -> Result<(), RequestError> {
        let deadline = deadline.min(Instant::now() + SYNC_WAIT);
        self.wait_synced(deadline).await?;
        let mut rechecked = self.rechecked.subscribe();
        let _ = timeout_at(deadline, rechecked.wait_for(|rechecked| *rechecked)).await;
        self.ready()
    }

    /// Waits for the pools and pods; fails if not all of them are known in time.
    pub async fn wait_synced(&self, deadline: Instant) -> Result<(), RequestError> {
        // What does not come in time is named by the check below.
        let _ = self.pools.cache().synced(deadline).await;
        let _ = self.pools.reservations().synced(deadline).await;
        let _ = self.pods.synced(deadline).await;
        let _ = self.endpoints.synced(deadline).await;
        self.synced()
    }

    /// Fails unless requests may be served.
    pub fn ready(&self) -> Result<(), RequestError> {
        self.synced()?;
        match *self.rechecked.borrow() {
            true => Ok(()),
            false => Err(RequestError::NotReady {
                node: self.node.clone(),
                missing: "whether the sandboxes of this node have their addresses on record".to_owned(),
            }),
        }
    }

    /// Fails unless the agent knows the pools and pods. Before that, a missing pool means nothing.
    pub fn synced(&self) -> Result<(), RequestError> {
        let missing = [
            (self.pools.cache().is_synced(), "the IPPools"),
            (self.pools.reservations().is_synced(), "the ReservedIPs"),
            (self.pods.is_synced(), "the Pods of this node"),
            (self.endpoints.is_synced(), "the Endpoints of this node"),
        ];
        match missing.into_iter().find(|(synced, _)| !synced) {
            None => Ok(()),
            Some((_, missing)) => Err(RequestError::NotReady {
                node: self.node.clone(),
                missing: missing.to_owned(),
            }),
        }
    }
}
