//! The status of a subnet, written only when it changes.

use std::sync::Arc;

use jiff::Timestamp;
use kube::Resource;
use spiderpool_crds::admission::complete;
use spiderpool_crds::conditions::{self, INVALID, READY, WORKLOADS_READABLE, newly_invalid};
use spiderpool_crds::{SpiderSubnet, SubnetStatus};
use spiderpool_ipam::accounting;
use spiderpool_ipam::autopool::Plan;

use super::confirm::{self, Confirmed};
use super::observe::{Removal, Seen};
use crate::context::Context;
use crate::events::{Reason, tell};
use crate::fullness::{self, Words};
use crate::pool::index;
use crate::write;

const WORDS: Words = Words {
    full: "every address is given to a pool or reserved; add addresses to spec.ips or make pools smaller",
    free: "there are addresses that no pool was given",
    taken: "given to pools",
    remedy: "add addresses to spec.ips before applications have to wait",
};

/// Proof that the accounting of a plan stands in the subnet's status. Only then may pools get addresses.
pub struct Recorded(Arc<SpiderSubnet>);

/// Writes the accounting, the counts and the conditions. None if the accounting turns out to be another one than was seen.
pub async fn publish(
    context: &Context,
    seen: &Seen,
    plan: &Plan,
    _confirmed: Confirmed,
) -> Result<Option<Recorded>, write::Error> {
    let old = seen.subnet.status.clone().unwrap_or_default();
    let new = next(&old, seen, plan, Timestamp::now());
    if new == old && !confirm::unchanged(context, seen, plan).await? {
        return Ok(None);
    }
    let written = write_if_changed(context, &seen.subnet, &old, new).await?;
    Ok(Some(Recorded(written)))
}

/// Says in the status that the subnet cannot be used at all, and lets it go if it is on its way out.
pub async fn give_up(context: &Context, subnet: &Arc<SpiderSubnet>, why: &str) -> Result<(), write::Error> {
    let old = subnet.status.clone().unwrap_or_default();
    let mut new = old.clone();
    let generation = subnet.metadata.generation;
    conditions::set(
        &mut new.conditions,
        READY,
        false,
        INVALID,
        why,
        generation,
        Timestamp::now(),
    );
    let subnet = write_if_changed(context, subnet, &old, new).await?;
    let key = index::network(&subnet.spec.subnet);
    let pools = context.caches.pools.read(|store| store.indexed(&key).next().is_some());
    match complete::released(&*subnet).filter(|_| subnet.is_terminating() && !pools) {
        Some(released) => context.subnets.replace(&released).await.map(drop),
        None => Ok(()),
    }
}

async fn write_if_changed(
    context: &Context,
    subnet: &Arc<SpiderSubnet>,
    old: &SubnetStatus,
    new: SubnetStatus,
) -> Result<Arc<SpiderSubnet>, write::Error> {
    if new == *old {
        return Ok(subnet.clone());
    }
    let mut object = SpiderSubnet::clone(subnet);
    let fault = newly_invalid(old.conditions.as_deref(), new.conditions.as_deref()).map(str::to_owned);
    object.status = Some(new);
    let written = context.subnets.replace_status(&object).await?;
    if let Some(fault) = fault {
        let note = format!("no pool is given addresses of this subnet: {fault}");
        tell(&context.recorder, written.object_ref(&()), Reason::SubnetInvalid, &note);
    }
    Ok(Arc::new(written))
}

/// Takes the finalizer off a subnet that goes and that no pool has addresses of any more.
pub async fn release(context: &Context, seen: &Seen, recorded: Recorded) -> Result<(), write::Error> {
    let subnet = recorded.0;
    let booked = subnet
        .status
        .as_ref()
        .and_then(|status| status.controlled_ippools.as_ref());
    let unused = subnet.is_terminating() && booked.is_none() && seen.pools.is_empty();
    match complete::released(&*subnet).filter(|_| unused) {
        Some(released) => {
            context.subnets.replace(&released).await?;
            tracing::info!(subnet = seen.name(), "released: no pool has addresses of it");
            Ok(())
        }
        None => Ok(()),
    }
}

fn next(old: &SubnetStatus, seen: &Seen, plan: &Plan, now: Timestamp) -> SubnetStatus {
    let facts = &seen.facts;
    let mut controlled = seen.controlled.clone();
    controlled.set_entries(seen.cidr.family(), &plan.entries);
    let mut new = SubnetStatus {
        controlled_ippools: controlled.to_status(),
        total_ip_count: Some(accounting::status_count(facts.total.count())),
        allocated_ip_count: Some(accounting::status_count(accounting::allocated(&plan.entries))),
        ..old.clone()
    };
    let generation = seen.subnet.metadata.generation;
    let mut set = |type_: &str, status: bool, reason: &str, message: &str| {
        conditions::set(&mut new.conditions, type_, status, reason, message, generation, now);
    };
    if facts.terminating {
        let (reason, message) = going(seen);
        set(READY, false, reason, &message);
    } else if let Some(problem) = &seen.problem {
        set(READY, false, INVALID, problem);
    } else {
        set(READY, true, "Accepted", "the subnet can be used");
    }
    if !seen.unreadable.is_empty() {
        set(
            WORKLOADS_READABLE,
            false,
            "MissingPermission",
            &seen.unreadable.join("; "),
        );
    } else if conditions::find(old.conditions.as_deref(), WORKLOADS_READABLE).is_some() {
        set(
            WORKLOADS_READABLE,
            true,
            "Readable",
            "every kind of workload that asks for addresses can be read",
        );
    }
    let usable = facts.total.difference(&facts.reserved);
    let free = accounting::free(&usable, &plan.entries, &facts.reserved).count();
    fullness::set(&mut new.conditions, (free, usable.count()), &WORDS, generation, now);
    new
}

