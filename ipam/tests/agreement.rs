//! What a check of pools, endpoints, pods and subnets finds.

use spiderpool_ipam::check::{Endpoint, Fault, Item, Pool, Repair, Seen, faults, may_record};
use spiderpool_ipam::{Family, Owner, Range, RangeSet};
use std::collections::BTreeMap;
use std::net::IpAddr;

fn ip(last: u8) -> IpAddr {
    [10, 0, 0, last].into()
}

fn owner(pod: &str) -> Owner {
    Owner {
        pod: format!("ns/{pod}"),
        uid: format!("{pod}-uid"),
        nic: Some("eth0".to_owned()),
    }
}

fn total(first: u8, last: u8) -> RangeSet {
    let bits = |last: u8| 0x0a00_0000 + u128::from(last);
    Range::new(bits(first), bits(last)).into_iter().collect()
}

fn pool(records: &[(u8, &str)]) -> Pool {
    Pool {
        records: Ok(records.iter().map(|(last, pod)| (ip(*last), owner(pod))).collect()),
        count: i64::try_from(records.len()).ok(),
        total: Some((Family::V4, total(1, 9))),
        subnet: None,
    }
}

fn endpoint(pod: &str, last: u8) -> Endpoint {
    Endpoint {
        key: format!("ns/{pod}"),
        uid: format!("{pod}-uid"),
        items: vec![Item {
            nic: "eth0".to_owned(),
            address: ip(last),
            pool: "p".to_owned(),
        }],
    }
}

fn seen(records: &[(u8, &str)], endpoints: &[(&str, u8)], pods: &[&str]) -> Seen {
    Seen {
        pools: [("p".to_owned(), pool(records))].into(),
        endpoints: endpoints.iter().map(|(pod, last)| endpoint(pod, *last)).collect(),
        stay: pods.iter().map(|pod| format!("{pod}-uid")).collect(),
        ..Seen::default()
    }
}

fn ids(seen: &Seen) -> Vec<String> {
    faults(seen).iter().map(Fault::id).collect()
}

#[test]
fn pods_with_records_and_endpoints_agree() {
    assert_eq!(
        ids(&seen(&[(1, "a"), (2, "b")], &[("a", 1)], &["a", "b"])),
        Vec::<String>::new()
    );
}

#[test]
fn each_trace_of_a_pod_that_is_gone_is_found_once() {
    assert_eq!(ids(&seen(&[(1, "a")], &[], &[])), ["Leak/p/10.0.0.1/a-uid/eth0"]);
    assert_eq!(ids(&seen(&[(1, "a")], &[("a", 1)], &[])), ["StrayEndpoint/ns/a/a-uid"]);
    assert_eq!(ids(&seen(&[], &[("a", 1)], &[])), ["StrayEndpoint/ns/a/a-uid"]);
}

#[test]
fn an_address_without_a_record_is_found_while_its_pod_stays() {
    let mut seen = seen(&[], &[("a", 1)], &["a"]);
    let found = faults(&seen);
    assert_eq!(found[0].id(), "MissingRecord/p/10.0.0.1/a-uid/eth0");
    assert_eq!(found[0].repair(), Some(Repair::Record));
    assert!(may_record(&seen.pools["p"], ip(1)));
    assert!(!may_record(&seen.pools["p"], ip(10)), "it is no address of the pool");
    // A pod on its way out gives back the record first.
    seen.stay.clear();
    seen.leave.insert("a-uid".to_owned());
    assert_eq!(ids(&seen), Vec::<String>::new());
}

#[test]
fn an_address_on_record_for_a_pod_that_is_gone_is_nobody_s_to_repair() {
    let seen = seen(&[(1, "b")], &[("a", 1)], &["a"]);
    let found = faults(&seen);
    assert_eq!(
        ids(&seen),
        ["Leak/p/10.0.0.1/b-uid/eth0", "MissingRecord/p/10.0.0.1/a-uid/eth0"]
    );
    assert_eq!(found[1].repair(), None);
    assert!(!may_record(&seen.pools["p"], ip(1)));
}

#[test]
fn two_pods_with_one_address_are_found_by_whatever_says_so() {
    let id = ["Duplicate/10.0.0.1/a-uid+b-uid"];
    assert_eq!(ids(&seen(&[(1, "b")], &[("a", 1), ("b", 1)], &["a", "b"])), id);
    let mut pools = seen(&[(1, "a")], &[], &["a", "b"]);
    pools.pools.insert("q".to_owned(), pool(&[(1, "b")]));
    assert_eq!(ids(&pools), id);
    let text = faults(&pools)[0].to_string();
    assert!(
        text.contains("Pod ns/a with UID a-uid") && text.contains("Pod ns/b with UID b-uid"),
        "{text}"
    );
    // One of them ends, and the other one has it still.
    pools.stay.remove("a-uid");
    pools.leave.insert("a-uid".to_owned());
    assert_eq!(ids(&pools), id);
    let endpoints = seen(&[], &[("a", 1), ("b", 1)], &["a", "b"]);
    assert!(ids(&endpoints).contains(&id[0].to_owned()));
}

#[test]
fn pods_of_one_identity_share_an_address_while_it_moves() {
    let mut seen = seen(&[(1, "vm")], &[], &["vm", "target"]);
    seen.endpoints = vec![Endpoint {
        uid: "target-uid".to_owned(),
        ..endpoint("vm", 1)
    }];
    assert_eq!(ids(&seen), Vec::<String>::new());
}

#[test]
fn counts_and_what_cannot_be_read_are_found() {
    let mut seen = seen(&[(1, "a")], &[], &["a"]);
    seen.pools.get_mut("p").unwrap().count = Some(3);
    let broken = Pool {
        records: Err("status.allocatedIPs is corrupted".to_owned()),
        ..pool(&[])
    };
    seen.pools.insert("q".to_owned(), broken);
    // A pool that nobody used has no count.
    let unused = Pool {
        count: None,
        ..pool(&[])
    };
    seen.pools.insert("r".to_owned(), unused);
    seen.subnets.insert("s".to_owned(), Err("no".to_owned()));
    assert_eq!(
        ids(&seen),
        ["Unreadable/SpiderIPPool q", "Unreadable/SpiderSubnet s", "WrongCount/p"]
    );
    // Of a pool that cannot be read nobody says that addresses are missing.
    seen.endpoints = vec![endpoint("a", 1)];
    seen.endpoints[0].items[0].pool = "q".to_owned();
    assert_eq!(ids(&seen).len(), 3);
}

#[test]
fn addresses_that_the_subnet_did_not_give_are_found() {
    let mut seen = seen(&[], &[], &[]);
    seen.pools.get_mut("p").unwrap().subnet = Some("s".to_owned());
    let given = |entries: &[(&str, RangeSet)]| {
        let entries = entries
            .iter()
            .map(|(pool, ranges)| ((*pool).to_owned(), ranges.clone()));
        Ok(entries.collect::<BTreeMap<_, _>>())
    };
    seen.subnets.insert("s".to_owned(), given(&[("p", total(1, 9))]));
    assert_eq!(ids(&seen), Vec::<String>::new());
    seen.subnets
        .insert("s".to_owned(), given(&[("p", total(1, 4)), ("q", total(5, 9))]));
    let found = faults(&seen);
    assert_eq!(
        found[0].to_string(),
        "IPPool p has 10.0.0.5-10.0.0.9, which the accounting of SpiderSubnet s does not give it"
    );
    assert_eq!(found[0].id(), "Accounting/s/p");
}
