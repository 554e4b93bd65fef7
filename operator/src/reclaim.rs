//! Frees the addresses of pods that nobody else frees: those of nodes that are lost, of identities that have ended, and of records
//! whose node nobody knows. While a node is Ready, its own agent does.
//!
//! Whether an address goes is one rule, [`spiderpool_ipam::reclaim`]. Here is what it is asked about and what follows:
//! [`watch`] turns changes into names that are worth a look, [`check`] finds what no change told of, [`suspects`] remembers when to
//! look and since when nobody was found, [`case`] gathers what is on record under a name, [`facts`] and [`live`] read what the rule
//! wants to know, [`apply`] frees, and [`leave`](mod@leave) lets endpoints go that hold up the end of their namespace.
//!
//! The caches only raise suspicions. An address is freed when two live looks, as far apart as the rule says, found the same, by a
//! write that compares the whole owner and fails if anything changed meanwhile.

mod apply;
pub mod audit;
mod case;
mod check;
mod facts;
mod leave;
mod live;
pub mod settings;
mod suspects;
pub mod tally;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use spiderpool_ipam::reclaim::{Decision, IN_FLIGHT, Keep, Leave, Node, Reason, decide, leave};
use spiderpool_kit::cache::Key;
use tokio::time::{Instant, MissedTickBehavior, sleep_until};

use crate::context::Context;
use crate::write;
use apply::Freed;
use case::{Case, Subject};
use suspects::{Found, Suspects};
pub use watch::by_node;
use watch::{Found as News, Watch};

/// How long after a change its names are looked at: mostly the node's agent has done by then what there is to do.
const FIRST: Duration = Duration::from_secs(5);
/// How long names whose time has come wait for others. What is freed of one pool together is one write.
const GATHER: Duration = Duration::from_millis(500);
/// Names looked at in one pass.
const BATCH: usize = 64;
/// Names whose objects are read at a time.
const AT_A_TIME: usize = 8;
/// Pauses between looks at an identity whose workload is of a kind that is not watched, and after a look that failed.
const SHORTEST: Duration = Duration::from_secs(5);
const LONGEST: Duration = Duration::from_secs(600);

/// Looks for ever, while this replica leads.
pub async fn run(context: Arc<Context>) {
    let mut suspects = Suspects::default();
    let mut watch = Watch::of(&context);
    let mut terms = context.leadership.terms();
    let mut ticks = tokio::time::interval(context.reclaim.every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            found = watch.next(&context) => match found {
                Some(News::Names(names)) => {
                    suspects.note(names.into_iter().map(|key| (key, FIRST)).collect(), Instant::now());
                }
                Some(News::Everything) => ticks.reset_immediately(),
                None => return,
            },
            led = terms.next() => match led {
                // Whoever led before may have known of more.
                true => ticks.reset_immediately(),
                false => return,
            },
            _ = ticks.tick() => if context.leadership.is_leader() {
                suspects.note(check::everything(&context).await, Instant::now());
            },
            () = sleep_until(suspects.next_look() + GATHER) => look(&context, &mut suspects).await,
        }
        if !context.leadership.is_leader() {
            suspects.clear();
        }
        context.tally.set_suspects(suspects.count());
    }
}

/// One pass: looks at the names whose time has come.
async fn look(context: &Context, suspects: &mut Suspects) {
    // A look is as old as the first thing it reads.
    let begun = Instant::now();
    let due = suspects.take_due(begun, BATCH);
    // What is freed was on record before everything else was looked at.
    let cases = case::gather(context, due.iter().map(|(key, _)| key));
    let looks = due.into_iter().zip(cases).map(|((key, found), case)| async move {
        let verdict = match case.is_empty() {
            true => Ok(Verdict::default()),
            false => consider(context, &case, &found, begun).await,
        };
        (key, found, verdict)
    });
    let looks: Vec<(Key, Found, Result<Verdict, write::Error>)> =
        futures::stream::iter(looks).buffer_unordered(AT_A_TIME).collect().await;
    let (mut freeing, mut leaving) = (Vec::new(), Vec::new());
    for (key, found, verdict) in looks {
        match verdict {
            Ok(verdict) => {
                suspects.put(key.clone(), verdict.found, verdict.again);
                leaving.extend(verdict.leave.into_iter().map(|left| (key.clone(), left)));
                freeing.extend(
                    verdict
                        .free
                        .into_iter()
                        .map(|(freed, reason)| (key.clone(), freed, reason)),
                );
            }
            Err(error) => {
                tracing::info!(pod = %key, %error, "not looked at, trying again");
                suspects.put(key, found, Some(Instant::now() + SHORTEST));
            }
        }
    }
    // Of what was freed nothing should be left then, and what could not be freed is tried again.
    let freed = freeing.iter().map(|(key, ..)| key);
    let again = freed.chain(leaving.iter().map(|(key, _)| key));
    let again = again.map(|key| (key.clone(), SHORTEST)).collect();
    drop(apply::free(context, freeing).await);
    leave::go(context, leaving).await;
    suspects.note(again, Instant::now());
}

