//! All or nothing: the addresses of all NICs and families of a request.

use super::claim::{Claimant, Outlook};
use super::{Request, Want};
use crate::endpoints;
use crate::error::RequestError;
use crate::explain::{self, Failure};
use crate::kill::{self, Point};
use crate::pools::Claimed;
use kube::ResourceExt;
use std::net::IpAddr;
use std::time::Duration;
use tokio::time::Instant;

/// How much of an ADD's budget remains for giving back what a failing one took.
pub(super) const GIVE_BACK: Duration = Duration::from_secs(5);

/// What a NIC got.
pub(super) struct Granted<'a> {
    pub(super) want: &'a Want,
    /// IPv4 first.
    pub(super) claims: Vec<Claimed>,
}

impl Granted<'_> {
    /// The NIC and its addresses.
    pub(super) fn given(&self) -> (&str, Vec<IpAddr>) {
        let addresses = self.claims.iter().map(|claimed| claimed.taken.ip);
        (&self.want.nic, addresses.collect())
    }
}

/// Claims an address of each family for each NIC, or none at all. Where one of them is not to be had, as far as the cache knows, it
/// is asked for first: most likely all the others would be taken, written and given back for nothing. What no pool can serve is asked
/// for all the same, since who repairs one should not be told of the other only afterwards.
pub(super) async fn claim<'a>(
    request: &Request<'_>,
    wants: &'a [Want],
    deadline: Instant,
) -> Result<Vec<Granted<'a>>, RequestError> {
    let slots: Vec<Claimant<'_>> = wants
        .iter()
        .flat_map(|want| {
            let families = want.choice.asked.names.keys();
            families.map(move |family| Claimant::new(request, want, *family))
        })
        .collect();
    let (full, mut others): (Vec<&Claimant<'_>>, Vec<_>) =
        slots.iter().partition(|slot| slot.outlook() == Outlook::Full);
    let mut results = claim_all(&full, deadline).await;
    if results.iter().any(Result::is_err) {
        others.retain(|slot| slot.outlook() == Outlook::NoPool);
    }
    results.extend(claim_all(&others, deadline).await);
    let tried = full.into_iter().chain(others);
    let mut granted: Vec<Granted<'_>> = wants
        .iter()
        .map(|want| Granted {
            want,
            claims: Vec::new(),
        })
        .collect();
    let mut failures = Vec::new();
    for (slot, result) in tried.zip(results) {
        match result {
            Ok(claimed) => {
                let own = granted.iter_mut().find(|granted| granted.want.nic == slot.want.nic);
                own.into_iter().for_each(|own| own.claims.push(claimed.clone()));
            }
            Err(error) => failures.push(Failure {
                nic: slot.want.nic.clone(),
                family: slot.family,
                error,
            }),
        }
    }
    for own in &mut granted {
        own.claims.sort_by_key(|claimed| claimed.taken.ip.is_ipv6());
    }
    let asked: Vec<_> = slots.iter().map(|slot| (slot.want.nic.as_str(), slot.family)).collect();
    let cancelled = request.cancel.check(request.args).err();
    match cancelled.or_else(|| explain::failed(failures, &asked)) {
        None => Ok(granted),
        Some(error) => {
            give_back(request, &granted, deadline + GIVE_BACK).await;
            Err(error)
        }
    }
}

async fn claim_all(slots: &[&Claimant<'_>], deadline: Instant) -> Vec<Result<Claimed, RequestError>> {
    futures::future::join_all(slots.iter().map(|slot| slot.claim(deadline))).await
}

/// Gives back what a failed request claimed. What the pod's endpoint names stays the pod's own: an earlier ADD got it. What no
/// endpoint names was claimed by an ADD that never came to its end, and is no use of the pod either.
pub(super) async fn give_back(request: &Request<'_>, granted: &[Granted<'_>], deadline: Instant) {
    let claims = || {
        let all = granted.iter();
        all.flat_map(|granted| granted.claims.iter().map(|claimed| (&granted.want.nic, claimed)))
    };
    kill::point(Point::GiveBackBefore);
    // A pod that keeps its addresses has them of an earlier one, which no endpoint need name.
    let kept = request.identity.keeper.is_some();
    let earlier = !kept && claims().any(|(_, claimed)| !claimed.taken.new);
    let named = if kept {
        None
    } else if earlier {
        named(request, deadline).await
    } else {
        Some(Vec::new())
    };
    let loose = claims().filter(|(_, claimed)| {
        let ip = claimed.taken.ip;
        claimed.taken.new || named.as_ref().is_some_and(|named| !named.contains(&ip))
    });
    let releases = loose.map(|(nic, claimed)| {
        let (name, ip) = (claimed.pool.name_any(), claimed.taken.ip);
        let owner = request.owner(nic);
        async move {
            let (pod, uid) = (owner.pod.clone(), request.uid());
            let released = request.context.pools.release_some(&name, owner, Some(ip), deadline);
            if let Err(error) = released.await {
                // The next ADD of this pod takes the address up again, and its end frees it.
                tracing::warn!(pool = name, pod, uid, nic, %error, "address not given back after a failed ADD");
            }
        }
    });
    futures::future::join_all(releases).await;
    kill::point(Point::GiveBackDone);
}

/// The addresses that the endpoint of the pod's name has, whosever UID it carries; nothing if that cannot be told.
async fn named(request: &Request<'_>, deadline: Instant) -> Option<Vec<IpAddr>> {
    let (namespace, name) = (&request.identity.namespace, &request.identity.name);
    match endpoints::read(request.context, namespace, name, deadline).await {
        Ok(endpoint) => {
            let items = endpoint.into_iter().flat_map(|endpoint| endpoint.status.current.ips);
            Some(items.flat_map(|item| endpoints::addresses(&item)).collect())
        }
        Err(error) => {
            let pod = request.pod_name();
            tracing::warn!(pod, %error, "what the pod had before a failed ADD is not given back");
            None
        }
    }
}
