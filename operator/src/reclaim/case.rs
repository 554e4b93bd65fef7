//! What is on record under one name, and the endpoint of that name.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use kube::ResourceExt;
use spiderpool_crds::{SpiderEndpoint, SpiderIPPool};
use spiderpool_ipam::Owner;
use spiderpool_ipam::reclaim::{OnNodeLost, Policy, Sandboxes, Trace};
use spiderpool_kit::cache::Key;

use super::apply::Freed;
use crate::context::Context;
use crate::kinds::namespace;

/// An address with its recorded owner.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Recorded {
    pub(super) pool: String,
    pub(super) address: IpAddr,
    pub(super) owner: Owner,
    pub(super) node: Option<String>,
}

/// What is decided about as one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Subject {
    /// The endpoint of a pod UID, with what is on record for that.
    Endpoint(String),
    /// One address of another pod UID.
    Record(Recorded),
}

/// What there is under one name.
#[derive(Clone, Debug)]
pub(super) struct Case {
    pub(super) key: Key,
    pub(super) records: Vec<Recorded>,
    pub(super) endpoint: Option<Arc<SpiderEndpoint>>,
}

/// Gathers what the caches have under names, with one look at each pool.
pub(super) fn gather<'a>(context: &Context, keys: impl Iterator<Item = &'a Key>) -> Vec<Case> {
    let keys: Vec<&Key> = keys.collect();
    let mut records: BTreeMap<String, Vec<Recorded>> = keys.iter().map(|key| (key.to_string(), Vec::new())).collect();
    for pool in context.caches.pools.list() {
        if may_have(&pool, &keys) {
            of_pool(&pool, |record| {
                records
                    .get_mut(record.owner.pod.as_str())
                    .map(|all| all.push(record))
                    .is_some()
            });
        }
    }
    let cases = keys.into_iter().map(|key| Case {
        records: records.remove(&key.to_string()).unwrap_or_default(),
        endpoint: context.caches.endpoints.get_key(key),
        key: key.clone(),
    });
    cases.collect()
}

/// Whether it is worth while to read a pool's records. A few names are faster looked for in the text.
fn may_have(pool: &SpiderIPPool, keys: &[&Key]) -> bool {
    const FEW: usize = 4;
    let text = pool.status.as_ref().and_then(|status| status.allocated_ips.as_deref());
    let named = |text: &str| keys.iter().any(|key| text.contains(&key.to_string()));
    text.is_some_and(|text| !text.is_empty() && (keys.len() > FEW || named(text)))
}

/// Every record of a pool. Records that cannot be read belong to somebody we do not know.
pub(super) fn of_pool<T>(pool: &SpiderIPPool, mut each: impl FnMut(Recorded) -> T) {
    for (address, record) in pool.records().unwrap_or_default().iter() {
        each(Recorded {
            pool: pool.name_any(),
            address,
            owner: Owner::from(record),
            node: record.node.clone().filter(|node| !node.is_empty()),
        });
    }
}

impl Case {
    /// Whether there is nothing under the name.
    pub(super) fn is_empty(&self) -> bool {
        self.records.is_empty() && self.endpoint.is_none()
    }

    /// What is decided about.
    pub(super) fn subjects(&self) -> Vec<Subject> {
        let of_endpoint = self
            .endpoint
            .as_ref()
            .map(|endpoint| endpoint.status.current.uid.clone());
        let others = self
            .records
            .iter()
            .filter(|record| Some(&record.owner.uid) != of_endpoint.as_ref());
        let others = others.cloned().map(Subject::Record);
        of_endpoint
            .clone()
            .into_iter()
            .map(Subject::Endpoint)
            .chain(others)
            .collect()
    }

    /// The records that a subject stands for.
    fn own<'a>(&'a self, subject: &'a Subject) -> impl Iterator<Item = &'a Recorded> {
        self.records.iter().filter(move |record| match subject {
            Subject::Endpoint(uid) => record.owner.uid == *uid,
            Subject::Record(one) => *record == one,
        })
    }

