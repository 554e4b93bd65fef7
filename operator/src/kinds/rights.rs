//! Kinds that the API server does not let us read.
//!
//! Pools of such a kind stay as they are. Whoever names a subnet that such a kind's applications ask for reads in a condition
//! of the subnet what right is missing, and the workloads get an Event.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;

use spiderpool_crds::SpiderIPPool;
use tokio::time::Instant;

use super::KindId;
use super::owner::Led;
use crate::application::AppId;
use crate::context::Context;
use crate::events::{Reason, tell};
use crate::triggers::{look_at, subnets_of, workloads};

/// The label that adds a ClusterRole's rules to what the operator may do.
const AGGREGATE: &str = "ipam.spidernet.io/aggregate-to-controller";

/// What is known of a kind that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What the API server said and what to do, for users' eyes.
    pub text: String,
    /// Subnets that pods of the kind's applications ask for. Those that applications ask for are known elsewhere.
    pub subnets: BTreeSet<String>,
    at: Instant,
}

/// What a refused read told that was not known.
struct News {
    first: bool,
    subnets: BTreeSet<String>,
    text: String,
}

/// Kinds that cannot be read.
#[derive(Debug, Default)]
pub struct Refusals {
    by_kind: Mutex<BTreeMap<KindId, Refusal>>,
}

impl Refusals {
    /// Takes in that a kind cannot be read. The text that is told stays the first one: the API server's words name the very
    /// object that was asked for.
    fn set(&self, id: &KindId, text: String, subnets: BTreeSet<String>) -> News {
        let mut refusals = self.lock();
        let first = !refusals.contains_key(id);
        let refusal = refusals.entry(id.clone()).or_insert_with(|| Refusal {
            text,
            subnets: BTreeSet::new(),
            at: Instant::now(),
        });
        refusal.at = Instant::now();
        let added = subnets.difference(&refusal.subnets).cloned().collect();
        refusal.subnets.extend(subnets);
        News {
            first,
            subnets: added,
            text: refusal.text.clone(),
        }
    }

    /// Takes in that a kind can be read, or is of no interest any more. Gives back what was known, if anything was.
    pub fn clear(&self, id: &KindId) -> Option<Refusal> {
        self.lock().remove(id)
    }

    /// What to tell of a kind, if it cannot be read.
    pub fn text(&self, id: &KindId) -> Option<String> {
        self.lock().get(id).map(|refusal| refusal.text.clone())
    }

    /// As [`Self::text`], if that was found within this time.
    pub fn text_since(&self, id: &KindId, age: Duration) -> Option<String> {
        let refusals = self.lock();
        let refusal = refusals.get(id).filter(|refusal| refusal.at.elapsed() < age)?;
        Some(refusal.text.clone())
    }

    /// Adds subnets to what is known of a kind that cannot be read. Gives back those that are news.
    fn add(&self, id: &KindId, subnets: &BTreeSet<String>) -> BTreeSet<String> {
        let mut refusals = self.lock();
        let Some(refusal) = refusals.get_mut(id) else {
            return BTreeSet::new();
        };
        let news = subnets.difference(&refusal.subnets).cloned().collect();
        refusal.subnets.extend(subnets.iter().cloned());
        news
    }

    /// All of them.
    pub fn all(&self) -> BTreeMap<KindId, Refusal> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<KindId, Refusal>> {
        self.by_kind.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What to tell users of a refused read.
pub fn advice(context: &Context, id: &KindId, said: &str) -> String {
    format!(
        "the operator cannot read {id}, so their pools are neither made nor changed: {said}; grant get, list and watch in a \
         ClusterRole with the label {AGGREGATE}=true, which adds it to ClusterRole {}",
        context.workloads_role
    )
}

/// The subnets that a refused kind concerns: those its applications name, and those that have pools of them.
pub fn concerned(context: &Context, id: &KindId, refusal: &Refusal) -> BTreeSet<String> {
    let mut subnets = refusal.subnets.clone();
    for app in context.applications.of_kind(id) {
        subnets.extend(app.subnets());
    }
    for pool in context.caches.pools.list() {
        if pool.app_key().is_some_and(|key| id.has(&(&key).into())) {
            subnets.extend(subnets_of(context, &pool));
        }
    }
    subnets
}

/// Takes in that a kind cannot be read: its workloads are told, and its subnets looked at. Gives back what is told.
pub fn refused(context: &Context, id: &KindId, said: &str, subnets: BTreeSet<String>) -> String {
    let news = context.kinds.refusals.set(id, advice(context, id, said), subnets);
    look_at(context, news.subnets);
    if !news.first {
        return news.text;
    }
    tracing::warn!(kind = %id, said, "not allowed to read this kind");
    if let Some(refusal) = context.kinds.refusals.all().get(id) {
        look_at(context, concerned(context, id, refusal));
    }
    for app in context.applications.of_kind(id) {
        told(context, app.reference(), &news.text);
    }
    // Those that were never read are known by their pods.
    workloads::all_pods(context);
    news.text
}

/// Takes in that pods of a kind's application name these subnets, while the kind cannot be read.
pub fn also(context: &Context, id: &KindId, subnets: &BTreeSet<String>, app: &Led, text: &str) {
    look_at(context, context.kinds.refusals.add(id, subnets));
    told(context, app.reference(), text);
}

/// Takes in that a kind can be read.
pub fn granted(context: &Context, id: &KindId) {
    let Some(refusal) = context.kinds.refusals.clear(id) else {
        return;
    };
    tracing::info!(kind = %id, "allowed to read this kind");
    look_at(context, concerned(context, id, &refusal));
}

/// Tells a workload that its kind cannot be read.
pub fn told(context: &Context, about: ObjectReference, text: &str) {
    if context.leadership.is_leader() {
        tell(&context.recorder, about, Reason::MissingPermission, text);
    }
}

/// Of the kinds that cannot be read, what concerns a subnet with these pools.
pub fn of_subnet(context: &Context, subnet: &str, pools: &BTreeMap<String, Arc<SpiderIPPool>>) -> Vec<String> {
    let all = context.kinds.refusals.all();
    let concerns = |(id, refusal): &(&KindId, &Refusal)| {
        refusal.subnets.contains(subnet)
            || context.applications.naming(subnet).iter().any(|app| id.has(&app.id()))
            || pools
                .values()
                .any(|pool| pool.app_key().is_some_and(|key| id.has(&AppId::from(&key))))
    };
    all.iter()
        .filter(concerns)
        .map(|(_, refusal)| refusal.text.clone())
        .collect()
}
