//! Where an object says something about pods.

use serde::de::DeserializeOwned;
use serde_json::Value;
use spiderpool_crds::names::PREFIX;
use spiderpool_crds::native::{MakesPods, Workload};

use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, StatefulSet};
use k8s_openapi::api::batch::v1::{CronJob, Job};

use super::{Annotations, mistakes};

/// A kind of object with the annotations of pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pods {
    Pod,
    Deployment,
    StatefulSet,
    DaemonSet,
    Job,
    CronJob,
}

impl Pods {
    pub(super) fn of(kind: &str) -> Option<Self> {
        Some(match kind {
            "Pod" => Self::Pod,
            "Deployment" => Self::Deployment,
            "StatefulSet" => Self::StatefulSet,
            "DaemonSet" => Self::DaemonSet,
            "Job" => Self::Job,
            "CronJob" => Self::CronJob,
            _ => return None,
        })
    }

    /// Path of the pod or its template.
    const fn template(self) -> &'static str {
        match self {
            Self::Pod => "",
            Self::CronJob => "/spec/jobTemplate/spec/template",
            Self::Deployment | Self::StatefulSet | Self::DaemonSet | Self::Job => "/spec/template",
        }
    }

    /// Paths of metadata that no pod gets.
    const fn outer(self) -> &'static [&'static str] {
        match self {
            Self::Pod => &[],
            Self::CronJob => &["/metadata", "/spec/jobTemplate/metadata"],
            Self::Deployment | Self::StatefulSet | Self::DaemonSet | Self::Job => &["/metadata"],
        }
    }

    /// The field with the annotations of the pods, as users write it.
    pub(super) const fn field(self) -> &'static str {
        match self {
            Self::Pod => "metadata.annotations",
            Self::CronJob => "spec.jobTemplate.spec.template.metadata.annotations",
            Self::Deployment | Self::StatefulSet | Self::DaemonSet | Self::Job => "spec.template.metadata.annotations",
        }
    }

    /// The annotations of the pods, as Multus and we read them.
    pub(super) fn all(self, object: &Value) -> Annotations {
        annotations(object, &format!("{}/metadata", self.template()))
    }

    /// The annotations of ours.
    pub(super) fn annotations(self, object: &Value) -> Annotations {
        let mut own = self.all(object);
        own.retain(|key, _| key.starts_with(PREFIX));
        own
    }

    pub(super) fn host_network(self, object: &Value) -> bool {
        let field = object.pointer(&format!("{}/spec/hostNetwork", self.template()));
        field == Some(&Value::Bool(true))
    }

    /// What the operator understands of the object; none of a pod, and of what it cannot read.
    pub(super) fn workload(self, object: &Value) -> Option<Workload> {
        match self {
            Self::Pod => None,
            Self::Deployment => workload::<Deployment>(object),
            Self::StatefulSet => workload::<StatefulSet>(object),
            Self::DaemonSet => workload::<DaemonSet>(object),
            Self::Job => workload::<Job>(object),
            Self::CronJob => workload::<CronJob>(object),
        }
    }

    /// Hints about annotations that stand where no pod gets them.
    pub(super) fn misplaced(self, object: &Value, own: &Annotations) -> Vec<String> {
        let mut hints = Vec::new();
        for path in self.outer() {
            let outer = annotations(object, path);
            let missing = outer.keys().filter(|key| !own.contains_key(*key));
            let ours = missing.filter(|key| mistakes::is_for_pods(key));
            let field = path.trim_start_matches('/').replace('/', ".");
            hints.extend(ours.map(|key| {
                format!(
                    "{field}.annotations[{key}]: pods do not get it and it has no effect here; write it into {}",
                    self.field()
                )
            }));
        }
        hints
    }
}

fn workload<K: DeserializeOwned + MakesPods>(object: &Value) -> Option<Workload> {
    let object = K::deserialize(object).ok()?;
    Some(object.workload())
}

fn annotations(object: &Value, metadata: &str) -> Annotations {
    let members = object
        .pointer(metadata)
        .and_then(|metadata| metadata["annotations"].as_object());
    let text = |(key, value): (&String, &Value)| Some((key.clone(), value.as_str()?.to_owned()));
    members.into_iter().flatten().filter_map(text).collect()
}