    /// The UID that a subject names.
    pub(super) fn uid<'a>(&self, subject: &'a Subject) -> &'a str {
        match subject {
            Subject::Endpoint(uid) => uid,
            Subject::Record(record) => &record.owner.uid,
        }
    }

    /// How the pod of a subject is named.
    pub(super) fn trace(&self, subject: &Subject) -> Trace {
        match (subject, &self.endpoint) {
            (Subject::Endpoint(_), Some(endpoint)) => {
                let own = self.own(subject).next().is_some();
                let recorded = self.records.iter().any(|record| has(endpoint, record));
                if own || recorded {
                    Trace::Endpoint
                } else {
                    Trace::Unrecorded
                }
            }
            (Subject::Record(record), Some(endpoint)) if has(endpoint, record) => Trace::TakenOver,
            (Subject::Record(_), Some(_)) => Trace::Replaced,
            (_, None) => Trace::Record,
        }
    }

    /// The node that an endpoint or a record names.
    pub(super) fn node<'a>(&'a self, subject: &'a Subject) -> Option<&'a str> {
        let node = match (subject, &self.endpoint) {
            (Subject::Endpoint(_), Some(endpoint)) => Some(endpoint.status.current.node.as_str()),
            (Subject::Endpoint(_), None) => None,
            (Subject::Record(record), _) => record.node.as_deref(),
        };
        node.filter(|node| !node.is_empty())
    }

    /// The name of the pod that a subject is about, as far as it is known.
    pub(super) fn pod<'a>(&'a self, subject: &Subject) -> &'a str {
        let told = match subject {
            Subject::Endpoint(_) => self
                .endpoint
                .as_ref()
                .and_then(|endpoint| endpoint.status.current.pod_name.as_deref()),
            Subject::Record(_) => None,
        };
        told.unwrap_or(&self.key.name)
    }

    /// What the agent said of the sandboxes. It notes which one it set up with what network, and takes the note back when that is
    /// gone.
    pub(super) fn sandboxes(&self, subject: &Subject) -> Sandboxes {
        let (Subject::Endpoint(_), Some(endpoint)) = (subject, &self.endpoint) else {
            return Sandboxes::Unsaid;
        };
        let items = || endpoint.status.current.ips.iter();
        if items().any(|item| item.container_id.is_some()) {
            Sandboxes::Some
        } else if items().any(|item| item.network_name.is_some()) {
            Sandboxes::None
        } else {
            Sandboxes::Unsaid
        }
    }

    /// Whether the endpoint is on its way out with its namespace, which waits for it.
    pub(super) fn is_leaving(&self, context: &Context, subject: &Subject) -> bool {
        let ends = |endpoint: &Arc<SpiderEndpoint>| endpoint.metadata.deletion_timestamp.is_some();
        matches!(subject, Subject::Endpoint(_))
            && self.endpoint.as_ref().is_some_and(ends)
            && namespace::is_ending(context, &self.key.namespace)
    }

    /// The policy that holds for a subject. Where pools differ, what one pod has goes when all of them allow it.
    pub(super) fn policy(&self, context: &Context, subject: &Subject) -> Policy {
        let named = self.endpoint.iter().flat_map(|endpoint| &endpoint.status.current.ips);
        let named = named
            .flat_map(|item| [item.ipv4_pool.as_ref(), item.ipv6_pool.as_ref()])
            .flatten();
        let named = named.filter(|_| matches!(subject, Subject::Endpoint(_)));
        let pools: BTreeSet<&String> = self.own(subject).map(|record| &record.pool).chain(named).collect();
        let settings = &context.reclaim;
        let said = pools.into_iter().filter_map(|name| context.caches.pools.get("", name));
        let said: Vec<_> = said.collect();
        // What is on record may not be what is in use.
        let restoring = said.iter().any(|pool| pool.is_restoring());
        let said = said.iter().map(|pool| settings.on_node_lost(&pool.spec));
        Policy {
            enabled: settings.policy.enabled && !restoring,
            on_node_lost: said
                .reduce(OnNodeLost::stricter)
                .unwrap_or(settings.policy.on_node_lost),
            ..settings.policy
        }
    }

    /// What is freed with a subject.
    pub(super) fn freed(&self, subject: &Subject) -> Freed {
        Freed {
            records: self.own(subject).cloned().collect(),
            endpoint: match subject {
                Subject::Endpoint(_) => self.endpoint.clone(),
                Subject::Record(_) => None,
            },
        }
    }
}

