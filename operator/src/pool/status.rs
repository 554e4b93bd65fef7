//! The values of a pool's status that the operator keeps right.

use jiff::Timestamp;
use spiderpool_crds::conditions::{self, EXHAUSTED, READY};
use spiderpool_crds::{IPPoolStatus, SpiderIPPool};
use spiderpool_ipam::accounting::status_count;

/// The status as it should be. Records are the allocator's: they are carried over as they are, readable or not.
pub fn next(pool: &SpiderIPPool, now: Timestamp) -> IPPoolStatus {
    let mut new = pool.status.clone().unwrap_or_default();
    let generation = pool.metadata.generation;
    let invalid = |new: &mut IPPoolStatus, why: &str| {
        conditions::set(&mut new.conditions, READY, false, "Invalid", why, generation, now);
    };
    let total = match pool.cidr().and_then(|cidr| Ok((cidr, pool.total()?))) {
        Ok((cidr, total)) => match pool.owners(cidr.family()) {
            Ok(owners) => {
                new.total_ip_count = Some(status_count(total.count()));
                new.allocated_ip_count = Some(i64::try_from(owners.len()).unwrap_or(i64::MAX));
                conditions::set(
                    &mut new.conditions,
                    READY,
                    true,
                    "Accepted",
                    "the pool can be used",
                    generation,
                    now,
                );
                let outside = owners.iter().filter(|(bits, _)| !total.contains(*bits)).count();
                let inside = u128::try_from(owners.len() - outside).unwrap_or(u128::MAX);
                Some((inside, total.count()))
            }
            Err(error) => {
                invalid(&mut new, &error.to_string());
                None
            }
        },
        Err(error) => {
            invalid(&mut new, &error.to_string());
            None
        }
    };
    match total {
        Some((taken, total)) if taken >= total => {
            let message = "every address is in use; pods that need one wait until another pod goes or the pool grows";
            conditions::set(
                &mut new.conditions,
                EXHAUSTED,
                true,
                "NoFreeAddress",
                message,
                generation,
                now,
            );
        }
        Some(_) => {
            let message = "there are addresses that no pod uses";
            conditions::set(
                &mut new.conditions,
                EXHAUSTED,
                false,
                "FreeAddresses",
                message,
                generation,
                now,
            );
        }
        None => {}
    }
    new
}

#[cfg(test)]
mod tests {
    use super::*;
    use spiderpool_crds::IPPoolSpec;
    use spiderpool_crds::conditions::find;

    fn pool(ips: &str, allocated: Option<&str>) -> SpiderIPPool {
        let spec = IPPoolSpec {
            subnet: "10.0.0.0/24".to_owned(),
            ips: Some(vec![ips.to_owned()]),
            ..IPPoolSpec::default()
        };
        let mut pool = SpiderIPPool::new("p", spec);
        pool.metadata.generation = Some(2);
        pool.status = Some(IPPoolStatus {
            allocated_ips: allocated.map(str::to_owned),
            ..IPPoolStatus::default()
        });
        pool
    }

    fn condition(status: &IPPoolStatus, type_: &str) -> (String, String) {
        let condition = find(status.conditions.as_deref(), type_).unwrap();
        (condition.status.clone(), condition.message.clone())
    }

    const ONE: &str = r#"{"10.0.0.1":{"pod":"ns/p","podUid":"u"}}"#;

    #[test]
    fn counts_are_derived_and_stay_equal() {
        let mut pool = pool("10.0.0.1-10.0.0.2", Some(ONE));
        let status = next(&pool, Timestamp::UNIX_EPOCH);
        assert_eq!((status.total_ip_count, status.allocated_ip_count), (Some(2), Some(1)));
        assert_eq!(condition(&status, EXHAUSTED).0, "False");
        assert_eq!(status.allocated_ips.as_deref(), Some(ONE));
        pool.status = Some(status.clone());
        assert_eq!(next(&pool, Timestamp::MAX), status);
    }

    #[test]
    fn a_full_pool_says_so() {
        let status = next(&pool("10.0.0.1", Some(ONE)), Timestamp::UNIX_EPOCH);
        assert_eq!(condition(&status, EXHAUSTED).0, "True");
    }

    #[test]
    fn what_does_not_parse_is_told_and_left_alone() {
        let broken = next(&pool("10.0.0.9-10.0.0.1", Some(ONE)), Timestamp::UNIX_EPOCH);
        let (ready, message) = condition(&broken, READY);
        assert_eq!(ready, "False");
        assert!(message.contains("10.0.0.9-10.0.0.1"), "{message}");
        let corrupted = next(&pool("10.0.0.1", Some("{oops")), Timestamp::UNIX_EPOCH);
        assert_eq!(condition(&corrupted, READY).0, "False");
        assert_eq!(corrupted.allocated_ips.as_deref(), Some("{oops"));
        assert_eq!(corrupted.allocated_ip_count, None);
    }
}
