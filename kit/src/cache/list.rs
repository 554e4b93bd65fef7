//! A complete list, and whether it is to be believed.
//!
//! A list that is older than what was told before says either that the storage of the API server was restored from a snapshot, or
//! that somebody on the way answered with what was true a while ago. The first takes away everything that is known here, so it
//! is believed only when it is said twice, and the API server does not know the newest revision that was told of. If it does, the
//! list came late and is good to watch from: the events since then bring the rest, and what is known to be newer stays.

use std::time::Duration;

use kube::api::{ListParams, VersionMatch};

use super::watch_loop::{Broken, REQUEST, Watched, decoded};
use super::{Cache, Held};
use crate::deadline::within;
use crate::store::{Decoded, ListStart, Older, parse_revision};

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
        let warning = "the API server listed an older state than it told of before; it is asked again";
        tracing::warn!(kind = cache.label(), revision = first.at, "{warning}");
        // Until it is known which of the two it is, nobody should rely on what is stored.
        cache.inner.health.failed(warning, None);
        let is_further = match older {
            Older::Snapshot { known } => self.has_reached(cache, known).await?,
            Older::Object => false,
        };
        // A restored storage may have been written to meanwhile, until it was as far as before. Its objects tell.
        let second = self.pages(cache).await?;
        let rewound = match second.older(cache) {
            None => false,
            Some(Older::Snapshot { .. }) => !is_further,
            Some(Older::Object) => true,
        };
        Ok(Listed { rewound, ..second })
    }

    /// Whether the API server knows a revision. Whoever asks it for one is answered by nobody who is behind that.
    async fn has_reached(&self, cache: &Cache<K>, known: u64) -> Result<bool, Broken> {
        let params = cache.inner.options.selection().limit(1);
        let params = params.at(&known.to_string()).matching(VersionMatch::NotOlderThan);
        let what = format!("asking for {} at revision {known}", cache.label());
        match within(PROOF, what, self.api.list_metadata(&params)).await {
            Ok(found) => Ok(parse_revision(&found.metadata.resource_version.unwrap_or_default()) >= known),
            // What it has not reached it does not have in time, or says so.
            Err(failure) if failure.is_timeout() => Ok(false),
            Err(failure) if failure.status().is_some_and(|status| status.code == 504) => Ok(false),
            Err(failure) => Err(Broken::before(&failure)),
        }
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
