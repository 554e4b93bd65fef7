//! A complete list, and whether it is to be believed.
//!
//! A list that is older than what was told before says either that the storage of the API server was restored from a snapshot, or
//! that somebody on the way answered with what was true a while ago. The first takes away everything that is known here, so it
//! is believed only when nothing disproves it, and when it is said twice. A list that is disproved is still good to watch from:
//! the events since then bring the rest, and what is known to be newer stays.

use std::time::Duration;

use kube::api::{ListParams, VersionMatch};
use kube::core::ObjectMeta;

use super::watch_loop::{Broken, REQUEST, Watched, decoded};
use super::{Cache, Held};
use crate::deadline::within;
use crate::store::{Decoded, ListStart, Older, parse_revision, revision};

/// How long the API server may take to prove that it has not gone back. One that has waits three seconds for what it has not reached
/// (its watch cache's limit) before it says so.
const PROOF: Duration = Duration::from_secs(4);

/// A list that was taken in completely.
pub(super) struct Listed<K> {
    pub(super) start: ListStart,
    /// The revision of the list.
    pub(super) at: String,
    pub(super) items: Vec<Decoded<K>>,
    /// Whether the storage was restored: the list replaces everything.
    pub(super) rewound: bool,
}

impl<K: Held> Watched<K> {
    /// Lists, and finds out whether an older state than what is known is the present one.
    pub(super) async fn believable(&self, cache: &Cache<K>) -> Result<Listed<K>, Broken> {
        let first = self.pages(cache).await?;
        let Some(older) = first.older(cache) else {
            return Ok(first);
        };
        tracing::warn!(
            kind = cache.label(),
            revision = first.at,
            "the API server listed an older state than it told of before; it is asked again"
        );
        if self.disproves(cache, &older).await? {
            return Ok(first);
        }
        let second = self.pages(cache).await?;
        let rewound = second.older(cache).is_some();
        Ok(Listed { rewound, ..second })
    }

    /// Whether the API server shows that it is not as old as it said.
    async fn disproves(&self, cache: &Cache<K>, older: &Older) -> Result<bool, Broken> {
        let mut params = cache.inner.options.selection().limit(1);
        let what = match older {
            // Who asks for this is answered by nobody who is behind it.
            Older::Snapshot { known } => {
                params = params.at(&known.to_string()).matching(VersionMatch::NotOlderThan);
                format!("asking for {} at revision {known}", cache.label())
            }
            Older::Object { key, .. } => {
                let name = if key.namespace.is_empty() {
                    format!("metadata.name={}", key.name)
                } else {
                    format!("metadata.name={},metadata.namespace={}", key.name, key.namespace)
                };
                let both = params.field_selector.take().map(|fields| format!("{fields},{name}"));
                params.field_selector = Some(both.unwrap_or(name));
                format!("asking for {} {key}", cache.label())
            }
        };
        let found = match within(PROOF, what, self.api.list_metadata(&params)).await {
            Ok(found) => found,
            Err(failure) => {
                // What it has not reached it does not have in time, or says so; anything else says nothing about it.
                let behind = failure.status().is_none_or(|status| status.code == 504);
                return if behind {
                    Ok(false)
                } else {
                    Err(Broken::before(&failure))
                };
            }
        };
        Ok(match older {
            Older::Snapshot { known } => {
                parse_revision(found.metadata.resource_version.as_deref().unwrap_or_default()) >= *known
            }
            Older::Object { known, uid, .. } => {
                let same = |meta: &ObjectMeta| meta.uid.as_ref() == Some(uid) && revision(meta) >= *known;
                found.items.iter().any(|item| same(&item.metadata))
            }
        })
    }

    async fn pages(&self, cache: &Cache<K>) -> Result<Listed<K>, Broken> {
        let start = cache.read(|store| store.begin_list());
        let mut params = ListParams {
            limit: Some(cache.inner.options.page),
            ..cache.inner.options.selection()
        };
        let mut items = Vec::new();
        loop {
            let what = format!("listing {}", cache.label());
            let page = within(REQUEST, what, self.api.list(&params))
                .await
                .map_err(|failure| Broken::before(&failure))?;
            items.extend(page.items.into_iter().map(|item| decoded(cache, item)));
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => params.continue_token = Some(token),
                None => {
                    return Ok(Listed {
                        start,
                        at: page.metadata.resource_version.unwrap_or_default(),
                        items,
                        rewound: false,
                    });
                }
            }
        }
    }
}

impl<K: Held> Listed<K> {
    /// In what the list is older than what was known when it began; nothing where it replaces everything anyway.
    fn older(&self, cache: &Cache<K>) -> Option<Older> {
        let at = parse_revision(&self.at);
        let older = cache.read(|store| store.older(self.start, at, &self.items));
        older.filter(|_| !self.start.is_distrusted())
    }
}
