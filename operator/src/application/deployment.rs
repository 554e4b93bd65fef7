//! What is particular about Deployments.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::PodSpec;
use spiderpool_crds::app::AppKey;

use super::request::{Asked, Workload};
use super::{AppId, Application};
use crate::config::Config;

/// `apiVersion` of Deployments.
const API_VERSION: &str = "apps/v1";
/// Kind of Deployments.
const KIND: &str = "Deployment";
/// Annotations of ours begin so; no other one matters here.
const OURS: &str = "ipam.spidernet.io/";

/// The identity of the Deployment of this namespace and name.
pub fn id(namespace: &str, name: &str) -> AppId {
    AppId::from(&AppKey::new(API_VERSION, KIND, namespace, name))
}

/// Whether an application is a Deployment.
pub fn is(id: &AppId) -> bool {
    id.group == "apps" && id.kind == KIND
}

/// A Deployment as an application.
pub fn application(deployment: &Deployment, config: &Config) -> Application {
    let meta = &deployment.metadata;
    let namespace = meta.namespace.as_deref().unwrap_or_default();
    let name = meta.name.as_deref().unwrap_or_default();
    Application {
        key: AppKey::new(API_VERSION, KIND, namespace, name),
        uid: meta.uid.clone().unwrap_or_default(),
        since: meta.creation_timestamp.as_ref().map(|time| time.0),
        asked: Asked::by(&workload(deployment), config),
    }
}

fn workload(deployment: &Deployment) -> Workload {
    let Some(spec) = &deployment.spec else {
        return Workload::default();
    };
    let template = &spec.template;
    let annotations = template.metadata.as_ref().and_then(|meta| meta.annotations.clone());
    let pod = template.spec.as_ref();
    Workload {
        annotations: annotations.unwrap_or_default(),
        // A Deployment without the number has one pod.
        replicas: spec.replicas.map_or(1, |count| u128::try_from(count).unwrap_or(0)),
        host_network: pod.and_then(|pod| pod.host_network).unwrap_or(false),
    }
}

/// Takes out what nobody here reads: a cluster has thousands of Deployments, each with kilobytes of containers.
pub fn trim(deployment: &mut Deployment) {
    deployment.status = None;
    deployment.metadata.annotations = None;
    deployment.metadata.labels = None;
    let Some(spec) = &mut deployment.spec else {
        return;
    };
    spec.selector = Default::default();
    if let Some(meta) = &mut spec.template.metadata {
        meta.labels = None;
        meta.annotations = meta.annotations.take().map(ours);
    }
    if let Some(pod) = &mut spec.template.spec {
        *pod = PodSpec {
            host_network: pod.host_network,
            ..PodSpec::default()
        };
    }
}

fn ours(annotations: BTreeMap<String, String>) -> BTreeMap<String, String> {
    annotations
        .into_iter()
        .filter(|(key, _)| key.starts_with(OURS))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use spiderpool_crds::annotations::IpNumber;

    const CONFIG: Config = Config {
        ipv4: true,
        ipv6: true,
        subnets: true,
        automatic_pools: true,
        redundant_addresses: 1,
    };

    fn shop(replicas: Option<i32>) -> Deployment {
        serde_json::from_value(json!({
            "metadata": {"name": "shop", "namespace": "retail", "uid": "u-1", "labels": {"a": "b"}},
            "spec": {
                "replicas": replicas,
                "selector": {"matchLabels": {"app": "shop"}},
                "template": {
                    "metadata": {
                        "labels": {"app": "shop"},
                        "annotations": {"ipam.spidernet.io/subnet": r#"{"ipv4":["a"]}"#, "other": "x"},
                    },
                    "spec": {"hostNetwork": false, "containers": [{"name": "c", "image": "i"}]},
                },
            },
        }))
        .unwrap()
    }

    #[test]
    fn trimming_changes_nothing_that_is_asked_for() {
        let mut trimmed = shop(Some(2));
        let whole = application(&trimmed, &CONFIG);
        trim(&mut trimmed);
        assert_eq!(application(&trimmed, &CONFIG), whole);
        let spec = trimmed.spec.unwrap();
        assert!(spec.template.spec.unwrap().containers.is_empty());
        assert_eq!(spec.template.metadata.unwrap().annotations.unwrap().len(), 1);
    }

    #[test]
    fn size_follows_replicas() {
        for (replicas, size) in [(Some(2), 3), (Some(0), 1), (None, 2)] {
            let app = application(&shop(replicas), &CONFIG);
            let request = app.asked.request().unwrap();
            assert_eq!((request.number, request.size), (IpNumber::Flexible(1), size));
        }
    }

    #[test]
    fn it_is_known_by_its_key() {
        let app = application(&shop(Some(1)), &CONFIG);
        assert_eq!(app.key.to_string(), "apps_v1_Deployment_retail_shop");
        assert_eq!(app.id(), id("retail", "shop"));
        assert!(is(&app.id()));
        assert_eq!(app.reference().uid.as_deref(), Some("u-1"));
    }
}
