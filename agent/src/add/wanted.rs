//! What an ADD claims: which NICs, and what each of them asks for.

use super::{Request, Want};
use crate::choose::{self, Defaults};
use crate::error::RequestError;
use spiderpool_crds::NicDetail;
use spiderpool_ipam::Family;
use tokio::time::Instant;

/// The NICs that are claimed for, in the order of their items. Where several belong together, that is all of them until an ADD
/// has got everything; from then on each ADD is for its own NIC, which has its addresses already.
pub(super) async fn wanted(request: &Request<'_>, deadline: Instant) -> Result<Vec<Want>, RequestError> {
    let (context, args, pod) = (request.context, request.args, request.pod);
    let mut nics = choose::together(&context.config, pod, &args.if_name)?;
    if nics.len() > 1 && is_granted(request) {
        nics = vec![args.if_name.clone()];
    }
    let mut wants = Vec::with_capacity(nics.len());
    for nic in nics {
        let defaults = Defaults {
            nic: &nic,
            ipv4: &args.default_ipv4_ippool,
            ipv6: &args.default_ipv6_ippool,
            clean_gateway: args.clean_gateway,
        };
        let app = &request.app.key;
        let choice = choose::choose(context, pod, app, defaults, deadline).await?;
        let mut facts = choose::pod_facts(context, pod, app, &choice, &nic, deadline).await?;
        facts.master = choose::master(
            args.match_master_subnet && nic == args.if_name,
            args.master_addresses.as_deref(),
        );
        wants.push(Want { nic, choice, facts });
    }
    Ok(wants)
}

/// Whether an earlier ADD got everything: the endpoint is written after all claims, and the pools still have this NIC's on
/// record. Only this agent writes either of them for its pods.
fn is_granted(request: &Request<'_>) -> bool {
    let (context, args) = (request.context, request.args);
    let own = |item: &&NicDetail| item.interface == args.if_name;
    let mut items = request.current().into_iter().flat_map(|current| &current.ips);
    items.find(own).is_some_and(|item| {
        item.addresses().all(|(given, _)| {
            let recorded = context.pools.recorded(request.uid(), &args.if_name, Family::of(given));
            recorded.iter().any(|(_, ip)| *ip == given)
        })
    })
}

/// Reads the pools live that do not have on record what the endpoint says that an earlier ADD of this pod got. The cache of a pool
/// may have gone back (an API server listed an older state), and the pod would get other addresses beside those it has.
pub(super) async fn look_again(request: &Request<'_>, deadline: Instant) -> Result<(), RequestError> {
    for item in request.current().into_iter().flat_map(|current| &current.ips) {
        let owner = request.owner(&item.interface);
        for (ip, pool) in item.addresses() {
            if let Some(pool) = pool {
                // It is read live if the cache does not have the record; what that shows is in the cache from then on.
                request.context.pools.fault(pool, ip, &owner, deadline).await?;
            }
        }
    }
    Ok(())
}
