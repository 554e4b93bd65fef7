//! The ordering rules of a watch cache, without any IO.
//!
//! A cache hears about objects on three ways that overtake each other: lists, watch events, and the answers to our own
//! writes ([`Store::learn`], [`Store::forget`]). This module decides which of two reports about one name is the newer one.
//!
//! It rests on two facts of the API. A resourceVersion is the revision of the whole storage at which an object was
//! written, so of two versions under one name, the one with the higher number is the newer, also when the object was
//! deleted and made again in between. And a watch delivers the changes of a kind in the order of their revisions.
//! From these follow all rules:
//!
//! * **Event older than what is stored**: ignored. We learnt the newer one from our own write.
//! * **Learnt object, name unknown**: the watch has told everything up to revision `watched`. An object at or below that
//!   is gone (its deletion overtook the answer to our write), one above it is news.
//! * **List at revision r without a stored name**: stored at or below r, the object is gone; above r, it was learnt after
//!   the list's snapshot was taken, and the watch that starts from r will tell about it. A list that began before the
//!   write therefore never drops what was learnt, and one that began after it always contains it.
//! * **Forgotten object**: its deletion was acknowledged but has no revision we know. Reports about that UID,
//!   and about predecessors of it, are ignored until the watch or a list has shown it gone.
//! * **Storage restored from a backup**: a list reads the newest state, so it cannot be older than what was stored when it
//!   began, and no object in it older than the one that was stored, unless that was learnt after the list. If one is, history was
//!   rewound, even where a restore moved the revision on; revisions mean nothing any more and the list replaces everything. Since
//!   that takes away what was learnt, who lists finds out whether it is so ([`Store::older`]). A list that only came late is one
//!   that was overtaken by everything newer.
//! * **Distrusted store**: somebody else found history rewound. The next list replaces everything.
//!
//! A new object under an old name (other UID) is reported as a deletion followed by an addition, as nobody may take one
//! for the other.

use std::collections::HashMap;
use std::sync::Arc;

use kube::Resource;
use kube::core::ObjectMeta;

mod index;
mod key;
mod lists;

use index::Index;
pub(crate) use index::KeysOf;
pub use key::Key;
pub use lists::{ListStart, Older};

/// An object of which only the metadata could be read.
#[derive(Clone, Debug, PartialEq)]
pub struct Malformed {
    /// Which object.
    pub key: Key,
    /// Its metadata, enough to attach an Event to it.
    pub metadata: ObjectMeta,
    /// What the decoder said.
    pub error: String,
}

/// One change of the cache's content.
#[derive(Debug)]
pub enum Change<K> {
    /// An object appeared or changed.
    Applied {
        /// The version held before, if any.
        old: Option<Arc<K>>,
        /// The version held now.
        new: Arc<K>,
    },
    /// An object is gone. The last version held.
    Deleted(Arc<K>),
    /// An object cannot be read any more. It is not deleted: it only left `get` and `list`.
    Malformed(Arc<Malformed>),
    /// A list was taken in, or this receiver was too slow and missed changes: compare the whole content.
    Resynced,
}

impl<K> Clone for Change<K> {
    fn clone(&self) -> Self {
        match self {
            Self::Applied { old, new } => Self::Applied {
                old: old.clone(),
                new: new.clone(),
            },
            Self::Deleted(object) => Self::Deleted(object.clone()),
            Self::Malformed(bad) => Self::Malformed(bad.clone()),
            Self::Resynced => Self::Resynced,
        }
    }
}

/// An object as decoded from the API, or what is known of one that did not decode.
pub type Decoded<K> = Result<K, Box<Malformed>>;

#[derive(Debug)]
enum Entry<K> {
    Good(Arc<K>),
    /// With the last version that could be read, whose end has to be told when the object goes.
    Bad(Arc<Malformed>, Option<Arc<K>>),
}

impl<K: Resource> Entry<K> {
    fn meta(&self) -> &ObjectMeta {
        match self {
            Self::Good(object) => object.meta(),
            Self::Bad(bad, _) => &bad.metadata,
        }
    }

