//! Addresses of a pool that hosts use which were not given them. Agents find them and keep them from pods for a while; here it
//! is told who they are.

use std::net::IpAddr;
use std::time::Duration;

use jiff::Timestamp;
use spiderpool_crds::conditions::{self, FOREIGN_HOSTS, find};
use spiderpool_crds::records::HeldReason;
use spiderpool_crds::{IPPoolStatus, SpiderIPPool};

/// How many hosts are named.
const NAMED: usize = 5;

/// One of them.
struct Host {
    address: IpAddr,
    mac: String,
    until: Option<Timestamp>,
}

fn hosts(pool: &SpiderIPPool, now: Timestamp) -> Vec<Host> {
    // A text that cannot be read is told by the agents, who give out nothing then.
    let records = pool.held().unwrap_or_default();
    let quarantined = records
        .iter()
        .filter(|(_, held)| held.reason == HeldReason::Quarantined && held.in_force(now));
    quarantined
        .map(|(address, held)| Host {
            address,
            mac: held.by.clone().unwrap_or_else(|| "a host unknown".to_owned()),
            until: held.until,
        })
        .collect()
}

/// Sets the condition ForeignHosts; absent until there was one. Gives the text for an Event when there is news.
pub fn tell(pool: &SpiderIPPool, status: &mut IPPoolStatus, now: Timestamp) -> Option<String> {
    let hosts = hosts(pool, now);
    let generation = pool.metadata.generation;
    if hosts.is_empty() {
        if find(status.conditions.as_deref(), FOREIGN_HOSTS).is_some() {
            let message = "no address of the pool is known to be used by a host that was not given it";
            conditions::set(
                &mut status.conditions,
                FOREIGN_HOSTS,
                false,
                "None",
                message,
                generation,
                now,
            );
        }
        return None;
    }
    let mut named: Vec<String> = hosts
        .iter()
        .take(NAMED)
        .map(|host| format!("{} by {}", host.address, host.mac))
        .collect();
    if hosts.len() > NAMED {
        named.push(format!("and {} more", hosts.len() - NAMED));
    }
    let message = format!(
        "pods get none of these addresses for some minutes, since other hosts use them: {}; take them from those hosts, or \
         list them in a SpiderReservedIP",
        named.join(", ")
    );
    // An edit of the pool is no news of its hosts.
    let known = find(status.conditions.as_deref(), FOREIGN_HOSTS);
    let news = known.is_none_or(|known| known.status != "True" || known.message != message);
    conditions::set(
        &mut status.conditions,
        FOREIGN_HOSTS,
        true,
        "AddressesInUse",
        &message,
        generation,
        now,
    );
    news.then_some(message)
}

/// When the condition has to be looked at again, as nobody tells that a quarantine is over.
pub fn next_look(pool: &SpiderIPPool, now: Timestamp) -> Option<Duration> {
    let ends = hosts(pool, now).into_iter().filter_map(|host| host.until);
    Duration::try_from(ends.min()?.duration_since(now)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use spiderpool_crds::IPPoolSpec;

    fn pool(held: Option<String>) -> SpiderIPPool {
        let mut pool = SpiderIPPool::new("p", IPPoolSpec::default());
        pool.status = Some(IPPoolStatus {
            held_ips: held,
            ..IPPoolStatus::default()
        });
        pool
    }

    fn quarantined(hosts: u8) -> Option<String> {
        let item = |n| {
            format!(
                r#""10.0.0.{n}":{{"reason":"Quarantined","until":"1970-01-01T00:00:1{n}Z","by":"02:00:00:00:00:0{n}"}}"#
            )
        };
        let items: Vec<String> = (1..=hosts).map(item).collect();
        Some(format!("{{{}}}", items.join(",")))
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn hosts_are_named_once_and_forgotten_when_it_is_over() {
        let mut pool = pool(quarantined(7));
        let mut status = IPPoolStatus::default();
        let note = tell(&pool, &mut status, at(10)).unwrap();
        assert!(
            note.contains("10.0.0.1 by 02:00:00:00:00:01, ") && note.contains("05, and 2 more; "),
            "{note}"
        );
        assert_eq!(tell(&pool, &mut status, at(10)), None, "told already");
        pool.metadata.generation = Some(2);
        assert_eq!(tell(&pool, &mut status, at(10)), None, "an edit of the pool is no news");
        assert_eq!(next_look(&pool, at(10)), Some(Duration::from_secs(1)));
        let fewer = tell(&pool, &mut status, at(16)).unwrap();
        assert!(fewer.contains("use them: 10.0.0.7 by 02:00:00:00:00:07; "), "{fewer}");
        assert_eq!(tell(&pool, &mut status, at(17)), None);
        let condition = find(status.conditions.as_deref(), FOREIGN_HOSTS).unwrap();
        assert_eq!(condition.status, "False");
        assert_eq!(next_look(&pool, at(17)), None);
    }

    #[test]
    fn what_cools_down_is_no_foreign_host() {
        let held = r#"{"10.0.0.1":{"reason":"Cooling","until":"1970-01-01T00:01:00Z","by":"ns/p"}}"#;
        let mut status = IPPoolStatus::default();
        assert_eq!(tell(&pool(Some(held.to_owned())), &mut status, at(1)), None);
        assert_eq!(status, IPPoolStatus::default());
    }
}
