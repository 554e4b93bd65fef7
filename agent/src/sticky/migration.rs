//! A virtual machine that moves while it runs: its pod on the new node starts beside the old one, with the same addresses.

use super::{Identity, Live};
use crate::context::Context;
use crate::error::RequestError;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use spiderpool_crds::sticky::{self, ReadObject};
use tokio::time::Instant;

/// Whether the pod was made for a migration of its virtual machine that is not over. Then the old pod may live, and answers for
/// the addresses until the machine has moved.
pub async fn is_migrating(
    context: &Context,
    pod: &Pod,
    identity: &Identity,
    deadline: Instant,
) -> Result<bool, RequestError> {
    let machine = identity.keeper.as_ref().filter(|keeper| keeper.is_machine());
    let (Some(machine), Some(name)) = (machine, sticky::migration(pod.annotations())) else {
        return Ok(false);
    };
    let live = Live { context, deadline };
    let found = live.read(&sticky::migrations(), &machine.namespace, name).await?;
    Ok(found.is_some_and(|migration| sticky::is_migrating(&migration, &machine.name)))
}
