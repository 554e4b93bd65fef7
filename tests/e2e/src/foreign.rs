//! Objects of other programs' kinds, which tests make where those programs do not run: the kinds have no controller, so the tests
//! make the pods as well.

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::ApiResource;
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use crate::definition;
use crate::scene::Scene;
use crate::wait::{SOON, until};
use crate::workload::{self, Annotations};

/// A kind of another program.
pub struct Foreign<'a> {
    scene: &'a Scene,
    resource: ApiResource,
}

impl<'a> Foreign<'a> {
    /// Makes the definition where there is none, and waits until the kind is served. It stays, since other tests may use it.
    pub async fn define(scene: &'a Scene, resource: ApiResource) -> Result<Self> {
        let definitions = Api::all(scene.cluster.client.clone());
        definition::define(definitions, &resource, &definition::anything(), &Value::Null).await?;
        let name = definition::name(&resource);
        let kind = Self { scene, resource };
        // The API server begins to serve a kind a moment after it says so.
        until(&format!("{name} to be served"), SOON, async || {
            Ok(kind.api().list(&kube::api::ListParams::default()).await.ok())
        })
        .await?;
        Ok(kind)
    }

    fn api(&self) -> Api<DynamicObject> {
        Api::namespaced_with(self.scene.cluster.client.clone(), &self.scene.namespace, &self.resource)
    }

    /// Makes an object with this spec, controlled by another one or nobody.
    pub async fn make(&self, name: &str, spec: Value, controller: Option<Value>) -> Result<DynamicObject> {
        let object = json!({
            "apiVersion": self.resource.api_version,
            "kind": self.resource.kind,
            "metadata": {"name": name, "ownerReferences": controller.map(|owner| json!([owner]))},
            "spec": spec,
        });
        let what = || format!("making {} {name}", self.resource.kind);
        let object: DynamicObject = serde_json::from_value(object).with_context(what)?;
        self.api()
            .create(&PostParams::default(), &object)
            .await
            .with_context(what)
    }

    /// Changes an object by a merge patch.
    pub async fn patch(&self, name: &str, change: &Value) -> Result<()> {
        let what = || format!("changing {} {name}", self.resource.kind);
        self.api()
            .patch(name, &PatchParams::default(), &Patch::Merge(change))
            .await
            .with_context(what)
            .map(drop)
    }

    /// Deletes an object; what it owns is left to who owns it.
    pub async fn delete(&self, name: &str) -> Result<()> {
        let what = || format!("deleting {} {name}", self.resource.kind);
        self.api()
            .delete(name, &DeleteParams::default())
            .await
            .with_context(what)
            .map(drop)
    }

    /// The reference to an object that controls another.
    pub fn reference(&self, object: &DynamicObject) -> Value {
        json!({
            "apiVersion": self.resource.api_version,
            "kind": self.resource.kind,
            "name": object.name_any(),
            "uid": object.uid(),
            "controller": true,
        })
    }

    /// Makes a pod that an object controls, on a node. Its label `app` is its name.
    pub async fn make_pod(
        &self,
        owner: &DynamicObject,
        name: &str,
        node: &str,
        annotations: &Annotations,
    ) -> Result<Pod> {
        let mut pod = workload::pod(name, node, annotations)?;
        pod.metadata.owner_references =
            serde_json::from_value(json!([self.reference(owner)])).context("making a reference")?;
        self.scene.create(&pod).await
    }
}
