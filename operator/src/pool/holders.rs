//! Why a pool that was deleted is still there: who holds what.

use jiff::Timestamp;
use spiderpool_crds::conditions::{self, TERMINATING};
use spiderpool_crds::{IPPoolStatus, SpiderIPPool};

/// Holders that are named. The message changes only when one of these goes, so that a large pool is not written for each pod.
const NAMED: usize = 5;

/// The status of a pool that is being deleted and waits.
pub fn tell(pool: &SpiderIPPool, now: Timestamp) -> IPPoolStatus {
    let mut status = pool.status.clone().unwrap_or_default();
    let (reason, message) = why(pool);
    let generation = pool.metadata.generation;
    conditions::set(
        &mut status.conditions,
        TERMINATING,
        true,
        reason,
        &message,
        generation,
        now,
    );
    status
}

fn why(pool: &SpiderIPPool) -> (&'static str, String) {
    let records = match pool.records() {
        Ok(records) => records,
        Err(error) => {
            let message =
                format!("nobody knows which addresses are in use, so the pool stays: {error}; repair the status");
            return ("Unreadable", message);
        }
    };
    if records.is_empty() {
        let message = "no pod uses an address; the pool goes when status.heldIPs holds none of them back".to_owned();
        return ("Held", message);
    }
    let named = records
        .iter()
        .take(NAMED)
        .map(|(address, record)| format!("{address} by Pod {}", record.pod));
    let named: Vec<String> = named.collect();
    let others = if records.len() > NAMED { " and others" } else { "" };
    let message = format!(
        "in use: {}{others}; no pod gets an address of this pool any more, and it goes by itself when the last one is given back",
        named.join(", ")
    );
    ("InUse", message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use spiderpool_crds::IPPoolSpec;

    fn told(records: Option<&str>) -> (String, String) {
        let mut pool = SpiderIPPool::new("p", IPPoolSpec::default());
        pool.status = Some(IPPoolStatus {
            allocated_ips: records.map(str::to_owned),
            ..IPPoolStatus::default()
        });
        let told = tell(&pool, Timestamp::UNIX_EPOCH);
        assert_eq!(told.allocated_ips.as_deref(), records);
        let condition = conditions::find(told.conditions.as_deref(), TERMINATING).unwrap();
        assert_eq!(condition.status, "True");
        (condition.reason.clone(), condition.message.clone())
    }

    fn records(last: std::ops::RangeInclusive<u8>) -> String {
        let records = last.map(|last| format!(r#""10.0.0.{last}":{{"pod":"ns/p{last}","podUid":"u"}}"#));
        format!("{{{}}}", records.collect::<Vec<_>>().join(","))
    }

    #[test]
    fn the_first_holders_are_named_and_the_rest_changes_nothing() {
        let (reason, message) = told(Some(&records(1..=2)));
        assert_eq!(reason, "InUse");
        assert!(
            message.starts_with("in use: 10.0.0.1 by Pod ns/p1, 10.0.0.2 by Pod ns/p2; "),
            "{message}"
        );
        let many = told(Some(&records(1..=9)));
        assert!(many.1.contains("10.0.0.5 by Pod ns/p5 and others; "), "{}", many.1);
        assert_eq!(many, told(Some(&records(1..=8))));
    }

    #[test]
    fn what_cannot_be_read_or_is_held_back_is_told() {
        assert_eq!(told(Some("{")).0, "Unreadable");
        assert_eq!(told(None).0, "Held");
    }
}
