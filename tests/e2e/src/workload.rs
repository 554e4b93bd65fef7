//! Workloads that tests make.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};
use spiderpool_crds::names::{ANNOTATION_IP_NUMBER, ANNOTATION_IPPOOL, ANNOTATION_SUBNET};

use crate::IMAGE;

/// Annotations of a pod template.
pub type Annotations = BTreeMap<String, String>;

/// Asks for a pool out of subnets, with a number of addresses.
pub fn from_subnets(ipv4: &[&str], ipv6: &[&str], number: &str) -> Annotations {
    Annotations::from([
        (
            ANNOTATION_SUBNET.to_owned(),
            json!({"ipv4": ipv4, "ipv6": ipv6}).to_string(),
        ),
        (ANNOTATION_IP_NUMBER.to_owned(), number.to_owned()),
    ])
}

/// Asks for addresses of pools.
pub fn from_pools(ipv4: &[&str], ipv6: &[&str]) -> Annotations {
    Annotations::from([(
        ANNOTATION_IPPOOL.to_owned(),
        json!({"ipv4": ipv4, "ipv6": ipv6}).to_string(),
    )])
}

/// A Deployment whose pods sleep, spread over the nodes.
pub fn deployment(name: &str, replicas: i32, annotations: &Annotations) -> Result<Deployment> {
    let spread = json!([{
        "topologyKey": "kubernetes.io/hostname",
        "maxSkew": 1,
        "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": {"matchLabels": {"app": name}},
    }]);
    let mut spec = sleeping("Always");
    spec["topologySpreadConstraints"] = spread;
    let object = json!({
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": {"labels": {"app": name}, "annotations": annotations}, "spec": spec},
        },
    });
    serde_json::from_value(object).context("making a Deployment")
}

/// A Job of one pod that runs a shell command.
pub fn job(name: &str, script: &str, annotations: &Annotations) -> Result<Job> {
    let mut spec = sleeping("Never");
    spec["containers"][0]["command"] = json!(["sh", "-c", script]);
    let object = json!({
        "metadata": {"name": name},
        "spec": {"template": {"metadata": {"labels": {"app": name}, "annotations": annotations}, "spec": spec}},
    });
    serde_json::from_value(object).context("making a Job")
}

/// A pod without a controller that sleeps on a node.
pub fn pod(name: &str, node: &str, annotations: &Annotations) -> Result<Pod> {
    let mut spec = sleeping("Always");
    spec["nodeName"] = json!(node);
    let object = json!({"metadata": {"name": name, "labels": {"app": name}, "annotations": annotations}, "spec": spec});
    serde_json::from_value(object).context("making a Pod")
}

/// Makes a pod terminate for ten minutes when it is deleted: its only process heeds no signal but the last one.
pub fn lingering(mut pod: Pod) -> Pod {
    if let Some(spec) = pod.spec.as_mut() {
        spec.termination_grace_period_seconds = Some(600);
    }
    pod
}

fn sleeping(restart: &str) -> Value {
    json!({
        "restartPolicy": restart,
        "terminationGracePeriodSeconds": 1,
        "automountServiceAccountToken": false,
        "enableServiceLinks": false,
        "containers": [{
            "name": "main",
            "image": IMAGE,
            "imagePullPolicy": "IfNotPresent",
            "command": ["sleep", "1000000000"],
        }],
    })
}
