//! The pool objects that the operator makes and changes.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, OwnerReference};
use kube::core::ObjectMeta;
use sha2::{Digest, Sha256};
use spiderpool_crds::names::{
    ANNOTATION_IP_NUMBER, API_VERSION, FINALIZER, LABEL_INTERFACE, LABEL_IP_VERSION, LABEL_IPPOOL_CIDR,
    LABEL_OWNER_APP_UID, LABEL_OWNER_SUBNET, LABEL_RECLAIM, label_value,
};
use spiderpool_crds::{IPPoolSpec, SpiderIPPool, SpiderSubnet};
use spiderpool_ipam::{Cidr, RangeSet, text};

use crate::application::{Application, Request, Slot};

/// Longest name of a Kubernetes object.
const NAME_MAX: usize = 253;
/// How many digits of the digest tell pools apart that would have the same name.
const DIGITS: usize = 5;

/// A pool's name where the usual one belongs to somebody else: five digits of a digest are added.
pub fn other_name(usual: &str, subnet: &str, app: &Application) -> String {
    let key = &app.key;
    let whole = format!("{subnet}/{}/{}/{}", key.namespace, key.kind, app.uid);
    let digest = Sha256::digest(whole.as_bytes());
    let digits: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    let digits = digits.get(..DIGITS).unwrap_or_default();
    let room = usual.len().min(NAME_MAX - DIGITS - 1);
    format!("{}-{digits}", usual.get(..room).unwrap_or(usual))
}

/// The pool of an application's slot, new.
pub fn new_pool(
    name: &str,
    app: &Application,
    request: &Request,
    slot: &Slot,
    subnet: &SpiderSubnet,
    cidr: Cidr,
    ranges: &RangeSet,
) -> SpiderIPPool {
    let family = cidr.family();
    let subnet_name = subnet.metadata.name.clone().unwrap_or_default();
    let mut labels = app.key.labels();
    labels.extend([
        (LABEL_INTERFACE.to_owned(), slot.nic.clone()),
        (LABEL_IP_VERSION.to_owned(), family.to_string()),
        (LABEL_OWNER_SUBNET.to_owned(), label_value(&subnet_name).into_owned()),
    ]);
    let mut annotations = BTreeMap::new();
    if label_value(&subnet_name) != subnet_name {
        annotations.insert(LABEL_OWNER_SUBNET.to_owned(), subnet_name.clone());
    }
    if let Some(value) = cidr.label_value() {
        labels.insert(LABEL_IPPOOL_CIDR.to_owned(), value);
    }
    let mut pool = SpiderIPPool {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            labels: Some(labels),
            annotations: Some(annotations),
            finalizers: Some(vec![FINALIZER.to_owned()]),
            owner_references: Some(vec![OwnerReference {
                api_version: API_VERSION.to_owned(),
                kind: "SpiderSubnet".to_owned(),
                name: subnet_name,
                uid: subnet.metadata.uid.clone().unwrap_or_default(),
                controller: Some(true),
                block_owner_deletion: Some(true),
            }]),
            ..ObjectMeta::default()
        },
        spec: IPPoolSpec {
            ip_version: Some(family.number()),
            subnet: subnet.spec.subnet.clone(),
            gateway: subnet.spec.gateway.clone(),
            routes: subnet.spec.routes.clone(),
            pod_affinity: Some(LabelSelector {
                match_labels: Some(app.key.affinity()),
                ..LabelSelector::default()
            }),
            default: Some(false),
            disable: Some(false),
            ..IPPoolSpec::default()
        },
        status: None,
    };
    describe(&mut pool, app, request);
    set_ranges(&mut pool, cidr, ranges);
    pool
}

/// The pool as it is to be: described as its application wants it and, if given, with these addresses. None if it is so.
pub fn changed(
    pool: &SpiderIPPool,
    wanted_by: Option<(&Application, &Request)>,
    cidr: Cidr,
    ranges: Option<&RangeSet>,
) -> Option<SpiderIPPool> {
    let mut new = pool.clone();
    if let Some((app, request)) = wanted_by {
        describe(&mut new, app, request);
    }
    if let Some(ranges) = ranges {
        set_ranges(&mut new, cidr, ranges);
    }
    (new != *pool).then_some(new)
}

