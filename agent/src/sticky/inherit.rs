//! What an heir takes over.

use super::former::Heir;
use super::{Identity, machine};
use crate::context::Context;
use crate::endpoints;
use crate::error::RequestError;
use crate::pools::{JobError, PoolState, Succession};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use spiderpool_crds::annotations::{self, Networks};
use spiderpool_crds::names::DEFAULT_NIC;
use spiderpool_crds::{NicDetail, SpiderEndpoint};
use spiderpool_ipam::{Family, Owner, addr};
use std::net::IpAddr;
use tokio::time::Instant;

/// How often a record is looked at again that turned out to be of yet another earlier pod.
const LOOKS: usize = 4;

/// What an heir has of the earlier pods of its identity.
#[derive(Clone, Debug, Default)]
pub struct Inheritance {
    /// The endpoint as it was read, if it was another pod's.
    pub endpoint: Option<SpiderEndpoint>,
    /// The NICs of that endpoint that the pod may still have, with the addresses that it took over. Nothing is set up with them
    /// yet.
    pub nics: Vec<NicDetail>,
    /// Addresses of earlier pods that the heir has no use for. They are freed when it has its own.
    pub left: Vec<Left>,
}

/// An address that an earlier pod of the identity has on record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Left {
    /// The pool.
    pub pool: String,
    /// The address.
    pub ip: IpAddr,
    /// Who has it.
    pub owner: Owner,
}

/// One address that the identity had.
struct Had {
    nic: String,
    pool: String,
    ip: IpAddr,
}

/// What became of an address that a pod is to have.
enum Outcome {
    /// It is on record for the pod.
    Has,
    /// It is on record for somebody else.
    Taken(Owner),
    /// It is on record for nobody, and not to be had.
    Lost,
}

/// Takes over what the earlier pods of an identity had. Nothing for a pod whose addresses are not kept. One that took them over
/// before gets back on record what a pool has forgotten since.
pub async fn inherit(
    context: &Context,
    pod: &Pod,
    identity: &Identity,
    nics: &[&str],
    migrating: bool,
    deadline: Instant,
) -> Result<Inheritance, RequestError> {
    if identity.keeper.is_none() {
        return Ok(Inheritance::default());
    }
    let uid = pod.uid().unwrap_or_default();
    let own = |endpoint: &SpiderEndpoint| endpoint.status.current.uid == uid;
    let mut heir = Heir::new(context, pod, identity, migrating);
    let cached = context.endpoints.get(&identity.namespace, &identity.name);
    if let Some(endpoint) = cached.filter(|endpoint| own(endpoint)) {
        heir.restore(&endpoint.status.current.ips, nics, deadline).await?;
        return Ok(Inheritance::default());
    }
    // Live, since it may be that of a pod on another node.
    let endpoint = endpoints::read(context, &identity.namespace, &identity.name, deadline).await?;
    match endpoint {
        Some(endpoint) if own(&endpoint) => {
            heir.restore(&endpoint.status.current.ips, nics, deadline).await?;
            Ok(Inheritance::default())
        }
        Some(endpoint) => {
            machine::refuse_namesake(context, pod, identity, &endpoint, deadline).await?;
            let current = &endpoint.status.current;
            let name = current.pod_name.clone().or_else(|| {
                // The peer does not say which pod of a virtual machine it was.
                (!identity.keeper.as_ref().is_some_and(|keeper| keeper.is_machine())).then(|| pod.name_any())
            });
            heir.follow(&current.uid, name.as_deref(), deadline).await?;
            let networks = annotations::networks(pod.annotations());
            let (kept, gone): (Vec<NicDetail>, Vec<NicDetail>) = current
                .ips
                .iter()
                .cloned()
                .partition(|item| may_have(&networks, &item.interface, nics));
            let mut inheritance = Inheritance::default();
            // The pod that the machine moves from still has them.
            if !migrating {
                inheritance.left = recorded(context, identity, &uid, &gone);
            }
            for item in kept {
                inheritance.nics.extend(heir.take_over(item, deadline).await?);
            }
            inheritance.endpoint = Some(endpoint);
            Ok(inheritance)
        }
        None => {
            for had in unnamed(context, identity, &uid, nics.first().unwrap_or(&DEFAULT_NIC)) {
                heir.succeed(&had, deadline).await?;
            }
            Ok(Inheritance::default())
        }
    }
}

