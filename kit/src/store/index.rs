//! A second way to objects: by keys computed from them, for questions such as "which pods has this owner".
//!
//! It is part of the store and changes with it under the same lock, so what was learnt from our own write is found here at
//! once too. An index fed by the changes of a cache would lag behind them.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::ops::Bound;
use std::sync::Arc;

/// Computes the keys of an object.
pub(crate) type KeysOf<K> = Arc<dyn Fn(&K) -> Vec<String> + Send + Sync>;

pub(super) struct Index<K> {
    keys_of: Option<KeysOf<K>>,
    /// By key, in order, so that keys of one sort are found together; then by address: a held object does not move, and no two have the same address.
    objects: BTreeMap<String, HashMap<usize, Arc<K>>>,
}

impl<K> Default for Index<K> {
    fn default() -> Self {
        Self::by(None)
    }
}

impl<K> fmt::Debug for Index<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.objects.keys()).finish()
    }
}

impl<K> Index<K> {
    pub(super) fn by(keys_of: Option<KeysOf<K>>) -> Self {
        Self {
            keys_of,
            objects: BTreeMap::new(),
        }
    }

    pub(super) fn get(&self, key: &str) -> impl Iterator<Item = &Arc<K>> {
        self.objects.get(key).into_iter().flat_map(HashMap::values)
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &str> {
        self.objects.keys().map(String::as_str)
    }

    pub(super) fn keys_from(&self, beginning: &str) -> impl Iterator<Item = &str> {
        let from = (Bound::Included(beginning), Bound::Unbounded);
        let keys = self.objects.range::<str, _>(from).map(|(key, _)| key.as_str());
        keys.take_while(move |key| key.starts_with(beginning))
    }

    pub(super) fn add(&mut self, object: &Arc<K>) {
        for key in self.keys_of(object) {
            self.objects
                .entry(key)
                .or_default()
                .insert(address(object), object.clone());
        }
    }

    pub(super) fn remove(&mut self, object: &Arc<K>) {
        for key in self.keys_of(object) {
            if let Some(objects) = self.objects.get_mut(&key) {
                objects.remove(&address(object));
                if objects.is_empty() {
                    self.objects.remove(&key);
                }
            }
        }
    }

    fn keys_of(&self, object: &K) -> Vec<String> {
        self.keys_of.as_ref().map(|keys_of| keys_of(object)).unwrap_or_default()
    }
}

fn address<K>(object: &Arc<K>) -> usize {
    Arc::as_ptr(object).addr()
}
