//! Nodes, as far as the operator looks at them: whether one is Ready, and whether somebody says that it is off.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;
use kube::core::ObjectMeta;
use serde::Deserialize;
use spiderpool_ipam::reclaim::{self, Moment};

use crate::application::native::trim_meta;

/// Taint of a node that somebody has made sure is off.
const OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";

/// The part of a Node that matters here.
#[derive(Clone, Debug, Deserialize, kube::Resource)]
#[resource(inherit = Node)]
pub struct NodeSketch {
    /// Its metadata.
    pub metadata: ObjectMeta,
    #[serde(default)]
    spec: Spec,
    #[serde(default)]
    status: Status,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct Spec {
    #[serde(default)]
    taints: Option<Vec<Taint>>,
}

#[derive(Clone, Debug, Deserialize)]
struct Taint {
    key: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct Status {
    #[serde(default)]
    conditions: Option<Vec<Condition>>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Condition {
    #[serde(rename = "type")]
    name: String,
    status: String,
    #[serde(default)]
    last_transition_time: Option<Timestamp>,
}

impl NodeSketch {
    /// Takes out what nobody here reads.
    pub fn trim(&mut self) {
        trim_meta(&mut self.metadata);
        self.spec
            .taints
            .take_if(|taints| !taints.iter().any(|taint| taint.key == OUT_OF_SERVICE));
        if let Some(conditions) = &mut self.status.conditions {
            conditions.retain(|condition| condition.name == "Ready");
        }
    }

    /// What it is to the rule of reclaim. A node that says nothing is not Ready, for as long as it exists.
    pub fn seen(&self) -> reclaim::Node {
        let mut conditions = self.status.conditions.iter().flatten();
        let ready = conditions.find(|condition| condition.name == "Ready");
        let off = self
            .spec
            .taints
            .iter()
            .flatten()
            .any(|taint| taint.key == OUT_OF_SERVICE);
        let created = || self.metadata.creation_timestamp.as_ref().map(|time| time.0);
        match ready {
            Some(ready) if ready.status == "True" => reclaim::Node::Ready,
            _ => reclaim::Node::NotReady {
                since: moment(
                    ready
                        .and_then(|ready| ready.last_transition_time)
                        .or_else(created)
                        .unwrap_or(Timestamp::MAX),
                ),
                in_service: !off,
            },
        }
    }
}

/// A time stamp of the API.
pub fn moment(time: Timestamp) -> Moment {
    Moment(time.as_second())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn seen(taints: &Value, conditions: &Value) -> reclaim::Node {
        let node = json!({"metadata": {"name": "n", "creationTimestamp": "1970-01-01T00:00:05Z"},
            "spec": {"taints": taints}, "status": {"conditions": conditions}});
        let mut node: NodeSketch = serde_json::from_value(node).unwrap();
        node.trim();
        node.seen()
    }

    #[test]
    fn a_node_is_lost_when_it_is_not_ready_and_off_when_somebody_says_so() {
        let ready = |status: &str| {
            json!([{"type": "MemoryPressure", "status": "False"},
                {"type": "Ready", "status": status, "lastTransitionTime": "1970-01-01T00:01:00Z"}])
        };
        let off = json!([{"key": "node.kubernetes.io/unreachable", "effect": "NoExecute"},
            {"key": OUT_OF_SERVICE, "value": "nodeshutdown", "effect": "NoExecute"}]);
        let lost = |since, in_service| reclaim::Node::NotReady {
            since: Moment(since),
            in_service,
        };
        assert_eq!(seen(&Value::Null, &ready("True")), reclaim::Node::Ready);
        // A taint that somebody forgot takes nothing from a node that works.
        assert_eq!(seen(&off, &ready("True")), reclaim::Node::Ready);
        assert_eq!(seen(&Value::Null, &ready("False")), lost(60, true));
        assert_eq!(seen(&Value::Null, &ready("Unknown")), lost(60, true));
        assert_eq!(seen(&off, &ready("Unknown")), lost(60, false));
        assert_eq!(seen(&Value::Null, &Value::Null), lost(5, true));
    }
}
