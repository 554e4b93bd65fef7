//! Kinds of workloads that the configuration lists, because the API server does not say enough about them.

use serde::{Deserialize, Serialize};

use crate::json_path::{JsonPath, JsonPathError};

/// Where the pod template of a workload is unless the configuration says otherwise.
pub const DEFAULT_TEMPLATE_PATH: &str = ".spec.template";

/// One element of `workloadKinds` in the ConfigMap: a kind whose objects make pods.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadKind {
    /// API group.
    pub group: String,
    /// Kind.
    pub kind: String,
    /// Path of the number of pods, `.spec.replicas` for example; none means the one that the CRD's scale subresource names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas_path: Option<String>,
    /// Path of the pod template; none means [`DEFAULT_TEMPLATE_PATH`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template_path: Option<String>,
}

impl WorkloadKind {
    /// The path of the number of pods, if the configuration has one.
    pub fn replicas(&self) -> Result<Option<JsonPath>, JsonPathError> {
        self.replicas_path.as_deref().map(JsonPath::parse).transpose()
    }

    /// The path of the pod template.
    pub fn template(&self) -> Result<JsonPath, JsonPathError> {
        JsonPath::parse(self.template_path.as_deref().unwrap_or(DEFAULT_TEMPLATE_PATH))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn paths_may_be_left_out() {
        let kind: WorkloadKind = serde_json::from_value(json!({"group": "argoproj.io", "kind": "Rollout"})).unwrap();
        assert_eq!(kind.replicas(), Ok(None));
        assert_eq!(kind.template().unwrap().to_string(), ".spec.template");
    }

    #[test]
    fn paths_are_read_as_paths() {
        let text = json!({
            "group": "example.org", "kind": "Set", "replicasPath": ".spec.size", "templatePath": ".spec.pod",
        });
        let kind: WorkloadKind = serde_json::from_value(text.clone()).unwrap();
        assert_eq!(kind.replicas().unwrap().unwrap().to_string(), ".spec.size");
        assert_eq!(kind.template().unwrap().to_string(), ".spec.pod");
        assert_eq!(serde_json::to_value(&kind).unwrap(), text);
        let broken = WorkloadKind {
            replicas_path: Some("size".to_owned()),
            ..kind
        };
        assert!(broken.replicas().unwrap_err().to_string().contains("\"size\""));
    }
}