    fn last_good(&self) -> Option<&Arc<K>> {
        match self {
            Self::Good(object) => Some(object),
            Self::Bad(_, last) => last.as_ref(),
        }
    }
}

/// The objects of one kind, by name.
#[derive(Debug)]
pub struct Store<K> {
    entries: HashMap<Key, Entry<K>>,
    /// UID of what was deleted, and the last revision it was held at.
    forgotten: HashMap<Key, (String, u64)>,
    watched: u64,
    distrusted: bool,
    index: Index<K>,
}

impl<K> Default for Store<K> {
    fn default() -> Self {
        Self {
            entries: HashMap::new(),
            forgotten: HashMap::new(),
            watched: 0,
            distrusted: false,
            index: Index::default(),
        }
    }
}

/// The revision of an object; 0 if it has none or not a number, which makes it older than everything.
pub fn revision(meta: &ObjectMeta) -> u64 {
    meta.resource_version.as_deref().map_or(0, parse_revision)
}

/// As [`revision`], of the bare text.
pub fn parse_revision(text: &str) -> u64 {
    text.parse().unwrap_or(0)
}

fn uid(meta: &ObjectMeta) -> &str {
    meta.uid.as_deref().unwrap_or_default()
}

impl<K: Resource> Store<K> {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty store that also finds objects by what `keys` says of them, see [`Self::indexed`].
    pub(crate) fn indexed_by(keys: Option<KeysOf<K>>) -> Self {
        Self {
            index: Index::by(keys),
            ..Self::default()
        }
    }

    /// The object of this key.
    pub fn get(&self, key: &Key) -> Option<&Arc<K>> {
        match self.entries.get(key)? {
            Entry::Good(object) => Some(object),
            Entry::Bad(..) => None,
        }
    }

    /// What is known of an object that exists but cannot be read.
    pub fn malformed(&self, key: &Key) -> Option<&Arc<Malformed>> {
        match self.entries.get(key)? {
            Entry::Good(_) => None,
            Entry::Bad(bad, _) => Some(bad),
        }
    }

