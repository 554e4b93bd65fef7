//! Compares all that is on record about addresses, tells what does not agree, and repairs what a report says.
//!
//! What is compared and what counts as a finding are rules, [`spiderpool_ipam::check`]. The caches raise suspicions, each of which
//! is looked at live before it is told. A repair is of a report that this replica made, and looks at each finding of it anew: what
//! has changed meanwhile is left as it is.

mod confirm;
mod observe;
mod repair;

use std::collections::{BTreeMap, BTreeSet};
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
/// How long a report is remembered.
const MEMORY: Duration = Duration::from_secs(3600);
/// Reports remembered, for the sake of memory only.
const KEPT: usize = 64;
/// Findings in all of them together. A finding has some hundred bytes.
const KEPT_FINDINGS: usize = 16 * MOST;
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
    /// The oldest is the first.
    reports: Mutex<Vec<Kept>>,
}

#[derive(Debug)]
struct Kept {
    /// The name of the user that asked for it.
    by: String,
    report: Arc<Report>,
}

impl Kept {
    fn is_young(&self) -> bool {
        self.report.at.elapsed() < MEMORY
    }
}

impl Audits {
    /// Where there are too many, the oldest of the same user goes: who asks again and again does not take from others what they are
    /// about to send back.
    fn keep(&self, by: &str, report: Arc<Report>) {
        let mut reports = self.reports.lock().unwrap_or_else(PoisonError::into_inner);
        reports.retain(Kept::is_young);
        let by = by.to_owned();
        let findings = |reports: &[Kept]| reports.iter().map(|kept| kept.report.findings.len()).sum::<usize>();
        while reports.len() >= KEPT || findings(&reports) + report.findings.len() > KEPT_FINDINGS {
            if reports.is_empty() {
                break;
            }
            let own = reports.iter().position(|kept| kept.by == by);
            reports.remove(own.unwrap_or(0));
        }
        reports.push(Kept { by, report });
    }

    /// A report that is remembered.
    pub fn find(&self, id: &str) -> Option<Arc<Report>> {
        let reports = self.reports.lock().unwrap_or_else(PoisonError::into_inner);
        let mut young = reports.iter().filter(|kept| kept.is_young());
        young.find(|kept| kept.report.id == id).map(|kept| kept.report.clone())
    }
}

/// Checks everything for a user, and remembers the report.
pub async fn take(context: &Context, by: &str) -> Arc<Report> {
    let report = Arc::new(check(context).await);
    context.audits.keep(by, report.clone());
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
