//! An ADD that got addresses and cannot use them: the network said that somebody has one, or that the gateway is not there.
//!
//! They are given back at once and an address of somebody else is kept from everybody for a while, or the next pod would trip over
//! it too. A pod that keeps its addresses for life keeps them here as well: another address in silence is worse for it than
//! waiting until the foreign host is found.

use crate::context::Context;
use crate::del::{self, BUDGET};
use crate::endpoints;
use crate::error::RequestError;
use crate::sticky::{self, Identity};
use spiderpool_crds::{EndpointStatus, NicDetail};
use spiderpool_ipam::Owner;
use spiderpool_wire::{Conflict, IpamBatchDelArgs};
use std::net::IpAddr;
use tokio::time::Instant;

/// What became of the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GivenUp {
    /// The addresses were freed, or there was nothing to free.
    Done,
    /// Giving up addresses after a conflict is switched off.
    SwitchedOff,
    /// The pod keeps its addresses.
    Kept,
}

/// Serves the request.
pub async fn give_up(context: &Context, args: &IpamBatchDelArgs) -> Result<GivenUp, RequestError> {
    if args.pod_uid.is_empty() || args.pod_name.is_empty() {
        return Ok(GivenUp::Done);
    }
    let conflict = args.is_release_conflict_ips || !args.conflicts.is_empty();
    context.wait_ready(Instant::now() + BUDGET).await?;
    let _turn = context.turns.take(&args.pod_uid).await;
    let deadline = Instant::now() + BUDGET;
    let (namespace, name, uid) = (&args.pod_namespace, &args.pod_name, &args.pod_uid);
    let identity = Identity::of_gone(context, namespace, name, uid);
    let endpoint = endpoints::read(context, namespace, &identity.name, deadline).await?;
    let Some(endpoint) = endpoint.filter(|endpoint| endpoint.status.current.uid == *uid) else {
        return Ok(GivenUp::Done);
    };
    let pod = identity.key();
    let items = items(&endpoint.status, args);
    if items.is_empty() {
        return Ok(GivenUp::Done);
    }
    if sticky::keeper(&context.config, &endpoint).is_some() {
        for Conflict { address, mac } in &args.conflicts {
            tracing::warn!(
                pod,
                uid,
                address,
                by = mac,
                "a foreign host uses the address that this pod keeps for life"
            );
        }
        return Ok(if conflict { GivenUp::Kept } else { GivenUp::Done });
    }
    if conflict && !context.config.release_conflict_ips {
        return Ok(GivenUp::SwitchedOff);
    }
    del::note_ended(context, items.iter());
    for (ip, pool, nic, by) in conflicts(&items, &args.conflicts) {
        let owner = Owner {
            pod: pod.clone(),
            uid: uid.clone(),
            nic: Some(nic),
        };
        let held = context.pools.quarantine(&pool, ip, owner, &by, deadline).await?;
        tracing::warn!(pod, uid, %ip, pool, by, ?held, "a foreign host uses an address of the pool");
    }
    let mut nics: Vec<String> = items.into_iter().map(|item| item.interface).collect();
    nics.extend(unused(&endpoint.status, &nics));
    del::free(context, &pod, uid, &nics, Some(endpoint), deadline).await?;
    Ok(GivenUp::Done)
}

/// The NICs that the request is about: those of its sandbox, and only the one that it names.
fn items(status: &EndpointStatus, args: &IpamBatchDelArgs) -> Vec<NicDetail> {
    let wanted = |item: &&NicDetail| {
        (args.if_name.is_empty() || item.interface == args.if_name)
            && item
                .container_id
                .as_ref()
                .is_none_or(|sandbox| *sandbox == args.container_id)
    };
    status.current.ips.iter().filter(wanted).cloned().collect()
}

