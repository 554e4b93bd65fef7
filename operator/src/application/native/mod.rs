//! The kinds of workload that Kubernetes itself has.
//!
//! Each kind's file says what may be forgotten of an object. What it says about its pods is read by
//! [`spiderpool_crds::native`]. Everything else about applications is the same for all kinds.

mod cron_job;
mod daemon_set;
mod deployment;
mod job;
mod replica_set;
mod stateful_set;

use std::collections::BTreeMap;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{PodSpec, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::Resource;
use kube::core::ObjectMeta;
use spiderpool_crds::app::AppKey;
use spiderpool_crds::names::PREFIX;
use spiderpool_crds::native::MakesPods;
use spiderpool_kit::cache::Object;

/// A kind of workload that Kubernetes itself has.
pub trait Native: MakesPods + Object + Resource<Scope = NamespaceResourceScope> {
    /// Takes out of the spec and status what [`MakesPods::workload`] does not read: a cluster has thousands of workloads, each
    /// with kilobytes of containers.
    fn trim(&mut self);
}

/// The key of an object as labels and accounting spell it.
pub fn key<K: Native>(meta: &ObjectMeta) -> AppKey {
    AppKey::new(
        &K::api_version(&()),
        &K::kind(&()),
        meta.namespace.as_deref().unwrap_or_default(),
        meta.name.as_deref().unwrap_or_default(),
    )
}

/// What controls an object.
pub fn controller(meta: &ObjectMeta) -> Option<&OwnerReference> {
    meta.owner_references
        .iter()
        .flatten()
        .find(|owner| owner.controller == Some(true))
}

/// Takes out what nobody here reads.
pub fn trim<K: Native>(object: &mut K) {
    trim_meta(object.meta_mut());
    object.trim();
}

/// Leaves of the metadata what tells an object from others, and who controls it.
pub fn trim_meta(meta: &mut ObjectMeta) {
    let whole = std::mem::take(meta);
    let controlled = whole.owner_references.map(|mut owners| {
        owners.retain(|owner| owner.controller == Some(true));
        owners
    });
    *meta = ObjectMeta {
        name: whole.name,
        namespace: whole.namespace,
        uid: whole.uid,
        resource_version: whole.resource_version,
        creation_timestamp: whole.creation_timestamp,
        deletion_timestamp: whole.deletion_timestamp,
        owner_references: controlled.filter(|owners| !owners.is_empty()),
        ..ObjectMeta::default()
    };
}

/// The annotations of ours.
pub fn ours(annotations: BTreeMap<String, String>) -> BTreeMap<String, String> {
    annotations.into_iter().filter(|(key, _)| is_ours(key)).collect()
}

/// Whether an annotation is ours.
pub fn is_ours(key: &str) -> bool {
    key.starts_with(PREFIX)
}

fn trim_template(template: &mut PodTemplateSpec) {
    if let Some(meta) = &mut template.metadata {
        *meta = ObjectMeta {
            annotations: meta.annotations.take().map(ours),
            ..ObjectMeta::default()
        };
    }
    if let Some(pod) = &mut template.spec {
        *pod = PodSpec {
            host_network: pod.host_network,
            ..PodSpec::default()
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, ReplicaSet, StatefulSet};
    use k8s_openapi::api::batch::v1::{CronJob, Job};
    use serde_json::{Value, json};
    use spiderpool_crds::native::Workload;
    use spiderpool_ipam::rollout::Amount;

    fn template() -> Value {
        json!({
            "metadata": {
                "labels": {"app": "shop"},
                "annotations": {"ipam.spidernet.io/subnet": r#"{"ipv4":["a"]}"#, "other": "x"},
            },
            "spec": {"hostNetwork": true, "containers": [{"name": "c", "image": "i"}]},
        })
    }

    fn object<K: Native>(spec: &Value, status: &Value) -> K {
        serde_json::from_value(json!({
            "metadata": {
                "name": "shop", "namespace": "retail", "uid": "u-1", "labels": {"a": "b"}, "annotations": {"c": "d"},
                "ownerReferences": [
                    {"apiVersion": "v1", "kind": "ConfigMap", "name": "n", "uid": "u-2"},
                    {"apiVersion": "x.io/v1", "kind": "Boss", "name": "b", "uid": "u-3", "controller": true},
                ],
            },
            "spec": spec,
            "status": status,
        }))
        .unwrap()
    }

    /// The workload, the same before and after trimming; nothing big is left.
    fn workload<K: Native + serde::Serialize>(spec: &Value, status: &Value) -> Workload {
        let mut object: K = object(spec, status);
        let whole = object.workload();
        trim(&mut object);
        let trimmed = object.workload();
        assert_eq!((trimmed.replicas, trimmed.rolling), (whole.replicas, whole.rolling));
        assert_eq!(trimmed.annotations, ours(whole.annotations));
        let text = serde_json::to_string(&object).unwrap();
        assert!(
            !text.contains("image") && !text.contains("other") && !text.contains("ConfigMap"),
            "{text}"
        );
        assert_eq!(controller(object.meta()).unwrap().kind, "Boss");
        assert_eq!(key::<K>(object.meta()).kind, K::kind(&()));
        trimmed
    }

    fn check(workload: &Workload, replicas: u128) {
        assert_eq!(workload.replicas, replicas);
        assert!(workload.host_network);
        assert_eq!(workload.annotations["ipam.spidernet.io/subnet"], r#"{"ipv4":["a"]}"#);
    }

    #[test]
    fn kinds_with_replicas_have_as_many_pods() {
        for (replicas, pods) in [(Some(2), 2), (Some(0), 0), (None, 1)] {
            let spec = json!({"replicas": replicas, "selector": {}, "serviceName": "s", "template": template()});
            check(&workload::<Deployment>(&spec, &json!({})), pods);
            check(&workload::<ReplicaSet>(&spec, &json!({"replicas": 0})), pods);
            check(&workload::<StatefulSet>(&spec, &json!({"replicas": 0})), pods);
        }
    }

    #[test]
    fn a_daemon_set_has_a_pod_on_every_node_that_matches() {
        let spec = json!({"selector": {}, "template": template()});
        let status = json!({
            "desiredNumberScheduled": 7, "currentNumberScheduled": 3, "numberMisscheduled": 0, "numberReady": 2,
        });
        check(&workload::<DaemonSet>(&spec, &status), 7);
        check(&workload::<DaemonSet>(&spec, &Value::Null), 0);
    }

    #[test]
    fn completions_go_before_parallelism() {
        let cases = [
            (json!({}), 1),
            (json!({"completions": 5}), 5),
            (json!({"completions": 5, "parallelism": 2}), 5),
            (json!({"parallelism": 2}), 2),
            (json!({"parallelism": 0}), 1),
            (json!({"completions": 0}), 1),
        ];
        for (mut spec, pods) in cases {
            spec["template"] = template();
            check(&workload::<Job>(&spec, &json!({})), pods);
            let cron =
                json!({"schedule": "* * * * *", "jobTemplate": {"metadata": {"labels": {"other": "y"}}, "spec": spec}});
            check(&workload::<CronJob>(&cron, &json!({})), pods);
        }
    }

    #[test]
    fn rolling_updates_are_known_of_deployments_and_daemon_sets() {
        let spec = |strategy: Value| json!({"selector": {}, "template": template(), "strategy": strategy});
        let rollout = |strategy| workload::<Deployment>(&spec(strategy), &json!({})).rolling;
        let usual = rollout(json!(null)).unwrap();
        assert_eq!(
            (usual.max_surge, usual.max_unavailable),
            (Amount::Percent(25), Amount::Percent(25))
        );
        assert_eq!(rollout(json!({"type": "Recreate"})), None);
        let own = rollout(json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 2, "maxUnavailable": "0%"}}));
        let own = own.unwrap();
        assert_eq!(
            (own.max_surge, own.max_unavailable),
            (Amount::Count(2), Amount::Percent(0))
        );
        let daemons = json!({
            "selector": {}, "template": template(),
            "updateStrategy": {"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
        });
        let daemons = workload::<DaemonSet>(&daemons, &json!(null)).rolling.unwrap();
        assert_eq!(
            (daemons.max_surge, daemons.max_unavailable),
            (Amount::Count(1), Amount::Count(0))
        );
    }
}
