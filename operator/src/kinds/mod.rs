//! The kinds of workload: which are watched, and how to read an object of each.
//!
//! The kinds of Kubernetes itself are watched always, each by its type ([`crate::application::native`]). Any other kind that
//! makes pods is watched from when it is first used until it is gone ([`foreign`]): if the configuration lists it, if a pod
//! that asks for a pool leads to it ([`discover`]), or if a pool belongs to an object of it. What is known of such a kind
//! stands in its CustomResourceDefinition ([`crd`]).

pub mod crd;
pub mod discover;
pub mod foreign;
pub mod former;
pub mod namespace;
pub mod node;
pub mod owner;
pub mod pod;
pub mod rights;
pub mod sketch;
pub mod watched;

pub use watched::{Watched, Workloads};

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use spiderpool_crds::{WorkloadKind, owner as rule};
use spiderpool_kit::cache::Cache;
use tokio::sync::Notify;

use crate::application::AppId;
use crd::{Crd, Facts};
use former::Former;
use rights::Refusals;

/// How many kinds are watched that nobody configured. Enough for every cluster, and few enough that pods with made-up owners
/// cannot make the operator watch everything there is.
pub const FOUND_MAX: usize = 64;

/// A kind, whatever its API version.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KindId {
    /// API group.
    pub group: String,
    /// Kind.
    pub kind: String,
}

impl KindId {
    /// A kind of a group.
    pub fn new(group: impl Into<String>, kind: impl Into<String>) -> Self {
        Self {
            group: group.into(),
            kind: kind.into(),
        }
    }

    /// The kind of an application.
    pub fn of(app: &AppId) -> Self {
        Self::new(&*app.group, &*app.kind)
    }

    /// Whether an application is of this kind.
    pub fn has(&self, app: &AppId) -> bool {
        self.group == app.group && self.kind == app.kind
    }
}

impl fmt::Display for KindId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.kind, self.group)
    }
}

/// All kinds of workload.
pub struct Kinds {
    crds: Cache<Crd>,
    configured: Vec<WorkloadKind>,
    watched: RwLock<Vec<Arc<dyn Workloads>>>,
    found: Mutex<BTreeSet<KindId>>,
    changed: Notify,
    /// Kinds that cannot have pools, with the reason.
    unsupported: Mutex<BTreeMap<KindId, String>>,
    /// Kinds that cannot be read.
    pub refusals: Refusals,
}

impl Kinds {
    /// Knows the kinds of Kubernetes itself, and those that `configured` lists as soon as their definitions exist.
    pub fn new(native: Vec<Arc<dyn Workloads>>, configured: Vec<WorkloadKind>, crds: Cache<Crd>) -> Self {
        Self {
            crds,
            configured,
            watched: RwLock::new(native),
            found: Mutex::default(),
            changed: Notify::new(),
            unsupported: Mutex::default(),
            refusals: Refusals::default(),
        }
    }

    /// The objects of an application's kind; none if it is not known which exist.
    pub fn of(&self, app: &AppId) -> Option<Arc<dyn Workloads>> {
        let watched = self.watched.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(kind) = watched.iter().find(|kind| kind.id().has(app)) {
            return kind.is_synced().then(|| kind.clone());
        }
        drop(watched);
        let id = KindId::of(app);
        let gone = self.crds.is_synced() && self.facts(&id).is_none() && !rule::is_core(&id.group);
        gone.then(|| Arc::new(Former::new(id)) as Arc<dyn Workloads>)
    }

    /// Whether a kind is watched.
    pub fn is_watched(&self, id: &KindId) -> bool {
        let watched = self.watched.read().unwrap_or_else(PoisonError::into_inner);
        watched.iter().any(|kind| kind.id() == id)
    }

    /// All watched kinds.
    pub fn all(&self) -> Vec<Arc<dyn Workloads>> {
        self.watched.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn add(&self, kind: Arc<dyn Workloads>) {
        let mut watched = self.watched.write().unwrap_or_else(PoisonError::into_inner);
        watched.retain(|other| other.id() != kind.id());
        watched.push(kind);
    }

    /// Takes out this very watch, not another one of its kind.
    fn remove(&self, kind: &Arc<dyn Workloads>) {
        let mut watched = self.watched.write().unwrap_or_else(PoisonError::into_inner);
        watched.retain(|other| !Arc::ptr_eq(other, kind));
    }

    /// What a kind's definition says; none if there is none that can be used.
    pub fn facts(&self, id: &KindId) -> Option<Facts> {
        self.crds
            .indexed(&crd::index_key(&id.group, &id.kind))
            .first()
            .and_then(|crd| crd.facts())
    }

    /// What the configuration says of a kind.
    pub fn configured(&self, id: &KindId) -> Option<&WorkloadKind> {
        self.configured
            .iter()
            .find(|kind| kind.group == id.group && kind.kind == id.kind)
    }

    /// Whether ReplicaSets and Jobs of a kind's objects are the kind's own way of making pods.
    pub fn scales(&self, id: &KindId) -> bool {
        self.configured(id).is_some() || self.facts(id).is_some_and(|facts| facts.replicas_path.is_some())
    }

    /// Wants a kind watched that was found in use. False if there are too many already.
    pub fn want(&self, id: KindId) -> bool {
        let mut found = self.found();
        if found.contains(&id) || self.configured(&id).is_some() {
            return true;
        }
        if found.len() >= FOUND_MAX {
            return false;
        }
        found.insert(id);
        drop(found);
        self.changed.notify_one();
        true
    }

    /// Forgets the kinds found in use that are not `used` any more, so that they do not count.
    fn forget_found(&self, used: impl Fn(&KindId) -> bool) {
        let found = self.found().clone();
        let unused: Vec<KindId> = found.into_iter().filter(|id| !used(id)).collect();
        self.found().retain(|id| !unused.contains(id));
    }

    /// Why a kind cannot have pools, if that was found.
    fn unsupported(&self, id: &KindId) -> Option<String> {
        self.unsupported
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(id)
            .cloned()
    }

    /// Takes down that a kind cannot have pools. That holds until definitions change.
    fn set_unsupported(&self, id: KindId, why: String) {
        self.unsupported
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(id, why);
    }

    fn forget_unsupported(&self) {
        self.unsupported.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Whether a kind is to be watched.
    pub fn is_wanted(&self, id: &KindId) -> bool {
        self.configured(id).is_some() || self.found().contains(id)
    }

    /// The kinds that are to be watched.
    fn wanted(&self) -> BTreeSet<KindId> {
        let configured = self
            .configured
            .iter()
            .map(|kind| KindId::new(&*kind.group, &*kind.kind));
        configured.chain(self.found().iter().cloned()).collect()
    }

    fn found(&self) -> MutexGuard<'_, BTreeSet<KindId>> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
