//! What a DEL leaves on the node when it could not be served: one file for each attachment, which the agent takes up later.
//!
//! This says how an entry is called and what is in it; the plugin writes the files and the agent reads them. A writer makes a
//! file under another name ([`is_unfinished`]), syncs it, and renames it, so that a file with an entry's name is always whole. The
//! text ends in a newline, and no beginning of it can be read as an entry, so that a file which a crash cut short in spite of
//! that is found out.

use std::{error::Error, fmt};

use crate::IpamDelArgs;

/// Folder of the entries when the configuration names no other. On a disk, other than the socket's: an entry may be needed
/// after a restart of the node.
pub const DEFAULT_PATH: &str = "/var/lib/cni/spiderpool";

/// Most entries. A node runs far fewer pods; more would mean that nobody takes them up.
pub const MAX_ENTRIES: usize = 10_000;

/// Longest entry.
pub const MAX_ENTRY_BYTES: usize = 8 * 1024;

/// Begins the name of a file that is being written.
const UNFINISHED: char = '.';

/// Ends the name of an entry.
const ENDING: &str = ".del";

/// What no container ID may contain, so that the two parts of a name cannot run into each other.
const BETWEEN: char = '@';

/// Longest name, leaving room for what a writer puts before and after it (255 bytes are the limit of file systems).
const LONGEST_NAME: usize = 220;

/// Why there is no entry for an attachment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// The names in it cannot be part of a file's name.
    Name,
    /// It is longer than [`MAX_ENTRY_BYTES`].
    Long,
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name => f.write_str("container ID and interface do not make a file name"),
            Self::Long => write!(f, "an entry may have {MAX_ENTRY_BYTES} bytes"),
        }
    }
}

impl Error for Unfit {}

/// The file name of an attachment's entry: the same for a repeated DEL, another for every other attachment.
pub fn file_name(args: &IpamDelArgs) -> Result<String, Unfit> {
    let (container, nic) = (&args.container_id, &args.if_name);
    let plain = |text: &str| !text.is_empty() && !text.contains(['/', '\0']);
    let name = format!("{container}{BETWEEN}{nic}{ENDING}");
    if plain(container)
        && plain(nic)
        && !container.contains(BETWEEN)
        && !container.starts_with(UNFINISHED)
        && name.len() <= LONGEST_NAME
    {
        Ok(name)
    } else {
        Err(Unfit::Name)
    }
}

/// The name to write an entry under before it is renamed; `writer` tells apart who writes at the same time.
pub fn unfinished_name(name: &str, writer: u32) -> String {
    format!("{UNFINISHED}{name}.{writer}")
}

/// Whether a file is an entry.
pub fn is_entry(name: &str) -> bool {
    name.ends_with(ENDING) && !is_unfinished(name)
}

/// Whether a file is one that was being written.
pub fn is_unfinished(name: &str) -> bool {
    name.starts_with(UNFINISHED)
}

/// The text of an entry.
pub fn encode(args: &IpamDelArgs) -> Result<Vec<u8>, Unfit> {
    // Writing a struct of strings has no way to fail.
    let mut text = serde_json::to_vec(args).unwrap_or_default();
    text.push(b'\n');
    if text.len() <= MAX_ENTRY_BYTES {
        Ok(text)
    } else {
        Err(Unfit::Long)
    }
}

/// Reads an entry; nothing if it is not whole.
pub fn decode(text: &[u8]) -> Option<IpamDelArgs> {
    serde_json::from_slice(text.strip_suffix(b"\n")?).ok()
}
