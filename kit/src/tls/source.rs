//! Where certificate and key come from, and how a change of them is noticed.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use kube::Client;
use tokio::time::Instant;

use super::Error;
use crate::cache::{Cache, Changes, Options, WaitError};
use crate::shutdown::Process;

/// How often files are looked at while there is no certificate yet.
const POLL_UNTIL_FIRST: Duration = Duration::from_secs(1);
/// How long one wait for the first look at a Secret lasts.
const PATIENCE: Duration = Duration::from_secs(30);
/// Keys of a Secret of type kubernetes.io/tls.
const CERTIFICATE: &str = "tls.crt";
const KEY: &str = "tls.key";

/// Bytes, and where they were read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) place: String,
    pub(super) bytes: Vec<u8>,
}

/// What is to be a certificate chain and its key.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Pair {
    pub(super) certificate: Part,
    pub(super) key: Part,
}

/// Where a pair comes from.
pub(super) enum Source {
    Files {
        certificate: PathBuf,
        key: PathBuf,
    },
    Secret {
        cache: Cache<Secret>,
        namespace: String,
        name: String,
    },
}

impl Source {
    pub(super) fn files(certificate: PathBuf, key: PathBuf) -> Self {
        Self::Files { certificate, key }
    }

    pub(super) fn secret(process: &Process, client: Client, namespace: &str, name: &str) -> Self {
        let options = Options::default().fields(format!("metadata.name={name}"));
        Self::of_cache(Cache::start_in(process, client, namespace, options), namespace, name)
    }

    pub(super) fn of_cache(cache: Cache<Secret>, namespace: &str, name: &str) -> Self {
        Self::Secret {
            cache,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        }
    }

    pub(super) async fn read(&self) -> Result<Pair, Error> {
        match self {
            Self::Files { certificate, key } => Ok(Pair {
                certificate: read(certificate).await?,
                key: read(key).await?,
            }),
            Self::Secret { cache, namespace, name } => {
                let secret = || format!("{namespace}/{name}");
                let object = cache
                    .get(namespace, name)
                    .ok_or_else(|| Error::NoSecret { secret: secret() })?;
                let part = |key: &'static str| {
                    let bytes = object.data.as_ref().and_then(|data| data.get(key));
                    let bytes = bytes.filter(|bytes| !bytes.0.is_empty());
                    let bytes = bytes.ok_or_else(|| Error::NoKey { secret: secret(), key })?;
                    Ok(Part {
                        place: format!("{key} of the Secret {}", secret()),
                        bytes: bytes.0.clone(),
                    })
                };
                Ok(Pair {
                    certificate: part(CERTIFICATE)?,
                    key: part(KEY)?,
                })
            }
        }
    }

    /// Waits until there is something to look at: before a Secret was looked for, nobody can say that there is none.
    pub(super) async fn known(&self) {
        let Self::Secret { cache, .. } = self else {
            return;
        };
        loop {
            match cache.synced(Instant::now() + PATIENCE).await {
                Ok(()) => return,
                // Why is told by the cache.
                Err(WaitError::TimedOut { .. }) => {}
                Err(WaitError::Stopping) => std::future::pending().await,
            }
        }
    }

    /// What tells when to look again. Made before the first look, so that no change is missed.
    pub(super) fn changes(&self, every: Duration) -> Signal {
        match self {
            Self::Files { .. } => Signal::Every(every),
            Self::Secret { cache, .. } => Signal::Changed(cache.subscribe()),
        }
    }
}

/// Tells when to look again.
pub(super) enum Signal {
    Every(Duration),
    Changed(Changes<Secret>),
}

impl Signal {
    pub(super) async fn next(&mut self, loaded: bool) {
        match self {
            Self::Every(pause) if loaded => tokio::time::sleep(*pause).await,
            Self::Every(pause) => tokio::time::sleep((*pause).min(POLL_UNTIL_FIRST)).await,
            Self::Changed(changes) => {
                if changes.next().await.is_none() {
                    // The watch ends with the process only.
                    std::future::pending::<()>().await;
                }
            }
        }
    }
}

async fn read(path: &Path) -> Result<Part, Error> {
    let bytes = tokio::fs::read(path).await.map_err(|source| Error::Read {
        path: path.to_owned(),
        source,
    })?;
    Ok(Part {
        place: path.display().to_string(),
        bytes,
    })
}

impl fmt::Display for Source {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Files { certificate, .. } => write!(out, "{}", certificate.display()),
            Self::Secret { namespace, name, .. } => write!(out, "Secret {namespace}/{name}"),
        }
    }
}

// A cache has no text of its own, and that of this one would have a key in it.
impl fmt::Debug for Source {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, out)
    }
}
