//! A kind that has no definition (any more): nothing is left of it but pools.

use futures::future::BoxFuture;
use kube::Client;
use spiderpool_kit::cache::{Key, WaitError};
use spiderpool_kit::deadline::within;
use tokio::time::Instant;

use super::watched::{Live, LiveAnswer};
use super::{KindId, Workloads};
use crate::application::Application;
use crate::context::Context;
use crate::write;

/// A kind without definition. It has no objects.
pub struct Former {
    id: KindId,
}

impl Former {
    /// The kind of this name.
    pub const fn new(id: KindId) -> Self {
        Self { id }
    }
}

impl Workloads for Former {
    fn id(&self) -> &KindId {
        &self.id
    }

    fn is_synced(&self) -> bool {
        true
    }

    fn synced(&self, _: Instant) -> BoxFuture<'_, Result<(), WaitError>> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn application(&self, _: &Context, _: &str, _: &str) -> Option<Application> {
        None
    }

    fn keys(&self) -> Vec<Key> {
        Vec::new()
    }

    fn refresh(&self, _: &Context, _: &str, _: &str) {}

    /// Nothing is left once the API server says itself that it does not serve the kind, in whatever way it could be served.
    fn live(&self, client: Client, _: &str, _: &str) -> LiveAnswer {
        let id = self.id.clone();
        Box::pin(async move {
            let what = || format!("asking whether the API server serves {id}");
            let groups = within(write::DEADLINE, what(), client.list_api_groups())
                .await
                .map_err(write::Error::Failed)?;
            let group = groups.groups.into_iter().find(|group| group.name == id.group);
            for version in group.into_iter().flat_map(|group| group.versions) {
                let served = client.list_api_group_resources(&version.group_version);
                let served = within(write::DEADLINE, what(), served)
                    .await
                    .map_err(write::Error::Failed)?;
                if served.resources.iter().any(|resource| resource.kind == id.kind) {
                    return Ok(Live::Unknown);
                }
            }
            Ok(Live::Nothing)
        })
    }
}