/// NICs that the same ADD claimed for and that were never set up, unless another NIC of the pod is: then it goes on without the one
/// that is given up.
fn unused(status: &EndpointStatus, given_up: &[String]) -> Vec<String> {
    let others = status
        .current
        .ips
        .iter()
        .filter(|item| !given_up.contains(&item.interface));
    let unused = |item: &&NicDetail| item.container_id.is_none() && item.network_name.is_none();
    if others.clone().all(|item| unused(&item)) {
        others.map(|item| item.interface.clone()).collect()
    } else {
        Vec::new()
    }
}

/// The conflicting addresses that these NICs were given, with pool, NIC and who has them. What they were not given is not
/// believed: nobody may have an address taken out of a pool by naming it.
fn conflicts(items: &[NicDetail], told: &[Conflict]) -> Vec<(IpAddr, String, String, String)> {
    let mut found = Vec::new();
    for item in items {
        for (own, pool) in item.addresses() {
            let conflict = told.iter().find(|told| told.address.parse() == Ok(own));
            if let (Some(conflict), Some(pool)) = (conflict, pool) {
                found.push((own, pool.to_owned(), item.interface.clone(), conflict.mac.clone()));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use spiderpool_crds::PodAllocation;

    fn status() -> EndpointStatus {
        let item = |nic: &str, sandbox: Option<&str>| NicDetail {
            interface: nic.to_owned(),
            container_id: sandbox.map(str::to_owned),
            ipv4: Some("10.77.1.10/20".to_owned()),
            ipv4_pool: Some("p4".to_owned()),
            ipv6: Some("fd77::10/64".to_owned()),
            ipv6_pool: Some("p6".to_owned()),
            ..NicDetail::default()
        };
        EndpointStatus {
            current: PodAllocation {
                ips: vec![item("eth0", Some("c1")), item("net1", None), item("net2", Some("c0"))],
                ..PodAllocation::default()
            },
            owner_controller_type: "Deployment".to_owned(),
            ..EndpointStatus::default()
        }
    }

    fn args(nic: &str) -> IpamBatchDelArgs {
        IpamBatchDelArgs {
            container_id: "c1".to_owned(),
            if_name: nic.to_owned(),
            ..IpamBatchDelArgs::default()
        }
    }

    #[test]
    fn a_nic_of_another_sandbox_is_not_touched() {
        let nics = |nic| {
            items(&status(), &args(nic))
                .into_iter()
                .map(|item| item.interface)
                .collect::<Vec<_>>()
        };
        assert_eq!(nics(""), ["eth0", "net1"]);
        assert_eq!(nics("eth0"), ["eth0"]);
        assert_eq!(nics("net2"), Vec::<String>::new());
    }

    #[test]
    fn what_was_claimed_for_further_nics_goes_while_none_of_them_is_set_up() {
        let given_up = |nics: &[&str], status: &EndpointStatus| {
            let nics: Vec<String> = nics.iter().map(|nic| (*nic).to_owned()).collect();
            unused(status, &nics)
        };
        let mut status = status();
        assert_eq!(given_up(&["eth0"], &status), Vec::<String>::new());
        assert_eq!(given_up(&["eth0", "net2"], &status), ["net1"]);
        // It was set up, and its sandbox is gone.
        status.current.ips[1].network_name = Some("lan".to_owned());
        assert_eq!(given_up(&["eth0", "net2"], &status), Vec::<String>::new());
    }

    #[test]
    fn only_addresses_that_the_nic_was_given_are_believed() {
        let told = ["10.77.1.11", "fd77::0010", "10.77.1.10/20", "x"].map(|address| Conflict {
            address: address.to_owned(),
            mac: "02:09".to_owned(),
        });
        let found = conflicts(&items(&status(), &args("eth0")), &told);
        let expected = (
            "fd77::10".parse().unwrap(),
            "p6".to_owned(),
            "eth0".to_owned(),
            "02:09".to_owned(),
        );
        assert_eq!(found, [expected]);
    }
}
