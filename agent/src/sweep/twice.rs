//! Frees what a living pod has on record beside the address that it was told of.
//!
//! An agent that is killed between a claim and its answer leaves a record. The next ADD of the pod takes that up, unless the cache hears
//! of it too late: then the pod has two addresses for one interface and IP family. Its endpoint names the one that it got.

use super::books::Books;
use crate::context::Context;
use crate::endpoints;
use crate::error::RequestError;
use crate::sticky;
use spiderpool_crds::{NicDetail, SpiderEndpoint};
use spiderpool_ipam::reclaim::Reason;
use spiderpool_ipam::{Owner, addr};
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How long one address may take.
const BUDGET: Duration = Duration::from_secs(15);

/// A record that may be one too many.
struct Spare {
    pool: String,
    ip: IpAddr,
    owner: Owner,
    endpoint: Arc<SpiderEndpoint>,
}

/// Frees them all. What cannot be freed now is found again.
pub(super) async fn free(context: &Context, books: &Books) {
    if !context.reclaim.policy.enabled {
        return;
    }
    for spare in found(context, books) {
        if let Err(error) = release(context, &spare).await {
            let Spare { pool, ip, owner, .. } = &spare;
            let (pod, uid) = (&owner.pod, &owner.uid);
            tracing::warn!(pod, uid, pool, %ip, %error, "the second address of an interface is not freed yet");
        }
    }
}

/// As far as the caches tell.
fn found(context: &Context, books: &Books) -> Vec<Spare> {
    let endpoints = context.endpoints.list();
    let own = endpoints
        .iter()
        .filter(|endpoint| endpoint.status.current.node == context.node);
    let by_uid: HashMap<&str, &Arc<SpiderEndpoint>> = own
        .map(|endpoint| (endpoint.status.current.uid.as_str(), endpoint))
        .collect();
    let spare = |(pool, ip, owner): (&str, IpAddr, &Owner)| {
        let endpoint = *by_uid.get(owner.uid.as_str())?;
        instead(context, endpoint, ip, owner)?;
        Some(Spare {
            pool: pool.to_owned(),
            ip,
            owner: owner.clone(),
            endpoint: endpoint.clone(),
        })
    };
    books.own().filter_map(spare).collect()
}

/// What the endpoint of a pod names for the interface and family of a record instead of that, if a pool has it on record for the pod.
/// An identity that keeps its addresses may have some that no endpoint names.
fn instead(context: &Context, endpoint: &SpiderEndpoint, ip: IpAddr, owner: &Owner) -> Option<IpAddr> {
    let current = &endpoint.status.current;
    let nic = owner.nic.as_deref()?;
    let mut all = current.ips.iter().flat_map(NicDetail::addresses);
    if all.any(|(named, _)| named == ip) || sticky::keeper(&context.config, endpoint).is_some() {
        return None;
    }
    let items = current.ips.iter().filter(|item| item.interface == nic);
    let mut named = items.flat_map(NicDetail::addresses);
    let (other, pool) = named.find(|(named, _)| addr::to_bits(*named).0 == addr::to_bits(ip).0)?;
    context.pools.is_placed(pool?, other, &owner.uid).then_some(other)
}

/// Looks again, live, and after all ADDs and DELs of the pod.
async fn release(context: &Context, spare: &Spare) -> Result<(), RequestError> {
    let Spare {
        pool,
        ip,
        owner,
        endpoint,
    } = spare;
    let uid = &owner.uid;
    let _turn = context.turns.take(uid).await;
    let deadline = Instant::now() + BUDGET;
    let meta = &endpoint.metadata;
    let (Some(namespace), Some(name)) = (&meta.namespace, &meta.name) else {
        return Ok(());
    };
    let live = endpoints::read(context, namespace, name, deadline).await?;
    let own = live.filter(|live| live.status.current.uid == *uid && live.status.current.node == context.node);
    let Some(other) = own.and_then(|live| instead(context, &live, *ip, owner)) else {
        return Ok(());
    };
    let host = context.sandboxes.look().await;
    let mut attachments = host.attachments().into_iter();
    if attachments.any(|attachment| attachment.uid == *uid && attachment.addresses.contains(ip)) {
        return Ok(());
    }
    let freed = context
        .pools
        .release_some(pool, owner.clone(), Some(*ip), deadline)
        .await?;
    if !freed.is_empty() {
        let (pod, nic) = (&owner.pod, owner.nic.as_deref().unwrap_or_default());
        tracing::warn!(pod, uid, nic, pool, %ip, %other, "freed the second address of an interface");
        context.metrics.freed(Reason::Superseded, freed.len());
    }
    Ok(())
}
