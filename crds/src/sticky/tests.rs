use super::*;
use crate::{EndpointStatus, SpiderEndpoint};
use serde_json::json;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

const BOTH: StickyKinds = StickyKinds {
    sets: true,
    machines: true,
};

/// Objects by `plural.group/name`.
#[derive(Default)]
struct Cluster(BTreeMap<String, Value>);

impl Cluster {
    fn of(objects: &[(&str, Value)]) -> Self {
        let objects = objects.iter();
        Self(
            objects
                .map(|(name, value)| ((*name).to_owned(), value.clone()))
                .collect(),
        )
    }
}

impl ReadObject for Cluster {
    type Error = Infallible;

    async fn read(&self, resource: &ApiResource, _: &str, name: &str) -> Result<Option<DynamicObject>, Infallible> {
        let key = format!("{}.{}/{name}", resource.plural, resource.group);
        Ok(self
            .0
            .get(&key)
            .map(|value| serde_json::from_value(value.clone()).unwrap()))
    }
}

fn stays(keeper: &Keeper, cluster: &Cluster) -> bool {
    // Nothing here waits, so the first look finds it done.
    match pin!(keeper.stays(cluster)).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(Ok(stays)) => stays,
        Poll::Pending => panic!("it waits"),
    }
}

fn controller(api_version: &str, kind: &str, name: &str) -> OwnerReference {
    OwnerReference {
        api_version: api_version.to_owned(),
        kind: kind.to_owned(),
        name: name.to_owned(),
        controller: Some(true),
        ..OwnerReference::default()
    }
}

fn pod(api_version: &str, kind: &str, owner: &str, name: &str) -> Option<Keeper> {
    Keeper::of_pod("shop", name, Some(&controller(api_version, kind, owner)), BOTH)
}

fn endpoint(name: &str, api_version: Option<&str>, kind: &str, owner: &str) -> SpiderEndpoint {
    let status = EndpointStatus {
        owner_controller_type: kind.to_owned(),
        owner_controller_name: owner.to_owned(),
        owner_controller_api_version: api_version.map(str::to_owned),
        ..EndpointStatus::default()
    };
    SpiderEndpoint::new("shop", name, status)
}

#[test]
fn only_sets_and_virtual_machines_keep_addresses() {
    assert_eq!(pod("apps/v1", "ReplicaSet", "web-5f", "web-5f-x"), None);
    assert_eq!(pod("example.org/v1", "StatefulSet", "web", "web-0"), None);
    assert_eq!(pod("v1", "StatefulSet", "web", "web-0"), None);
    assert_eq!(Keeper::of_pod("shop", "web-0", None, BOTH), None);
    let set = pod("apps/v1", "StatefulSet", "web", "web-0").unwrap();
    assert_eq!(
        (set.kinds.as_slice(), &*set.key()),
        (&[StickyKind::StatefulSet][..], "shop/web-0")
    );
    let advanced = pod("apps.kruise.io/v1alpha1", "StatefulSet", "web", "web-0").unwrap();
    assert_eq!(advanced.kinds, [StickyKind::AdvancedStatefulSet]);
    let machine = pod("kubevirt.io/v1", "VirtualMachineInstance", "db", "virt-launcher-db-x7").unwrap();
    assert_eq!((&*machine.key(), machine.is_machine()), ("shop/db", true));
}

#[test]
fn kinds_that_are_switched_off_keep_nothing() {
    let set = controller("apps/v1", "StatefulSet", "web");
    let machine = controller("kubevirt.io/v1", "VirtualMachineInstance", "db");
    let off = |sets, machines| StickyKinds { sets, machines };
    assert_eq!(Keeper::of_pod("shop", "web-0", Some(&set), off(false, true)), None);
    assert_eq!(Keeper::of_pod("shop", "v", Some(&machine), off(true, false)), None);
    let set = endpoint("web-0", None, "StatefulSet", "web");
    assert_eq!(Keeper::of_endpoint(&set, off(false, true)), None);
    let machine = endpoint("db", None, "VirtualMachineInstance", "db");
    assert_eq!(Keeper::of_endpoint(&machine, off(true, false)), None);
    assert!(Keeper::of_record("shop/web-0", off(false, false)).is_empty());
}

