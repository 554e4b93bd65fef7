//! Frees what a living pod has on record beside the address that it was told of.
//!
//! An agent that is killed between a claim and its answer leaves a record. The next ADD of the pod takes that up, unless the cache hears
//! of it too late: then the pod has two addresses for one interface and IP family. Its endpoint names the one that it got. The other
//! goes only if the runtime's results show that the interface has the named one; otherwise it stays until the pod ends.

use super::RETRY;
use super::books::Books;
use crate::context::Context;
use crate::endpoints;
use crate::error::RequestError;
use crate::sandboxes::Look;
use crate::sticky;
use spiderpool_crds::{NicDetail, SpiderEndpoint};
use spiderpool_ipam::reclaim::Reason;
use spiderpool_ipam::{Family, Owner, addr};
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// How long one address may take.
const BUDGET: Duration = Duration::from_secs(15);

/// The longest pause before another look at what could not be freed.
const LONGEST: Duration = Duration::from_secs(30);

/// A record that may be one too many.
struct Spare {
    pool: String,
    ip: IpAddr,
    owner: Owner,
    endpoint: Arc<SpiderEndpoint>,
}

/// When to look again at those that could not be freed.
#[derive(Debug, Default)]
pub(super) struct Spares {
    again: Option<(Instant, Duration)>,
}

impl Spares {
    /// Frees them all; says when to look again at those that are left.
    pub(super) async fn free(&mut self, context: &Context, books: &Books) -> Option<Instant> {
        // After a restore of the API server's storage records and endpoints may be of different times.
        if !context.reclaim.by_host || context.pools.are_pausing() {
            return None;
        }
        let now = Instant::now();
        if let Some((at, _)) = self.again.filter(|(at, _)| now < *at) {
            return Some(at);
        }
        let found = found(context, books);
        let mut left = !found.is_empty();
        if left {
            let host = context.sandboxes.look().await;
            left = false;
            for spare in found {
                left |= !release(context, &host, &spare).await;
            }
        }
        let pause = self.again.map_or(RETRY, |(_, pause)| (pause * 2).min(LONGEST));
        self.again = left.then(|| (Instant::now() + pause, pause));
        self.again.map(|(at, _)| at)
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
        // The books may be of some seconds ago.
        let is_left = context.pools.is_recorded(pool, ip, &owner.uid, owner.nic.as_deref()?);
        is_left.then(|| Spare {
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
    let (nic, family) = (owner.nic.as_deref()?, Family::of(ip));
    let meta = &endpoint.metadata;
    let key = format!("{}/{}", meta.namespace.as_deref()?, meta.name.as_deref()?);
    let mut all = current.ips.iter().flat_map(NicDetail::addresses);
    let is_named = all.any(|(named, _)| named == ip);
    if is_named || owner.pod != key || sticky::keeper(&context.config, endpoint).is_some() {
        return None;
    }
    let items = current.ips.iter().filter(|item| item.interface == nic);
    let mut named = items.flat_map(NicDetail::addresses);
    let (other, pool) = named.find(|(named, _)| addr::to_bits(*named).0 == family)?;
    context
        .pools
        .is_recorded(pool?, other, &owner.uid, nic)
        .then_some(other)
}

/// Frees one; says whether there is nothing left to do about it.
async fn release(context: &Context, host: &Look<'_>, spare: &Spare) -> bool {
    let Spare {
        pool,
        ip,
        owner,
        endpoint,
    } = spare;
    let (pod, uid, nic) = (&owner.pod, &owner.uid, owner.nic.as_deref().unwrap_or_default());
    let shown = instead(context, endpoint, *ip, owner).is_some_and(|other| host.shows_instead(uid, nic, *ip, other));
    if !shown {
        return false;
    }
    match look_again(context, spare).await {
        Ok(Some((_, freed))) if freed.is_empty() => true,
        Ok(Some((other, freed))) => {
            tracing::warn!(pod, uid, nic, pool, ?freed, %other, "freed the second address of an interface");
            context.metrics.freed(Reason::Superseded, freed.len());
            true
        }
        Ok(None) => false,
        Err(error) => {
            tracing::warn!(pod, uid, nic, pool, %ip, %error, "the second address of an interface is not freed yet");
            false
        }
    }
}

/// Looks again, live, and after all ADDs and DELs of the pod. Tells what it has instead of what was freed.
async fn look_again(context: &Context, spare: &Spare) -> Result<Option<(IpAddr, Vec<IpAddr>)>, RequestError> {
    let Spare {
        pool,
        ip,
        owner,
        endpoint,
    } = spare;
    let (uid, meta) = (&owner.uid, &endpoint.metadata);
    let (Some(namespace), Some(name)) = (&meta.namespace, &meta.name) else {
        return Ok(None);
    };
    let deadline = Instant::now() + BUDGET;
    let Ok(_turn) = timeout_at(deadline, context.turns.take(uid)).await else {
        return Ok(None);
    };
    let live = endpoints::read(context, namespace, name, deadline).await?;
    let own = live.filter(|live| live.status.current.uid == *uid && live.status.current.node == context.node);
    let Some(other) = own.and_then(|live| instead(context, &live, *ip, owner)) else {
        return Ok(None);
    };
    let (host, nic) = (context.sandboxes.look().await, owner.nic.as_deref().unwrap_or_default());
    if !host.shows_instead(uid, nic, *ip, other) || context.pools.are_pausing() {
        return Ok(None);
    }
    let freed = context
        .pools
        .release_some(pool, owner.clone(), Some(*ip), deadline)
        .await?;
    Ok(Some((other, freed)))
}
