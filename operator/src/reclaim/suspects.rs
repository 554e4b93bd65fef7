//! Names that are to be looked at, and since when nobody was found who has what is on record under them.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use spiderpool_kit::cache::Key;
use tokio::time::Instant;

use super::case::Subject;

/// Since when a live look has found that nobody uses what a subject says.
pub(super) type Found = BTreeMap<Subject, Instant>;

/// Which names to look at, each after so long.
pub(super) type Notes = BTreeMap<Key, Duration>;

/// Longest sleep. There is no end of time.
const FAR: Duration = Duration::from_secs(3600);

#[derive(Debug, Default)]
struct Entry {
    due: Option<Instant>,
    found: Found,
}

/// What this replica suspects.
#[derive(Debug, Default)]
pub(super) struct Suspects(HashMap<Key, Entry>);

impl Suspects {
    /// Takes down that names are to be looked at. An earlier look that is due stays due.
    pub(super) fn note(&mut self, notes: Notes, now: Instant) {
        for (key, after) in notes {
            let due = &mut self.0.entry(key).or_default().due;
            let at = now + after;
            *due = Some(due.map_or(at, |sooner| sooner.min(at)));
        }
    }

    /// When to look next.
    pub(super) fn next_look(&self) -> Instant {
        let due = self.0.values().filter_map(|entry| entry.due);
        due.min().unwrap_or_else(|| Instant::now() + FAR)
    }

    /// Takes out names whose time has come.
    pub(super) fn take_due(&mut self, now: Instant, most: usize) -> Vec<(Key, Found)> {
        let due = |entry: &Entry| entry.due.is_some_and(|due| due <= now);
        let mut keys: Vec<(Option<Instant>, Key)> = self
            .0
            .iter()
            .filter(|(_, entry)| due(entry))
            .map(|(key, entry)| (entry.due, key.clone()))
            .collect();
        keys.sort_unstable();
        keys.truncate(most);
        let taken = keys.into_iter().filter_map(|(_, key)| self.0.remove_entry(&key));
        taken.map(|(key, entry)| (key, entry.found)).collect()
    }

    /// Takes down what a look gave.
    pub(super) fn put(&mut self, key: Key, found: Found, due: Option<Instant>) {
        if due.is_some() || !found.is_empty() {
            self.0.insert(key, Entry { due, found });
        }
    }

    /// Forgets everything: another replica leads.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// How many names have something that nobody was found to use.
    pub(super) fn count(&self) -> usize {
        self.0.values().filter(|entry| !entry.found.is_empty()).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn names_are_looked_at_in_the_order_of_their_time() {
        let (mut suspects, now) = (Suspects::default(), Instant::now());
        let seconds = Duration::from_secs;
        let notes = |names: &[(&str, u64)]| {
            let notes = names.iter();
            notes
                .map(|(name, after)| (Key::new("ns", *name), seconds(*after)))
                .collect()
        };
        suspects.note(notes(&[("a", 9), ("b", 5), ("c", 7)]), now);
        // What comes later does not put off what is due.
        suspects.note(notes(&[("a", 3), ("b", 8)]), now);
        assert_eq!(suspects.next_look(), now + seconds(3));
        assert_eq!(suspects.take_due(now, 9), []);
        let taken = suspects.take_due(now + seconds(6), 9);
        assert_eq!(
            taken,
            [(Key::new("ns", "a"), Found::new()), (Key::new("ns", "b"), Found::new())]
        );
        assert_eq!(suspects.next_look(), now + seconds(7));
        assert_eq!(suspects.take_due(now + seconds(60), 0), []);
    }
}
