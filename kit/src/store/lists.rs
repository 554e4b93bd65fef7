//! Complete lists: what they take away, and in what they are older than what was known before.

use std::collections::HashSet;

use kube::Resource;
use kube::core::ObjectMeta;

use super::{Change, Decoded, Entry, Key, Store, meta_of, revision, uid};

/// Handed out when a list begins, to be given back with its result.
#[derive(Debug, Clone, Copy)]
pub struct ListStart {
    pub(super) highest: u64,
    pub(super) distrusted: bool,
}

impl ListStart {
    /// Whether the list was asked for because what is stored is not to be trusted.
    pub const fn is_distrusted(self) -> bool {
        self.distrusted
    }
}

/// In what a list is older than what was known before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Older {
    /// As a whole.
    Snapshot {
        /// The newest revision that was known.
        known: u64,
    },
    /// In one of its objects.
    Object,
}

impl<K: Resource> Store<K> {
    /// Call before the first page of a list is asked for.
    pub fn begin_list(&self) -> ListStart {
        ListStart {
            highest: self.newest(),
            distrusted: self.distrusted,
        }
    }

    /// The newest revision that is known.
    pub fn newest(&self) -> u64 {
        let stored = self.entries.values().map(|entry| revision(entry.meta()));
        stored.max().unwrap_or(0).max(self.watched)
    }

    /// In what a list whose snapshot has revision `at` is older than what was stored when it began: as a whole, or in an object
    /// that is older than it was at that revision.
    pub fn older(&self, start: ListStart, at: u64, items: &[Decoded<K>]) -> Option<Older> {
        if at < start.highest {
            return Some(Older::Snapshot { known: start.highest });
        }
        let older = items.iter().any(|item| self.was_newer(meta_of(item), at));
        older.then_some(Older::Object)
    }

    fn was_newer(&self, offered: &ObjectMeta, at: u64) -> bool {
        let stored = self.entries.get(&Key::of_meta(offered)).map(Entry::meta);
        stored.is_some_and(|stored| {
            let held = revision(stored);
            uid(stored) == uid(offered) && revision(offered) < held && held <= at
        })
    }

    /// Has the next list replace everything, whatever its revision.
    pub fn distrust(&mut self) {
        self.distrusted = true;
    }

    /// Whether what is stored waits to be replaced.
    pub const fn is_distrusted(&self) -> bool {
        self.distrusted
    }

    /// Takes in a complete list whose snapshot has revision `at`. One of a storage that was found `rewound` replaces everything.
    pub fn finish_list(&mut self, start: ListStart, at: u64, items: Vec<Decoded<K>>, rewound: bool) -> Vec<Change<K>> {
        let mut changes = Vec::new();
        let rewound = start.distrusted || rewound;
        // The watch has told more than such a list has.
        let late = !rewound && at < self.watched;
        if rewound {
            self.distrusted &= !start.distrusted;
            self.forgotten.clear();
        }
        let listed: HashSet<Key> = items.iter().map(|item| Key::of_meta(meta_of(item))).collect();
        let gone: Vec<Key> = self
            .entries
            .iter()
            .filter(|(key, entry)| !late && !listed.contains(*key) && (rewound || revision(entry.meta()) <= at))
            .map(|(key, _)| key.clone())
            .collect();
        for key in gone {
            self.remove(&key, &mut changes);
        }
        // Absent from a list older than the object itself says nothing.
        self.forgotten
            .retain(|key, (_, held)| listed.contains(key) || *held > at);
        for item in items {
            if !late || !self.is_past(meta_of(&item)) {
                self.upsert(item, rewound, &mut changes);
            }
        }
        self.watched = if rewound { at } else { self.watched.max(at) };
        changes.push(Change::Resynced);
        changes
    }
}
