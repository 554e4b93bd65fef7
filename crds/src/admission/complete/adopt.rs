//! A pool with the network of a subnet becomes a part of that subnet.
//!
//! The subnet counts the pool's addresses as given in any case, since both have the same network. Adoption makes the pool
//! go with the subnet when that is deleted, and lets a pool without gateway or routes inherit them, once: what a user takes
//! out later stays out. A pool that something else controls is left to that.

use crate::names::{API_VERSION, GROUP, LABEL_OWNER_SUBNET, label_value};
use crate::types::{SpiderIPPool, SpiderSubnet};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::Resource;

/// How a pool stands to the subnet that has its network.
#[derive(Clone, Debug, PartialEq)]
pub enum Tie {
    /// It is a part of the subnet, or there is no subnet to be a part of.
    Settled,
    /// It becomes a part of the subnet by being written like this.
    Adopt(Box<SpiderIPPool>),
    /// Something else controls it.
    Foreign {
        /// Kind and name of what controls it.
        controller: String,
        /// The subnet.
        subnet: String,
    },
}

/// Of the subnets with a pool's network the one that the pool is a part of, or is to become a part of. There is at most one, unless users make a second one
/// with the same network in spite of all warnings.
pub fn home<'a>(subnets: impl IntoIterator<Item = &'a SpiderSubnet>, pool: &SpiderIPPool) -> Option<&'a SpiderSubnet> {
    let owner = controller(pool).map(|owner| owner.uid.as_str());
    let rank = |subnet: &&SpiderSubnet| (subnet.metadata.uid.as_deref() != owner, subnet.metadata.name.clone());
    let alive = subnets.into_iter().filter(|subnet| !subnet.is_terminating());
    alive.min_by_key(rank)
}

/// Whether nothing but this very subnet controls a pool.
pub(super) fn may_control(subnet: &SpiderSubnet, pool: &SpiderIPPool) -> bool {
    controller(pool).is_none_or(|owner| Some(&owner.uid) == subnet.metadata.uid.as_ref())
}

fn controller(pool: &SpiderIPPool) -> Option<&OwnerReference> {
    let mut owners = pool.metadata.owner_references.iter().flatten();
    owners.find(|owner| owner.controller == Some(true))
}

/// How a pool stands to the subnet with its network.
pub fn tie(pool: &SpiderIPPool, subnet: &SpiderSubnet) -> Tie {
    let (Some(name), Some(uid)) = (&subnet.metadata.name, &subnet.metadata.uid) else {
        return Tie::Settled;
    };
    if pool.is_terminating() {
        return Tie::Settled;
    }
    let owner = controller(pool);
    let owned = owner.is_some_and(|owner| owner.uid == *uid);
    if let Some(owner) = owner.filter(|_| !owned)
        && !is_predecessor(owner, name)
    {
        return Tie::Foreign {
            controller: format!("{} {}", owner.kind, owner.name),
            subnet: name.clone(),
        };
    }
    if owned && pool.owner_subnet() == Some(name) {
        return Tie::Settled;
    }
    let mut adopted = pool.clone();
    if owner.is_none() && !pool.is_automatic() {
        inherit(&mut adopted, subnet);
    }
    if !owned {
        own(&mut adopted, name, uid);
    }
    name_owner(&mut adopted, name);
    Tie::Adopt(Box::new(adopted))
}

/// Whether an owner is an earlier subnet of the same name: after a restore, or when the subnet was made anew.
fn is_predecessor(owner: &OwnerReference, name: &str) -> bool {
    let group = owner.api_version.split('/').next();
    group == Some(GROUP) && owner.kind == SpiderSubnet::kind(&()) && owner.name == name
}

