//! Every write of the operator goes through here.
//!
//! Three rules hold for all of them: only the leader writes, asked anew right before each request; no request waits for ever;
//! and what the API server answers is learnt by the cache before anybody reads again, so that no decision rests on a state
//! that our own write has already changed. After a refused or lost write the object is read afresh for the same reason: a
//! write that timed out may have happened.

use std::fmt::Debug;
use std::time::Duration;

use kube::api::{DeleteParams, PostParams, Preconditions};
use kube::{Api, Client, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use spiderpool_kit::cache::{Cache, Object};
use spiderpool_kit::deadline::{Failure, within};
use spiderpool_kit::lease::Leadership;

/// How long one request may take.
pub const DEADLINE: Duration = Duration::from_secs(5);

/// Why something was not written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another replica leads; it does this work now.
    #[error("this replica does not lead any more")]
    NotLeader,
    /// The object was changed by somebody else in between. It was read afresh: decide anew.
    #[error("{0}")]
    Stale(Failure<kube::Error>),
    /// The API server refuses the content or the request itself: the same write will fail again.
    #[error("{0}")]
    Refused(Failure<kube::Error>),
    /// Anything else; a later attempt may succeed.
    #[error("{0}")]
    Failed(Failure<kube::Error>),
}

impl From<Failure<kube::Error>> for Error {
    fn from(failure: Failure<kube::Error>) -> Self {
        if failure.is_conflict() || failure.is_already_exists() || failure.is_not_found() {
            Self::Stale(failure)
        } else if failure.is_invalid() || failure.is_forbidden() {
            Self::Refused(failure)
        } else {
            Self::Failed(failure)
        }
    }
}

impl Error {
    /// What the API server said when it refused, for users' eyes.
    pub fn refusal(&self) -> Option<&str> {
        match self {
            Self::Refused(failure) => failure.status().map(|status| status.message.as_str()),
            Self::NotLeader | Self::Stale(_) | Self::Failed(_) => None,
        }
    }
}

/// What a delete request led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deleted {
    /// The object is gone.
    Gone,
    /// The object goes when its finalizers are off.
    Terminating,
}

/// Writes the cluster-scoped objects of one kind.
#[derive(Clone)]
pub struct Writer<K> {
    api: Api<K>,
    cache: Cache<K>,
    leadership: Leadership,
}

impl<K> Writer<K>
where
    K: Object + Serialize + Resource<Scope = kube::core::ClusterResourceScope>,
{
    /// Writes objects that `cache` holds.
    pub fn new(client: Client, cache: Cache<K>, leadership: Leadership) -> Self {
        Self {
            api: Api::all(client),
            cache,
            leadership,
        }
    }

    /// Makes an object.
    pub async fn create(&self, object: &K) -> Result<K, Error> {
        let what = format!("creating {}", named(object));
        self.write(object, what, self.api.create(&PostParams::default(), object))
            .await
    }

    /// Replaces an object; it carries the resourceVersion of the state that was looked at.
    pub async fn replace(&self, object: &K) -> Result<K, Error> {
        let what = format!("updating {}", named(object));
        let params = PostParams::default();
        let answer = self
            .write(object, what, self.api.replace(name(object), &params, object))
            .await?;
        // The write that takes the last finalizer off a terminating object is the one that ends it.
        let meta = answer.meta();
        if meta.deletion_timestamp.is_some() && meta.finalizers.as_ref().is_none_or(Vec::is_empty) {
            self.cache.forget(&answer);
        }
        Ok(answer)
    }

    /// Replaces the status of an object; it carries the resourceVersion of the state that was looked at.
    pub async fn replace_status(&self, object: &K) -> Result<K, Error> {
        let what = format!("updating the status of {}", named(object));
        let params = PostParams::default();
        self.write(object, what, self.api.replace_status(name(object), &params, object))
            .await
    }

    /// Deletes this very object, and only if it is still as it was looked at.
    pub async fn delete(&self, object: &K) -> Result<Deleted, Error> {
        let params = DeleteParams {
            preconditions: Some(Preconditions {
                uid: object.meta().uid.clone(),
                resource_version: object.meta().resource_version.clone(),
            }),
            ..DeleteParams::default()
        };
        let _permit = self.leadership.write_permit().ok_or(Error::NotLeader)?;
        let what = format!("deleting {}", named(object));
        match within(DEADLINE, what, self.api.delete(name(object), &params)).await {
            Ok(answer) => Ok(answer.either(
                |terminating| {
                    self.cache.learn(terminating);
                    Deleted::Terminating
                },
                |_gone| {
                    self.cache.forget(object);
                    Deleted::Gone
                },
            )),
            Err(failure) => {
                self.refresh(object).await;
                Err(failure.into())
            }
        }
    }

    /// Reads an object live, and lets the cache learn what was found.
    pub async fn read(&self, name: &str) -> Result<Option<K>, Error> {
        let what = format!("reading {} {name}", K::kind(&()));
        let found = within(DEADLINE, what, self.api.get_opt(name))
            .await
            .map_err(Error::Failed)?;
        match &found {
            Some(object) => self.cache.learn(object.clone()),
            None => {
                if let Some(cached) = self.cache.get("", name) {
                    self.cache.forget(&cached);
                }
            }
        }
        Ok(found)
    }

    async fn write(
        &self,
        object: &K,
        what: String,
        request: impl Future<Output = Result<K, kube::Error>>,
    ) -> Result<K, Error> {
        let _permit = self.leadership.write_permit().ok_or(Error::NotLeader)?;
        match within(DEADLINE, what, request).await {
            Ok(answer) => {
                self.cache.learn(answer.clone());
                Ok(answer)
            }
            Err(failure) => {
                self.refresh(object).await;
                Err(failure.into())
            }
        }
    }

    async fn refresh(&self, object: &K) {
        if let Err(error) = self.read(name(object)).await {
            tracing::debug!(%error, "no fresh look after a failed write; the watch will tell");
        }
    }
}

/// Reads one object live, of a kind that is not cached whole or must not be judged from a cache.
pub async fn look<K>(api: &Api<K>, name: &str) -> Result<Option<K>, Error>
where
    K: Clone + Debug + DeserializeOwned + Resource<DynamicType = ()>,
{
    let what = format!("reading {} {name}", K::kind(&()));
    within(DEADLINE, what, api.get_opt(name)).await.map_err(Error::Failed)
}

fn name<K: Resource>(object: &K) -> &str {
    object.meta().name.as_deref().unwrap_or_default()
}

fn named<K: Resource<DynamicType = ()>>(object: &K) -> String {
    format!("{} {}", K::kind(&()), name(object))
}
