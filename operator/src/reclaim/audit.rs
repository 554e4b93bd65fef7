//! Compares all that is on record about addresses, tells what does not agree, and repairs what a report says.
//!
//! What is compared and what counts as a finding are rules, [`spiderpool_ipam::check`]. The caches raise suspicions, each of which
//! is looked at live before it is told. A repair is of a report that this replica made, and looks at each finding of it anew: what
//! has changed meanwhile is left as it is.

mod confirm;
mod observe;
mod repair;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use jiff::Timestamp;
use spiderpool_ipam::check::{Fault, Kind, faults};
use tokio::time::Instant;

use super::AT_A_TIME;
use crate::context::Context;
pub use repair::{Outcome, Repaired, repair};

/// Suspicions looked at for one report. There are hardly any, unless something is very wrong, and then a report of the first is
/// sooner of use than one of all.
const MOST: usize = 1000;
/// Reports remembered.
const KEPT: usize = 8;
/// How long they are.
const MEMORY: Duration = Duration::from_secs(3600);
/// How long a finding of the regular check has to be there to be told: longer than an ADD or a reclaim takes.
const LASTING: Duration = Duration::from_secs(60);

/// What a check found.
#[derive(Clone, Debug)]
pub struct Report {
    /// Names it in an order for repair.
    pub id: String,
    /// When the check was done, by the clock of this machine.
    pub taken: Timestamp,
    /// The same, by a clock that nobody sets.
    at: Instant,
    /// What was looked at.
    pub looked_at: LookedAt,
    /// What does not agree, by name.
    pub findings: BTreeMap<String, Fault>,
    /// Suspicions that could not be looked at, or were too many.
    pub open: usize,
}

/// How much was looked at.
#[derive(Clone, Copy, Debug, Default, serde::Serialize)]
pub struct LookedAt {
    /// Pools.
    pub pools: usize,
    /// Their records.
    pub records: usize,
    /// Endpoints.
    pub endpoints: usize,
    /// Pods that have not finished.
    pub pods: usize,
    /// Subnets.
    pub subnets: usize,
}

/// The reports of this replica.
#[derive(Debug, Default)]
pub struct Audits {
    /// Held by the check at work: one at a time is enough.
    busy: tokio::sync::Mutex<()>,
    reports: Mutex<VecDeque<Arc<Report>>>,
}

impl Audits {
    fn keep(&self, report: Arc<Report>) {
        let mut reports = self.reports.lock().unwrap_or_else(PoisonError::into_inner);
        reports.push_front(report);
        reports.truncate(KEPT);
    }

    /// A report that is remembered.
    pub fn find(&self, id: &str) -> Option<Arc<Report>> {
        let reports = self.reports.lock().unwrap_or_else(PoisonError::into_inner);
        let mut young = reports.iter().filter(|report| report.at.elapsed() < MEMORY);
        young.find(|report| report.id == id).cloned()
    }
}

/// Checks everything, and remembers the report.
pub async fn take(context: &Context) -> Arc<Report> {
    let report = Arc::new(check(context).await);
    context.audits.keep(report.clone());
    report
}

async fn check(context: &Context) -> Report {
    let _turn = context.audits.busy.lock().await;
    let seen = observe::cached(context).await;
    let records = seen.pools.values().flat_map(|pool| &pool.records);
    let looked_at = LookedAt {
        pools: seen.pools.len(),
        records: records.map(BTreeMap::len).sum(),
        endpoints: seen.endpoints.len(),
        pods: seen.stay.len() + seen.leave.len(),
        subnets: seen.subnets.len(),
    };
    let suspicions = faults(&seen);
    let mut open = suspicions.len().saturating_sub(MOST);
    let looks = suspicions.into_iter().take(MOST);
    let looks = looks.map(|fault| async move { confirm::confirm(context, &fault).await });
    let looks: Vec<_> = futures::stream::iter(looks).buffered(AT_A_TIME).collect().await;
    let mut findings = BTreeMap::new();
    for look in looks {
        match look {
            Ok(Some(fault)) => drop(findings.insert(fault.id(), fault)),
            Ok(None) => {}
            Err(error) => {
                tracing::info!(%error, "a suspicion of the check was not looked at");
                open += 1;
            }
        }
    }
    Report {
        id: format!("{:016x}", RandomState::new().hash_one(0)),
        taken: Timestamp::now(),
        at: Instant::now(),
        looked_at,
        findings,
        open,
    }
}

/// Checks regularly for ever, while this replica leads, and counts what was found and is still there a while later.
pub async fn run(context: Arc<Context>) {
    let mut told = BTreeSet::new();
    let mut terms = context.leadership.terms();
    while terms.next().await {
        while context.leadership.is_leader() {
            let found = lasting(&context).await;
            for (id, fault) in &found {
                if told.insert(id.clone()) {
                    tracing::warn!(finding = id, "{fault}");
                }
            }
            told.retain(|id| found.contains_key(id));
            for kind in Kind::ALL {
                let count = found.values().filter(|fault| fault.kind() == kind).count();
                context.tally.set_findings(kind, count);
            }
            let until_follower = context.leadership.wait_until_follower();
            // Either way it is asked anew who leads.
            let _ = tokio::time::timeout(context.reclaim.every, until_follower).await;
        }
        for kind in Kind::ALL {
            context.tally.set_findings(kind, 0);
        }
    }
}

async fn lasting(context: &Context) -> BTreeMap<String, Fault> {
    let mut found = check(context).await.findings;
    if !found.is_empty() {
        tokio::time::sleep(LASTING).await;
        let after = check(context).await.findings;
        found.retain(|id, _| after.contains_key(id));
    }
    found
}

#[cfg(test)]
mod tests;
