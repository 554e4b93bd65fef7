//! Waiting for what the cluster does: on watches, with deadlines, and with the last state seen in the error.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::pin::pin;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use futures::StreamExt;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// For what takes a moment on an idle machine. The cluster shares two cores with everything else that is tested.
pub const SOON: Duration = Duration::from_secs(60);

/// For what many pods take.
pub const LONG: Duration = Duration::from_secs(240);

/// Longest state in an error; the rest is in the dump.
const SHOWN: usize = 6000;

/// What tests can wait for.
pub trait Watched: Resource<DynamicType = ()> + Clone + DeserializeOwned + Serialize + Debug + Send + 'static {}

impl<K> Watched for K where K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Serialize + Debug + Send + 'static
{}

/// Objects by `namespace/name`, or by name where there is no namespace.
pub type Objects<K> = BTreeMap<String, K>;

/// Waits until an object is as wanted, and gives what `look` makes of it. `what` ends the sentence "waiting for".
pub async fn object<K: Watched, T>(
    api: &Api<K>,
    name: &str,
    what: &str,
    deadline: Duration,
    mut look: impl FnMut(Option<&K>) -> Option<T>,
) -> Result<T> {
    let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
    let look = |objects: &Objects<K>| Ok(look(objects.values().next()));
    objects(api, config, what, deadline, look).await
}

/// Waits until an object is gone.
pub async fn gone<K: Watched>(api: &Api<K>, name: &str, deadline: Duration) -> Result<()> {
    let what = format!("{} {name} to be gone", K::kind(&()));
    object(api, name, &what, deadline, |object| object.is_none().then_some(())).await
}

/// Waits until objects are as wanted, and gives what `look` makes of them. An error of `look` ends the wait.
pub async fn objects<K: Watched, T>(
    api: &Api<K>,
    config: watcher::Config,
    what: &str,
    deadline: Duration,
    mut look: impl FnMut(&Objects<K>) -> Result<Option<T>>,
) -> Result<T> {
    let mut seen: Objects<K> = Objects::new();
    let mut fresh: Objects<K> = Objects::new();
    let mut trouble: Option<String> = None;
    let wait = async {
        let mut events = pin!(watcher::watcher(api.clone(), config).default_backoff());
        loop {
            match events.next().await {
                None => bail!("the watch ended"),
                Some(Err(error)) => {
                    trouble = Some(error.to_string());
                    continue;
                }
                Some(Ok(Event::Init)) => {
                    fresh.clear();
                    continue;
                }
                Some(Ok(Event::InitApply(object))) => {
                    fresh.insert(key(&object), object);
                    continue;
                }
                Some(Ok(Event::InitDone)) => seen = std::mem::take(&mut fresh),
                Some(Ok(Event::Apply(object))) => drop(seen.insert(key(&object), object)),
                Some(Ok(Event::Delete(object))) => drop(seen.remove(&key(&object))),
            }
            if let Some(found) = look(&seen)? {
                return Ok(found);
            }
        }
    };
    let outcome = tokio::time::timeout(deadline, wait).await;
    match outcome {
        Ok(Ok(found)) => Ok(found),
        Ok(Err(error)) => Err(error).with_context(|| format!("waiting for {what}; last seen:\n{}", show(&seen))),
        Err(_) => {
            let trouble = trouble
                .map(|text| format!(" (the watch had: {text})"))
                .unwrap_or_default();
            bail!("waited {deadline:?} for {what}{trouble}; last seen:\n{}", show(&seen))
        }
    }
}

/// Asks again and again for what cannot be watched, a process for instance, until it is as wanted.
pub async fn until<T>(what: &str, deadline: Duration, mut look: impl AsyncFnMut() -> Result<Option<T>>) -> Result<T> {
    const PAUSE: Duration = Duration::from_millis(100);
    let poll = async {
        loop {
            if let Some(found) = look().await? {
                return Ok::<T, anyhow::Error>(found);
            }
            tokio::time::sleep(PAUSE).await;
        }
    };
    match tokio::time::timeout(deadline, poll).await {
        Ok(outcome) => outcome.with_context(|| format!("waiting for {what}")),
        Err(_) => bail!("waited {deadline:?} for {what}"),
    }
}

fn key<K: Watched>(object: &K) -> String {
    match object.namespace() {
        Some(namespace) => format!("{namespace}/{}", object.name_any()),
        None => object.name_any(),
    }
}

fn show<K: Watched>(objects: &Objects<K>) -> String {
    if objects.is_empty() {
        return format!("no {}", K::kind(&()));
    }
    let mut text = String::new();
    for object in objects.values() {
        let mut object = object.clone();
        object.meta_mut().managed_fields = None;
        text.push_str("---\n");
        text.push_str(&yaml(&object));
    }
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}...", text.get(..end).unwrap_or_default()),
        None => text,
    }
}

/// An object as YAML, for people.
pub fn yaml(object: &impl Serialize) -> String {
    serde_saphyr::to_string(object).unwrap_or_else(|error| format!("not printable: {error}"))
}
