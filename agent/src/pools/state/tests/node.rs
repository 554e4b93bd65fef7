use super::*;
use std::collections::BTreeSet;

const IP: &str = "10.77.1.10";

/// A pool of which one address is on record for the pod, with more members.
fn recorded(more: &str) -> PoolState {
    let text = format!(r#"{{"{IP}":{{"pod":"retail/shop","podUid":"{UID}","nic":"eth0"{more}}}}}"#);
    read(pool("10.77.1.10-10.77.1.12", Some(&text)))
}

fn node(state: &PoolState, ip: &str) -> Option<String> {
    let ip = ip.parse().ok()?;
    state.records.get(ip)?.node.clone()
}

fn claimed(state: PoolState) -> (PoolState, Taken) {
    let mut state = state.on("n1".into());
    let taken = state.claim(&owner("eth0"), None, &RangeSet::new()).unwrap();
    (state, taken)
}

#[test]
fn what_is_claimed_names_the_node() {
    let (state, taken) = claimed(read(pool("10.77.1.10-10.77.1.12", None)));
    assert!(taken.new);
    let expected = format!(r#"{{"{IP}":{{"pod":"retail/shop","podUid":"{UID}","nic":"eth0","node":"n1"}}}}"#);
    assert_eq!(written(&state), Some(expected));
}

#[test]
fn a_record_without_a_node_gets_it_when_its_pod_asks_again() {
    for (more, changed) in [("", true), (r#","node":"n0""#, true), (r#","node":"n1""#, false)] {
        let (state, taken) = claimed(recorded(more));
        assert_eq!((taken.new, taken.written), (false, changed), "{more}");
        assert_eq!(node(&state, IP).as_deref(), Some("n1"));
    }
}

#[test]
fn who_only_looks_names_no_node() {
    let mut state = recorded("");
    let taken = state.claim(&owner("eth0"), None, &RangeSet::new()).unwrap();
    assert!(!taken.written);
    assert_eq!(node(&state, IP), None);
}

#[test]
fn a_successor_names_its_own_node() {
    let former = BTreeSet::from([UID.to_owned()]);
    let heir = Owner {
        uid: "heir".to_owned(),
        ..owner("eth0")
    };
    let mut state = recorded(r#","node":"n0","extra":1"#).on("n1".into());
    let succession = state.succeed(IP.parse().unwrap(), &heir, &former, &RangeSet::new());
    assert_eq!(succession, Succession::Own { written: true });
    let expected = format!(r#"{{"{IP}":{{"pod":"retail/shop","podUid":"heir","nic":"eth0","node":"n1","extra":1}}}}"#);
    assert_eq!(written(&state), Some(expected));
}

#[test]
fn only_records_of_the_pod_that_name_no_node_get_that_of_its_endpoint() {
    let text = format!(
        r#"{{"{IP}":{{"pod":"retail/shop","podUid":"{UID}"}},"10.77.1.11":{{"pod":"retail/shop","podUid":"{UID}","node":"n2"}},"#
    ) + r#""10.77.1.12":{"pod":"retail/shop","podUid":"other"}}"#;
    let mut state = read(pool("10.77.1.10-10.77.1.12", Some(&text))).on("n1".into());
    assert_eq!(state.place_all(UID, "n0"), Some(1));
    let nodes = [IP, "10.77.1.11", "10.77.1.12"].map(|ip| node(&state, ip));
    assert_eq!(nodes, [Some("n0".to_owned()), Some("n2".to_owned()), None]);
    assert_eq!(state.place_all(UID, "n0"), Some(0));
}
