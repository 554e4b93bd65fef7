//! The end of a scene: everything of it is deleted, and nothing may stay.

use std::fmt::Debug;
use std::sync::PoisonError;

use anyhow::{Context, Result};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::api::{DeleteParams, ListParams, PropagationPolicy};
use kube::runtime::watcher;
use kube::{Api, Resource, ResourceExt};
use spiderpool_crds::{SpiderEndpoint, SpiderIPPool};

use crate::scene::Scene;
use crate::wait::{self, LONG};

impl Scene {
    /// Deletes everything of the scene but the IPv4 subnet, by which it owns its number, and checks that nothing stays.
    pub(crate) async fn close(&self) -> Result<()> {
        self.delete_workloads().await?;
        self.nothing_stays().await?;
        let made = std::mem::take(&mut *self.made.lock().unwrap_or_else(PoisonError::into_inner));
        for name in &made.pools {
            delete_if_there(&self.pools(), name).await?;
            wait::gone(&self.pools(), name, LONG).await?;
        }
        for name in std::iter::once(&self.v6).chain(&made.subnets) {
            delete_if_there(&self.subnets(), name).await?;
            wait::gone(&self.subnets(), name, LONG).await?;
        }
        for name in &made.reservations {
            delete_if_there(&self.reservations(), name).await?;
        }
        let namespaces: Api<Namespace> = Api::all(self.cluster.client.clone());
        delete_if_there(&namespaces, &self.namespace).await?;
        wait::gone(&namespaces, &self.namespace, LONG).await
    }

    /// Gives the scene's number to whoever comes next. Nobody may look at its networks any more.
    pub(crate) async fn release(&self) -> Result<()> {
        delete_if_there(&self.subnets(), &self.v4).await?;
        wait::gone(&self.subnets(), &self.v4, LONG).await
    }

    /// Deletes the workloads and waits until their pods are gone.
    pub async fn delete_workloads(&self) -> Result<()> {
        let all = ListParams::default();
        self.api::<Deployment>()
            .delete_collection(&background(), &all)
            .await
            .context("deleting Deployments")?;
        self.api::<Job>()
            .delete_collection(&background(), &all)
            .await
            .context("deleting Jobs")?;
        let bare = self.api::<Pod>().list(&all).await.context("listing pods")?;
        for pod in bare.items.iter().filter(|pod| pod.owner_references().is_empty()) {
            delete_if_there(&self.api::<Pod>(), &pod.name_any()).await?;
        }
        wait::objects(
            &self.api::<Pod>(),
            watcher::Config::default(),
            "no pods to be left",
            LONG,
            |pods| Ok(pods.is_empty().then_some(())),
        )
        .await
    }

    /// Waits until nothing stays of workloads that were deleted: no endpoint, no automatic pool, no record, no addresses
    /// given out by a subnet.
    pub async fn nothing_stays(&self) -> Result<()> {
        wait::objects(
            &self.api::<SpiderEndpoint>(),
            watcher::Config::default(),
            "no endpoints to be left",
            LONG,
            |left| Ok(left.is_empty().then_some(())),
        )
        .await?;
        let networks = [self.network(4), self.network(6)];
        wait::objects(
            &self.pools(),
            watcher::Config::default(),
            "no pool or record to be left",
            LONG,
            |pools| {
                let mut own = pools.values().filter(|pool| networks.contains(&pool.spec.subnet));
                let clean = |pool: &SpiderIPPool| {
                    let status = pool.status.clone().unwrap_or_default();
                    !pool.is_automatic()
                        && status.allocated_ips.is_none()
                        && status.allocated_ip_count.unwrap_or(0) == 0
                };
                Ok(own.all(clean).then_some(()))
            },
        )
        .await?;
        let made = self.made.lock().unwrap_or_else(PoisonError::into_inner).pools.clone();
        for name in [&self.v4, &self.v6] {
            let what = format!("no addresses of subnet {name} to be given out");
            wait::object(&self.subnets(), name, &what, LONG, |subnet| {
                let Some(subnet) = subnet else { return Some(()) };
                let Ok(controlled) = subnet.controlled() else {
                    return None;
                };
                let counted = subnet
                    .status
                    .as_ref()
                    .and_then(|status| status.allocated_ip_count)
                    .unwrap_or(0);
                let only_made = controlled.iter().all(|(pool, _)| made.iter().any(|name| name == pool));
                (only_made && (counted == 0 || !controlled.is_empty())).then_some(())
            })
            .await?;
        }
        Ok(())
    }

    /// Gives up a failed scene: its objects are deleted, and nobody waits for them.
    pub(crate) async fn abandon(&self) {
        let made = std::mem::take(&mut *self.made.lock().unwrap_or_else(PoisonError::into_inner));
        let namespaces: Api<Namespace> = Api::all(self.cluster.client.clone());
        // The failure is what is told; that its remains cannot be deleted either would only hide it.
        let _ = delete_if_there(&namespaces, &self.namespace).await;
        for name in &made.pools {
            let _ = delete_if_there(&self.pools(), name).await;
        }
        for name in made.subnets.iter().chain([&self.v6, &self.v4]) {
            let _ = delete_if_there(&self.subnets(), name).await;
        }
        for name in &made.reservations {
            let _ = delete_if_there(&self.reservations(), name).await;
        }
    }
}

/// Deletes an object; that there is none is fine.
pub(crate) async fn delete_if_there<K>(api: &Api<K>, name: &str) -> Result<()>
where
    K: Resource<DynamicType = ()> + Clone + Debug + serde::de::DeserializeOwned,
{
    match api.delete(name, &background()).await {
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
        outcome => outcome
            .map(drop)
            .with_context(|| format!("deleting {} {name}", K::kind(&()))),
    }
}

/// What an object owns goes after it.
pub(crate) fn background() -> DeleteParams {
    DeleteParams {
        propagation_policy: Some(PropagationPolicy::Background),
        ..DeleteParams::default()
    }
}
