//! Which kinds have a scale subresource, as the API server says.
//!
//! An object of a kind with `/scale` says how many pods it wants, so it is more than an owner by the way: it is what a user
//! runs. [`Scales`] asks for it when a kind turns up, and remembers the answer for a short time only, because a CRD may be
//! installed, changed or removed at any moment.
//!
//! A reference to an object keeps the version that was served when it was written, and versions of one kind may differ. So
//! a kind scales if any version of it that is served does.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{APIGroup, APIResourceList};
use kube::Client;
use tokio::time::Instant;

/// How long a kind is taken to have a scale subresource after the API server said so.
const YES: Duration = Duration::from_secs(60);

/// How long a kind is taken to have none: its CRD may be installed or completed a moment later.
const NO: Duration = Duration::from_secs(5);

/// API groups remembered at most. A cluster that uses more kinds of workloads than this asks more often.
const REMEMBERED: usize = 64;

const SCALE: &str = "/scale";
const NOT_FOUND: u16 = 404;

/// Why it is not known whether a kind has a scale subresource.
#[derive(Clone, Debug, thiserror::Error)]
#[error("cannot find out whether the kind {kind} of {group} has a scale subresource: {reason}")]
pub struct Unknown {
    /// The kind.
    pub kind: String,
    /// Its API group.
    pub group: String,
    /// What the API server said, or that it did not answer.
    pub reason: String,
}

/// What one API group serves.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Served {
    since: Instant,
    /// Kinds that have a scale subresource in any version.
    scaled: BTreeSet<String>,
}

impl Served {
    /// What is still known of a kind.
    fn says(&self, kind: &str, now: Instant) -> Option<bool> {
        let answer = self.scaled.contains(kind);
        let lasts = if answer { YES } else { NO };
        (now.saturating_duration_since(self.since) < lasts).then_some(answer)
    }
}

/// Locked while the API server is asked, so that requests that come together ask once.
type Slot = Arc<tokio::sync::Mutex<Option<Served>>>;

/// Asks the API server's discovery which kinds have a scale subresource.
pub struct Scales {
    client: Client,
    slots: Mutex<HashMap<String, Slot>>,
}

impl Scales {
    /// Asks through this client, which should not retry by itself.
    pub fn new(client: Client) -> Self {
        Self {
            client,
            slots: Mutex::default(),
        }
    }

    /// Whether a kind has a scale subresource. A kind or group that is not served has none; no answer is an error.
    pub async fn has_scale(&self, group: &str, kind: &str, deadline: Instant) -> Result<bool, Unknown> {
        self.remembered(group, kind, deadline, || scaled(&self.client, group))
            .await
    }

    async fn remembered<F, Asked>(&self, group: &str, kind: &str, deadline: Instant, ask: F) -> Result<bool, Unknown>
    where
        F: FnOnce() -> Asked + Send,
        Asked: Future<Output = Result<BTreeSet<String>, kube::Error>> + Send,
    {
        let unknown = |reason: String| Unknown {
            kind: kind.to_owned(),
            group: group.to_owned(),
            reason,
        };
        let slot = self.slot(group);
        let look = async {
            let mut known = slot.lock().await;
            if let Some(answer) = known.as_ref().and_then(|served| served.says(kind, Instant::now())) {
                return Ok(answer);
            }
            let served = Served {
                since: Instant::now(),
                scaled: ask().await?,
            };
            let answer = served.scaled.contains(kind);
            *known = Some(served);
            Ok(answer)
        };
        match tokio::time::timeout_at(deadline, look).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(kube::Error::Api(status))) => Err(unknown(format!(
                "the API server answers {:?} (code {}); where the kind is served by an extension API server, that one must run",
                status.message, status.code
            ))),
            Ok(Err(error)) => Err(unknown(format!("the API server cannot be reached: {error}"))),
            Err(_) => Err(unknown("the API server did not answer in time".to_owned())),
        }
    }

    fn slot(&self, group: &str) -> Slot {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        if slots.len() >= REMEMBERED && !slots.contains_key(group) {
            slots.clear();
        }
        slots.entry(group.to_owned()).or_default().clone()
    }
}

/// The kinds of an API group that have a scale subresource in any version that is served.
async fn scaled(client: &Client, group: &str) -> Result<BTreeSet<String>, kube::Error> {
    let mut kinds = BTreeSet::new();
    if !is_plain(group) {
        return Ok(kinds);
    }
    let request = http::Request::get(format!("/apis/{group}")).body(Vec::new());
    let request = request.map_err(kube::Error::HttpError)?;
    let Some(group) = served(client.request::<APIGroup>(request).await)? else {
        return Ok(kinds);
    };
    for version in &group.versions {
        if let Some(list) = served(client.list_api_group_resources(&version.group_version).await)? {
            kinds.extend(scaled_kinds(&list));
        }
    }
    Ok(kinds)
}

/// Whether a text can be an API group: it becomes part of a path, and anybody may write an owner reference. The core
/// group has no kind that matters here.
fn is_plain(group: &str) -> bool {
    group.starts_with(|first: char| first.is_ascii_alphanumeric())
        && group
            .chars()
            .all(|letter| letter.is_ascii_alphanumeric() || letter == '.' || letter == '-')
}

/// What the API server answers, if it has that.
fn served<T>(answer: Result<T, kube::Error>) -> Result<Option<T>, kube::Error> {
    match answer {
        Ok(found) => Ok(Some(found)),
        Err(kube::Error::Api(status)) if status.code == NOT_FOUND => Ok(None),
        Err(error) => Err(error),
    }
}

/// Kinds whose `<plural>/scale` is served.
fn scaled_kinds(list: &APIResourceList) -> BTreeSet<String> {
    let kinds: BTreeMap<&str, &str> = list
        .resources
        .iter()
        .map(|resource| (resource.name.as_str(), resource.kind.as_str()))
        .collect();
    let plurals = list
        .resources
        .iter()
        .filter_map(|resource| resource.name.strip_suffix(SCALE));
    plurals
        .filter_map(|plural| kinds.get(plural))
        .map(|kind| (*kind).to_owned())
        .collect()
}

#[cfg(test)]
mod tests;
