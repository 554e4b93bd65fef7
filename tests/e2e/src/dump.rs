//! What is kept of a scene whose test failed.

use std::path::{Path, PathBuf};
use std::time::Duration;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::Api;
use kube::api::ListParams;
use spiderpool_crds::{SpiderEndpoint, SpiderIPPool, SpiderSubnet};

use crate::scene::Scene;
use crate::wait::{Watched, yaml};

/// Names the folder for dumps.
const VARIABLE: &str = "SPIDERPOOL_E2E_LOGS";

/// How long reading one kind may take.
const DEADLINE: Duration = Duration::from_secs(15);

/// Writes down all objects of a scene; the folder, if the environment names one.
pub async fn objects(scene: &Scene) -> Option<PathBuf> {
    let folder = PathBuf::from(std::env::var_os(VARIABLE)?).join(&scene.namespace);
    std::fs::create_dir_all(&folder).ok()?;
    one(&folder, "pods", &scene.api::<Pod>()).await;
    one(&folder, "deployments", &scene.api::<Deployment>()).await;
    one(&folder, "replicasets", &scene.api::<ReplicaSet>()).await;
    one(&folder, "jobs", &scene.api::<Job>()).await;
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

async fn one<K: Watched>(folder: &Path, name: &str, api: &Api<K>) {
    let text = match tokio::time::timeout(DEADLINE, api.list(&ListParams::default())).await {
        Ok(Ok(list)) => {
            let objects = list.items.into_iter().map(|mut object| {
                object.meta_mut().managed_fields = None;
                format!("---\n{}", yaml(&object))
            });
            objects.collect()
        }
        Ok(Err(error)) => format!("not read: {error}\n"),
        Err(_) => format!("not read in {DEADLINE:?}\n"),
    };
    // A dump that cannot be written must not hide the failure that it is about.
    let _ = std::fs::write(folder.join(format!("{name}.yaml")), text);
}