/// Whether an endpoint names an address of a pool.
fn has(endpoint: &SpiderEndpoint, record: &Recorded) -> bool {
    let mut named = endpoint.status.current.ips.iter().flat_map(|item| item.addresses());
    named.any(|(address, pool)| address == record.address && pool == Some(&record.pool))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use spiderpool_crds::{EndpointStatus, NicDetail, PodAllocation};

    fn endpoint(uid: &str, pool: &str) -> SpiderEndpoint {
        let item = NicDetail {
            ipv4: Some("10.0.0.1/24".to_owned()),
            ipv4_pool: Some(pool.to_owned()),
            ..NicDetail::default()
        };
        let current = PodAllocation {
            uid: uid.to_owned(),
            node: "n1".to_owned(),
            ips: vec![item],
            ..PodAllocation::default()
        };
        let status = EndpointStatus {
            current,
            ..EndpointStatus::default()
        };
        SpiderEndpoint::new("ns", "pod", status)
    }

    pub(in crate::reclaim) fn recorded(address: &str, uid: &str) -> Recorded {
        Recorded {
            pool: "p".to_owned(),
            address: address.parse().unwrap(),
            owner: Owner {
                pod: "ns/pod".to_owned(),
                uid: uid.to_owned(),
                nic: None,
            },
            node: None,
        }
    }

    fn case(records: &[Recorded], endpoint: Option<SpiderEndpoint>) -> Case {
        Case {
            key: Key::new("ns", "pod"),
            records: records.to_vec(),
            endpoint: endpoint.map(Arc::new),
        }
    }

    #[test]
    fn an_endpoint_speaks_for_its_pod_and_for_its_addresses() {
        let traces = |records: &[Recorded], endpoint: Option<SpiderEndpoint>| {
            let case = case(records, endpoint);
            case.subjects()
                .iter()
                .map(|subject| case.trace(subject))
                .collect::<Vec<_>>()
        };
        let (one, other) = (recorded("10.0.0.1", "u"), recorded("10.0.0.9", "u"));
        let both = [one.clone(), other];
        assert_eq!(traces(&both, None), [Trace::Record, Trace::Record]);
        assert_eq!(traces(&both, Some(endpoint("u", "p"))), [Trace::Endpoint]);
        assert_eq!(
            traces(&both, Some(endpoint("v", "p"))),
            [Trace::Endpoint, Trace::TakenOver, Trace::Replaced]
        );
        // Of another pool, the address is another one.
        assert_eq!(
            traces(&[one], Some(endpoint("v", "q"))),
            [Trace::Unrecorded, Trace::Replaced]
        );
        assert_eq!(traces(&[], Some(endpoint("v", "p"))), [Trace::Unrecorded]);
    }

    #[test]
    fn an_agent_that_said_nothing_of_a_sandbox_has_not_said_that_there_is_none() {
        let said = |container: Option<&str>, network: Option<&str>| {
            let mut endpoint = endpoint("u", "p");
            for item in &mut endpoint.status.current.ips {
                item.container_id = container.map(str::to_owned);
                item.network_name = network.map(str::to_owned);
            }
            let case = case(&[], Some(endpoint));
            case.sandboxes(&Subject::Endpoint("u".to_owned()))
        };
        assert_eq!(said(Some("c"), Some("net")), Sandboxes::Some);
        assert_eq!(said(None, Some("net")), Sandboxes::None);
        assert_eq!(said(None, None), Sandboxes::Unsaid);
    }

    #[test]
    fn the_node_of_a_record_is_that_which_it_names_itself() {
        let mut record = recorded("10.0.0.9", "u");
        record.node = Some("n2".to_owned());
        let case = case(&[record.clone()], Some(endpoint("v", "p")));
        assert_eq!(case.node(&Subject::Record(record)), Some("n2"));
        assert_eq!(case.node(&Subject::Endpoint("v".to_owned())), Some("n1"));
    }
}
