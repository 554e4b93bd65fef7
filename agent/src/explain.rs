//! Why an application has no pool with a free address, for the pod's Event.
//!
//! The operator tells the same on the workload; a user who looks at the pod first should not have to guess.

use crate::automatic::Slot;
use crate::context::Context;
use crate::error::RequestError;
use crate::look::Look;
use crate::tries;
use futures::future::join_all;
use kube::Api;
use spiderpool_crds::owner::is_native;
use spiderpool_crds::{SpiderSubnet, conditions};
use spiderpool_ipam::candidates::PodFacts;
use spiderpool_ipam::{Family, Owner};
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::time::Instant;

/// How long explaining may take. A failing request should not wait long for its reason.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Longest message of a condition that is quoted. The Event cuts its text at 1024 characters.
const QUOTED: usize = 300;

/// Reasons why there is no free address for an application's NIC, the plainest first.
pub async fn no_pool(context: &Context, slot: &Slot<'_>, facts: &PodFacts, owner: Owner) -> Vec<String> {
    let look = Look {
        owner,
        exact: facts.exact.get(&slot.family).copied(),
        reserved: &context.pools.reserved(slot.family),
    };
    let pools = slot.shortcomings(&context.pools.cache().indexed(&facts.application), facts, &look);
    let mut reasons = about_application(slot, pools);
    if let Some(outage) = context.pools.cache().outage() {
        // Without its seconds: an Event whose text changes each time is not counted as one.
        reasons.push(format!("the watch of IPPools is broken: {}", outage.error));
    }
    let deadline = Instant::now() + TIMEOUT;
    let api: Api<SpiderSubnet> = Api::all(context.client.clone());
    let subnets = slot.subnets().iter().map(|name| {
        let api = &api;
        async move {
            let what = format!("read SpiderSubnet {name}");
            match tries::read(what, deadline, || api.get_opt(name)).await {
                Ok(None) => vec![format!(
                    "SpiderSubnet {name} does not exist; create it or correct the annotation"
                )],
                Ok(Some(subnet)) => about_subnet(&subnet, name, slot),
                Err(error) => vec![error.to_string()],
            }
        }
    });
    reasons.extend(join_all(subnets).await.into_iter().flatten());
    reasons
}

/// A NIC's family that got no address.
#[derive(Debug)]
pub struct Failure {
    /// The NIC.
    pub nic: String,
    /// The family.
    pub family: Family,
    /// Why.
    pub error: RequestError,
}

/// The error of a request that asked for these NICs and families, of which some failed. Where it asked for several it says which
/// of them are missing, and of each why: who repairs one should not be told of the other only afterwards.
pub fn failed(failures: Vec<Failure>, asked: &[(&str, Family)]) -> Option<RequestError> {
    let nics: BTreeSet<&str> = asked.iter().map(|(nic, _)| *nic).collect();
    let called = |nic: &str, family: Family| match nics.len() {
        1 => family.to_string(),
        _ => format!("NIC {nic} {family}"),
    };
    let mut failures = failures.into_iter();
    let Failure { nic, family, mut error } = failures.next()?;
    let RequestError::NoPool { reasons, .. } = &mut error else {
        return Some(error);
    };
    let alone = failures.len() == 0;
    for other in failures {
        if let RequestError::NoPool { reasons: more, .. } = other.error {
            let more: Vec<String> = more.into_iter().filter(|reason| !reasons.contains(reason)).collect();
            reasons.push(format!("{} has no address either", called(&other.nic, other.family)));
            reasons.extend(more);
        }
    }
    if alone && asked.len() > 1 {
        let all = match nics.len() {
            1 => "both families",
            _ => "all NICs that its annotation lists",
        };
        let missing = called(&nic, family);
        reasons.insert(
            0,
            format!("only {missing} is missing, and a pod gets the addresses of {all} or none"),
        );
    }
    Some(error)
}

/// What is to say of the application and its pools.
fn about_application(slot: &Slot<'_>, pools: Vec<String>) -> Vec<String> {
    let (app, nic, family) = (&slot.app.key, slot.nic, slot.family);
    let mut reasons = vec![format!(
        "no matching auto-created IPPool candidate of {} {}/{} for NIC {nic} {family} has a free address",
        app.kind, app.namespace, app.name
    )];
    if pools.is_empty() {
        reasons.push("the operator has not made the pool".to_owned());
    }
    reasons.extend(pools);
    // Kinds of the same name in other groups are told apart as kubectl does.
    let kind = app.kind.to_lowercase();
    let resource = if is_native(&app.group, &app.kind) || app.group.is_empty() {
        kind
    } else {
        format!("{kind}.{}", app.group)
    };
    reasons.push(format!(
        "the Events of `kubectl -n {} describe {resource} {}` show what the operator says",
        app.namespace, app.name
    ));
    reasons
}

fn about_subnet(subnet: &SpiderSubnet, name: &str, slot: &Slot<'_>) -> Vec<String> {
    if subnet.metadata.deletion_timestamp.is_some() {
        return vec![format!("SpiderSubnet {name} is being deleted")];
    }
    let family: Family = slot.family;
    match subnet.family() {
        Err(error) => return vec![format!("SpiderSubnet {name} is broken: {error}")],
        Ok(own) if own != family => {
            return vec![format!(
                "SpiderSubnet {name} holds {own} addresses, but stands in the annotation under {family}"
            )];
        }
        Ok(_) => {}
    }
    let Some(status) = &subnet.status else {
        return vec![format!("the operator has not looked at SpiderSubnet {name} yet")];
    };
    let said = |type_: &str| {
        let condition = conditions::find(status.conditions.as_deref(), type_)?;
        let message: String = condition.message.chars().take(QUOTED).collect();
        (condition.status == "False").then_some(message)
    };
    let mut reasons = Vec::new();
    if let Some(message) = said(conditions::READY) {
        reasons.push(format!("SpiderSubnet {name} is not ready: {message}"));
    }
    // The operator may always read the kinds of Kubernetes itself.
    let (group, kind) = (&slot.app.key.group, &slot.app.key.kind);
    if !is_native(group, kind)
        && let Some(message) = said(conditions::WORKLOADS_READABLE)
    {
        reasons.push(format!(
            "the operator cannot read all workloads of SpiderSubnet {name}: {message}"
        ));
    }
    if let (Some(total), Some(allocated)) = (status.total_ip_count, status.allocated_ip_count) {
        let free = total.saturating_sub(allocated);
        reasons.push(format!(
            "SpiderSubnet {name} has {free} addresses that no pool was given"
        ));
    }
    reasons
}

#[cfg(test)]
mod tests;
