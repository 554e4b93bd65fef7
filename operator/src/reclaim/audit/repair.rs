//! Repairs findings of a report, each as it is found now.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;
use spiderpool_crds::SpiderIPPool;
use spiderpool_crds::records::Record;
use spiderpool_ipam::check::{Fault, may_record};
use spiderpool_ipam::reclaim::{Decision, Keep};
use tokio::time::{Instant, timeout_at};

use super::super::apply;
use super::{Report, confirm, observe};
use crate::context::Context;
use crate::write;

/// How long one finding may take: some requests to the API server, each with its deadline.
const LONGEST: Duration = Duration::from_secs(30);

/// What became of one finding.
#[derive(Clone, Debug)]
pub struct Repaired {
    /// The finding.
    pub id: String,
    /// What was done.
    pub outcome: Outcome,
    /// More about that.
    pub message: String,
}

/// What was done about a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub enum Outcome {
    /// It is mended.
    Repaired,
    /// There is nothing to it any more.
    Gone,
    /// It has to be there for longer before anything is done.
    TooEarly,
    /// Somebody has the address by now, or may have.
    Kept,
    /// Only a person can mend it.
    Unrepairable,
    /// The report has no such finding.
    NotInReport,
    /// It did not work; nothing was changed, or what was is found by the next check.
    Failed,
    /// There was no time left for it.
    NotTried,
}

/// Repairs findings of a report, and begins none for which there may not be time before `until`: whoever waits no longer would not
/// learn what was done. Others are not touched.
pub async fn repair(context: &Context, report: &Report, ids: &BTreeSet<String>, until: Instant) -> Vec<Repaired> {
    let mut repaired = Vec::new();
    let mut left = 0_usize;
    for id in ids {
        let (outcome, message) = match report.findings.get(id) {
            None => (Outcome::NotInReport, "the report has no finding of this id".to_owned()),
            Some(_) if until.saturating_duration_since(Instant::now()) < LONGEST => {
                left += 1;
                (Outcome::NotTried, "not tried: out of time, send it again".to_owned())
            }
            Some(fault) => match timeout_at(until, one(context, report, fault)).await {
                Ok(Ok(done)) => done,
                Ok(Err(error)) => (Outcome::Failed, error.to_string()),
                Err(_) => (
                    Outcome::Failed,
                    "cut short: out of time, some of it may be written; send it again".to_owned(),
                ),
            },
        };
        if outcome != Outcome::NotTried {
            tracing::warn!(finding = id, ?outcome, message, "repair");
        }
        let id = id.clone();
        repaired.push(Repaired { id, outcome, message });
    }
    if left > 0 {
        tracing::warn!(report = report.id, left, "no time left for the rest of a repair");
    }
    repaired
}

type Done = (Outcome, String);

async fn one(context: &Context, report: &Report, fault: &Fault) -> Result<Done, write::Error> {
    if fault.repair().is_none() {
        return Ok((Outcome::Unrepairable, fault.to_string()));
    }
    if confirm::is_restoring(context) {
        let message = "a pool is Restoring: agents tell what their nodes use; check again when that is over";
        return Ok((Outcome::Kept, message.to_owned()));
    }
    match fault {
        Fault::Leak { .. } | Fault::StrayEndpoint { .. } => free(context, report, fault).await,
        _ => {
            let Some(now) = confirm::confirm(context, fault).await? else {
                return Ok((Outcome::Gone, "it is not found any more".to_owned()));
            };
            match &now {
                Fault::MissingRecord { pool, .. } if now.repair().is_some() => record(context, &now, pool).await,
                Fault::WrongCount { pool, .. } => count(context, pool).await,
                Fault::Accounting { subnet, pool, .. } => {
                    context.queues.subnets.add(subnet.clone());
                    context.queues.pools.add(pool.clone());
                    let message = format!("SpiderSubnet {subnet} is worked on again; check again in a moment");
                    Ok((Outcome::Repaired, message))
                }
                _ => Ok((Outcome::Kept, now.to_string())),
            }
        }
    }
}

