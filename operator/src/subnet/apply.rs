//! Makes, resizes and deletes pools as planned.
//!
//! Every step stands for itself: one that fails holds up no other, and the next pass tries it again.

use std::time::Duration;

use futures::{StreamExt, stream};
use spiderpool_crds::SpiderIPPool;
use spiderpool_crds::names::LABEL_OWNER_APP_UID;
use spiderpool_ipam::RangeSet;
use spiderpool_ipam::autopool::{Blocked, Plan, Verdict};

use super::object::{changed, new_pool};
use super::observe::{Purpose, Removal, Seen};
use super::status::Recorded;
use crate::application::AppId;
use crate::context::Context;
use crate::kinds::watched::Live;
use crate::pool::shrink::Shrink;
use crate::write;

/// Pause before it is asked again whether an application is gone.
const AGAIN: Duration = Duration::from_secs(5);
/// How many pools are written at once.
const AT_ONCE: usize = 8;

/// One write.
enum Step<'a> {
    Create(SpiderIPPool),
    Change(SpiderIPPool),
    Remove(&'a SpiderIPPool, &'a Removal),
}

/// What was done.
#[derive(Default)]
pub struct Done {
    /// Names of pools made or resized.
    pub written: Vec<String>,
    /// Names of pools deleted.
    pub removed: Vec<String>,
    /// Pools that the API server refused, with what it said.
    pub refused: Vec<(String, String)>,
    /// Why the pass has to be repeated.
    pub failure: Option<write::Error>,
}

/// Carries the plan out. Needs the proof that the accounting is written.
pub async fn run(context: &Context, seen: &Seen, plan: &Plan, _recorded: &Recorded) -> Done {
    let mut steps = steps(context, seen, plan);
    steps.extend(seen.removals.iter().map(|(pool, why)| Step::Remove(pool, why)));
    mark(context, seen, plan);
    let mut writes = Vec::with_capacity(steps.len());
    for step in steps {
        writes.push(Box::pin(take(context, seen, step)));
    }
    let results: Vec<_> = stream::iter(writes).buffer_unordered(AT_ONCE).collect().await;
    let mut done = Done::default();
    for (name, result) in results {
        match result {
            Ok(Effect::Written) => {
                if matches!(plan.verdicts.get(&name), Some(Verdict::Shrink { pending, .. }) if *pending > 0) {
                    context.pace.shrunk(&name);
                }
                done.written.push(name);
            }
            Ok(Effect::Removed) => done.removed.push(name),
            Ok(Effect::None) => {}
            Err(error) => {
                if let Some(refusal) = error.refusal() {
                    done.refused.push((name, refusal.to_owned()));
                }
                // A conflict is settled soonest by looking again; it goes before errors that need a pause.
                let sooner = matches!(error, write::Error::Stale(_)) && done.refused.is_empty();
                if done.failure.is_none() || sooner {
                    done.failure = Some(error);
                }
            }
        }
    }
    done
}

/// Takes down what each pool has to give up, and has its condition say so.
fn mark(context: &Context, seen: &Seen, plan: &Plan) {
    for (name, pool) in &seen.pools {
        let shrink = plan
            .verdicts
            .get(name)
            .map(|verdict| left_to_give_up(seen, name, verdict))
            .unwrap_or_default();
        if context.shrinking.set(name, shrink, pool) {
            context.queues.pools.add(name.clone());
        }
    }
}

fn left_to_give_up(seen: &Seen, name: &str, verdict: &Verdict) -> Shrink {
    let pending = match verdict {
        Verdict::Shrink { pending, .. } | Verdict::Blocked(Blocked::InUse { pending }) => *pending,
        Verdict::Nothing | Verdict::Create(_) | Verdict::Grow { .. } | Verdict::Blocked(_) => 0,
    };
    Shrink {
        pending,
        drains: matches!(seen.purposes.get(name), Some(Purpose::Drain)),
    }
}

fn steps<'a>(context: &Context, seen: &Seen, plan: &Plan) -> Vec<Step<'a>> {
    let mut steps = Vec::new();
    for (name, verdict) in &plan.verdicts {
        let purpose = seen.purposes.get(name);
        let ranges: Option<&RangeSet> = match verdict {
            Verdict::Create(ranges) => {
                if let Some(Purpose::Serve { app, request, slot }) = purpose {
                    let pool = new_pool(name, app, request, slot, &seen.subnet, seen.cidr, ranges);
                    steps.push(Step::Create(pool));
                }
                continue;
            }
            Verdict::Shrink { ranges, .. } => match context.pace.rest(name) {
                None => Some(ranges),
                Some(rest) => {
                    context.queues.subnets.add_after(seen.name().to_owned(), rest);
                    continue;
                }
            },
            Verdict::Grow { ranges, .. } => Some(ranges),
            Verdict::Nothing | Verdict::Blocked(_) => None,
        };
        let Some(pool) = seen.pools.get(name).filter(|pool| !pool.is_terminating()) else {
            continue;
        };
        let wanted_by = match purpose {
            Some(Purpose::Serve { app, request, .. }) => Some((&**app, request)),
            Some(Purpose::Drain) | None => None,
        };
        steps.extend(changed(pool, wanted_by, seen.cidr, ranges).map(Step::Change));
    }
    steps
}

/// What a step led to.
enum Effect {
    Written,
    Removed,
    None,
}

async fn take(context: &Context, seen: &Seen, step: Step<'_>) -> (String, Result<Effect, write::Error>) {
    let name = |pool: &SpiderIPPool| pool.metadata.name.clone().unwrap_or_default();
    match step {
        Step::Create(pool) => (name(&pool), context.pools.create(&pool).await.map(|_| Effect::Written)),
        Step::Change(pool) => (name(&pool), context.pools.replace(&pool).await.map(|_| Effect::Written)),
        Step::Remove(pool, why) => (name(pool), remove(context, seen, pool, why).await),
    }
}

async fn remove(context: &Context, seen: &Seen, pool: &SpiderIPPool, why: &Removal) -> Result<Effect, write::Error> {
    if let Removal::Orphan(app) = why
        && !is_gone(context, app, pool.label(LABEL_OWNER_APP_UID)).await?
    {
        // The cache will catch up, or the API server will know.
        context.queues.subnets.add_after(seen.name().to_owned(), AGAIN);
        return Ok(Effect::None);
    }
    context.pools.delete(pool).await?;
    let name = pool.metadata.name.as_deref().unwrap_or_default();
    tracing::info!(pool = name, subnet = seen.name(), ?why, "deleted a pool");
    Ok(Effect::Removed)
}

/// Whether no application of this identity and UID exists. Read live: the cache may not have seen a new one yet, and a
/// deleted pool does not come back.
async fn is_gone(context: &Context, app: &AppId, uid: Option<&str>) -> Result<bool, write::Error> {
    let Some(kind) = context.kinds.of(app) else {
        return Ok(false);
    };
    match kind.live(context.client.clone(), &app.namespace, &app.name).await? {
        Live::Nothing => Ok(true),
        Live::Object(found) => Ok(Some(found.as_str()) != uid),
        Live::Unknown => Ok(false),
    }
}
