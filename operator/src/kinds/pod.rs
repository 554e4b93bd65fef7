//! Pods, as far as the operator looks at them.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::Pod;
use kube::core::ObjectMeta;
use serde::Deserialize;
use spiderpool_crds::annotations;
use spiderpool_crds::names::{ANNOTATION_SUBNET, ANNOTATION_SUBNETS};
use spiderpool_crds::pod::{runtime_uid, tells_runtime_uid};

use crate::application::native::{controller, is_ours, trim_meta};

/// The part of a pod that matters here.
#[derive(Clone, Debug, Deserialize, kube::Resource)]
#[resource(inherit = Pod)]
pub struct PodSketch {
    /// Its metadata.
    pub metadata: ObjectMeta,
    #[serde(default)]
    spec: Spec,
    #[serde(default)]
    status: Status,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    #[serde(default)]
    host_network: bool,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct Status {
    #[serde(default)]
    phase: String,
}

impl PodSketch {
    /// Takes out what nobody here reads.
    pub fn trim(&mut self) {
        let mut annotations = self.metadata.annotations.take().unwrap_or_default();
        annotations.retain(|key, _| is_ours(key) || tells_runtime_uid(key));
        trim_meta(&mut self.metadata);
        self.metadata.annotations = Some(annotations).filter(|kept| !kept.is_empty());
    }

    /// Under which key it is found: the UID of its controller.
    pub fn index(&self) -> Vec<String> {
        controller(&self.metadata)
            .map(|owner| owner.uid.clone())
            .into_iter()
            .collect()
    }

    /// Whether the records of pools call it by this UID.
    pub fn is(&self, uid: &str) -> bool {
        runtime_uid(&self.metadata) == Some(uid)
    }

    /// Whether it asks for a pool of its application.
    pub fn asks(&self) -> bool {
        let annotations = self.metadata.annotations.as_ref();
        let has = |key| annotations.is_some_and(|annotations: &BTreeMap<String, String>| annotations.contains_key(key));
        !self.spec.host_network && (has(ANNOTATION_SUBNET) || has(ANNOTATION_SUBNETS))
    }

    /// The subnets it names.
    pub fn subnets(&self) -> BTreeSet<String> {
        let annotations = self.metadata.annotations.clone().unwrap_or_default();
        let request = annotations::subnet_request(&annotations).ok().flatten();
        let items = request.map(|request| request.items).unwrap_or_default();
        items
            .into_iter()
            .flat_map(|item| item.ipv4.into_iter().chain(item.ipv6))
            .collect()
    }

    /// Whether it uses the network of its node.
    pub const fn host_network(&self) -> bool {
        self.spec.host_network
    }

    /// Whether it runs or will run: neither finished nor on its way out.
    pub fn stays(&self) -> bool {
        self.metadata.deletion_timestamp.is_none() && !matches!(&*self.status.phase, "Succeeded" | "Failed")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn trimming_leaves_what_is_asked_for() {
        let mut pod: PodSketch = serde_json::from_value(json!({
            "metadata": {
                "name": "p", "namespace": "n", "uid": "u",
                "annotations": {"ipam.spidernet.io/subnet": "{}", "big": "x"},
                "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "r", "uid": "r-1", "controller": true}],
            },
            "spec": {"containers": []},
            "status": {"phase": "Running"},
        }))
        .unwrap();
        pod.trim();
        assert!(pod.asks() && pod.stays());
        assert_eq!(pod.index(), ["r-1"]);
        assert_eq!(pod.metadata.annotations.as_ref().unwrap().len(), 1);
    }

    #[test]
    fn the_mirror_of_a_static_pod_is_called_as_the_runtime_calls_the_pod() {
        let mut pod: PodSketch = serde_json::from_value(json!({"metadata": {"uid": "u", "annotations":
            {"kubernetes.io/config.mirror": "h", "kubernetes.io/config.hash": "h", "kubernetes.io/config.seen": "now"}}}))
        .unwrap();
        pod.trim();
        assert!(pod.is("h") && !pod.is("u"));
        assert_eq!(pod.metadata.annotations.as_ref().unwrap().len(), 2);
    }

    #[test]
    fn finished_pods_do_not_stay() {
        for phase in ["Succeeded", "Failed"] {
            let pod: PodSketch = serde_json::from_value(json!({"metadata": {}, "status": {"phase": phase}})).unwrap();
            assert!(!pod.stays() && !pod.asks());
        }
    }
}
