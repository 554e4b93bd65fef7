//! Which kinds have a scale subresource, as the API server says.
//!
//! An object of a kind with `/scale` says how many pods it wants, so it is more than an owner by the way: it is what a user
//! runs. [`Scales`] asks for it when a kind turns up, and remembers the answer for a short time only, because a CRD may be
//! installed, changed or removed at any moment.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{APIGroupList, APIResourceList};
use kube::Client;
use tokio::time::Instant;

/// How long a kind is taken to have a scale subresource after the API server said so.
const YES: Duration = Duration::from_secs(60);

/// How long a kind is taken to have none: its CRD may be installed or completed a moment later.
const NO: Duration = Duration::from_secs(5);

/// API versions remembered at most. A cluster that uses more kinds of workloads than this asks more often.
const REMEMBERED: usize = 64;

const SCALE: &str = "/scale";
const NOT_FOUND: u16 = 404;

/// Why it is not known whether a kind has a scale subresource.
#[derive(Clone, Debug, thiserror::Error)]
#[error("cannot find out whether the kind {kind} of {api_version} has a scale subresource: {reason}")]
pub struct Unknown {
    /// The kind.
    pub kind: String,
    /// Its API group and version.
    pub api_version: String,
    /// What the API server said, or that it did not answer.
    pub reason: String,
}

/// What one API version serves.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Served {
    since: Instant,
    /// Kinds that have a scale subresource.
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
    pub async fn has_scale(&self, api_version: &str, kind: &str, deadline: Instant) -> Result<bool, Unknown> {
        self.remembered(api_version, kind, deadline, || scaled(&self.client, api_version))
            .await
    }

    async fn remembered<F, Asked>(
        &self,
        api_version: &str,
        kind: &str,
        deadline: Instant,
        ask: F,
    ) -> Result<bool, Unknown>
    where
        F: FnOnce() -> Asked + Send,
        Asked: Future<Output = Result<BTreeSet<String>, kube::Error>> + Send,
    {
        let unknown = |reason: String| Unknown {
            kind: kind.to_owned(),
            api_version: api_version.to_owned(),
            reason,
        };
        let slot = self.slot(api_version);
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

    fn slot(&self, api_version: &str) -> Slot {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        if slots.len() >= REMEMBERED && !slots.contains_key(api_version) {
            slots.clear();
        }
        slots.entry(api_version.to_owned()).or_default().clone()
    }
}

/// The kinds of an API version that have a scale subresource. References keep the version that was served when they were
/// written; where that one is gone, the version that the API server prefers now speaks for the group.
async fn scaled(client: &Client, api_version: &str) -> Result<BTreeSet<String>, kube::Error> {
    if !is_plain(api_version) {
        return Ok(BTreeSet::new());
    }
    let Some((group, _)) = api_version.split_once('/') else {
        return found(client.list_core_api_resources(api_version).await);
    };
    match client.list_api_group_resources(api_version).await {
        Err(kube::Error::Api(status)) if status.code == NOT_FOUND => {
            let preferred = preferred(&client.list_api_groups().await?, group);
            match preferred.filter(|other| other != api_version) {
                Some(other) => found(client.list_api_group_resources(&other).await),
                None => Ok(BTreeSet::new()),
            }
        }
        answer => found(answer),
    }
}

/// Whether a text can be an API version: it becomes part of a path, and anybody may write an owner reference.
fn is_plain(api_version: &str) -> bool {
    let parts: Vec<&str> = api_version.split('/').collect();
    let plain = |part: &&str| {
        part.starts_with(|first: char| first.is_ascii_alphanumeric())
            && part
                .chars()
                .all(|letter| letter.is_ascii_alphanumeric() || letter == '.' || letter == '-')
    };
    parts.len() <= 2 && parts.iter().all(plain)
}

fn found(answer: Result<APIResourceList, kube::Error>) -> Result<BTreeSet<String>, kube::Error> {
    match answer {
        Ok(list) => Ok(scaled_kinds(&list)),
        Err(kube::Error::Api(status)) if status.code == NOT_FOUND => Ok(BTreeSet::new()),
        Err(error) => Err(error),
    }
}

/// The version that the API server prefers for a group, if it serves the group.
fn preferred(groups: &APIGroupList, group: &str) -> Option<String> {
    let group = groups.groups.iter().find(|known| known.name == group)?;
    let version = group.preferred_version.as_ref().or_else(|| group.versions.first())?;
    Some(version.group_version.clone())
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
