//! List, then watch, for ever.
//!
//! Not kube's `watcher`: that one swallows bookmarks and does not tell when a broken watch works again before the next
//! object changes, so neither the revision the ordering rules need nor the health an ADD asks for can be had from it.
//!
//! Every request has an end: pages and the opening of a watch by a deadline, an open watch by the timeout the server is
//! asked for plus a margin. Pauses after errors are capped at a few seconds: a node must go on soon after the API server is
//! back, and the jitter keeps a thousand of them apart. Only what the API server refuses for want of rights or of the kind is
//! asked for less often.

use std::convert::Infallible;
use std::pin::pin;
use std::time::Duration;

use futures::StreamExt;
use kube::api::WatchParams;
use kube::core::{DeserializeGuard, WatchEvent};
use kube::{Api, Resource};
use tokio::time::Instant;

use super::list::Listed;
use super::{Cache, Held};
use crate::backoff::Backoff;
use crate::deadline::{Failure, within};
use crate::store::{Decoded, Key, Malformed, Store, parse_revision};

pub(super) const REQUEST: Duration = Duration::from_secs(30);
const WATCH_MARGIN: Duration = Duration::from_secs(5);

pub(super) struct Watched<K> {
    pub(super) api: Api<DeserializeGuard<K>>,
}

/// How far the watch has come.
enum Position {
    /// Nowhere, or the API server no longer knows the changes since: list.
    Unknown,
    /// Everything up to this revision was told.
    At(String),
    /// So it was until the API server broke the watch off. It may have been restarted on a storage that was restored from a
    /// snapshot, and tells nobody: a watch from a revision that it has not reached again is silent until it has.
    Doubted(String),
}

impl<K: Held> Watched<K> {
    pub(super) async fn run(&self, cache: &Cache<K>) {
        let mut pauses = Pauses::new();
        let mut position = Position::Unknown;
        loop {
            let step = async {
                match &mut position {
                    Position::Unknown => self.list(cache).await,
                    Position::At(at) => self.watch(cache, at).await.map(|never| match never {}),
                    Position::Doubted(at) => self.probe(cache, at).await,
                }
            };
            let step = tokio::select! {
                biased;
                () = cache.inner.renewal.notified() => {
                    position = Position::Unknown;
                    continue;
                }
                step = step => step,
            };
            let broken = match step {
                Ok(at) => {
                    position = Position::At(at);
                    continue;
                }
                Err(broken) => broken,
            };
            position = match position {
                _ if broken.relist => Position::Unknown,
                Position::At(at) if broken.early => Position::Doubted(at),
                position => position,
            };
            if let Some(error) = &broken.error {
                cache.inner.health.failed(error, broken.refused);
            }
            tokio::time::sleep(pauses.after(&broken)).await;
        }
    }

    async fn list(&self, cache: &Cache<K>) -> Result<String, Broken> {
        let Listed {
            start,
            at,
            items,
            rewound,
        } = self.believable(cache).await?;
        if rewound {
            tracing::error!(
                kind = cache.label(),
                revision = at,
                "the API server went back to an older state, as after a restore of its storage"
            );
            // Before: whoever acts on the older state must be able to know that it is one.
            let rewinds = &cache.inner.rewinds;
            rewinds.send_modify(|rewinds| *rewinds = rewinds.wrapping_add(1));
        }
        cache.change(|store| store.finish_list(start, parse_revision(&at), items, rewound));
        cache.inner.health.works();
        cache.inner.synced.send_replace(true);
        Ok(at)
    }

    /// Asks whether the API server is where it was when the watch ended, or further; if not, everything is listed.
    async fn probe(&self, cache: &Cache<K>, at: &str) -> Result<String, Broken> {
        let params = cache.inner.options.selection().limit(1);
        let what = format!("asking for the revision of {}", cache.label());
        let found = within(REQUEST, what, self.api.list_metadata(&params))
            .await
            .map_err(|failure| Broken::before(&failure))?;
        let found = parse_revision(&found.metadata.resource_version.unwrap_or_default());
        // The watch may go on from a list that came late.
        let known = cache.read(Store::newest);
        if found < known {
            tracing::warn!(
                kind = cache.label(),
                revision = found,
                before = known,
                "the API server is at an older revision than it was before; everything is listed"
            );
            return Err(Broken {
                relist: true,
                progressed: true,
                ..Broken::default()
            });
        }
        Ok(at.to_owned())
    }

