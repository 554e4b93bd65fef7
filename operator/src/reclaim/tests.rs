//! What is freed, and what is not.

use super::*;
use spiderpool_crds::{IPPoolSpec, IPPoolStatus};

mod named_alike;
pub(super) mod scene;

fn suspect(address: &str, uid: &str) -> Suspect {
    Suspect {
        pool: "p".to_owned(),
        address: address.parse().unwrap(),
        owner: Owner {
            pod: "ns/pod".to_owned(),
            uid: uid.to_owned(),
            nic: None,
        },
    }
}

#[test]
fn a_suspicion_has_to_last() {
    let mut since = HashMap::new();
    let start = Instant::now();
    let one = || vec![suspect("10.0.0.1", "u")];
    assert!(ripe(&mut since, one(), start).is_empty());
    assert!(ripe(&mut since, one(), start + GRACE / 2).is_empty());
    assert_eq!(ripe(&mut since, one(), start + GRACE)["p"], one());
    assert!(ripe(&mut since, Vec::new(), start + GRACE).is_empty());
    assert!(ripe(&mut since, one(), start + GRACE * 2).is_empty());
}

#[test]
fn an_endpoint_speaks_for_its_pod_and_for_its_addresses() {
    use spiderpool_crds::{EndpointStatus, NicDetail, PodAllocation};
    let endpoint = |uid: &str, pool: &str| {
        let item = NicDetail {
            ipv4: Some("10.0.0.1/24".to_owned()),
            ipv4_pool: Some(pool.to_owned()),
            ..NicDetail::default()
        };
        let current = PodAllocation {
            uid: uid.to_owned(),
            ips: vec![item],
            ..PodAllocation::default()
        };
        let status = EndpointStatus {
            current,
            ..EndpointStatus::default()
        };
        SpiderEndpoint::new("ns", "pod", status)
    };
    let see = |uid, pool, address| seen(Some(&endpoint(uid, pool)), &suspect(address, "u"));
    assert_eq!(see("u", "p", "10.0.0.9"), EndpointSeen::NamesPod);
    assert_eq!(see("v", "p", "10.0.0.1"), EndpointSeen::NamesAddress);
    assert_eq!(see("v", "p", "10.0.0.2"), EndpointSeen::NamesOthers);
    assert_eq!(see("v", "q", "10.0.0.1"), EndpointSeen::NamesOthers);
    assert_eq!(seen(None, &suspect("10.0.0.1", "u")), EndpointSeen::Absent);
}

#[test]
fn only_the_whole_owner_is_freed() {
    let mut pool = SpiderIPPool::new("p", IPPoolSpec::default());
    let text = r#"{"10.0.0.1":{"pod":"ns/pod","podUid":"u"},"10.0.0.2":{"pod":"ns/pod","podUid":"other"}}"#;
    pool.status = Some(IPPoolStatus {
        allocated_ips: Some(text.to_owned()),
        allocated_ip_count: Some(2),
        ..IPPoolStatus::default()
    });
    let guilty = [suspect("10.0.0.1", "u"), suspect("10.0.0.2", "u")];
    let status = without(&pool, &guilty).unwrap().status.unwrap();
    assert_eq!(
        status.allocated_ips.as_deref(),
        Some(r#"{"10.0.0.2":{"pod":"ns/pod","podUid":"other"}}"#)
    );
    assert_eq!(status.allocated_ip_count, Some(1));
    assert_eq!(without(&pool, &[suspect("10.0.0.9", "u")]), None);
}
