//! The values of a pool's status that the operator keeps right.

use jiff::Timestamp;
use spiderpool_crds::admission::complete::Tie;
use spiderpool_crds::conditions::{self, INVALID, READY};
use spiderpool_crds::{IPPoolStatus, SpiderIPPool};
use spiderpool_ipam::accounting::status_count;
use spiderpool_ipam::{Family, RangeSet};

use super::admit::Admission;
use super::shrink::{self, Shrink};
use super::used::used;
use crate::fullness::{self, Words};

/// What the pool itself does not say.
pub struct Around<'a> {
    /// Addresses that are never given out.
    pub reserved: RangeSet,
    /// How the pool stands to its subnet.
    pub tie: &'a Tie,
    /// Whether it may give out addresses.
    pub admission: &'a Admission,
    /// What it has still to give up, if that is known.
    pub shrink: Option<Shrink>,
}

const WORDS: Words = Words {
    full: "every address is in use; pods that need one wait until another pod goes or the pool grows",
    free: "there are addresses that no pod uses",
    taken: "in use",
    remedy: "make the pool larger before pods have to wait",
};

/// The status as it should be. Records are the allocator's: they are carried over as they are, readable or not.
pub fn next(pool: &SpiderIPPool, around: &Around<'_>, now: Timestamp) -> IPPoolStatus {
    let mut new = pool.status.clone().unwrap_or_default();
    let generation = pool.metadata.generation;
    let ready = |new: &mut IPPoolStatus, status, reason, message: &str| {
        conditions::set(&mut new.conditions, READY, status, reason, message, generation, now);
    };
    match around.admission {
        Admission::Admitted => ready(&mut new, true, "Accepted", &usable(around.tie)),
        Admission::Refused(reason, why) => ready(&mut new, false, reason, why),
        // What was said of an earlier generation of the spec is not taken for a word on this one.
        Admission::Waits(_) => {}
    }
    let (family, total, in_use) = match counts(pool) {
        Ok(counts) => counts,
        Err(problem) => {
            if !matches!(around.admission, Admission::Refused(..)) {
                ready(&mut new, false, INVALID, &problem);
            }
            return new;
        }
    };
    new.total_ip_count = Some(status_count(total.count()));
    new.allocated_ip_count = Some(i64::try_from(in_use).unwrap_or(i64::MAX));
    let usable = total.difference(&around.reserved);
    let free = usable.difference(&used(pool, family)).count();
    fullness::set(&mut new.conditions, (free, usable.count()), &WORDS, generation, now);
    shrink::tell(pool, family, around.shrink, &mut new, now);
    new
}

/// Family, addresses on offer, and how many are in use; or why they cannot be read.
fn counts(pool: &SpiderIPPool) -> Result<(Family, RangeSet, usize), String> {
    let family = pool.family().map_err(|error| error.to_string())?;
    let total = pool.total().map_err(|error| error.to_string())?;
    let owners = pool.owners(family).map_err(|error| error.to_string())?;
    Ok((family, total, owners.len()))
}

fn usable(tie: &Tie) -> String {
    match tie {
        Tie::Settled | Tie::Adopt(_) => "the pool can be used".to_owned(),
        Tie::Foreign { controller, subnet } => format!(
            "the pool can be used; {controller} controls it, so it is not deleted with SpiderSubnet {subnet}, which has its \
             network"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use spiderpool_crds::IPPoolSpec;
    use spiderpool_crds::conditions::{EXHAUSTED, NEARLY_EXHAUSTED, SHRINKING, find};
    use spiderpool_ipam::text;

    fn alone() -> Around<'static> {
        Around {
            reserved: RangeSet::new(),
            tie: &Tie::Settled,
            admission: &Admission::Admitted,
            shrink: None,
        }
    }

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
        let status = next(&pool, &alone(), Timestamp::UNIX_EPOCH);
        assert_eq!((status.total_ip_count, status.allocated_ip_count), (Some(2), Some(1)));
        assert_eq!(condition(&status, EXHAUSTED).0, "False");
        assert_eq!(status.allocated_ips.as_deref(), Some(ONE));
        pool.status = Some(status.clone());
        assert_eq!(next(&pool, &alone(), Timestamp::MAX), status);
    }

    #[test]
    fn a_full_pool_says_so() {
        let status = next(&pool("10.0.0.1", Some(ONE)), &alone(), Timestamp::UNIX_EPOCH);
        assert_eq!(condition(&status, EXHAUSTED).0, "True");
    }

    #[test]
    fn what_must_not_be_used_is_told_with_its_counts_if_they_can_be_read() {
        let admission = Admission::Refused(INVALID, "spec.ips[0]: wrong".to_owned());
        let around = Around {
            admission: &admission,
            ..alone()
        };
        for (ips, total) in [("10.0.0.9-10.0.0.1", None), ("10.0.0.1-10.0.0.9", Some(9))] {
            let status = next(&pool(ips, Some(ONE)), &around, Timestamp::UNIX_EPOCH);
            let told = ("False".to_owned(), "spec.ips[0]: wrong".to_owned());
            assert_eq!(condition(&status, READY), told);
            assert_eq!(status.total_ip_count, total);
            assert_eq!(status.allocated_ips.as_deref(), Some(ONE));
        }
    }

    #[test]
    fn records_that_do_not_parse_are_told_and_left_alone() {
        let corrupted = next(&pool("10.0.0.1", Some("{oops")), &alone(), Timestamp::UNIX_EPOCH);
        assert_eq!(condition(&corrupted, READY).0, "False");
        assert_eq!(corrupted.allocated_ips.as_deref(), Some("{oops"));
        assert_eq!(corrupted.allocated_ip_count, None);
    }

    #[test]
    fn addresses_that_nobody_may_be_given_are_not_free() {
        let mut around = alone();
        around.reserved = text::parse_ranges(Family::V4, &["10.0.0.2"]).unwrap();
        let two = pool("10.0.0.1-10.0.0.2", Some(ONE));
        let status = next(&two, &around, Timestamp::UNIX_EPOCH);
        assert_eq!(condition(&status, EXHAUSTED).0, "True");
        assert_eq!(status.total_ip_count, Some(2));
        let mut held = pool("10.0.0.1-10.0.0.2", Some(ONE));
        held.status.as_mut().unwrap().held_ips = Some(r#"{"10.0.0.2":{}}"#.to_owned());
        let status = next(&held, &alone(), Timestamp::UNIX_EPOCH);
        assert_eq!(
            (condition(&status, EXHAUSTED).0.as_str(), status.allocated_ip_count),
            ("True", Some(1))
        );
    }

    #[test]
    fn what_was_never_so_is_not_told() {
        let status = next(&pool("10.0.0.1-10.0.0.2", Some(ONE)), &alone(), Timestamp::UNIX_EPOCH);
        for type_ in [NEARLY_EXHAUSTED, SHRINKING] {
            assert!(find(status.conditions.as_deref(), type_).is_none(), "{type_}");
        }
    }

    #[test]
    fn another_controller_is_named_and_no_fault() {
        let tie = Tie::Foreign {
            controller: "Deployment web".to_owned(),
            subnet: "rack7".to_owned(),
        };
        let around = Around { tie: &tie, ..alone() };
        let status = next(&pool("10.0.0.1", None), &around, Timestamp::UNIX_EPOCH);
        let (ready, message) = condition(&status, READY);
        assert!(
            ready == "True" && message.contains("Deployment web controls it"),
            "{message}"
        );
    }
}
