//! Pods, as far as the operator looks at them.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::Pod;
use kube::core::ObjectMeta;
use serde::Deserialize;
use spiderpool_crds::annotations;
use spiderpool_crds::names::{ANNOTATION_SUBNET, ANNOTATION_SUBNETS};

use crate::application::native::{controller, ours, trim_meta};

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
        let annotations = self
            .metadata
            .annotations
            .take()
            .map(ours)
            .filter(|ours| !ours.is_empty());
        trim_meta(&mut self.metadata);
        self.metadata.annotations = annotations;
    }

    /// Under which key it is found: the UID of its controller.
    pub fn index(&self) -> Vec<String> {
        controller(&self.metadata)
            .map(|owner| owner.uid.clone())
            .into_iter()
            .collect()
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
    fn finished_pods_do_not_stay() {
        for phase in ["Succeeded", "Failed"] {
            let pod: PodSketch = serde_json::from_value(json!({"metadata": {}, "status": {"phase": phase}})).unwrap();
            assert!(!pod.stays() && !pod.asks());
        }
    }
}