fn describe(pool: &mut SpiderIPPool, app: &Application, request: &Request) {
    let labels = pool.metadata.labels.get_or_insert_default();
    labels.insert(LABEL_OWNER_APP_UID.to_owned(), app.uid.clone());
    labels.insert(LABEL_RECLAIM.to_owned(), request.reclaim.to_string());
    let annotations = pool.metadata.annotations.get_or_insert_default();
    annotations.insert(ANNOTATION_IP_NUMBER.to_owned(), request.number.to_string());
    annotations.extend(app.key.annotations());
}

fn set_ranges(pool: &mut SpiderIPPool, cidr: Cidr, ranges: &RangeSet) {
    let texts = text::print_ranges(cidr.family(), ranges);
    pool.spec.ips = (!texts.is_empty()).then_some(texts);
    // The ranges say exactly what the pool has; an exclusion left over would take addresses away from new ones.
    pool.spec.exclude_ips = None;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::application::Asked;
    use serde_json::json;
    use spiderpool_crds::annotations::IpNumber;
    use spiderpool_crds::app::AppKey;
    use spiderpool_ipam::Family;

    fn shop() -> (Application, Request, Slot) {
        let slot = Slot {
            nic: "eth0".to_owned(),
            family: Family::V4,
            subnets: vec!["rack7-v4".to_owned()],
        };
        let request = Request {
            number: IpNumber::Flexible(1),
            size: 3,
            beyond_limit: None,
            stuck: None,
            reclaim: true,
            slots: vec![slot.clone()],
        };
        let app = Application {
            key: AppKey::new("apps/v1", "Deployment", "retail", "shop"),
            uid: "7c9e6679-7425-40de-944b-e07fc1f90ae7".to_owned(),
            since: None,
            terminating: false,
            asked: Asked::Pools(request.clone()),
        };
        (app, request, slot)
    }

    fn rack7() -> SpiderSubnet {
        serde_json::from_value(json!({
            "apiVersion": "spiderpool.spidernet.io/v2beta1",
            "kind": "SpiderSubnet",
            "metadata": {"name": "rack7-v4", "uid": "11111111-2222-4333-8444-555555555555"},
            "spec": {
                "ipVersion": 4, "subnet": "10.77.0.0/20", "ips": ["10.77.1.10-10.77.1.40"],
                "excludeIPs": ["10.77.1.20"], "gateway": "10.77.0.1",
                "routes": [{"dst": "192.168.200.0/24", "gw": "10.77.0.254"}],
            },
        }))
        .unwrap()
    }

    fn ranges(texts: &[&str]) -> RangeSet {
        text::parse_ranges(Family::V4, texts).unwrap()
    }

    fn pool() -> SpiderIPPool {
        let (app, request, slot) = shop();
        let subnet = rack7();
        let name = spiderpool_ipam::pool_name("shop", Family::V4, "eth0", &app.uid);
        let cidr = subnet.cidr().unwrap();
        let three = ranges(&["10.77.1.10-10.77.1.12"]);
        new_pool(&name, &app, &request, &slot, &subnet, cidr, &three)
    }

    #[test]
    fn a_new_pool_is_the_object_that_users_know() {
        let expected = json!({
            "apiVersion": "spiderpool.spidernet.io/v2beta1",
            "kind": "SpiderIPPool",
            "metadata": {
                "name": "auto4-shop-eth0-e07fc",
                "annotations": {"ipam.spidernet.io/ippool-ip-number": "+1"},
                "labels": {
                    "ipam.spidernet.io/interface": "eth0",
                    "ipam.spidernet.io/ip-version": "IPv4",
                    "ipam.spidernet.io/ippool-cidr": "10-77-0-0-20",
                    "ipam.spidernet.io/ippool-reclaim": "true",
                    "ipam.spidernet.io/owner-application-gv": "apps_v1",
                    "ipam.spidernet.io/owner-application-kind": "Deployment",
                    "ipam.spidernet.io/owner-application-name": "shop",
                    "ipam.spidernet.io/owner-application-namespace": "retail",
                    "ipam.spidernet.io/owner-application-uid": "7c9e6679-7425-40de-944b-e07fc1f90ae7",
                    "ipam.spidernet.io/owner-spider-subnet": "rack7-v4",
                },
                "finalizers": ["spiderpool.spidernet.io"],
                "ownerReferences": [{
                    "apiVersion": "spiderpool.spidernet.io/v2beta1",
                    "kind": "SpiderSubnet",
                    "name": "rack7-v4",
                    "uid": "11111111-2222-4333-8444-555555555555",
                    "controller": true,
                    "blockOwnerDeletion": true,
                }],
            },
            "spec": {
                "ipVersion": 4,
                "subnet": "10.77.0.0/20",
                "ips": ["10.77.1.10-10.77.1.12"],
                "gateway": "10.77.0.1",
                "routes": [{"dst": "192.168.200.0/24", "gw": "10.77.0.254"}],
                "podAffinity": {"matchLabels": {
                    "ipam.spidernet.io/app-api-group": "apps",
                    "ipam.spidernet.io/app-api-version": "v1",
                    "ipam.spidernet.io/app-kind": "Deployment",
                    "ipam.spidernet.io/app-namespace": "retail",
                    "ipam.spidernet.io/app-name": "shop",
                }},
                "default": false,
                "disable": false,
            },
        });
        assert_eq!(serde_json::to_value(pool()).unwrap(), expected);
    }

    #[test]
    fn a_pool_that_is_right_is_not_changed() {
        let (app, request, _) = shop();
        let cidr = rack7().cidr().unwrap();
        let same = ranges(&["10.77.1.10-10.77.1.12"]);
        assert_eq!(changed(&pool(), Some((&app, &request)), cidr, Some(&same)), None);
    }

    #[test]
    fn a_successor_takes_the_pool_over_and_other_annotations_stay() {
        let (mut app, mut request, _) = shop();
        app.uid = "another".to_owned();
        request.reclaim = false;
        request.number = IpNumber::Fixed(4);
        let mut old = pool();
        old.metadata
            .annotations
            .get_or_insert_default()
            .insert("note".to_owned(), "mine".to_owned());
        old.spec.exclude_ips = Some(vec!["10.77.1.13".to_owned()]);
        let more = ranges(&["10.77.1.10-10.77.1.13"]);
        let new = changed(&old, Some((&app, &request)), rack7().cidr().unwrap(), Some(&more)).unwrap();
        assert_eq!(new.label(LABEL_OWNER_APP_UID), Some("another"));
        assert_eq!(new.label(LABEL_RECLAIM), Some("false"));
        assert_eq!(new.total().unwrap().count(), 4);
        let annotations = new.metadata.annotations.unwrap();
        assert_eq!(annotations[ANNOTATION_IP_NUMBER], "4");
        assert_eq!(annotations["note"], "mine");
    }

    #[test]
    fn names_longer_than_a_label_stand_in_annotations() {
        let (mut app, request, slot) = shop();
        app.key.name = "n".repeat(253);
        let mut subnet = rack7();
        subnet.metadata.name = Some("s".repeat(253));
        let name = spiderpool_ipam::pool_name(&app.key.name, Family::V4, "eth0", &app.uid);
        let cidr = subnet.cidr().unwrap();
        let pool = new_pool(&name, &app, &request, &slot, &subnet, cidr, &RangeSet::new());
        assert!(
            pool.metadata
                .labels
                .iter()
                .flatten()
                .all(|(_, value)| value.len() <= 63)
        );
        assert_eq!(pool.app_key(), Some(app.key.clone()));
        assert_eq!(pool.owner_subnet(), subnet.metadata.name.as_deref());
        let affinity = pool.spec.pod_affinity.clone().unwrap();
        assert!(app.key.matches_selector(&affinity));
        let mut bare = pool.clone();
        bare.metadata.annotations = None;
        assert_eq!(bare.app_key(), Some(app.key.clone()));
        assert_eq!(bare.owner_subnet(), subnet.metadata.name.as_deref());
        let healed = changed(&bare, Some((&app, &request)), cidr, None).unwrap();
        assert_eq!(
            healed.metadata.annotations.unwrap()["ipam.spidernet.io/owner-application-name"],
            app.key.name
        );
    }

    #[test]
    fn a_taken_name_is_extended_the_same_way_each_time() {
        let (app, ..) = shop();
        let usual = "auto4-shop-eth0-e07fc";
        let other = other_name(usual, "rack7-v4", &app);
        assert_eq!(other, other_name(usual, "rack7-v4", &app));
        assert_ne!(other, other_name(usual, "rack8-v4", &app));
        let digits = other.strip_prefix("auto4-shop-eth0-e07fc-").unwrap();
        assert!(
            digits.len() == 5 && digits.bytes().all(|b| b.is_ascii_hexdigit()),
            "{digits}"
        );
        assert_eq!(other_name(&"n".repeat(253), "s", &app).len(), 253);
    }
}
