//! The kinds of workloads that have automatic pools, handled alike, so that one test can walk through the life of each.

use std::fmt;

use anyhow::{Context, Result};
use kube::core::ApiResource;
use serde_json::{Value, json};

use crate::workload::{self, Annotations};

/// How a kind says how many pods it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// By `spec.replicas`.
    Replicas,
    /// One on each node that its node selector fits.
    Nodes,
    /// By `spec.parallelism`, and its template cannot be changed.
    Parallel,
    /// By what it has in `spec.jobTemplate`.
    Cron,
}

/// A kind of workload.
#[derive(Clone, Debug)]
pub struct WorkloadKind {
    /// How the API server calls it.
    pub resource: ApiResource,
    /// How its size is said.
    pub shape: Shape,
    /// What the kind needs in its spec beside replicas, selector and template.
    pub more: Value,
}

impl fmt::Display for WorkloadKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.resource.kind, self.resource.api_version)
    }
}

impl WorkloadKind {
    /// A kind with replicas and a pod template at the usual places.
    pub fn of(group: &str, version: &str, kind: &str, plural: &str) -> Self {
        let api_version = format!("{group}/{version}");
        Self {
            resource: ApiResource {
                group: group.to_owned(),
                version: version.to_owned(),
                api_version,
                kind: kind.to_owned(),
                plural: plural.to_owned(),
            },
            shape: Shape::Replicas,
            more: json!({}),
        }
    }

    fn shaped(self, shape: Shape) -> Self {
        Self { shape, ..self }
    }

    fn with(self, more: Value) -> Self {
        Self { more, ..self }
    }

    /// Deployment.
    pub fn deployment() -> Self {
        Self::of("apps", "v1", "Deployment", "deployments")
    }

    /// ReplicaSet of nobody.
    pub fn replica_set() -> Self {
        Self::of("apps", "v1", "ReplicaSet", "replicasets")
    }

    /// StatefulSet.
    pub fn stateful_set() -> Self {
        Self::of("apps", "v1", "StatefulSet", "statefulsets")
            .with(json!({"serviceName": "none", "podManagementPolicy": "Parallel"}))
    }

    /// DaemonSet.
    pub fn daemon_set() -> Self {
        Self::of("apps", "v1", "DaemonSet", "daemonsets").shaped(Shape::Nodes)
    }

    /// Job of nobody.
    pub fn job() -> Self {
        Self::of("batch", "v1", "Job", "jobs").shaped(Shape::Parallel)
    }

    /// CronJob.
    pub fn cron_job() -> Self {
        // Its Jobs are made by the tests, which cannot wait for the next minute.
        Self::of("batch", "v1", "CronJob", "cronjobs")
            .shaped(Shape::Cron)
            .with(json!({"schedule": "0 0 1 1 *", "suspend": true}))
    }

    /// Rollout of Argo Rollouts.
    pub fn rollout() -> Self {
        Self::of("argoproj.io", "v1alpha1", "Rollout", "rollouts")
            .with(json!({"strategy": {"canary": {"maxSurge": 1, "maxUnavailable": 0}}}))
    }

    /// CloneSet of OpenKruise.
    pub fn clone_set() -> Self {
        Self::of("apps.kruise.io", "v1alpha1", "CloneSet", "clonesets")
    }

    /// Advanced StatefulSet of OpenKruise.
    pub fn advanced_stateful_set() -> Self {
        Self::of("apps.kruise.io", "v1beta1", "StatefulSet", "statefulsets")
            .with(json!({"serviceName": "none", "podManagementPolicy": "Parallel"}))
    }

    /// Advanced DaemonSet of OpenKruise.
    pub fn advanced_daemon_set() -> Self {
        Self::of("apps.kruise.io", "v1alpha1", "DaemonSet", "daemonsets").shaped(Shape::Nodes)
    }

    /// All kinds of these; a cluster may lack the third-party ones.
    pub fn all() -> [Self; 10] {
        [
            Self::deployment(),
            Self::replica_set(),
            Self::stateful_set(),
            Self::daemon_set(),
            Self::job(),
            Self::cron_job(),
            Self::rollout(),
            Self::clone_set(),
            Self::advanced_stateful_set(),
            Self::advanced_daemon_set(),
        ]
    }

    /// A workload of this kind. Pods of a kind that follows nodes run where the node has the label `place`.
    pub fn workload(&self, name: &str, pods: i32, annotations: &Annotations, place: &str) -> Result<Value> {
        let mut template = template(name, annotations)?;
        let selector = json!({"matchLabels": {"app": name}});
        let mut spec = match self.shape {
            Shape::Replicas => json!({"replicas": pods, "selector": selector, "template": template}),
            Shape::Nodes => {
                template["spec"]["nodeSelector"] = json!({place: "true"});
                json!({"selector": selector, "template": template})
            }
            Shape::Parallel | Shape::Cron => {
                template["spec"]["restartPolicy"] = json!("Never");
                let job = json!({"parallelism": pods, "template": template});
                if self.shape == Shape::Cron {
                    json!({"jobTemplate": {"spec": job}})
                } else {
                    job
                }
            }
        };
        for (key, value) in self.more.as_object().into_iter().flatten() {
            spec[key] = value.clone();
        }
        Ok(json!({
            "apiVersion": self.resource.api_version,
            "kind": self.resource.kind,
            "metadata": {"name": name},
            "spec": spec,
        }))
    }

    /// The merge patch that changes the number of pods; none where no member of the object says it.
    pub fn sized(&self, pods: i32) -> Option<Value> {
        match self.shape {
            Shape::Replicas => Some(json!({"spec": {"replicas": pods}})),
            Shape::Nodes => None,
            Shape::Parallel => Some(json!({"spec": {"parallelism": pods}})),
            Shape::Cron => Some(json!({"spec": {"jobTemplate": {"spec": {"parallelism": pods}}}})),
        }
    }

    /// The merge patch that changes annotations of the pod template; none where it cannot be changed.
    pub fn annotated(&self, annotations: &Value) -> Option<Value> {
        let template = json!({"template": {"metadata": {"annotations": annotations}}});
        match self.shape {
            Shape::Replicas | Shape::Nodes => Some(json!({"spec": template})),
            Shape::Parallel => None,
            Shape::Cron => Some(json!({"spec": {"jobTemplate": {"spec": template}}})),
        }
    }
}

/// The pods of all kinds: they sleep.
fn template(name: &str, annotations: &Annotations) -> Result<Value> {
    let deployment = workload::deployment(name, 1, annotations)?;
    let spec = deployment.spec.context("a Deployment without spec")?;
    let mut template = serde_json::to_value(spec.template).context("making a pod template")?;
    // Some kinds replace pods one by one on the same node.
    template["spec"]["topologySpreadConstraints"] = Value::Null;
    Ok(template)
}
