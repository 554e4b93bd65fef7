//! Pools with some addresses of a scene's subnets.

use anyhow::Result;
use kube::{Api, ResourceExt};
use spiderpool_crds::{IPPoolSpec, SpiderIPPool};

use crate::scene::Scene;
use crate::wait::{self, SOON};

/// First and last address by their last parts, as of [`Scene::ip`].
pub type Range<'a> = (&'a str, &'a str);

/// Waits until a pool serves: until the operator has looked at it beside all others. One that it has not looked at gives way to those
/// that serve.
pub async fn serves(pools: &Api<SpiderIPPool>, name: &str) -> Result<()> {
    wait::object(pools, name, &format!("the pool {name} to serve"), SOON, |pool| {
        pool?.is_ready().then_some(())
    })
    .await
}

impl Scene {
    /// Makes a pool with the addresses from one to another, and with what else is told of it; its name.
    pub async fn pool_of_range(&self, name: &str, version: u8, range: Range<'_>, more: IPPoolSpec) -> Result<String> {
        let IPPoolSpec { ips, .. } = self.range(version, range.0, range.1);
        let made = self.create_pool(name, version, IPPoolSpec { ips, ..more }).await?;
        Ok(made.name_any())
    }

    /// As [`Scene::pool_of_range`], and waits until it serves.
    pub async fn serving(&self, name: &str, version: u8, range: Range<'_>, more: IPPoolSpec) -> Result<String> {
        let name = self.pool_of_range(name, version, range, more).await?;
        serves(&self.pools(), &name).await?;
        Ok(name)
    }
}
