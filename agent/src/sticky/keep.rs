//! Which of the addresses that a NIC has on record it keeps.
//!
//! The pod of a workload that keeps addresses is asked this at each ADD, since pools change between them: annotations, ranges, who
//! may use them. Any other pod keeps what it has for as long as it lives.

use super::inherit::Left;
use super::{Identity, machine};
use crate::automatic::Slot;
use crate::choose;
use crate::context::Context;
use crate::pools::PoolState;
use crate::unnamed;
use kube::ResourceExt;
use spiderpool_crds::sticky::Keeper;
use spiderpool_crds::{NicDetail, SpiderIPPool};
use spiderpool_ipam::candidates::{Level, PodFacts};
use spiderpool_ipam::sticky::{Fate, Place, Recorded, fate};
use spiderpool_ipam::{Owner, addr};
use std::net::IpAddr;
use std::sync::Arc;
use tokio::time::Instant;

/// What a NIC has on record in one family.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Keeping {
    /// Pools that come before all others.
    pub first: Vec<String>,
    /// Pools that come after all others.
    pub last: Vec<String>,
    /// Addresses that the NIC must not get although they are the pod's: it leaves them for others, or another NIC has them.
    pub leaving: Vec<IpAddr>,
}

/// Whose addresses are kept.
#[derive(Clone, Copy, Debug)]
pub struct Holder<'a> {
    /// Its identity.
    pub identity: &'a Identity,
    /// Its UID.
    pub uid: &'a str,
    /// Whether its virtual machine moves to it. Until it has, the machine uses whatever is on record where it runs.
    pub migrating: bool,
    /// What its endpoint says that its NICs have. It is asked only about records that name no NIC.
    pub items: &'a [NicDetail],
}

impl Keeping {
    /// Decides about what is on record for the NIC of a slot.
    pub fn of(context: &Context, holder: Holder<'_>, slot: &Slot<'_>, facts: &PodFacts) -> Self {
        let mut keeping = Self::default();
        for Own { pool, ip, nic } in own(context, holder.uid, slot.nic) {
            if addr::to_bits(ip).0 != slot.family {
                continue;
            }
            let name = pool.name_any();
            let other = unnamed::nic_with(holder.items, &name, ip).filter(|other| *other != slot.nic);
            if nic.is_none() && other.is_some() {
                keeping.leaving.push(ip);
                continue;
            }
            let fate = if holder.migrating {
                Fate::Keep
            } else {
                judge(context, slot, facts, &pool, ip)
            };
            match fate {
                Fate::Keep => keeping.first.push(name),
                Fate::LastResort => keeping.last.push(name),
                Fate::Leave(why) => {
                    let (pod, uid, nic) = (holder.identity.key(), holder.uid, slot.nic);
                    tracing::info!(pod, uid, nic, %ip, why = why.line(&name), "address is left for another one");
                    keeping.leaving.push(ip);
                }
            }
        }
        keeping
    }
}

/// What a NIC may take over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heirloom {
    /// The pool.
    pub pool: String,
    /// The address.
    pub ip: IpAddr,
    /// What becomes of it.
    pub fate: Fate,
}

/// What earlier pods of an identity have on record for the NIC of a slot, as the caches have it: for those who explain.
pub fn heirlooms(
    context: &Context,
    identity: &Identity,
    uid: &str,
    slot: &Slot<'_>,
    facts: &PodFacts,
) -> Vec<Heirloom> {
    if identity.keeper.is_none() {
        return Vec::new();
    }
    let key = identity.key();
    let mut found = Vec::new();
    for pool in context.pools.recording(&format!("\"{key}\"")) {
        // Why a pool cannot be read is told of the pool.
        let Ok(state) = PoolState::read(pool.clone()) else {
            continue;
        };
        if state.family() != slot.family {
            continue;
        }
        let earlier = state.ledger().records().filter(|(_, owner)| {
            owner.pod == key && owner.uid != uid && owner.nic.as_deref().is_none_or(|nic| nic == slot.nic)
        });
        found.extend(earlier.map(|(bits, _)| {
            let ip = addr::from_bits(slot.family, bits);
            Heirloom {
                pool: pool.name_any(),
                ip,
                fate: judge(context, slot, facts, &pool, ip),
            }
        }));
    }
    found
}