/// What a look at one name gave.
#[derive(Default)]
struct Verdict {
    /// Since when nobody was found, of what there still is.
    found: Found,
    /// When to look again; none if only a change can make a difference.
    again: Option<Instant>,
    /// What is to be freed.
    free: Vec<(Freed, Reason)>,
    /// Endpoints that go while the addresses are kept.
    leave: Vec<Freed>,
}

impl Verdict {
    fn again_at(&mut self, at: Instant) {
        self.again = Some(self.again.map_or(at, |sooner| sooner.min(at)));
    }
}

/// Looks at one name: at the caches, and where these raise a suspicion, live.
async fn consider(context: &Context, case: &Case, found: &Found, begun: Instant) -> Result<Verdict, write::Error> {
    match glance(context, case, found) {
        Glance::Live => stare(context, case, found, begun).await,
        Glance::Later(again) => Ok(Verdict {
            found: kept(case, found),
            again: again.map(|again| Instant::now() + again),
            ..Verdict::default()
        }),
    }
}

/// What is remembered of what there still is.
fn kept(case: &Case, found: &Found) -> Found {
    let known = |subject: &Subject| Some((subject.clone(), *found.get(subject)?));
    case.subjects().iter().filter_map(known).collect()
}

/// What the caches say.
enum Glance {
    /// Only a live look tells.
    Live,
    /// Nothing to do before this time, or before a change.
    Later(Option<Duration>),
}

fn glance(context: &Context, case: &Case, found: &Found) -> Glance {
    let mut later: Option<Duration> = None;
    for subject in case.subjects() {
        let (facts, policy) = (facts::cached(context, case, &subject), case.policy(context, &subject));
        if facts.pod.is_none() && case.is_leaving(context, &subject) {
            return Glance::Live;
        }
        match decide(&facts, &policy, facts::now(), None) {
            // How long a pod has been gone is counted from a live look.
            Decision::Keep(Keep::Identity) if !found.contains_key(&subject) => return Glance::Live,
            Decision::Keep(_) => {}
            // The time since a Node is gone is counted from a live look, too.
            Decision::Suspect { again } if again > IN_FLIGHT + policy.delay && facts.node != Node::Gone => {
                later = Some(later.map_or(again, |sooner| sooner.min(again)));
            }
            Decision::Suspect { .. } | Decision::Free(_) => return Glance::Live,
        }
    }
    Glance::Later(later)
}

/// Reads everything live, and decides.
async fn stare(context: &Context, case: &Case, found: &Found, begun: Instant) -> Result<Verdict, write::Error> {
    let case = live::endpoint(context, case).await?;
    let mut verdict = Verdict::default();
    for subject in case.subjects() {
        let facts = live::facts(context, &case, &subject).await?;
        let policy = case.policy(context, &subject);
        let now = Instant::now();
        let since = found.get(&subject).copied();
        let waited = since.map(|since| begun.saturating_duration_since(since));
        let decision = decide(&facts, &policy, facts::now(), waited);
        tracing::debug!(pod = %case.key, ?subject, ?facts, ?decision, "looked at");
        if decision == Decision::Keep(Keep::Lives) {
            continue;
        }
        let leaving = case.is_leaving(context, &subject);
        // Whoever is kept for another reason was seen with its node, or by it, and the count begins anew.
        if leaving || !matches!(decision, Decision::Keep(keep) if keep != Keep::Identity) {
            verdict.found.insert(subject.clone(), since.unwrap_or(now));
        }
        if leaving && !matches!(decision, Decision::Free(_)) {
            match leave(&facts, waited) {
                Leave::Stays => {}
                Leave::Later(left) => verdict.again_at(now + left),
                Leave::Now => verdict.leave.push(case.freed(&subject)),
            }
        }
        match decision {
            Decision::Keep(Keep::Identity) if !facts::is_settled(context, &case, &subject) => {
                verdict.again_at(now + waited.unwrap_or_default().clamp(SHORTEST, LONGEST));
            }
            Decision::Keep(_) => {}
            Decision::Suspect { again } => verdict.again_at(now + again),
            Decision::Free(reason) => {
                // Should it be there again, it is counted anew.
                verdict.found.remove(&subject);
                verdict.free.push((case.freed(&subject), reason));
            }
        }
    }
    Ok(verdict)
}

#[cfg(test)]
pub(crate) mod tests;