fn own(pool: &mut SpiderIPPool, name: &str, uid: &str) {
    let owners = pool.metadata.owner_references.get_or_insert_default();
    // One object may have one controller, and one owner one reference.
    owners.retain(|owner| owner.controller != Some(true) && owner.uid != uid);
    owners.push(OwnerReference {
        api_version: API_VERSION.to_owned(),
        kind: SpiderSubnet::kind(&()).into_owned(),
        name: name.to_owned(),
        uid: uid.to_owned(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    });
}

fn name_owner(pool: &mut SpiderIPPool, name: &str) {
    let key = || LABEL_OWNER_SUBNET.to_owned();
    let label = label_value(name);
    let labels = pool.metadata.labels.get_or_insert_default();
    labels.insert(key(), label.clone().into_owned());
    if label != name {
        let annotations = pool.metadata.annotations.get_or_insert_default();
        annotations.insert(key(), name.to_owned());
    }
}

/// Whoever writes an empty list of routes says that there are to be none. A gateway among the pool's own addresses would
/// make the pool invalid.
fn inherit(pool: &mut SpiderIPPool, subnet: &SpiderSubnet) {
    if pool.spec.gateway.is_none()
        && let Ok(Some(gateway)) = subnet.gateway()
        && !pool.total().is_ok_and(|total| total.contains(gateway))
    {
        pool.spec.gateway.clone_from(&subnet.spec.gateway);
    }
    if pool.spec.routes.is_none() && !subnet.routes().is_empty() {
        pool.spec.routes.clone_from(&subnet.spec.routes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn rack7() -> SpiderSubnet {
        serde_json::from_value(json!({
            "apiVersion": API_VERSION, "kind": "SpiderSubnet",
            "metadata": {"name": "rack7", "uid": "s-1"},
            "spec": {
                "subnet": "10.77.0.0/20", "ips": ["10.77.1.10-10.77.1.40"], "gateway": "10.77.0.1",
                "routes": [{"dst": "192.168.200.0/24", "gw": "10.77.0.254"}],
            },
        }))
        .unwrap()
    }

    /// A pool of the same network, with more in its metadata and spec.
    fn pool(metadata: Value, spec: Value) -> SpiderIPPool {
        let mut pool = json!({
            "apiVersion": API_VERSION, "kind": "SpiderIPPool", "metadata": {"name": "p"},
            "spec": {"subnet": "10.77.0.0/20", "ips": ["10.77.1.10-10.77.1.12"]},
        });
        for (part, more) in [("metadata", metadata), ("spec", spec)] {
            if let Value::Object(more) = more {
                pool[part].as_object_mut().unwrap().extend(more);
            }
        }
        serde_json::from_value(pool).unwrap()
    }

    fn adopted(pool: &SpiderIPPool) -> SpiderIPPool {
        match tie(pool, &rack7()) {
            Tie::Adopt(adopted) => *adopted,
            other => panic!("{other:?}"),
        }
    }

    fn owner(kind: &str, name: &str, uid: &str) -> Value {
        let group = if kind == "SpiderSubnet" { API_VERSION } else { "apps/v1" };
        json!([{"apiVersion": group, "kind": kind, "name": name, "uid": uid, "controller": true}])
    }

    #[test]
    fn a_new_part_is_owned_labelled_and_inherits() {
        let new = adopted(&pool(json!({}), json!({})));
        let expected = json!([{
            "apiVersion": API_VERSION, "kind": "SpiderSubnet", "name": "rack7", "uid": "s-1",
            "controller": true, "blockOwnerDeletion": true,
        }]);
        assert_eq!(serde_json::to_value(&new.metadata.owner_references).unwrap(), expected);
        assert_eq!(new.label(LABEL_OWNER_SUBNET), Some("rack7"));
        assert_eq!(new.spec.gateway.as_deref(), Some("10.77.0.1"));
        assert_eq!(new.routes(), rack7().routes());
        assert_eq!(tie(&new, &rack7()), Tie::Settled);
    }

    #[test]
    fn each_of_gateway_and_routes_is_inherited_only_where_nothing_is_said() {
        let own = adopted(&pool(json!({}), json!({"gateway": "10.77.0.9", "routes": []})));
        assert_eq!(own.spec.gateway.as_deref(), Some("10.77.0.9"));
        assert!(own.routes().is_empty());
        let gateway = adopted(&pool(json!({}), json!({"routes": []})));
        assert_eq!(gateway.spec.gateway.as_deref(), Some("10.77.0.1"));
        let offered = adopted(&pool(json!({}), json!({"ips": ["10.77.0.1-10.77.0.3"]})));
        assert_eq!((offered.spec.gateway.as_deref(), offered.routes().len()), (None, 1));
    }

    #[test]
    fn inheriting_happens_once() {
        let mut known = adopted(&pool(json!({}), json!({})));
        known.spec.gateway = None;
        known.spec.routes = None;
        assert_eq!(tie(&known, &rack7()), Tie::Settled);
        known.metadata.labels = None;
        let labelled = adopted(&known);
        assert_eq!(labelled.label(LABEL_OWNER_SUBNET), Some("rack7"));
        assert_eq!((labelled.spec.gateway, labelled.spec.routes), (None, None));
    }

    #[test]
    fn what_something_else_controls_is_left_to_it() {
        let theirs = pool(json!({"ownerReferences": owner("Deployment", "web", "d-1")}), json!({}));
        let expected = Tie::Foreign {
            controller: "Deployment web".to_owned(),
            subnet: "rack7".to_owned(),
        };
        assert_eq!(tie(&theirs, &rack7()), expected);
        let elsewhere = pool(
            json!({"ownerReferences": owner("SpiderSubnet", "rack8", "s-8")}),
            json!({}),
        );
        assert!(matches!(tie(&elsewhere, &rack7()), Tie::Foreign { .. }));
    }

    #[test]
    fn a_subnet_made_anew_takes_the_place_of_its_predecessor() {
        let old = owner("SpiderSubnet", "rack7", "s-0");
        let new = adopted(&pool(json!({"ownerReferences": old}), json!({})));
        let owners = new.metadata.owner_references.as_deref().unwrap();
        assert_eq!((owners.len(), owners[0].uid.as_str()), (1, "s-1"));
        assert_eq!(new.spec.gateway, None);
    }

    #[test]
    fn a_long_name_is_a_valid_label_and_still_known() {
        let mut subnet = rack7();
        subnet.metadata.name = Some("r".repeat(100));
        let Tie::Adopt(new) = tie(&pool(json!({}), json!({})), &subnet) else {
            panic!("not adopted")
        };
        assert_eq!(new.label(LABEL_OWNER_SUBNET).unwrap().len(), 63);
        assert_eq!(tie(&new, &subnet), Tie::Settled);
    }

    #[test]
    fn owners_that_do_not_control_stay() {
        let mut owners = owner("ConfigMap", "note", "c-1");
        owners[0]["controller"] = json!(false);
        let new = adopted(&pool(json!({"ownerReferences": owners}), json!({})));
        assert_eq!(new.metadata.owner_references.unwrap().len(), 2);
    }

    #[test]
    fn an_automatic_pool_gets_its_owner_back_and_nothing_else() {
        let label = json!({"ipam.spidernet.io/owner-application-name": "shop"});
        let new = adopted(&pool(json!({"labels": label}), json!({})));
        assert!(new.metadata.owner_references.is_some());
        assert_eq!((new.spec.gateway, new.spec.routes), (None, None));
    }

    #[test]
    fn nothing_on_its_way_out_is_tied_to_anything() {
        let gone = json!("2026-01-01T00:00:00Z");
        let going = pool(json!({"deletionTimestamp": gone}), json!({}));
        assert_eq!(tie(&going, &rack7()), Tie::Settled);
        let mut subnet = rack7();
        subnet.metadata.deletion_timestamp = serde_json::from_value(gone).unwrap();
        let alive = pool(json!({}), json!({}));
        assert!(home([&subnet], &alive).is_none());
    }

    #[test]
    fn of_two_subnets_the_one_that_owns_it_counts() {
        let mut other = rack7();
        other.metadata.name = Some("a".to_owned());
        other.metadata.uid = Some("s-2".to_owned());
        let both = [rack7(), other];
        let chosen = |pool: &SpiderIPPool| home(&both, pool).unwrap().metadata.name.clone().unwrap();
        let fresh = pool(json!({}), json!({}));
        assert_eq!(chosen(&fresh), "a");
        assert_eq!(chosen(&adopted(&fresh)), "rack7");
    }
}
