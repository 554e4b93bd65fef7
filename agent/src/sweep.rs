//! Frees what no DEL freed: of pods of this node that have ended, and of which no sandbox is left here.
//!
//! The DEL of a pod's last sandbox may come while the pod still counts as alive, and only notes in the endpoint that the sandbox is
//! gone. Or none comes at all: the machine was switched off, the runtime forgot the sandbox, a write of an ADD was served after its
//! DEL. Whether an address goes is the rule of [`spiderpool_ipam::reclaim`], the one that the operator asks for the nodes that are
//! lost; here the agent speaks for its own node, where it sees the sandboxes ([`crate::sandboxes`]).
//!
//! [`candidates`] finds in the caches what may have ended, at little cost, since every change is a reason to look. [`look`] reads
//! live what the rule wants to know, one request of a pod at a time, and [`books`] keeps what the pools have on record for this
//! node. What the sandbox of a living pod uses and no pool has on record is put back ([`crate::recheck`]), and what it has on record
//! beside that is freed ([`twice`]).

mod books;
mod candidates;
mod look;
mod settings;
mod twice;

pub(crate) use candidates::counts;
pub(crate) use look::now;
pub use settings::{Gc, Reclaim};

use crate::context::Context;
use crate::error::RequestError;
use crate::journal::watch::{Told, Watch};
use crate::{del, endpoints, recheck};
use books::Books;
use candidates::{Candidate, Print, Subject};
use futures::StreamExt;
use look::{Case, Found};
use rustix::fs::inotify::WatchFlags;
use spiderpool_crds::SpiderEndpoint;
use spiderpool_ipam::reclaim::{Decision, Keep, Reason, decide};
use spiderpool_kit::cache::Change;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep_until};
use twice::Spares;

/// How long one look may take, with freeing what it found.
const BUDGET: Duration = Duration::from_secs(15);

/// Pauses before another look where the last one failed, or where only the host can tell and does not say when.
const RETRY: Duration = Duration::from_secs(5);
const LONGEST: Duration = Duration::from_secs(300);

/// Looks at a time.
const AT_A_TIME: usize = 8;

/// How long changes gather before a pass.
const GATHER: Duration = Duration::from_millis(100);

/// Runs until the process stops.
pub async fn run(context: Arc<Context>) {
    let mut pods = context.pods.subscribe();
    let mut own = context.endpoints.subscribe();
    let mut pools = context.pools.cache().subscribe();
    let mut sweep = Sweep::default();
    let mut full = tokio::time::interval(context.reclaim.every);
    let mut host = Host::watch(&context);
    loop {
        let next = sweep.pass(&context).await;
        let begun = Instant::now();
        loop {
            // Pools change with every pod of the cluster, and are read later.
            let next = sweep.books.read_at().map_or(next, |at| next.min(at));
            tokio::select! {
                change = pools.next() => match change {
                    Some(change) => sweep.books.note(&context, &change),
                    None => return,
                },
                change = pods.next() => match change {
                    Some(_) => break,
                    None => return,
                },
                change = own.next() => match change {
                    Some(change) => break sweep.note_end(&change),
                    None => return,
                },
                () = host.changed() => break sweep.host_changed(),
                _ = full.tick() => {
                    host = Host::watch(&context);
                    sweep.books.everything(&context);
                    forget(&context, &sweep.books);
                    sweep.ended = None;
                    break sweep.host_changed();
                }
                () = sleep_until(next) => break,
            }
        }
        sleep_until(begun + GATHER).await;
    }
}

/// Forgets the sandboxes of pods of which nothing is left.
fn forget(context: &Context, books: &Books) {
    let endpoints = context.endpoints.list();
    let of_endpoints = endpoints.iter().map(|endpoint| endpoint.status.current.uid.as_str());
    let of_records = books.own().map(|(_, _, owner)| owner.uid.as_str());
    let known: BTreeSet<&str> = of_endpoints.chain(of_records).collect();
    context.sandboxes.forget(|uid| known.contains(uid));
}

/// What was found out about the pods that may have ended.
#[derive(Default)]
pub struct Sweep {
    known: BTreeMap<Subject, Known>,
    books: Books,
    spares: Spares,
    /// UIDs of pods whose endpoints are gone since the last pass; none if any may be.
    ended: Option<BTreeSet<String>>,
}