    async fn watch(&self, cache: &Cache<K>, at: &mut String) -> Result<Infallible, Broken> {
        let options = &cache.inner.options;
        let params = WatchParams {
            label_selector: options.labels.clone(),
            field_selector: options.fields.clone(),
            timeout: u32::try_from(options.watch_timeout.as_secs()).ok(),
            bookmarks: true,
            send_initial_events: false,
        };
        let what = format!("opening a watch of {}", cache.label());
        let stream = within(REQUEST, what, self.api.watch(&params, at))
            .await
            .map_err(|failure| Broken::before(&failure))?;
        let mut stream = pin!(stream);
        let silence = options.watch_timeout + WATCH_MARGIN;
        cache.inner.health.works();
        let opened = Instant::now();
        let mut progressed = false;
        loop {
            let event = match tokio::time::timeout(silence, stream.next()).await {
                // The server ends each watch after the time asked for; silence past that is a dead connection.
                Ok(None) | Err(_) => {
                    let progressed = progressed || opened.elapsed() > Duration::from_secs(1);
                    return Err(Broken {
                        progressed,
                        early: opened.elapsed() < options.watch_timeout,
                        ..Broken::default()
                    });
                }
                Ok(Some(Ok(event))) => event,
                Ok(Some(Err(error))) => {
                    let relist = matches!(error, kube::Error::SerdeError(_));
                    let error = Some(format!("watch of {} failed: {error}", cache.label()));
                    return Err(Broken {
                        error,
                        progressed,
                        relist,
                        early: true,
                        ..Broken::default()
                    });
                }
            };
            match event {
                WatchEvent::Added(item) | WatchEvent::Modified(item) => {
                    advance(at, item.meta().resource_version.as_deref());
                    let item = decoded(cache, item);
                    cache.change(|store| store.applied(item));
                }
                WatchEvent::Deleted(item) => {
                    advance(at, item.meta().resource_version.as_deref());
                    cache.change(|store| store.deleted(item.meta()));
                }
                WatchEvent::Bookmark(bookmark) => {
                    let revision = bookmark.metadata.resource_version;
                    advance(at, Some(&revision));
                    cache.change(|store| {
                        store.bookmark(parse_revision(&revision));
                        Vec::new()
                    });
                }
                WatchEvent::Error(status) => {
                    // 410 is the normal end of a position the server has forgotten, and no outage.
                    let expired = status.code == 410;
                    let error = (!expired).then(|| format!("watch of {} failed: {status}", cache.label()));
                    return Err(Broken {
                        error,
                        refused: refusal(status.code),
                        progressed,
                        relist: expired,
                        early: status.code >= 500,
                    });
                }
            }
            progressed = true;
        }
    }
}

/// The pauses between attempts. Whoever lacks rights or a kind needs longer than a few seconds to get them, and such a
/// kind may stay refused for days.
struct Pauses {
    broken: Backoff,
    refused: Backoff,
}

impl Pauses {
    fn new() -> Self {
        const FIRST: Duration = Duration::from_millis(200);
        Self {
            broken: Backoff::new(FIRST, Duration::from_secs(3)),
            refused: Backoff::new(FIRST, Duration::from_secs(15)),
        }
    }

    fn after(&mut self, end: &Broken) -> Duration {
        let refused = matches!(end.refused, Some(403 | 404));
        if end.progressed || !refused {
            self.refused.reset();
        }
        if end.progressed || refused {
            self.broken.reset();
        }
        if end.progressed && end.error.is_none() {
            return Duration::ZERO;
        }
        let pauses = if refused { &mut self.refused } else { &mut self.broken };
        pauses.next().unwrap_or_default()
    }
}

/// Why a step did not lead to the next one.
#[derive(Default)]
pub(super) struct Broken {
    /// What to tell, unless the end was a normal one.
    error: Option<String>,
    /// The status of the answer, if the server answered and said no.
    refused: Option<u16>,
    /// Did anything arrive before? Then the next attempt need not wait long.
    progressed: bool,
    /// Is the position of no use any more?
    relist: bool,
    /// Did a watch end as one does when the API server is restarted?
    early: bool,
}

impl Broken {
    pub(super) fn before(failure: &Failure<kube::Error>) -> Self {
        // Refusals that are not about load or rights are about the revision: gone, or (storage restored) not yet there.
        let relist = failure
            .status()
            .is_some_and(|status| !matches!(status.code, 401 | 403 | 429 | 503));
        // What the API server says names verb and kind; the error around it says the same again, at length.
        let said = failure.status().map(|status| status.message.clone());
        let said = said
            .filter(|said| !said.is_empty())
            .unwrap_or_else(|| failure.to_string());
        let error = failure.status().is_none_or(|status| status.code != 410).then_some(said);
        Self {
            error,
            refused: failure.status().and_then(|status| refusal(status.code)),
            progressed: false,
            relist,
            early: failure.status().is_none_or(|status| status.code >= 500),
        }
    }
}

/// A status that is about the request. 410 is about the position, 429 about load.
fn refusal(code: u16) -> Option<u16> {
    (matches!(code, 400..500) && !matches!(code, 410 | 429)).then_some(code)
}

fn advance(at: &mut String, to: Option<&str>) {
    if let Some(to) = to.filter(|to| !to.is_empty()) {
        to.clone_into(at);
    }
}

pub(super) fn decoded<K: Held>(cache: &Cache<K>, item: DeserializeGuard<K>) -> Decoded<K> {
    match item.0 {
        Ok(mut object) => {
            cache.prepare(&mut object);
            Ok(object)
        }
        Err(invalid) => {
            let key = Key::of_meta(&invalid.metadata);
            tracing::warn!(kind = cache.label(), object = %key, error = invalid.error, "object cannot be read");
            Err(Box::new(Malformed {
                key,
                metadata: invalid.metadata,
                error: invalid.error,
            }))
        }
    }
}
