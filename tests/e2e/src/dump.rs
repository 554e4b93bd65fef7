//! What is kept of a scene whose test failed.

use std::fmt::Debug;
use std::path::{Path, PathBuf};
use std::time::Duration;

use k8s_openapi::api::core::v1::{Event, Pod};
use kube::api::{DynamicObject, ListParams};
use kube::{Api, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use spiderpool_crds::{SpiderEndpoint, SpiderIPPool, SpiderSubnet};

use crate::scene::Scene;
use crate::shape::WorkloadKind;
use crate::wait::yaml;

/// Names the folder for dumps.
const VARIABLE: &str = "SPIDERPOOL_E2E_LOGS";

/// How long reading one kind may take.
const DEADLINE: Duration = Duration::from_secs(15);

/// Writes down all objects of a scene; the folder, if the environment names one.
pub async fn objects(scene: &Scene) -> Option<PathBuf> {
    let folder = PathBuf::from(std::env::var_os(VARIABLE)?).join(&scene.namespace);
    std::fs::create_dir_all(&folder).ok()?;
    one(&folder, "pods", &scene.api::<Pod>()).await;
    for WorkloadKind { resource, .. } in WorkloadKind::all() {
        let api = Api::<DynamicObject>::namespaced_with(scene.cluster.client.clone(), &scene.namespace, &resource);
        one(&folder, &format!("{}.{}", resource.plural, resource.group), &api).await;
    }
    one(&folder, "events", &scene.api::<Event>()).await;
    one(&folder, "endpoints", &scene.api::<SpiderEndpoint>()).await;
    one(
        &folder,
        "pools",
        &Api::<SpiderIPPool>::all(scene.cluster.client.clone()),
    )
    .await;
    one(
        &folder,
        "subnets",
        &Api::<SpiderSubnet>::all(scene.cluster.client.clone()),
    )
    .await;
    Some(folder)
}

async fn one<K>(folder: &Path, name: &str, api: &Api<K>)
where
    K: Resource + Clone + DeserializeOwned + Serialize + Debug,
{
    let text = match tokio::time::timeout(DEADLINE, api.list(&ListParams::default())).await {
        Ok(Ok(list)) => {
            let objects = list.items.into_iter().map(|mut object| {
                object.meta_mut().managed_fields = None;
                format!("---\n{}", yaml(&object))
            });
            objects.collect()
        }
        // A kind that this cluster does not have.
        Ok(Err(kube::Error::Api(status))) if status.is_not_found() => return,
        Ok(Err(error)) => format!("not read: {error}\n"),
        Err(_) => format!("not read in {DEADLINE:?}\n"),
    };
    // A dump that cannot be written must not hide the failure that it is about.
    let _ = std::fs::write(folder.join(format!("{name}.yaml")), text);
}