    /// All readable objects, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<K>> {
        self.entries.values().filter_map(|entry| match entry {
            Entry::Good(object) => Some(object),
            Entry::Bad(..) => None,
        })
    }

    /// The readable objects that the index has under `key`, in no order. None without an index.
    pub fn indexed(&self, key: &str) -> impl Iterator<Item = &Arc<K>> {
        self.index.get(key)
    }

    /// The keys under which the index has at least one object, in their order.
    pub fn index_keys(&self) -> impl Iterator<Item = &str> {
        self.index.keys()
    }

    /// The keys with this beginning under which the index has at least one object. Costs nothing for the others.
    pub fn index_keys_from(&self, beginning: &str) -> impl Iterator<Item = &str> {
        self.index.keys_from(beginning)
    }

    /// All objects that exist but cannot be read, in no order.
    pub fn iter_malformed(&self) -> impl Iterator<Item = &Arc<Malformed>> {
        self.entries.values().filter_map(|entry| match entry {
            Entry::Good(_) => None,
            Entry::Bad(bad, _) => Some(bad),
        })
    }

    /// How many readable objects there are.
    pub fn len(&self) -> usize {
        self.iter().count()
    }

    /// Is there no readable object?
    pub fn is_empty(&self) -> bool {
        self.iter().next().is_none()
    }

    /// Takes in a watch event about an object that exists.
    pub fn applied(&mut self, item: Decoded<K>) -> Vec<Change<K>> {
        let mut changes = Vec::new();
        let past = self.is_past(meta_of(&item));
        self.bookmark(revision(meta_of(&item)));
        if !past {
            self.upsert(item, false, &mut changes);
        }
        changes
    }

    /// Whether the watch has told of this object and of its end. It tells both again if it goes on from a list that came late.
    fn is_past(&self, meta: &ObjectMeta) -> bool {
        revision(meta) <= self.watched && !self.entries.contains_key(&Key::of_meta(meta))
    }

    /// Takes in a watch event about an object that is gone (or left the selection).
    pub fn deleted(&mut self, meta: &ObjectMeta) -> Vec<Change<K>> {
        let mut changes = Vec::new();
        let (key, at) = (Key::of_meta(meta), revision(meta));
        self.bookmark(at);
        if self
            .forgotten
            .get(&key)
            .is_some_and(|(forgotten, _)| forgotten == uid(meta))
        {
            self.forgotten.remove(&key);
        }
        if self.entries.get(&key).is_some_and(|entry| revision(entry.meta()) <= at) {
            self.remove(&key, &mut changes);
        }
        changes
    }

    /// Takes in that the watch has told everything up to revision `at`.
    pub fn bookmark(&mut self, at: u64) {
        self.watched = self.watched.max(at);
    }

    /// Takes in an object that our own write (or live read) returned.
    pub fn learn(&mut self, object: K) -> Vec<Change<K>> {
        let mut changes = Vec::new();
        if !self.is_past(object.meta()) {
            self.upsert(Ok(object), false, &mut changes);
        }
        changes
    }

    /// Takes in that the deletion of the object with this name and UID was acknowledged as complete.
    pub fn forget(&mut self, meta: &ObjectMeta) -> Vec<Change<K>> {
        let mut changes = Vec::new();
        let key = Key::of_meta(meta);
        // With no entry the watch has shown the deletion already, and nothing would ever clear the mark.
        if let Some(entry) = self.entries.get(&key)
            && uid(entry.meta()) == uid(meta)
        {
            let held = revision(entry.meta());
            self.remove(&key, &mut changes);
            self.forgotten.insert(key, (uid(meta).to_owned(), held));
        }
        changes
    }

    fn upsert(&mut self, item: Decoded<K>, whatever_revision: bool, changes: &mut Vec<Change<K>>) {
        let meta = meta_of(&item);
        let key = Key::of_meta(meta);
        match self.forgotten.get(&key) {
            Some((forgotten, held)) if forgotten == uid(meta) || revision(meta) <= *held => return,
            Some(_) => {
                self.forgotten.remove(&key);
            }
            None => {}
        }
        if let Some(stored) = self.entries.get(&key) {
            let (held, offered) = (revision(stored.meta()), revision(meta));
            // Of a storage that went back, a revision may come again with another content.
            if !whatever_revision && offered <= held {
                return;
            }
            if uid(stored.meta()) != uid(meta) {
                self.remove(&key, changes);
            }
        }
        let old = self.entries.get(&key).and_then(Entry::last_good).cloned();
        let (entry, change) = match item {
            Ok(object) => {
                let new = Arc::new(object);
                (Entry::Good(new.clone()), Change::Applied { old, new })
            }
            Err(bad) => {
                let bad: Arc<Malformed> = Arc::from(bad);
                (Entry::Bad(bad.clone(), old), Change::Malformed(bad))
            }
        };
        if let Entry::Good(new) = &entry {
            self.index.add(new);
        }
        let replaced = self.entries.insert(key, entry);
        self.unindex(replaced.as_ref());
        changes.push(change);
    }

    fn remove(&mut self, key: &Key, changes: &mut Vec<Change<K>>) {
        let removed = self.entries.remove(key);
        self.unindex(removed.as_ref());
        // An object that was never readable was never told of, so nobody needs to hear of its end.
        if let Some(last) = removed.as_ref().and_then(Entry::last_good) {
            changes.push(Change::Deleted(last.clone()));
        }
    }

    /// An entry that cannot be read left the index when it became that.
    fn unindex(&mut self, entry: Option<&Entry<K>>) {
        if let Some(Entry::Good(object)) = entry {
            self.index.remove(object);
        }
    }
}

fn meta_of<K: Resource>(item: &Decoded<K>) -> &ObjectMeta {
    match item {
        Ok(object) => object.meta(),
        Err(bad) => &bad.metadata,
    }
}

#[cfg(test)]
mod tests;