/// What is known of a subject.
struct Known {
    /// The objects when it was looked at.
    print: Print,
    /// The end of the first look that found that nobody has it.
    since: Option<Instant>,
    /// When to look again.
    at: Instant,
    /// How long the last pause was.
    pause: Duration,
    /// Whether a change on the host may make a difference.
    by_host: bool,
}

/// What a look came to.
enum Outcome {
    /// Nothing is left of it.
    Done,
    /// It stays for now.
    Kept {
        /// Whether a change on the host may make a difference.
        by_host: bool,
        /// When more is known without one.
        again: Option<Instant>,
    },
    /// Nobody has it, but it is too early.
    Suspect {
        /// When it may be time.
        again: Instant,
    },
}

impl Sweep {
    /// Looks at everything that may have ended. Says when to look again, if nothing changes.
    pub async fn pass(&mut self, context: &Context) -> Instant {
        // The cache that fills last need not be one that wakes the sweep.
        if context.ready().is_err() {
            return Instant::now() + RETRY;
        }
        if let Some(changed) = self.books.read(context) {
            recheck::pools(context, &changed).await;
        }
        match self.ended.replace(BTreeSet::new()) {
            Some(ended) if ended.is_empty() => {}
            Some(ended) => recheck::ended(context, &ended).await,
            None => drop(recheck::sandboxes(context).await),
        }
        let spares = self.spares.free(context, &self.books).await;
        let found = candidates::all(context, &self.books);
        self.known.retain(|subject, _| found.contains_key(subject));
        let due = self.due(context, found).await;
        let looks = due.into_iter().map(|(subject, print)| {
            let since = self.known.get(&subject).and_then(|known| known.since);
            async move {
                let outcome = Box::pin(visit(context, &subject, since)).await;
                (subject, print, outcome)
            }
        });
        let looks: Vec<_> = futures::stream::iter(looks).buffer_unordered(AT_A_TIME).collect().await;
        for (subject, print, outcome) in looks {
            self.note(subject, print, outcome);
        }
        let next = self.known.values().map(|known| known.at);
        let next = next.chain(self.books.read_at()).chain(spares);
        next.min().unwrap_or_else(|| Instant::now() + LONGEST)
    }

    /// An endpoint of this node changed.
    fn note_end(&mut self, change: &Change<SpiderEndpoint>) {
        match (change, &mut self.ended) {
            (Change::Deleted(endpoint), Some(ended)) => {
                ended.insert(endpoint.status.current.uid.clone());
            }
            (Change::Resynced, ended) => *ended = None,
            _ => {}
        }
    }

    /// Something went on this host.
    fn host_changed(&mut self) {
        for known in self.known.values_mut().filter(|known| known.by_host) {
            known.at = Instant::now();
        }
    }

    /// What is to be looked at now: what is new or has changed, and whose time has come, unless its sandbox is there.
    async fn due(&mut self, context: &Context, found: BTreeMap<Subject, Candidate>) -> Vec<(Subject, Print)> {
        let now = Instant::now();
        let is_due = |subject: &Subject, candidate: &Candidate| {
            let known = self.known.get(subject);
            known.is_none_or(|known| known.print != candidate.print || known.at <= now)
        };
        let due: Vec<(Subject, Candidate)> = found
            .into_iter()
            .filter(|(subject, candidate)| is_due(subject, candidate))
            .collect();
        if due.is_empty() {
            return Vec::new();
        }
        let host = context.sandboxes.look().await;
        let mut looks = Vec::new();
        for (subject, candidate) in due {
            match candidate.sandbox(context, &host, subject.uid()) {
                None => looks.push((subject, candidate.print)),
                Some(again) => self.note(subject, candidate.print, Ok(Outcome::Kept { by_host: true, again })),
            }
        }
        looks
    }

    fn note(&mut self, subject: Subject, print: Print, outcome: Result<Outcome, RequestError>) {
        let now = Instant::now();
        let before = self.known.get(&subject);
        let unchanged = before.filter(|before| before.print == print);
        let pause = unchanged.map_or(RETRY, |before| (before.pause * 2).min(LONGEST));
        let known = |since, at, by_host| Known {
            print,
            since,
            at,
            pause,
            by_host,
        };
        let known = match outcome {
            Ok(Outcome::Done) => None,
            Ok(Outcome::Kept { by_host, again }) => Some(known(None, again.unwrap_or(now + pause), by_host)),
            Ok(Outcome::Suspect { again }) => {
                let since = before.and_then(|before| before.since).unwrap_or(now);
                Some(known(Some(since), again, true))
            }
            Err(error) => {
                let (pod, uid) = (subject.pod(), subject.uid());
                tracing::warn!(pod, uid, %error, "addresses of a pod that may have ended are not freed yet");
                let since = before.and_then(|before| before.since);
                Some(known(since, now + pause, true))
            }
        };
        match known {
            Some(known) => drop(self.known.insert(subject, known)),
            None => drop(self.known.remove(&subject)),
        }
    }
}

