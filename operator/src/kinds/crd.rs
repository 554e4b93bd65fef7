//! What CustomResourceDefinitions say about kinds.

use std::cmp::Reverse;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::core::{ApiResource, ObjectMeta, Version};
use serde::Deserialize;
use spiderpool_crds::JsonPath;

/// The part of a CustomResourceDefinition that matters here: without the schemas, which are most of it.
#[derive(Clone, Debug, Deserialize, kube::Resource)]
#[resource(inherit = CustomResourceDefinition)]
pub struct Crd {
    /// Its metadata.
    pub metadata: ObjectMeta,
    spec: Spec,
    #[serde(default)]
    status: Status,
}

#[derive(Clone, Debug, Deserialize)]
struct Spec {
    group: String,
    names: Names,
    scope: String,
    versions: Vec<Served>,
}

#[derive(Clone, Debug, Deserialize)]
struct Names {
    kind: String,
    plural: String,
}

#[derive(Clone, Debug, Deserialize)]
struct Served {
    name: String,
    served: bool,
    subresources: Option<Subresources>,
}

#[derive(Clone, Debug, Deserialize)]
struct Subresources {
    scale: Option<Scale>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Scale {
    spec_replicas_path: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct Status {
    #[serde(default)]
    conditions: Vec<Condition>,
}

#[derive(Clone, Debug, Deserialize)]
struct Condition {
    #[serde(rename = "type")]
    type_: String,
    status: String,
}

/// What is known of a kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// How the API server names it.
    pub resource: ApiResource,
    /// Whether its objects live in namespaces.
    pub namespaced: bool,
    /// Where the scale subresource finds the wanted number of pods; none if no served version has such a subresource.
    pub replicas_path: Option<JsonPath>,
}

/// Under which key a kind's definition is found.
pub fn index_key(group: &str, kind: &str) -> String {
    format!("{kind}.{group}")
}

impl Served {
    fn replicas_path(&self) -> Option<JsonPath> {
        let scale = self.subresources.as_ref()?.scale.as_ref()?;
        JsonPath::parse(&scale.spec_replicas_path).ok()
    }
}

impl Crd {
    /// The key of its kind.
    pub fn index(&self) -> Vec<String> {
        vec![index_key(&self.spec.group, &self.spec.names.kind)]
    }

    /// What it says; none while the API server does not serve it.
    pub fn facts(&self) -> Option<Facts> {
        let established = |condition: &Condition| condition.type_ == "Established" && condition.status == "True";
        if self.metadata.deletion_timestamp.is_some() || !self.status.conditions.iter().any(established) {
            return None;
        }
        let mut served: Vec<_> = self.spec.versions.iter().filter(|version| version.served).collect();
        served.sort_by_cached_key(|version| Reverse(Version::parse(&version.name).priority()));
        let version = *served.first()?;
        // Agents, too, take a kind to scale if any version of it does.
        let replicas_path = served.iter().find_map(|version| version.replicas_path());
        let (group, names) = (&self.spec.group, &self.spec.names);
        Some(Facts {
            resource: ApiResource {
                group: group.clone(),
                version: version.name.clone(),
                api_version: format!("{group}/{}", version.name),
                kind: names.kind.clone(),
                plural: names.plural.clone(),
            },
            namespaced: self.spec.scope == "Namespaced",
            replicas_path,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn definition(established: &str) -> Crd {
        serde_json::from_value(json!({
            "metadata": {"name": "clonesets.apps.kruise.io"},
            "spec": {
                "group": "apps.kruise.io",
                "names": {"kind": "CloneSet", "plural": "clonesets", "listKind": "CloneSetList"},
                "scope": "Namespaced",
                "versions": [
                    {"name": "v1alpha1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {}}},
                    {"name": "v1beta1", "served": true, "subresources": {"status": {}, "scale": {
                        "specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas",
                    }}},
                    {"name": "v1", "served": false},
                ],
            },
            "status": {"conditions": [{"type": "Established", "status": established}]},
        }))
        .unwrap()
    }

    #[test]
    fn the_best_served_version_counts() {
        let facts = definition("True").facts().unwrap();
        assert_eq!(facts.resource.api_version, "apps.kruise.io/v1beta1");
        assert_eq!((facts.resource.plural.as_str(), facts.namespaced), ("clonesets", true));
        assert_eq!(facts.replicas_path.unwrap().to_string(), ".spec.replicas");
        assert_eq!(definition("True").index(), ["CloneSet.apps.kruise.io"]);
    }

    #[test]
    fn a_kind_scales_if_any_served_version_does() {
        let scale = definition("True").spec.versions[1].subresources.take();
        let facts = |scaling: usize| {
            let mut one = definition("True");
            one.spec.versions[1].subresources = None;
            one.spec.versions[scaling].subresources = scale.clone();
            one.facts().unwrap()
        };
        assert_eq!(facts(0).resource.version, "v1beta1");
        assert_eq!(facts(0).replicas_path, facts(1).replicas_path);
        // The one that is not served.
        assert_eq!(facts(2).replicas_path, None);
    }

    #[test]
    fn a_definition_that_is_not_served_says_nothing() {
        assert_eq!(definition("False").facts(), None);
        let mut going = definition("True");
        going.metadata.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(
            jiff::Timestamp::UNIX_EPOCH,
        ));
        assert_eq!(going.facts(), None);
    }
}
