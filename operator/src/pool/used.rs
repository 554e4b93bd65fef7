//! Which addresses of a pool must not be taken away from it.

use std::net::IpAddr;

use jiff::Timestamp;
use spiderpool_crds::SpiderIPPool;
use spiderpool_crds::records::{Held, HeldReason};
use spiderpool_ipam::{Family, RangeSet, addr};

/// Addresses in use or held. Where that cannot be read, all addresses of the pool.
pub fn used(pool: &SpiderIPPool, family: Family) -> RangeSet {
    let all = || pool.total().unwrap_or_default();
    match (pool.owners(family), held(pool)) {
        (Ok(owners), Some(held)) => {
            let held = held.into_iter().map(|address| addr::to_bits(address).1);
            owners.into_iter().map(|(bits, _)| bits).chain(held).collect()
        }
        _ => all(),
    }
}

/// Whether it is certain that no address of a pool is in use or held for a reason that outlives the pool. A foreign host on an
/// address is none: nobody is to wait for it.
pub fn is_unused(pool: &SpiderIPPool) -> bool {
    let unknown = |held: &Held| matches!(held.reason, HeldReason::Other(_));
    pool.records().is_ok_and(|records| records.is_empty()) && held_as(pool, unknown).is_some_and(|held| held.is_empty())
}

/// Addresses that no pod uses but that must not be given out yet; none if the text cannot be read.
pub fn held(pool: &SpiderIPPool) -> Option<Vec<IpAddr>> {
    held_as(pool, Held::blocks)
}

/// Addresses that are held in this way. What ran out still stands there until the next write of the records.
fn held_as(pool: &SpiderIPPool, way: impl Fn(&Held) -> bool) -> Option<Vec<IpAddr>> {
    let records = pool.held().ok()?;
    let now = Timestamp::now();
    let held = records.iter().filter(|(_, held)| held.in_force(now) && way(held));
    Some(held.map(|(address, _)| address).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use spiderpool_crds::{IPPoolSpec, IPPoolStatus};

    fn pool(allocated: Option<&str>, held: Option<&str>) -> SpiderIPPool {
        let spec = IPPoolSpec {
            subnet: "10.0.0.0/24".to_owned(),
            ips: Some(vec!["10.0.0.1-10.0.0.4".to_owned()]),
            ..IPPoolSpec::default()
        };
        let mut pool = SpiderIPPool::new("p", spec);
        pool.status = Some(IPPoolStatus {
            allocated_ips: allocated.map(str::to_owned),
            held_ips: held.map(str::to_owned),
            ..IPPoolStatus::default()
        });
        pool
    }

    fn count(allocated: Option<&str>, held: Option<&str>) -> u128 {
        used(&pool(allocated, held), Family::V4).count()
    }

    #[test]
    fn records_and_held_addresses_are_in_use() {
        let record = r#"{"10.0.0.1":{"pod":"ns/p","podUid":"u"}}"#;
        assert_eq!(count(None, None), 0);
        assert_eq!(count(Some(record), None), 1);
        assert_eq!(count(Some(record), Some(r#"{"10.0.0.2":{"reason":"Quarantined"}}"#)), 2);
        assert!(is_unused(&pool(None, None)));
        assert!(!is_unused(&pool(Some(record), None)));
        assert!(!is_unused(&pool(None, Some(r#"{"10.0.0.2":{}}"#))));
    }

    #[test]
    fn what_cools_down_or_ran_out_holds_nothing_up() {
        let cooling = r#"{"10.0.0.2":{"reason":"Cooling","until":"9999-01-01T00:00:00Z"}}"#;
        let over = r#"{"10.0.0.2":{"reason":"Quarantined","until":"2026-01-01T00:00:00Z"}}"#;
        for held in [cooling, over] {
            assert_eq!(count(None, Some(held)), 0);
            assert!(is_unused(&pool(None, Some(held))));
        }
        let quarantined = r#"{"10.0.0.2":{"reason":"Quarantined","until":"9999-01-01T00:00:00Z"}}"#;
        assert_eq!(count(None, Some(quarantined)), 1);
        assert!(
            is_unused(&pool(None, Some(quarantined))),
            "a pool is not kept for a foreign host"
        );
    }

    #[test]
    fn what_cannot_be_read_is_all_in_use() {
        assert_eq!(count(Some("{"), None), 4);
        assert_eq!(count(None, Some("[]")), 4);
        assert!(!is_unused(&pool(Some("{"), None)));
        assert!(!is_unused(&pool(None, Some("?"))));
    }
}
