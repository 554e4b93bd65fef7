//! Objects of kinds that are only known at run time: what is kept of them, and what they ask for.

use std::collections::BTreeMap;

use kube::core::DynamicObject;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use spiderpool_crds::JsonPath;
use spiderpool_ipam::rollout::{Amount, Rolling};

use crate::application::native::{ours, trim_meta};

/// Where an object says what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths {
    /// The pod template.
    pub template: Option<JsonPath>,
    /// The number of pods; none if the object does not say.
    pub replicas: Option<JsonPath>,
    /// Where Argo Rollouts have their canary strategy, which is a Deployment's in other words.
    pub rollout: Option<JsonPath>,
}

/// What is kept of an object.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sketch {
    /// What its pod template says; none if it has no template.
    pub template: Option<Template>,
    /// How many pods it is to have, where it says.
    pub replicas: Option<u64>,
    /// `maxSurge` and `maxUnavailable`, where it replaces its pods as a Deployment does.
    pub rollout: Option<(String, String)>,
}

/// What is kept of a pod template.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Template {
    /// Its annotations of ours.
    pub annotations: BTreeMap<String, String>,
    /// Whether its pods use the network of their node.
    pub host_network: bool,
}

/// Leaves of an object only its sketch.
pub fn trim(object: &mut DynamicObject, paths: &Paths) {
    trim_meta(&mut object.metadata);
    let whole = object.data.take();
    object.data = serde_json::to_value(sketch(&whole, paths)).unwrap_or_default();
}

/// The sketch of an object that was trimmed.
pub fn read(object: &DynamicObject) -> Sketch {
    Sketch::deserialize(&object.data).unwrap_or_default()
}

fn sketch(object: &Value, paths: &Paths) -> Sketch {
    let canary = paths.rollout.as_ref().and_then(|path| path.get(object));
    Sketch {
        template: paths
            .template
            .as_ref()
            .and_then(|path| path.get(object))
            .filter(|value| value.is_object())
            .map(template),
        replicas: paths.replicas.as_ref().and_then(|path| path.get(object)?.as_u64()),
        rollout: canary.map(|canary| (amount_text(canary, "maxSurge"), amount_text(canary, "maxUnavailable"))),
    }
}

fn template(value: &Value) -> Template {
    let annotations = value.pointer("/metadata/annotations");
    let annotations = annotations.and_then(|annotations| BTreeMap::deserialize(annotations).ok());
    Template {
        annotations: annotations.map(ours).unwrap_or_default(),
        host_network: value
            .pointer("/spec/hostNetwork")
            .and_then(Value::as_bool)
            .unwrap_or(false),
    }
}

/// Argo Rollouts take a quarter where nothing is said, as Deployments do.
fn amount_text(canary: &Value, member: &str) -> String {
    match canary.get(member) {
        Some(Value::Number(count)) => count.to_string(),
        Some(Value::String(text)) => text.clone(),
        _ => "25%".to_owned(),
    }
}

impl Sketch {
    /// How it replaces its pods.
    pub fn rolling(&self) -> Option<Rolling> {
        let (surge, unavailable) = self.rollout.as_ref()?;
        Some(Rolling {
            max_surge: Amount::parse(surge).ok()?,
            max_unavailable: Amount::parse(unavailable).ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn paths() -> Paths {
        Paths {
            template: JsonPath::parse(".spec.template").ok(),
            replicas: JsonPath::parse(".spec.replicas").ok(),
            rollout: JsonPath::parse(".spec.strategy.canary").ok(),
        }
    }

    fn trimmed(spec: &Value) -> Sketch {
        let mut object: DynamicObject = serde_json::from_value(json!({
            "apiVersion": "argoproj.io/v1alpha1", "kind": "Rollout",
            "metadata": {"name": "r", "namespace": "n", "labels": {"a": "b"}},
            "spec": spec,
            "status": {"big": "text"},
        }))
        .unwrap();
        trim(&mut object, &paths());
        assert!(!object.data.to_string().contains("big"));
        assert_eq!(object.metadata.labels, None);
        read(&object)
    }

    #[test]
    fn a_sketch_is_what_matters() {
        let sketch = trimmed(&json!({
            "replicas": 3,
            "template": {
                "metadata": {"annotations": {"ipam.spidernet.io/subnet": "{}", "other": "x"}},
                "spec": {"hostNetwork": true},
            },
            "strategy": {"canary": {"maxSurge": 1}},
        }));
        assert_eq!(sketch.replicas, Some(3));
        let template = sketch.template.as_ref().unwrap();
        assert!(template.host_network);
        assert_eq!(template.annotations.len(), 1);
        let rollout = sketch.rolling().unwrap();
        assert_eq!(
            (rollout.max_surge, rollout.max_unavailable),
            (Amount::Count(1), Amount::Percent(25))
        );
    }

    #[test]
    fn what_an_object_does_not_say_is_left_open() {
        let sketch = trimmed(&json!({"workloadRef": {"kind": "Deployment"}}));
        assert_eq!(
            (sketch.template.clone(), sketch.replicas, sketch.rolling()),
            (None, None, None)
        );
    }
}