/// What a subnet that is being deleted waits for.
fn going(seen: &Seen) -> (&'static str, String) {
    let removed = |name: &String| {
        let mut removals = seen.removals.iter();
        removals.any(|(pool, why)| *why == Removal::WithSubnet && pool.metadata.name.as_ref() == Some(name))
    };
    let foreign = seen
        .pools
        .iter()
        .find(|(name, pool)| !pool.is_terminating() && !removed(name));
    match foreign {
        Some((name, _)) => (
            "PoolsInTheWay",
            format!("the subnet goes when no pool has addresses of it; delete pool {name}, which it does not own"),
        ),
        None => (
            "Terminating",
            "the subnet goes when its pools are gone, and those go with their last pod".to_owned(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use spiderpool_crds::conditions::{EXHAUSTED, NEARLY_EXHAUSTED, find};
    use spiderpool_crds::records::ControlledPools;
    use spiderpool_ipam::accounting::Entry;
    use spiderpool_ipam::autopool::Facts;
    use std::collections::BTreeMap;

    fn rack7() -> SpiderSubnet {
        serde_json::from_value(json!({
            "apiVersion": "spiderpool.spidernet.io/v2beta1",
            "kind": "SpiderSubnet",
            "metadata": {"name": "rack7-v4", "generation": 3},
            "spec": {"subnet": "10.77.0.0/20", "ips": ["10.77.1.10-10.77.1.40"], "excludeIPs": ["10.77.1.20"]},
        }))
        .unwrap()
    }

    fn seen(subnet: SpiderSubnet) -> Seen {
        let cidr = subnet.cidr().unwrap();
        Seen {
            facts: Facts {
                total: subnet.total().unwrap(),
                terminating: subnet.is_terminating(),
                ..Facts::default()
            },
            subnet: Arc::new(subnet),
            cidr,
            problem: None,
            controlled: ControlledPools::new(),
            pools: BTreeMap::new(),
            purposes: BTreeMap::new(),
            removals: Vec::new(),
            refusals: Vec::new(),
            unreadable: Vec::new(),
            elsewhere: Default::default(),
        }
    }

    fn plan(seen: &Seen, count: u128) -> Plan {
        let entry = Entry {
            ranges: seen.facts.total.first_n(count),
            application: Some("apps_v1_Deployment_retail_shop".to_owned()),
        };
        Plan {
            entries: [("auto4-shop-eth0-e07fc".to_owned(), entry)].into(),
            ..Plan::default()
        }
    }

    #[test]
    fn counts_and_accounting_are_what_users_know() {
        let seen = seen(rack7());
        let status = next(&SubnetStatus::default(), &seen, &plan(&seen, 3), Timestamp::UNIX_EPOCH);
        assert_eq!((status.total_ip_count, status.allocated_ip_count), (Some(30), Some(3)));
        let text = r#"{"auto4-shop-eth0-e07fc":{"ips":["10.77.1.10-10.77.1.12"],"application":"apps_v1_Deployment_retail_shop"}}"#;
        assert_eq!(status.controlled_ippools.as_deref(), Some(text));
        let ready = find(status.conditions.as_deref(), READY).unwrap();
        assert_eq!((ready.status.as_str(), ready.observed_generation), ("True", Some(3)));
    }

    #[test]
    fn what_must_not_be_used_says_why_and_keeps_its_counts() {
        let mut seen = seen(rack7());
        seen.problem = Some("spec.ips[0]: the gateway is among them".to_owned());
        let status = next(&SubnetStatus::default(), &seen, &plan(&seen, 3), Timestamp::UNIX_EPOCH);
        let ready = find(status.conditions.as_deref(), READY).unwrap();
        assert_eq!((ready.status.as_str(), ready.reason.as_str()), ("False", INVALID));
        assert!(ready.message.contains("spec.ips[0]"), "{}", ready.message);
        assert_eq!((status.total_ip_count, status.allocated_ip_count), (Some(30), Some(3)));
    }

    #[test]
    fn an_empty_subnet_has_no_accounting() {
        let seen = seen(rack7());
        let status = next(&SubnetStatus::default(), &seen, &Plan::default(), Timestamp::UNIX_EPOCH);
        assert_eq!((status.controlled_ippools, status.allocated_ip_count), (None, Some(0)));
    }

    #[test]
    fn a_status_that_says_it_already_stays_equal() {
        let seen = seen(rack7());
        let once = next(&SubnetStatus::default(), &seen, &plan(&seen, 30), Timestamp::UNIX_EPOCH);
        let twice = next(&once, &seen, &plan(&seen, 30), Timestamp::MAX);
        assert_eq!(once, twice);
        assert_eq!(find(once.conditions.as_deref(), EXHAUSTED).unwrap().status, "True");
    }

    #[test]
    fn few_addresses_left_are_told() {
        let seen = seen(rack7());
        let status = next(&SubnetStatus::default(), &seen, &plan(&seen, 28), Timestamp::UNIX_EPOCH);
        let nearly = find(status.conditions.as_deref(), NEARLY_EXHAUSTED).unwrap();
        let message = "nearly all of the 30 addresses are given to pools; add addresses to spec.ips before applications \
                       have to wait";
        assert_eq!((nearly.status.as_str(), nearly.message.as_str()), ("True", message));
    }
}
