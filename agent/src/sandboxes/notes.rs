//! Which DELs came, also to the agent before this one.
//!
//! A DEL frees the addresses before the runtime takes the sandbox down. An agent that died in the middle of one leaves a sandbox
//! whose address nobody has on record, and that looks as if the storage of the API server had lost it (`crate::restore`). So each
//! DEL leaves an empty file first. It need not outlive a crash of the machine, which ends all sandboxes.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use tokio::time::Instant;

/// Between the name of the sandbox and that of the NIC. Neither CNI nor the kernel allows it in theirs.
const SEPARATOR: char = ':';

/// Longest name of a file.
const NAME_MAX: usize = 255;

type Ended = (String, String);

/// The notes, by sandbox and NIC, each with the time when it last was known to matter: when it was made or read, or found to be of a
/// sandbox that has a result.
pub(super) struct Notes {
    folder: PathBuf,
    ended: Mutex<HashMap<Ended, Instant>>,
}

impl Notes {
    /// What was noted in a folder, which is made if there is none.
    pub(super) fn read(folder: &Path) -> Self {
        let ended = noted(folder).unwrap_or_else(|error| {
            tracing::warn!(folder = %folder.display(), %error, "which DELs another agent began is not known");
            Vec::new()
        });
        let now = Instant::now();
        Self {
            folder: folder.to_owned(),
            ended: Mutex::new(ended.into_iter().map(|note| (note, now)).collect()),
        }
    }

    /// Whether there is a note, also of another process: an agent that was told to end may still serve a DEL.
    pub(super) fn has(&self, container: &str, nic: &str) -> bool {
        let note = (container.to_owned(), nic.to_owned());
        let is_known = {
            let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
            ended.contains_key(&note)
        };
        is_known || name(&note).is_some_and(|name| self.folder.join(name).exists())
    }

    pub(super) fn add(&self, container: &str, nic: &str) {
        let note = (container.to_owned(), nic.to_owned());
        let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(name) = name(&note)
            && ended.insert(note, Instant::now()).is_none()
            && let Err(error) = File::create(self.folder.join(name))
        {
            // It matters only if this process dies before the DEL is done, and then a pool pauses for some seconds.
            tracing::warn!(folder = %self.folder.display(), %error, "a DEL is not noted on the node's disk");
        }
    }

    /// Forgets what is noted of a sandbox, by this process or another: it is set up again.
    pub(super) fn clear(&self, container: &str) {
        self.retain(|of, _| of != container);
        let Ok(noted) = noted(&self.folder) else { return };
        for name in noted.iter().filter(|(of, _)| of == container).filter_map(name) {
            let _ = fs::remove_file(self.folder.join(name));
        }
    }

    /// Forgets what is noted of other sandboxes than these. It is told when a note last was known to matter, and may say that it does
    /// now.
    pub(super) fn retain(&self, mut stays: impl FnMut(&str, &mut Instant) -> bool) {
        let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        ended.retain(|note, mattered| {
            let stays = stays(&note.0, mattered);
            if !stays && let Some(name) = name(note) {
                // One that stays is read again by the next agent, which forgets it in the same way.
                let _ = fs::remove_file(self.folder.join(name));
            }
            stays
        });
    }
}

/// The file of a note; none if a name is not of the kind that CNI and the kernel allow.
fn name((container, nic): &Ended) -> Option<String> {
    let is_allowed = |name: &str| !name.is_empty() && !name.contains([SEPARATOR, '/', '\0']);
    let name = format!("{container}{SEPARATOR}{nic}");
    (is_allowed(container) && is_allowed(nic) && name.len() <= NAME_MAX).then_some(name)
}

fn noted(folder: &Path) -> io::Result<Vec<Ended>> {
    fs::create_dir_all(folder)?;
    let mut ended = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        if let Some((container, nic)) = name.to_str().and_then(|name| name.split_once(SEPARATOR)) {
            ended.push((container.to_owned(), nic.to_owned()));
        }
    }
    Ok(ended)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_agent_knows_what_was_noted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ended");
        let notes = Notes::read(&path);
        notes.add("c1", "eth0");
        notes.add("c1", "net1");
        notes.add("c2", "eth0.5");
        notes.retain(|container, _| container != "c2");
        let next = Notes::read(&path);
        assert!(next.has("c1", "eth0") && next.has("c1", "net1"));
        assert!(!next.has("c2", "eth0.5") && !next.has("c1", "net2"));
        next.retain(|_, _| false);
        assert_eq!(fs::read_dir(&path).unwrap().count(), 0);
        // Both run for a moment.
        notes.add("c3", "eth0");
        notes.add("c4", "eth0");
        assert!(next.has("c3", "eth0"));
        next.clear("c3");
        assert!(!next.has("c3", "eth0") && next.has("c4", "eth0"));
    }

    #[test]
    fn names_that_lead_out_of_the_folder_are_not_noted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ended");
        let notes = Notes::read(&path);
        for (container, nic) in [("../c1", "eth0"), ("c1", "a/b"), ("", "eth0"), ("c1", ""), ("a:b", "c")] {
            notes.add(container, nic);
            assert!(!notes.has(container, nic), "{container} {nic}");
        }
        assert_eq!(fs::read_dir(&path).unwrap().count(), 0);
    }
}
