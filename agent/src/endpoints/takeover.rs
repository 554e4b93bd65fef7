//! Whether a pod may write over an endpoint that is another one's.

use crate::context::Context;
use crate::error::RequestError;
use crate::pods::{self, PodState};
use crate::sticky::{self, Identity};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use spiderpool_crds::{NicDetail, PodAllocation, SpiderEndpoint};
use tokio::time::Instant;

/// A pod that comes upon an endpoint of another one.
pub(super) struct Takeover<'a> {
    pub(super) context: &'a Context,
    pub(super) pod: &'a Pod,
    pub(super) identity: &'a Identity,
    pub(super) uid: &'a str,
    /// The UID of the pod that this one has been found to follow.
    pub(super) followed: Option<String>,
}

impl Takeover<'_> {
    /// Whether an endpoint is another pod's, of which nothing was found out yet.
    pub(super) fn is_unknown(&self, endpoint: &SpiderEndpoint) -> bool {
        let other = &endpoint.status.current.uid;
        other != self.uid && self.followed.as_ref() != Some(other)
    }

    /// Fails unless an endpoint that was just read may be written over. A request of a pod that is gone may come late, and then the
    /// endpoint is its successor's. While this pod exists, any other one of its name that was seen before is gone.
    pub(super) async fn check(&self, endpoint: &SpiderEndpoint, deadline: Instant) -> Result<(), RequestError> {
        let Identity {
            namespace,
            name,
            keeper,
        } = self.identity;
        let pod = self.pod.name_any();
        if keeper.is_some() {
            // Whom it follows was found out before its addresses were claimed.
            let other = &endpoint.status.current.uid;
            return Err(RequestError::Api {
                what: format!("write SpiderEndpoint {namespace}/{name}"),
                reason: format!("it became that of the Pod of UID {other} meanwhile; the kubelet tries again"),
            });
        }
        sticky::refuse_namesake(self.context, self.pod, self.identity, endpoint, deadline).await?;
        match pods::live(self.context, namespace, &pod, self.uid, deadline).await? {
            PodState::Gone { seen } => Err(RequestError::UnknownPod {
                pod: format!("{namespace}/{pod}"),
                uid: self.uid.to_owned(),
                seen,
            }),
            PodState::Alive(_) | PodState::Terminating(_) | PodState::Finished(_) => {
                self.place(endpoint, deadline).await
            }
        }
    }

    /// Names the other pod's node in what that has on record: its sandbox may run there yet, and once the endpoint says nothing of
    /// it any more, only the record tells whose agent sees that.
    async fn place(&self, endpoint: &SpiderEndpoint, deadline: Instant) -> Result<(), RequestError> {
        let PodAllocation { uid, node, ips, .. } = &endpoint.status.current;
        if uid.is_empty() || node.is_empty() {
            return Ok(());
        }
        let pools = &self.context.pools;
        let named = ips.iter().flat_map(NicDetail::addresses);
        let mut unplaced = pools.unplaced(uid);
        unplaced.extend(named.filter_map(|(ip, pool)| {
            let pool = pool?;
            (!pools.is_placed(pool, ip, uid)).then(|| pool.to_owned())
        }));
        for pool in unplaced {
            pools.place(&pool, uid, node, deadline).await?;
        }
        Ok(())
    }
}