fn judge(context: &Context, slot: &Slot<'_>, facts: &PodFacts, pool: &SpiderIPPool, ip: IpAddr) -> Fate {
    // A pool whose spec does not parse contains nothing; its facts say so as well.
    let total = pool.total().unwrap_or_default();
    let recorded = Recorded {
        address: ip,
        pool: &choose::pool_facts(pool),
        place: place(slot, pool),
        total: &total,
        reserved: &context.pools.reserved(slot.family),
    };
    fate(&slot.choice.asked, facts, &recorded)
}

fn place(slot: &Slot<'_>, pool: &SpiderIPPool) -> Place {
    match slot.choice.asked.level {
        Level::Subnets if !slot.has(pool) => Place::Foreign,
        Level::Subnets if slot.place(pool).is_none() => Place::Elsewhere,
        _ => Place::Asked,
    }
}

/// What a pool has on record for a pod's NIC.
struct Own {
    pool: Arc<SpiderIPPool>,
    ip: IpAddr,
    /// The NIC, if the record names it.
    nic: Option<String>,
}

/// Everything that the cached pools have on record for a NIC of a pod, or without saying for which, in the order of the pools'
/// names.
fn own(context: &Context, uid: &str, nic: &str) -> Vec<Own> {
    let pools = context.pools.recording(uid).into_iter();
    let mut own: Vec<Own> = pools
        .filter_map(|pool| PoolState::read(pool).ok())
        .flat_map(|state| {
            let records = state.ledger().of_pod(uid).filter(|(_, owner)| owner.is(uid, nic));
            let address = |(bits, owner): (u128, &Owner)| Own {
                pool: state.object().clone(),
                ip: addr::from_bits(state.family(), bits),
                nic: owner.nic.clone(),
            };
            records.map(address).collect::<Vec<Own>>()
        })
        .collect();
    own.sort_by_cached_key(|own| (own.pool.name_any(), own.ip));
    own
}

/// Whether another pod of a virtual machine may still use what this one leaves.
async fn is_shared(context: &Context, keeper: &Keeper, uid: &str, deadline: Instant) -> bool {
    if !keeper.is_machine() {
        return false;
    }
    let pod = keeper.key();
    match machine::running(context, keeper, uid, deadline).await {
        Ok(None) => false,
        Ok(Some(running)) => {
            tracing::info!(
                pod,
                uid,
                running,
                "addresses are left when no other pod of the virtual machine runs any more"
            );
            true
        }
        Err(error) => {
            tracing::warn!(pod, uid, %error, "addresses that the pod left are not freed yet");
            true
        }
    }
}

/// Frees what the pod of an identity has no use for any more: what is on record for these NICs beside what they were given, and
/// what it did not take over. Called when the endpoint names the new addresses.
pub async fn leave(
    context: &Context,
    identity: &Identity,
    uid: &str,
    given: &[(&str, Vec<IpAddr>)],
    mut left: Vec<Left>,
    deadline: Instant,
) {
    let Some(keeper) = &identity.keeper else { return };
    for (nic, addresses) in given {
        // A record without a NIC may be that of another one.
        let named = own(context, uid, nic).into_iter().filter(|own| own.nic.is_some());
        let beside = named.filter(|own| !addresses.contains(&own.ip));
        left.extend(beside.map(|own| Left {
            pool: own.pool.name_any(),
            ip: own.ip,
            owner: Owner {
                pod: identity.key(),
                uid: uid.to_owned(),
                nic: Some((*nic).to_owned()),
            },
        }));
    }
    if left.is_empty() || is_shared(context, keeper, uid, deadline).await {
        return;
    }
    let releases = left.into_iter().map(|Left { pool, ip, owner }| async move {
        let pod = owner.pod.clone();
        match context.pools.release_some(&pool, owner, Some(ip), deadline).await {
            Ok(_) => tracing::info!(pod, %ip, pool, "address left"),
            // The next ADD finds it again, and the operator what no endpoint names.
            Err(error) => tracing::warn!(pod, %ip, pool, %error, "an address that the pod left is not freed yet"),
        }
    });
    futures::future::join_all(releases).await;
}