/// Looks live at one subject, and frees what nobody has.
async fn visit(context: &Context, subject: &Subject, since: Option<Instant>) -> Result<Outcome, RequestError> {
    let _turn = context.turns.take(subject.uid()).await;
    // An ADD of the pod may have run until now.
    let begun = Instant::now();
    let deadline = begun + BUDGET;
    let Found::Case(case) = look::at(context, subject, deadline).await? else {
        // The caches know soon.
        return Ok(Outcome::Kept {
            by_host: false,
            again: None,
        });
    };
    let Case { facts, .. } = &*case;
    let waited = since.map(|since| begun.saturating_duration_since(since));
    let decision = decide(facts, &context.reclaim.policy, look::now(), waited);
    let (pod, uid) = (subject.pod(), subject.uid());
    tracing::debug!(pod, uid, ?facts, ?decision, "looked at");
    match decision {
        Decision::Free(reason) => {
            free(context, subject, *case, reason, deadline).await?;
            Ok(Outcome::Done)
        }
        Decision::Suspect { again } => Ok(Outcome::Suspect {
            again: Instant::now() + again,
        }),
        Decision::Keep(keep) => {
            if keep == Keep::Identity {
                // Whoever knows the workload frees it, and has to know that nothing uses it.
                case.say_gone(context, deadline).await?;
            }
            Ok(Outcome::Kept {
                by_host: keep == Keep::Sandbox,
                again: case.again,
            })
        }
    }
}

async fn free(
    context: &Context,
    subject: &Subject,
    case: Case,
    reason: Reason,
    deadline: Instant,
) -> Result<(), RequestError> {
    let (pod, uid, reason_word) = (subject.pod(), subject.uid(), reason.word());
    match (subject, case.endpoint) {
        (Subject::Record { pool, ip, owner }, _) => {
            let freed = context
                .pools
                .release_some(pool, owner.clone(), Some(*ip), deadline)
                .await?;
            context.metrics.freed(reason, freed.len());
            tracing::warn!(
                pod,
                uid,
                pool,
                ?freed,
                reason = reason_word,
                "freed an address that no endpoint names"
            );
        }
        (Subject::Endpoint { .. }, Some(endpoint)) if reason == Reason::Unrecorded => {
            tracing::warn!(
                pod,
                uid,
                reason = reason_word,
                "removing an endpoint of whose addresses none is on record"
            );
            endpoints::remove_nics(context, endpoint, uid, |_| true, deadline).await?;
        }
        (Subject::Endpoint { .. }, Some(endpoint)) => {
            let items = endpoint.status.current.ips.iter();
            let nics: Vec<String> = items.clone().map(|item| item.interface.clone()).collect();
            let addresses = items.flat_map(|item| item.addresses()).count();
            tracing::info!(
                pod,
                uid,
                ?nics,
                reason = reason_word,
                "freeing the addresses of a pod that has ended"
            );
            del::free(context, &pod, uid, &nics, Some(endpoint), deadline).await?;
            context.metrics.freed(reason, addresses);
        }
        (Subject::Endpoint { .. }, None) => {}
    }
    Ok(())
}

/// Tells that a sandbox may have gone. Folders that cannot be watched are looked at by the clock only.
struct Host(Vec<Watch>);

impl Host {
    fn watch(context: &Context) -> Self {
        let folders: Vec<PathBuf> = context.sandboxes.folders().map(PathBuf::from).collect();
        let watch = |folder: PathBuf| Watch::new(&folder, WatchFlags::DELETE).ok();
        Self(folders.into_iter().filter_map(watch).collect())
    }

    async fn changed(&mut self) {
        let told = self.0.iter().map(|watch| Box::pin(watch.changed()));
        let told: Vec<_> = told.collect();
        if told.is_empty() {
            return std::future::pending().await;
        }
        let (told, at, _) = futures::future::select_all(told).await;
        if !matches!(told, Ok(Told::Changed)) {
            self.0.remove(at);
        }
    }
}