#[test]
fn an_endpoint_tells_whose_it_is() {
    let kinds = |version, kind| {
        let keeper = Keeper::of_endpoint(&endpoint("web-0", version, kind, "web"), BOTH);
        keeper.map(|keeper| keeper.kinds).unwrap_or_default()
    };
    let (native, advanced) = (StickyKind::StatefulSet, StickyKind::AdvancedStatefulSet);
    assert_eq!(kinds(Some("apps/v1"), "StatefulSet"), [native]);
    assert_eq!(kinds(Some("apps.kruise.io/v1beta1"), "StatefulSet"), [advanced]);
    // As the peer writes it.
    assert_eq!(kinds(None, "StatefulSet"), [native, advanced]);
    assert!(kinds(None, "Deployment").is_empty());
    assert!(kinds(Some("example.org/v1"), "StatefulSet").is_empty());
}

#[test]
fn a_record_alone_leaves_several_possible() {
    let owners = |key| {
        let keepers = Keeper::of_record(key, BOTH).into_iter();
        keepers
            .map(|keeper| (keeper.kinds[0], keeper.owner))
            .collect::<Vec<_>>()
    };
    let machine = StickyKind::VirtualMachineInstance;
    assert_eq!(
        owners("shop/web-0"),
        [
            (StickyKind::StatefulSet, "web".to_owned()),
            (StickyKind::AdvancedStatefulSet, "web".to_owned()),
            (machine, "web-0".to_owned())
        ]
    );
    assert_eq!(owners("shop/web-x"), [(machine, "web-x".to_owned())]);
    assert!(owners("web-0").is_empty());
}

#[test]
fn a_set_keeps_the_addresses_of_the_ordinals_it_has() {
    let keeper = |ordinal| pod("apps/v1", "StatefulSet", "web", &format!("web-{ordinal}")).unwrap();
    let of = |spec: Value| {
        Cluster::of(&[(
            "statefulsets.apps/web",
            json!({"metadata": {"name": "web"}, "spec": spec}),
        )])
    };
    let members = |cluster: Cluster| {
        (0..12u64)
            .filter(|ordinal| stays(&keeper(*ordinal), &cluster))
            .collect::<Vec<_>>()
    };
    assert_eq!(members(of(json!({"replicas": 2}))), [0, 1]);
    assert_eq!(members(of(json!({}))), [0]);
    assert_eq!(members(of(json!({"replicas": 0}))), Vec::<u64>::new());
    assert_eq!(members(of(json!({"replicas": 2, "ordinals": {"start": 5}}))), [5, 6]);
    // Kubernetes knows no reserved ordinals.
    assert_eq!(members(of(json!({"replicas": 2, "reserveOrdinals": [0]}))), [0, 1]);
    assert_eq!(members(Cluster::default()), Vec::<u64>::new());
    let terminating =
        json!({"metadata": {"name": "web", "deletionTimestamp": "2026-01-01T00:00:00Z"}, "spec": {"replicas": 3}});
    assert_eq!(
        members(Cluster::of(&[("statefulsets.apps/web", terminating)])),
        Vec::<u64>::new()
    );
}

