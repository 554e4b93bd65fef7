use super::*;
use std::collections::BTreeSet;

const IP: &str = "10.77.1.10";

fn recorded(nic: &str, more: &str) -> PoolState {
    let text = format!(r#"{{"{IP}":{{"pod":"retail/shop","podUid":"old"{nic}{more}}}}}"#);
    read(pool("10.77.1.10-10.77.1.12", Some(&text)))
}

fn succeed(state: &mut PoolState, ip: &str, former: &[&str]) -> Succession {
    let former: BTreeSet<String> = former.iter().map(|uid| (*uid).to_owned()).collect();
    state.succeed(ip.parse().unwrap(), &owner("eth0"), &former, &RangeSet::new())
}

#[test]
fn a_successor_takes_the_place_of_the_former_uid_in_the_record() {
    let mut state = recorded(r#","nic":"eth0""#, r#","extra":1"#);
    assert_eq!(succeed(&mut state, IP, &["old"]), Succession::Own { written: true });
    let expected = format!(r#"{{"{IP}":{{"pod":"retail/shop","podUid":"{UID}","nic":"eth0","extra":1}}}}"#);
    assert_eq!(written(&state), Some(expected));
    assert_eq!(succeed(&mut state, IP, &["old"]), Succession::Own { written: false });
    assert_eq!(claim(&mut state, "eth0"), Some((IP.to_owned(), false)));
}

#[test]
fn a_record_of_the_peer_becomes_that_of_the_nic() {
    let mut state = recorded("", "");
    assert_eq!(succeed(&mut state, IP, &["old"]), Succession::Own { written: true });
    assert!(written(&state).unwrap().contains(r#""nic":"eth0""#));
}

#[test]
fn nobody_follows_a_uid_that_may_live() {
    let mut state = recorded(r#","nic":"eth0""#, "");
    for former in [&[][..], &["older"]] {
        match succeed(&mut state, IP, former) {
            Succession::Other(holder) => assert_eq!(holder.uid, "old"),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(
        state.ledger().owner(addr::to_bits(IP.parse().unwrap()).1).unwrap().uid,
        "old"
    );
}

#[test]
fn nobody_follows_another_pod_or_nic() {
    let other_nic = &mut recorded(r#","nic":"net1""#, "");
    assert!(matches!(succeed(other_nic, IP, &["old"]), Succession::Other(_)));
    let text = format!(r#"{{"{IP}":{{"pod":"retail/other","podUid":"old","nic":"eth0"}}}}"#);
    let other_pod = &mut read(pool("10.77.1.10-10.77.1.12", Some(&text)));
    assert!(matches!(succeed(other_pod, IP, &["old"]), Succession::Other(_)));
}

#[test]
fn an_address_that_the_pool_forgot_is_claimed_again() {
    let mut state = read(pool("10.77.1.10-10.77.1.12", None));
    assert_eq!(
        succeed(&mut state, "10.77.1.11", &["old"]),
        Succession::Own { written: true }
    );
    assert_eq!(claim(&mut state, "eth0"), Some(("10.77.1.11".to_owned(), false)));
    let mut state = read(pool("10.77.1.10-10.77.1.12", None));
    assert!(matches!(
        succeed(&mut state, "10.77.2.1", &["old"]),
        Succession::Lost(Rejection::AddressOutside(_))
    ));
    let mut closed = pool("10.77.1.10-10.77.1.12", None);
    closed.spec.disable = Some(true);
    assert_eq!(
        succeed(&mut read(closed), IP, &["old"]),
        Succession::Lost(Rejection::Disabled)
    );
    assert!(matches!(
        succeed(&mut state, "fd00::1", &["old"]),
        Succession::Lost(Rejection::AddressOutside(_))
    ));
}

#[test]
fn an_owner_that_leaves_an_address_gets_another_one_of_the_same_pool() {
    let mut state = recorded(r#","nic":"eth0""#, "");
    succeed(&mut state, IP, &["old"]);
    let leaving = [IP.parse().unwrap()];
    let taken = state
        .claim_beside(&owner("eth0"), None, &leaving, &RangeSet::new())
        .unwrap();
    assert_eq!((taken.ip.to_string().as_str(), taken.new), ("10.77.1.11", true));
    // Sent again.
    let again = state
        .claim_beside(&owner("eth0"), None, &leaving, &RangeSet::new())
        .unwrap();
    assert_eq!((again.ip, again.new), (taken.ip, false));
    assert_eq!(
        state.release_some("retail/shop", UID, "eth0", Some(leaving[0])),
        leaving
    );
    assert_eq!(claim(&mut state, "eth0"), Some(("10.77.1.11".to_owned(), false)));
}