/// Whether a pod may have a NIC: it asks for it now, or its annotations of networks make one.
fn may_have(networks: &Networks, nic: &str, asking: &[&str]) -> bool {
    asking.contains(&nic)
        || nic == DEFAULT_NIC
        || networks.place(nic).is_some_and(|place| place <= networks.further.len())
}

impl Heir<'_> {
    /// Takes over the addresses of a NIC; nothing if none of them could be had.
    async fn take_over(&mut self, item: NicDetail, deadline: Instant) -> Result<Option<NicDetail>, RequestError> {
        let mut item = NicDetail {
            container_id: None,
            network_name: None,
            ..item
        };
        for family in Family::ALL {
            let Some(had) = had(&item, family) else { continue };
            match self.succeed(&had, deadline).await? {
                Outcome::Has => continue,
                Outcome::Taken(holder) => {
                    let (pod, ip, pool) = (self.identity.key(), had.ip, had.pool);
                    tracing::warn!(pod, nic = had.nic, %ip, pool, holder = holder.pod, "address lost to another pod");
                }
                Outcome::Lost => {}
            }
            match family {
                Family::V4 => (item.ipv4, item.ipv4_pool, item.ipv4_gateway) = (None, None, None),
                Family::V6 => (item.ipv6, item.ipv6_pool, item.ipv6_gateway) = (None, None, None),
            }
        }
        Ok((item.ipv4.is_some() || item.ipv6.is_some()).then_some(item))
    }

    /// Puts back on record what the pod's own endpoint names and its pool has forgotten. Where it forgot it, it may have given it to
    /// somebody else; then a NIC that asks for it gets nothing, since nobody knows which of the two uses it.
    async fn restore(&mut self, items: &[NicDetail], asking: &[&str], deadline: Instant) -> Result<(), RequestError> {
        let uid = self.pod.uid().unwrap_or_default();
        for item in items {
            for had in Family::ALL.into_iter().filter_map(|family| had(item, family)) {
                let holder = holder(self.context, &had);
                if holder.is_some_and(|holder| holder.uid == uid) {
                    continue;
                }
                let holder = match self.succeed(&had, deadline).await? {
                    Outcome::Taken(holder) if holder.uid != uid => holder,
                    Outcome::Has | Outcome::Taken(_) | Outcome::Lost => continue,
                };
                let Had { nic, pool, ip } = had;
                if asking.contains(&nic.as_str()) {
                    let Owner { pod, uid, .. } = holder;
                    return Err(RequestError::Unfit {
                        pod: format!("{}/{}", self.identity.namespace, self.pod.name_any()),
                        reason: format!(
                            "SpiderEndpoint {} gives its NIC {nic} {ip} of IPPool {pool}, which is on record for Pod {pod} (UID {uid}) \
                             as well; delete the one of the two that shall have another address",
                            self.identity.key()
                        ),
                    });
                }
                tracing::warn!(pod = self.identity.key(), nic, %ip, pool, holder = holder.pod, "address of a NIC is another pod's");
            }
        }
        Ok(())
    }

    /// Takes over one address. Where it cannot be had, the pod gets another one.
    async fn succeed(&mut self, had: &Had, deadline: Instant) -> Result<Outcome, RequestError> {
        let owner = Owner {
            pod: self.identity.key(),
            uid: self.pod.uid().unwrap_or_default(),
            nic: Some(had.nic.clone()),
        };
        let (pod, pool, ip) = (&owner.pod, &had.pool, had.ip);
        for _ in 0..LOOKS {
            let pools = &self.context.pools;
            let succession = pools.succeed(pool, ip, owner.clone(), self.former().clone(), deadline);
            let succession = match succession.await {
                Ok(succession) => succession,
                // It may be had in a moment.
                Err(error @ JobError::Rejected { .. }) if error.is_restoring() => return Err(error.into()),
                // The pool as a whole is of no use, and should not keep the pod from every other one.
                Err(JobError::Rejected { pool, rejection }) => {
                    let why = rejection.line(&pool);
                    tracing::warn!(pod, nic = had.nic, %ip, why, "address not taken over");
                    return Ok(Outcome::Lost);
                }
                Err(error) => return Err(error.into()),
            };
            match succession {
                Succession::Own { written } => {
                    if written {
                        tracing::info!(pod, uid = owner.uid, nic = had.nic, %ip, pool, "address taken over");
                    }
                    return Ok(Outcome::Has);
                }
                // The pod has it already, for another NIC.
                Succession::Other(holder) if holder.uid == owner.uid => return Ok(Outcome::Taken(holder)),
                // An heir that ended before it had written its endpoint, or one that was faster.
                Succession::Other(holder) if holder.pod == *pod && !self.former().contains(&holder.uid) => {
                    self.follow(&holder.uid, None, deadline).await?;
                }
                Succession::Other(holder) => return Ok(Outcome::Taken(holder)),
                Succession::Lost(why) => {
                    tracing::warn!(pod, nic = had.nic, %ip, why = why.line(pool), "address not on record, and not to be had");
                    return Ok(Outcome::Lost);
                }
            }
        }
        Err(RequestError::Api {
            what: format!("take over {ip} of IPPool {pool}"),
            reason: "other pods of the same identity were faster each time".to_owned(),
        })
    }
}

