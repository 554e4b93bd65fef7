//! The application that a pod belongs to: its controller, or what controls its ReplicaSet or Job.
//!
//! The rule is the operator's too ([`spiderpool_crds::owner`]), so that both speak of the same pool.

use crate::error::RequestError;
use crate::tries;
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::core::PartialObjectMeta;
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use spiderpool_crds::WorkloadKind;
use spiderpool_crds::app::AppKey;
use spiderpool_crds::owner::{Above, MAX_STEPS, above};
use spiderpool_kit::discovery::Scales;
use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// Owners remembered at most. A ReplicaSet has few pods on one node, so old entries are worth little.
const REMEMBERED: usize = 1024;

/// How long it is remembered what controls a ReplicaSet or Job: the pods of one come in bursts.
///
/// The controller may change: a user deletes a Deployment and leaves its ReplicaSets, and a Rollout adopts them. That takes
/// longer than this. Should it not, a pod asks for the pool of the earlier application, which either has an address of
/// its own to give or makes the request fail, and a failure forgets the answer.
const LASTING: Duration = Duration::from_secs(10);

/// Whose pod it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Application {
    /// Its name, which outlives the object.
    pub key: AppKey,
    /// UID of the object.
    pub uid: String,
}

impl Application {
    fn of(owner: &OwnerReference, namespace: &str) -> Self {
        Self {
            key: AppKey::new(&owner.api_version, &owner.kind, namespace, &owner.name),
            uid: owner.uid.clone(),
        }
    }

    fn kind(&self) -> (&str, &str) {
        (&self.key.group, &self.key.kind)
    }
}

/// Finds the applications of pods.
pub struct Owners {
    client: Client,
    scales: Scales,
    /// Kinds that are applications although the API server may not say that they scale.
    listed: Vec<WorkloadKind>,
    /// What controls a ReplicaSet or Job, by the UID of that one, if its pods belong to the controller. That they belong
    /// to the ReplicaSet or Job itself is never remembered: it may be adopted at any moment.
    above: Mutex<HashMap<String, (Instant, Application)>>,
}

impl Owners {
    /// Reads through this client. `listed` are the configured kinds of workloads.
    pub fn new(client: Client, listed: Vec<WorkloadKind>) -> Self {
        Self {
            scales: Scales::new(client.clone()),
            client,
            listed,
            above: Mutex::default(),
        }
    }

    /// The application of a pod. A pod without a controller is its own.
    pub async fn application(&self, pod: &Pod, deadline: Instant) -> Result<Application, RequestError> {
        let namespace = pod.namespace().unwrap_or_default();
        let Some(owner) = controller(pod.owner_references()) else {
            return Ok(Application {
                key: AppKey::new("v1", "Pod", &namespace, &pod.name_any()),
                uid: pod.uid().unwrap_or_default(),
            });
        };
        let mut application = Application::of(owner, &namespace);
        for _ in 0..MAX_STEPS {
            match self.step(pod, &application, deadline).await? {
                Some(above) => application = above,
                None => break,
            }
        }
        Ok(application)
    }

    /// What the pods of a controller belong to instead of it.
    async fn step(
        &self,
        pod: &Pod,
        child: &Application,
        deadline: Instant,
    ) -> Result<Option<Application>, RequestError> {
        if let Some(above) = self.recall(&child.uid)
            && self.is_above(pod, child, &above, deadline).await?
        {
            return Ok(Some(above));
        }
        let above = match child.kind() {
            ("apps", "ReplicaSet") => self.read::<ReplicaSet>(child, deadline).await?,
            ("batch", "Job") => self.read::<Job>(child, deadline).await?,
            _ => None,
        };
        match above {
            Some(above) if self.is_above(pod, child, &above, deadline).await? => {
                self.remember(&child.uid, above.clone());
                Ok(Some(above))
            }
            _ => Ok(None),
        }
    }

    /// Forgets what controls a pod's ReplicaSet or Job: the answer led nowhere, so the next request reads again.
    pub fn forget(&self, pod: &Pod) {
        let mut known = self.lock();
        let mut uid = controller(pod.owner_references()).map(|owner| owner.uid.clone());
        while let Some((_, above)) = uid.and_then(|uid| known.remove(&uid)) {
            uid = Some(above.uid);
        }
    }

    /// Whether the pods of a controller belong to the controller of that one. That some kind scales is asked each time: the
    /// answer is remembered where it is asked, no longer than it is worth.
    async fn is_above(
        &self,
        pod: &Pod,
        child: &Application,
        owner: &Application,
        deadline: Instant,
    ) -> Result<bool, RequestError> {
        let (group, kind) = owner.kind();
        match above(child.kind(), (group, kind)) {
            Above::Owner => return Ok(true),
            Above::Itself => return Ok(false),
            Above::IfItScales => {}
        }
        if self
            .listed
            .iter()
            .any(|listed| listed.group == group && listed.kind == kind)
        {
            return Ok(true);
        }
        let scales = self.scales.has_scale(group, kind, deadline);
        scales.await.map_err(|source| RequestError::Owner {
            pod: format!("{}/{}", child.key.namespace, pod.name_any()),
            child: format!("{} {}", child.key.kind, child.key.name),
            owner: format!("{kind} {}", owner.key.name),
            source: Box::new(source),
        })
    }

    /// What controls a ReplicaSet or Job now.
    async fn read<K>(&self, child: &Application, deadline: Instant) -> Result<Option<Application>, RequestError>
    where
        K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope> + DeserializeOwned + Clone + Debug,
    {
        let (namespace, name) = (&child.key.namespace, &child.key.name);
        let api: Api<PartialObjectMeta<K>> = Api::namespaced(self.client.clone(), namespace);
        let what = format!("read {} {namespace}/{name}, the owner of the Pod", child.key.kind);
        let found = tries::read(what, deadline, || api.get_metadata_opt(name)).await?;
        // An owner that is gone leaves its pods orphaned: they are about to be deleted, or adopted by another.
        let found = found.filter(|object| object.metadata.uid.as_deref() == Some(&child.uid));
        Ok(found
            .and_then(|object| controller(object.owner_references()).map(|above| Application::of(above, namespace))))
    }

    fn recall(&self, uid: &str) -> Option<Application> {
        let known = self.lock();
        let (since, application) = known.get(uid)?;
        (since.elapsed() < LASTING).then(|| application.clone())
    }

    fn remember(&self, uid: &str, application: Application) {
        let mut known = self.lock();
        if known.len() >= REMEMBERED {
            known.clear();
        }
        known.insert(uid.to_owned(), (Instant::now(), application));
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, (Instant, Application)>> {
        self.above.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn controller(owners: &[OwnerReference]) -> Option<&OwnerReference> {
    owners.iter().find(|owner| owner.controller == Some(true))
}

#[cfg(test)]
mod tests;
