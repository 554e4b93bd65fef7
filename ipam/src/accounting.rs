//! Which pool was given which addresses of a subnet.
//!
//! An address is written into its subnet's accounting before any pool contains it, and leaves the pool before it leaves
//! the accounting. So whatever dies between two writes, an address that some pool may hand out is never given to another.

use crate::range::Range;
use crate::set::RangeSet;
use std::collections::BTreeMap;
use std::fmt::Write;

/// What one pool was given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// The addresses.
    pub ranges: RangeSet,
    /// Key of the application that an automatic pool belongs to; none for a pool that a user made.
    pub application: Option<String>,
}

/// What every pool of a subnet was given, by pool name.
pub type Entries = BTreeMap<String, Entry>;

/// How many addresses the pools were given altogether.
pub fn allocated(entries: &Entries) -> u128 {
    entries
        .values()
        .fold(0, |sum, entry| sum.saturating_add(entry.ranges.count()))
}

/// Addresses given to pools other than the named one.
pub fn taken(entries: &Entries, except: Option<&str>) -> RangeSet {
    entries
        .iter()
        .filter(|(name, _)| Some(name.as_str()) != except)
        .flat_map(|(_, entry)| entry.ranges.ranges().iter().copied())
        .collect()
}

/// Addresses of the subnet that no pool was given and that are not reserved.
pub fn free(total: &RangeSet, entries: &Entries, reserved: &RangeSet) -> RangeSet {
    total.difference(&taken(entries, None)).difference(reserved)
}

/// A count as the `int64` of a status field: values above its maximum are shown as the maximum.
pub fn status_count(count: u128) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// At most how many bytes the accounting has as text in the subnet's status: never fewer than it has, and hardly more.
pub fn text_bytes(entries: &Entries) -> usize {
    let braces = 2;
    entries
        .iter()
        .fold(braces, |sum, (name, entry)| sum + entry_bytes(name, entry))
}

/// At most how many bytes of that text one pool takes: `"NAME":{"ips":["A","B-C"],"application":"KEY"},`.
pub fn entry_bytes(name: &str, entry: &Entry) -> usize {
    let punctuation = r#":{"ips":[],"application":},"#.len();
    let application = entry.application.as_deref().map_or(0, json_bytes);
    let null = 4;
    let ranges = entry
        .ranges
        .ranges()
        .iter()
        .fold(null, |sum, range| sum + range_bytes(range));
    punctuation + json_bytes(name) + application + ranges
}

/// A string as JSON, where control characters become `\u0000`.
fn json_bytes(text: &str) -> usize {
    let quotes = 2;
    text.bytes().fold(quotes, |sum, byte| {
        sum + match byte {
            b'"' | b'\\' => 2,
            0..=0x1f | 0x7f => 6,
            _ => 1,
        }
    })
}

/// A range in quotes and with a comma.
fn range_bytes(range: &Range) -> usize {
    let quotes_and_comma = 3;
    let last = if range.first() == range.last() {
        0
    } else {
        1 + addr_bytes(range.last())
    };
    quotes_and_comma + addr_bytes(range.first()) + last
}

/// The longer text of the two families, where an address may be of either.
fn addr_bytes(addr: u128) -> usize {
    let mut v6 = Count(0);
    // Counting does not fail.
    let _ = write!(v6, "{}", std::net::Ipv6Addr::from_bits(addr));
    match u32::try_from(addr) {
        Ok(v4) => {
            let dots = 3;
            let digits = |byte: &u8| 1 + usize::from(*byte > 9) + usize::from(*byte > 99);
            v6.0.max(v4.to_be_bytes().iter().map(digits).sum::<usize>() + dots)
        }
        Err(_) => v6.0,
    }
}

struct Count(usize);

impl Write for Count {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        self.0 += text.len();
        Ok(())
    }
}