fn had(item: &NicDetail, family: Family) -> Option<Had> {
    let (address, pool) = match family {
        Family::V4 => (&item.ipv4, &item.ipv4_pool),
        Family::V6 => (&item.ipv6, &item.ipv6_pool),
    };
    let host = address.as_deref()?.split('/').next()?;
    Some(Had {
        nic: item.interface.clone(),
        pool: pool.clone()?,
        ip: host.parse().ok()?,
    })
}

/// Who has an address on record, as cached.
fn holder(context: &Context, had: &Had) -> Option<Owner> {
    let state = PoolState::read(context.pools.cache().get("", &had.pool)?).ok()?;
    state.ledger().owner(addr::to_bits(had.ip).1).cloned()
}

/// What the pools have on record for earlier pods, in the places that NICs of an endpoint name. The caches are enough: who frees
/// compares.
fn recorded(context: &Context, identity: &Identity, uid: &str, items: &[NicDetail]) -> Vec<Left> {
    let places = items
        .iter()
        .flat_map(|item| Family::ALL.into_iter().filter_map(|family| had(item, family)));
    places
        .filter_map(|had| {
            let owner = holder(context, &had)?;
            (owner.pod == identity.key() && owner.uid != uid).then_some(Left {
                pool: had.pool,
                ip: had.ip,
                owner,
            })
        })
        .collect()
}

/// What the pools have on record for earlier pods where no endpoint tells: an agent died before it wrote it, or somebody deleted
/// it. A record without a NIC is the peer's, and goes to the NIC that asks.
fn unnamed(context: &Context, identity: &Identity, uid: &str, nic: &str) -> Vec<Had> {
    let key = identity.key();
    let pools = context.pools.recording(&format!("\"{key}\"")).into_iter();
    let mut found: Vec<Had> = pools
        .filter_map(|pool| PoolState::read(pool).ok())
        .flat_map(|state| {
            let name = state.object().name_any();
            let own = state
                .ledger()
                .records()
                .filter(|(_, owner)| owner.pod == key && owner.uid != uid);
            own.map(|(bits, owner)| Had {
                nic: owner.nic.clone().unwrap_or_else(|| nic.to_owned()),
                pool: name.clone(),
                ip: addr::from_bits(state.family(), bits),
            })
            .collect::<Vec<Had>>()
        })
        .collect();
    found.sort_by(|a, b| (&a.nic, a.ip).cmp(&(&b.nic, b.ip)));
    // One of each family for a NIC; others are left to who looks for records that nobody has.
    found.dedup_by(|a, b| a.nic == b.nic && a.ip.is_ipv4() == b.ip.is_ipv4());
    found
}
