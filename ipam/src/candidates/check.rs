//! Whether a pool may serve a NIC of a pod.

use super::facts::{Master, PodFacts, PodRule, PoolFacts, Room};
use super::rejection::{Rejection, Term};
use crate::addr::Family;

/// Whether a pool may serve a NIC of a pod with addresses of a family. The first rule that is not met is the reason.
pub fn check(pool: &PoolFacts, family: Family, pod: &PodFacts) -> Result<(), Rejection> {
    if pool.terminating {
        return Err(Rejection::Terminating);
    }
    if pool.disabled {
        return Err(Rejection::Disabled);
    }
    let holds = pool.family();
    if holds != Some(family) {
        return Err(Rejection::WrongVersion { wanted: family, holds });
    }
    if !pool.ready {
        if let Some(why) = &pool.refused {
            return Err(Rejection::Refused(why.clone()));
        }
        // An automatic pool is made by the operator out of its subnet's accounting. Whoever claims sees whether it said so.
        if !matches!(pool.pods, PodRule::Application(_)) {
            return Err(Rejection::NotReady);
        }
    }
    node(pool, pod).map_err(Rejection::Affinity)?;
    namespace(pool, pod).map_err(Rejection::Affinity)?;
    // An automatic pool is made for one NIC of one application, which settles the network as well.
    if pod_rule(pool, pod).map_err(Rejection::Affinity)? == Settled::NotYet {
        network(pool, pod).map_err(Rejection::Affinity)?;
    }
    match &pool.room {
        Room::Unknown | Room::Free => Ok(()),
        Room::None(rejection) => Err(rejection.clone()),
    }
}

fn node(pool: &PoolFacts, pod: &PodFacts) -> Result<(), Term> {
    if !pool.node_names.is_empty() {
        return if pool.node_names.contains(&pod.node) {
            Ok(())
        } else {
            Err(Term::NodeName {
                node: pod.node.clone(),
                names: pool.node_names.clone(),
            })
        };
    }
    let Some(nodes) = &pool.nodes else { return Ok(()) };
    // Labels that nobody read are not the same as none: many a term is met by a node without labels.
    let Some(labels) = &pod.node_labels else {
        return Err(Term::NodeUnread { node: pod.node.clone() });
    };
    nodes.unmet(labels).map_or(Ok(()), |unmet| {
        Err(Term::NodeAffinity {
            node: pod.node.clone(),
            unmet,
        })
    })
}

fn namespace(pool: &PoolFacts, pod: &PodFacts) -> Result<(), Term> {
    if !pool.namespace_names.is_empty() {
        return if pool.namespace_names.contains(&pod.namespace) {
            Ok(())
        } else {
            Err(Term::NamespaceName {
                namespace: pod.namespace.clone(),
                names: pool.namespace_names.clone(),
            })
        };
    }
    let Some(namespaces) = &pool.namespaces else {
        return Ok(());
    };
    let Some(labels) = &pod.namespace_labels else {
        return Err(Term::NamespaceUnread {
            namespace: pod.namespace.clone(),
        });
    };
    namespaces.unmet(labels).map_or(Ok(()), |unmet| {
        Err(Term::NamespaceAffinity {
            namespace: pod.namespace.clone(),
            unmet,
        })
    })
}

/// Whether the network of the NIC is settled by whose the pool is.
#[derive(PartialEq, Eq)]
enum Settled {
    Yes,
    NotYet,
}

fn pod_rule(pool: &PoolFacts, pod: &PodFacts) -> Result<Settled, Term> {
    match &pool.pods {
        PodRule::Any => Ok(Settled::NotYet),
        PodRule::Labels(selector) => match selector.unmet(&pod.labels) {
            None => Ok(Settled::NotYet),
            Some(unmet) => Err(Term::PodAffinity { unmet }),
        },
        PodRule::Application(app) if *app == pod.application => Ok(Settled::Yes),
        PodRule::Application(app) => Err(Term::Application(app.clone())),
    }
}

/// The network of the NIC. A pool that names networks is not compared with the master's subnet as well: whoever wrote both
/// has said which network he means.
fn network(pool: &PoolFacts, pod: &PodFacts) -> Result<(), Term> {
    if !pool.multus_names.is_empty() {
        let named = |entry: &String| {
            let network = pod.network.as_deref();
            match entry.contains('/') {
                true => network == Some(entry),
                false => network == Some(&format!("{}/{entry}", pod.default_network_namespace)),
            }
        };
        return if pool.multus_names.iter().any(named) {
            Ok(())
        } else {
            Err(Term::MultusName {
                names: pool.multus_names.clone(),
                nic: pod.nic.clone(),
                network: pod.network.clone(),
            })
        };
    }
    match &pod.master {
        Master::Any => Ok(()),
        Master::Unknown => Err(Term::MasterSubnet { master: None }),
        Master::Has(addresses) => {
            let subnet = pool.subnet.as_ref();
            let inside = |address| subnet.is_some_and(|subnet| subnet.contains(address));
            if addresses.iter().copied().any(inside) {
                Ok(())
            } else {
                Err(Term::MasterSubnet {
                    master: Some(addresses.clone()),
                })
            }
        }
    }
}
