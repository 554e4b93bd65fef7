//! The pause of a pool after the storage of the API server went back to an older state.

use super::{PoolState, Succession};
use spiderpool_crds::Restoring;
use spiderpool_ipam::{Owner, addr};
use std::net::IpAddr;

/// What is said of a pause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pause {
    /// The storage went back: what pods were given since then may be on record nowhere.
    Begin,
    /// What sandboxes of this node use is on record again.
    Assert,
    /// It has lasted long enough, whoever has said nothing.
    End,
}

impl PoolState {
    /// Takes in what is said; tells whether that changes anything.
    pub fn pause(&mut self, said: Pause, node: &str) -> bool {
        match (said, &mut self.restoring) {
            (Pause::Begin, Some(_)) | (Pause::Assert | Pause::End, None) => false,
            (Pause::Begin, none @ None) => {
                *none = Some(Restoring {
                    since: self.now.to_string(),
                    by: format!("the agent of node {node}"),
                    ..Restoring::default()
                });
                true
            }
            (Pause::Assert, Some(restoring)) => {
                let known = restoring.asserted.iter().any(|known| known == node);
                if !known {
                    restoring.asserted.push(node.to_owned());
                }
                !known
            }
            (Pause::End, ended) => ended.take().is_some(),
        }
    }

    /// Whether nothing is given out until agents have told what their nodes use.
    pub const fn is_restoring(&self) -> bool {
        self.restoring.is_some()
    }

    /// Whether a record may be one that was given up after the snapshot that the storage was restored from: neither has the agent of
    /// its node told that it is in use, nor was it put in the place of another one.
    pub(super) fn is_past(&self, ip: IpAddr) -> bool {
        let Some(restoring) = &self.restoring else { return false };
        let node = self.records.get(ip).and_then(|record| record.node.as_ref());
        let asserted = node.is_some_and(|node| restoring.asserted.contains(node));
        let retaken = restoring.retaken.iter().flatten().any(|known| *known == ip.to_string());
        !asserted && !retaken
    }

    /// Puts the owner that uses an address in the place of one of the past.
    pub(super) fn retake(&mut self, ip: IpAddr, past: &Owner, owner: &Owner) -> Succession {
        let (before, after) = (self.records.remove(ip), self.record(owner.clone()));
        if let Some(before) = &before {
            self.size.shrink(ip, before);
        }
        self.size.grow(ip, &after);
        self.ledger.hand_over(addr::to_bits(ip).1, past, owner.clone());
        self.records.insert(ip, after);
        let restoring = self.restoring.get_or_insert_default();
        restoring.retaken.get_or_insert_default().push(ip.to_string());
        Succession::Own { written: true }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};
    use std::sync::Arc;

    fn state(records: &Value, restoring: &Value) -> PoolState {
        let pool = json!({"apiVersion": "spiderpool.spidernet.io/v2beta1", "kind": "SpiderIPPool", "metadata": {"name": "p"},
            "spec": {"subnet": "10.0.0.0/24", "ips": ["10.0.0.1-10.0.0.9"]},
            "status": {"allocatedIPs": records.to_string(), "restoring": restoring}});
        let pool = serde_json::from_value(pool).unwrap();
        PoolState::read(Arc::new(pool)).unwrap().on("n1".into())
    }

    fn owner(uid: &str) -> Owner {
        Owner {
            pod: format!("ns/{uid}"),
            uid: uid.to_owned(),
            nic: Some("eth0".to_owned()),
        }
    }

    #[test]
    fn a_pause_begins_and_ends_once_and_each_node_is_named_once() {
        let mut state = state(&json!({}), &Value::Null);
        for (said, news) in [
            (Pause::Assert, false),
            (Pause::End, false),
            (Pause::Begin, true),
            (Pause::Begin, false),
            (Pause::Assert, true),
            (Pause::Assert, false),
        ] {
            assert_eq!(state.pause(said, "n1"), news, "{said:?}");
        }
        let written = state.to_write().status.unwrap().restoring.unwrap();
        assert_eq!(
            (written.by.as_str(), written.asserted),
            ("the agent of node n1", vec!["n1".to_owned()])
        );
        assert_eq!(state.closed(), Some(spiderpool_ipam::candidates::Rejection::Restoring));
        assert!(state.pause(Pause::End, "n1"));
        assert_eq!(state.to_write().status.unwrap().restoring, None);
    }

    #[test]
    fn who_uses_an_address_comes_before_a_record_of_the_past_and_not_before_one_that_was_told_of() {
        let records = json!({
            "10.0.0.1": {"pod": "ns/old", "podUid": "old", "node": "n2"},
            "10.0.0.2": {"pod": "ns/told", "podUid": "told", "node": "n3"},
            "10.0.0.3": {"pod": "ns/unplaced", "podUid": "unplaced"},
        });
        let restoring = json!({"since": "", "by": "", "asserted": ["n3"]});
        let ip = |last: u8| IpAddr::from([10, 0, 0, last]);
        let mut during = state(&records, &restoring);
        assert_eq!(during.restore(ip(1), &owner("q")), Succession::Own { written: true });
        assert_eq!(during.restore(ip(3), &owner("r")), Succession::Own { written: true });
        assert!(matches!(during.restore(ip(2), &owner("s")), Succession::Other(told) if told.uid == "told"));
        // Nobody takes it back again.
        assert!(matches!(during.restore(ip(1), &owner("old")), Succession::Other(now) if now.uid == "q"));
        let written = during.to_write();
        let records_then = written.records().unwrap();
        let record = records_then.get(ip(1)).unwrap();
        assert_eq!((record.pod_uid.as_str(), record.node.as_deref()), ("q", Some("n1")));
        assert_eq!(during.ledger().owner(addr::to_bits(ip(3)).1), Some(&owner("r")));

        let mut later = state(&records, &Value::Null);
        assert!(matches!(later.restore(ip(1), &owner("q")), Succession::Other(old) if old.uid == "old"));
    }
}
