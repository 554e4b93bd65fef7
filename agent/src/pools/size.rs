//! How large a pool's object would be when it is written.
//!
//! The store refuses objects above 1.5 MiB, and what it refuses it refuses to every claim and every release that is to be
//! written with it. So a pool whose object is nearly that large counts as full: what is sent always fits.

use serde::Serialize;
use spiderpool_crds::SpiderIPPool;
use std::io::{self, Write};
use std::net::IpAddr;

/// Largest object that is written. The rest is for what the API server and other writers add.
pub(super) const LARGEST_WRITE: usize = 1_200_000;

/// What the status fields themselves and the count take, beside their records, where the object had none before.
const FIELDS: usize = 64;

/// Size of an object with changed records.
#[derive(Clone, Debug, Default)]
pub(super) struct Size {
    /// Size as read. Counting it takes a walk over the object, which only new records are worth.
    read: Option<usize>,
    added: usize,
    removed: usize,
}

impl Size {
    /// A record or a note about an address comes.
    pub(super) fn grow(&mut self, ip: IpAddr, record: &impl Serialize) {
        self.added += record_size(ip, record);
    }

    /// A record or a note about an address goes.
    pub(super) fn shrink(&mut self, ip: IpAddr, record: &impl Serialize) {
        self.removed += record_size(ip, record);
    }

    /// Whether the object with all changes may be written, where `object` is the object as it was read.
    pub(super) fn fits(&mut self, object: &SpiderIPPool) -> bool {
        self.of(object) + FIELDS <= LARGEST_WRITE
    }

    /// The size with all changes, where `object` is the object as it was read.
    fn of(&mut self, object: &SpiderIPPool) -> usize {
        let read = *self.read.get_or_insert_with(|| json_size(object));
        (read + self.added).saturating_sub(self.removed)
    }
}

/// What a record takes: the text of records is a string within JSON, so its quotes count twice. With key and comma.
fn record_size(ip: IpAddr, record: &impl Serialize) -> usize {
    // A record is made of strings and numbers, which can always be written.
    let text = serde_json::to_string(record).unwrap_or_default();
    let quoted = json_size(&text).saturating_sub(2);
    quoted + ip.to_string().len() + r#"\"\":,"#.len()
}

fn json_size(value: &impl Serialize) -> usize {
    let mut counter = Counter(0);
    // What cannot be written is not written: the request fails where it is made.
    drop(serde_json::to_writer(&mut counter, value));
    counter.0
}

struct Counter(usize);

impl Write for Counter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use spiderpool_crds::records::{Held, HeldRecords, PoolRecords, Record};
    use spiderpool_crds::{IPPoolSpec, IPPoolStatus};

    fn pool(records: &PoolRecords) -> SpiderIPPool {
        let mut pool = SpiderIPPool::new("p", IPPoolSpec::default());
        pool.status = Some(IPPoolStatus {
            allocated_ips: records.to_status(),
            ..IPPoolStatus::default()
        });
        pool
    }

    #[test]
    fn the_size_after_changes_is_that_of_the_object_written() {
        let record = |name: &str, nic: Option<&str>| Record {
            pod: format!("retail/{name}"),
            pod_uid: "0d3f0f5e-5f0e-4a4b-9a36-0f5d6f4e2a10".to_owned(),
            nic: nic.map(str::to_owned),
            node: None,
            other: [("later".to_owned(), serde_json::json!({"a\n": [1]}))].into(),
        };
        let mut records = PoolRecords::new();
        records.insert("10.77.1.10".parse().unwrap(), record("a", None));
        records.insert("10.77.1.11".parse().unwrap(), record("b", Some("eth0")));
        let before = pool(&records);
        let mut size = Size::default();
        let gone: IpAddr = "10.77.1.10".parse().unwrap();
        size.shrink(gone, &records.remove(gone).unwrap());
        for (ip, name) in [("fd77::1:10", "c"), ("10.77.1.9", "d")] {
            let (ip, record) = (ip.parse().unwrap(), record(name, Some("net1")));
            size.grow(ip, &record);
            records.insert(ip, record);
        }
        assert_eq!(size.of(&before), serde_json::to_vec(&pool(&records)).unwrap().len());
    }

    #[test]
    fn notes_of_held_addresses_count_too() {
        let note = |text: &str| serde_json::from_str::<Held>(text).unwrap();
        let quarantined =
            note(r#"{"reason":"Quarantined","until":"2026-01-01T00:00:00.5Z","by":"02:09","later":"\"x"}"#);
        let mut held = HeldRecords::new();
        held.insert(
            "10.77.1.10".parse().unwrap(),
            note(r#"{"reason":"Cooling","by":"a/b"}"#),
        );
        let object = |held: &HeldRecords| {
            let mut pool = pool(&PoolRecords::new());
            pool.status.get_or_insert_default().held_ips = held.to_status();
            pool
        };
        let before = object(&held);
        let (mut size, ip) = (Size::default(), "fd77::1:10".parse().unwrap());
        size.grow(ip, &quarantined);
        held.insert(ip, quarantined);
        assert_eq!(size.of(&before), serde_json::to_vec(&object(&held)).unwrap().len());
    }
}
