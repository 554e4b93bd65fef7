//! Why an application has no pool with a free address, for the pod's Event.
//!
//! The operator tells the same on the workload; a user who looks at the pod first should not have to guess.

use crate::choose::Choice;
use crate::context::Context;
use kube::Api;
use spiderpool_crds::SpiderSubnet;
use spiderpool_crds::app::AppKey;
use spiderpool_ipam::Family;
use std::time::Duration;
use tokio::time::Instant;

/// How long explaining may take. A failing request should not wait long for its reason.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Reasons why there is no free address for an application's NIC.
pub async fn no_pool(context: &Context, app: &AppKey, choice: &Choice, nic: &str, family: Family) -> Vec<String> {
    let kind = app.kind.to_lowercase();
    let mut reasons = vec![format!(
        "no matching auto-created IPPool candidate of {} {}/{} for NIC {nic} {family} has a free address",
        app.kind, app.namespace, app.name
    )];
    if let Some(outage) = context.pools.cache().outage() {
        reasons.push(format!("the watch of IPPools is broken: {outage}"));
    }
    let deadline = Instant::now() + TIMEOUT;
    let api: Api<SpiderSubnet> = Api::all(context.client.clone());
    for name in choice.names.get(&family).into_iter().flatten() {
        let what = || format!("read SpiderSubnet {name}");
        match context.call(deadline, what, api.get_opt(name)).await {
            Ok(None) => reasons.push(format!(
                "SpiderSubnet {name} does not exist; create it or correct the annotation"
            )),
            Ok(Some(subnet)) => reasons.extend(about(&subnet, name, family)),
            Err(error) => reasons.push(error.to_string()),
        }
    }
    reasons.push(format!(
        "`kubectl -n {} describe {kind} {}` shows what the operator says",
        app.namespace, app.name
    ));
    reasons
}

fn about(subnet: &SpiderSubnet, name: &str, family: Family) -> Option<String> {
    if subnet.metadata.deletion_timestamp.is_some() {
        return Some(format!("SpiderSubnet {name} is being deleted"));
    }
    match subnet.family() {
        Err(error) => return Some(format!("SpiderSubnet {name} is broken: {error}")),
        Ok(own) if own != family => {
            return Some(format!(
                "SpiderSubnet {name} holds {own} addresses, but stands in the annotation under {family}"
            ));
        }
        Ok(_) => {}
    }
    let status = subnet.status.as_ref()?;
    let free = status.total_ip_count?.saturating_sub(status.allocated_ip_count?);
    Some(format!(
        "SpiderSubnet {name} has {free} addresses that no pool was given"
    ))
}