/// Takes a record or endpoint out, as reclaim would: what the report said counts as its first look.
async fn free(context: &Context, report: &Report, fault: &Fault) -> Result<Done, write::Error> {
    let waited = Instant::now().saturating_duration_since(report.at);
    let gone = || Ok((Outcome::Gone, "it is not there any more".to_owned()));
    match confirm::look(context, fault, Some(waited)).await? {
        None => gone(),
        Some((_, _, Decision::Keep(Keep::Lives))) => Ok((Outcome::Kept, "its pod is there".to_owned())),
        Some((_, _, Decision::Keep(keep))) => Ok((Outcome::Kept, format!("it is kept for now: {keep:?}"))),
        Some((_, _, Decision::Suspect { again })) => {
            let seconds = again.as_secs_f64().ceil();
            Ok((Outcome::TooEarly, format!("send the report again in {seconds} s")))
        }
        Some((case, subject, Decision::Free(reason))) => {
            let freeing = vec![(case.key.clone(), case.freed(&subject), reason)];
            match apply::free(context, freeing).await.is_empty() {
                true => Ok((Outcome::Repaired, format!("freed: {}", reason.word()))),
                false => Ok((
                    Outcome::Failed,
                    "not written, the log of this controller says why; send the report again".to_owned(),
                )),
            }
        }
    }
}

/// Puts an address on record again for the pod that has it.
async fn record(context: &Context, fault: &Fault, pool: &str) -> Result<Done, write::Error> {
    let Fault::MissingRecord { address, owner, .. } = fault else {
        return Ok((Outcome::Gone, "it is not there any more".to_owned()));
    };
    // What else has the address by record makes it one of two.
    for other in context.caches.pools.list() {
        if observe::pool(context, &other)
            .records
            .is_ok_and(|all| all.contains_key(address))
        {
            let name = other.metadata.name.as_deref().unwrap_or_default();
            return Ok((
                Outcome::Kept,
                format!("IPPool {name} has it on record for somebody by now"),
            ));
        }
    }
    let Some(live) = context.pools.read(pool).await? else {
        return Ok((Outcome::Gone, format!("IPPool {pool} does not exist any more")));
    };
    let mut records = match live.records() {
        Ok(records) if may_record(&observe::pool(context, &live), *address) => records,
        _ => {
            return Ok((
                Outcome::Kept,
                format!("IPPool {pool} does not have it, or not free, any more"),
            ));
        }
    };
    let endpoint = confirm::endpoint(context, &owner.pod).await?;
    let node = endpoint.map(|endpoint| endpoint.status.current.node.clone());
    let record = Record {
        node: node.filter(|node| !node.is_empty()),
        ..Record::from(owner.clone())
    };
    records.insert(*address, record);
    let mut new = live.clone();
    let held = live.held().ok().map(|mut held| {
        held.remove(*address);
        held.to_status()
    });
    let status = new.status.get_or_insert_default();
    if let Some(held) = held {
        status.held_ips = held;
    }
    status.allocated_ips = records.to_status();
    status.allocated_ip_count = i64::try_from(records.len()).ok();
    context.pools.replace_status(&new).await?;
    Ok((Outcome::Repaired, format!("on record for {} again", owner.pod)))
}

/// Counts a pool's records.
async fn count(context: &Context, pool: &str) -> Result<Done, write::Error> {
    let Some(live) = context.pools.read(pool).await? else {
        return Ok((Outcome::Gone, format!("IPPool {pool} does not exist any more")));
    };
    let Ok(records) = live.records() else {
        return Ok((Outcome::Kept, "the records cannot be read".to_owned()));
    };
    let mut new: SpiderIPPool = live.clone();
    let status = new.status.get_or_insert_default();
    status.allocated_ip_count = i64::try_from(records.len()).ok();
    context.pools.replace_status(&new).await?;
    Ok((
        Outcome::Repaired,
        format!("{} addresses are in use, at {}", records.len(), Timestamp::now()),
    ))
}
