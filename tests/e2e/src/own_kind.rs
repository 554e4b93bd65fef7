//! A kind of workload that nobody has heard of: the test makes its definition, the rights to it, and its pods.

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::rbac::v1::ClusterRole;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DeleteParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::json;

use crate::definition;
use crate::leave::delete_if_there;
use crate::life::Workload;
use crate::scene::Scene;
use crate::shape::WorkloadKind;
use crate::wait::LONG;
use crate::workload::{self, Annotations};

/// Label of ClusterRoles whose rules the operator gets.
const AGGREGATE: &str = "ipam.spidernet.io/aggregate-to-controller";

/// A kind that one test made.
pub struct OwnKind<'a> {
    scene: &'a Scene,
    /// The kind.
    pub kind: WorkloadKind,
}

impl<'a> OwnKind<'a> {
    /// A kind of a group that only this scene has. It does not exist yet.
    pub fn new(scene: &'a Scene, kind: &str) -> Self {
        let group = format!("e2e-{}.example.com", scene.number);
        let plural = format!("{}s", kind.to_ascii_lowercase());
        Self {
            scene,
            kind: WorkloadKind::of(&group, "v1", kind, &plural),
        }
    }

    fn definitions(&self) -> Api<CustomResourceDefinition> {
        Api::all(self.scene.cluster.client.clone())
    }

    fn definition(&self) -> String {
        definition::name(&self.kind.resource)
    }

    /// Makes its definition, with a scale subresource, and waits until it is served.
    pub async fn define(&self) -> Result<()> {
        let mut spec = definition::anything();
        spec["properties"] = json!({"replicas": {"type": "integer", "format": "int32"}});
        let subresources = json!({
            "status": {},
            "scale": {"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas"},
        });
        definition::define(self.definitions(), &self.kind.resource, &spec, &subresources).await
    }

    /// Removes its definition, and with it all objects.
    pub async fn remove(&self) -> Result<()> {
        self.withdraw().await?;
        delete_if_there(&self.definitions(), &self.definition()).await?;
        crate::wait::gone(&self.definitions(), &self.definition(), LONG).await
    }

    fn roles(&self) -> Api<ClusterRole> {
        Api::all(self.scene.cluster.client.clone())
    }

    fn role(&self) -> String {
        self.scene.own(&self.kind.resource.plural)
    }

    /// Lets the operator read it, as the documentation says.
    pub async fn grant(&self) -> Result<()> {
        let object = json!({
            "metadata": {"name": self.role(), "labels": {AGGREGATE: "true"}},
            "rules": [{
                "apiGroups": [self.kind.resource.group],
                "resources": [self.kind.resource.plural],
                "verbs": ["get", "list", "watch"],
            }],
        });
        let what = || format!("granting rights to {}", self.kind);
        let object: ClusterRole = serde_json::from_value(object).with_context(what)?;
        self.roles()
            .create(&PostParams::default(), &object)
            .await
            .with_context(what)
            .map(drop)
    }

    /// Takes that right away again, if there is one.
    pub async fn withdraw(&self) -> Result<()> {
        delete_if_there(&self.roles(), &self.role()).await
    }

    /// Makes a pod as the kind's controller would, on the first node. Its label `app` is the workload's name.
    pub async fn make_pod(&self, workload: &Workload<'_>, name: &str, annotations: &Annotations) -> Result<Pod> {
        let owner = workload.get().await?;
        let node = &self.scene.cluster.first_node()?.name;
        let mut pod = workload::pod(name, node, annotations)?;
        pod.labels_mut().insert("app".to_owned(), workload.name.to_owned());
        let reference = json!([{
            "apiVersion": self.kind.resource.api_version,
            "kind": self.kind.resource.kind,
            "name": workload.name,
            "uid": owner.uid(),
            "controller": true,
        }]);
        pod.metadata.owner_references = serde_json::from_value(reference).context("making a reference")?;
        self.scene.create(&pod).await
    }

    /// Deletes a workload and its pods; the garbage collector needs half a minute to know a new kind.
    pub async fn end(&self, workload: &Workload<'_>) -> Result<()> {
        workload.delete(kube::api::PropagationPolicy::Background).await?;
        let pods = kube::api::ListParams::default().labels(&format!("app={}", workload.name));
        self.scene
            .api::<Pod>()
            .delete_collection(&DeleteParams::default(), &pods)
            .await
            .context("deleting pods")?;
        self.scene.running(workload.name, 0, LONG).await.map(drop)
    }
}