#[test]
fn an_advanced_set_skips_reserved_ordinals() {
    let keeper = |ordinal| {
        pod(
            "apps.kruise.io/v1beta1",
            "StatefulSet",
            "web",
            &format!("web-{ordinal}"),
        )
        .unwrap()
    };
    let members = |spec: Value| {
        // As the API server returns it, with what does not matter here.
        let set = json!({
            "apiVersion": "apps.kruise.io/v1beta1", "kind": "StatefulSet",
            "metadata": {"name": "web", "namespace": "shop", "uid": "u", "generation": 3},
            "spec": spec, "status": {"replicas": 3, "currentReplicas": 3}
        });
        let cluster = Cluster::of(&[("statefulsets.apps.kruise.io/web", set)]);
        (0..12u64)
            .filter(|ordinal| stays(&keeper(*ordinal), &cluster))
            .collect::<Vec<_>>()
    };
    let strategy = json!({"type": "RollingUpdate", "rollingUpdate": {"podUpdatePolicy": "InPlaceIfPossible"}});
    assert_eq!(
        members(json!({"replicas": 3, "reserveOrdinals": [1], "updateStrategy": strategy, "serviceName": "web"})),
        [0, 2, 3]
    );
    assert_eq!(members(json!({"replicas": 2, "reserveOrdinals": ["0", "2-4"]})), [1, 5]);
    assert_eq!(
        members(json!({"replicas": 2, "reserveOrdinals": [3, "4 - 5"], "ordinals": {"start": 2}})),
        [2, 6]
    );
    assert_eq!(
        members(json!({"replicas": 2, "reserveOrdinals": ["x", "5-", -1, null]})),
        [0, 1]
    );
    assert_eq!(members(json!({"replicas": 2})), [0, 1]);
}

#[test]
fn an_endpoint_of_the_peer_belongs_to_whichever_set_exists() {
    let keeper = Keeper::of_endpoint(&endpoint("web-1", None, "StatefulSet", "web"), BOTH).unwrap();
    let set = |replicas| json!({"metadata": {"name": "web"}, "spec": {"replicas": replicas}});
    assert!(stays(&keeper, &Cluster::of(&[("statefulsets.apps/web", set(2))])));
    assert!(stays(
        &keeper,
        &Cluster::of(&[("statefulsets.apps.kruise.io/web", set(2))])
    ));
    assert!(!stays(
        &keeper,
        &Cluster::of(&[("statefulsets.apps.kruise.io/web", set(1))])
    ));
    assert!(!stays(&keeper, &Cluster::default()));
}

#[test]
fn a_virtual_machine_keeps_its_addresses_while_it_is_stopped() {
    let keeper = pod("kubevirt.io/v1", "VirtualMachineInstance", "db", "virt-launcher-db-x7").unwrap();
    let gone = "2026-01-01T00:00:00Z";
    let instance = |owned: bool, deleted: bool| {
        let mut object = json!({"metadata": {"name": "db"}, "status": {"phase": "Running"}});
        if owned {
            object["metadata"]["ownerReferences"] = json!([{"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine", "name": "db", "uid": "u", "controller": true}]);
        }
        if deleted {
            object["metadata"]["deletionTimestamp"] = json!(gone);
        }
        ("virtualmachineinstances.kubevirt.io/db", object)
    };
    let machine = |deleted: bool| {
        let deletion = deleted.then_some(gone);
        let object =
            json!({"metadata": {"name": "db", "deletionTimestamp": deletion}, "spec": {"runStrategy": "Halted"}});
        ("virtualmachines.kubevirt.io/db", object)
    };
    for (objects, expected) in [
        (vec![instance(false, false)], true),
        (vec![instance(false, true)], false),
        (vec![instance(false, true), machine(false)], false),
        (vec![instance(true, true), machine(false)], true),
        (vec![instance(true, true), machine(true)], false),
        (vec![machine(false)], true),
        (vec![machine(true)], false),
        (vec![], false),
    ] {
        assert_eq!(stays(&keeper, &Cluster::of(&objects)), expected, "{objects:?}");
    }
}

#[test]
fn a_migration_counts_while_it_runs() {
    let migration = |vmi: &str, phase: Option<&str>| -> DynamicObject {
        serde_json::from_value(json!({
            "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstanceMigration",
            "metadata": {"name": "m"}, "spec": {"vmiName": vmi}, "status": {"phase": phase}
        }))
        .unwrap()
    };
    assert!(is_migrating(&migration("db", None), "db"));
    assert!(is_migrating(&migration("db", Some("Running")), "db"));
    assert!(!is_migrating(&migration("db", Some("Succeeded")), "db"));
    assert!(!is_migrating(&migration("db", Some("Failed")), "db"));
    assert!(!is_migrating(&migration("other", None), "db"));
}
