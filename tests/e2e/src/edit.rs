//! What users should not do, done by tests on purpose.

use std::fmt::Debug;
use std::sync::PoisonError;

use anyhow::{Context, Result};
use kube::api::{Patch, PatchParams};
use kube::{Api, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::scene::Scene;

impl Scene {
    /// Objects of a kind, written past the webhook. So objects get in that are wrong in a way that the API server cannot see.
    pub fn unjudged<K: Resource<DynamicType = ()>>(&self) -> Result<Api<K>> {
        Ok(Api::all(self.cluster.unjudged()?))
    }

    /// Changes the spec of an object that has no namespace past the webhook.
    pub async fn spoil<K>(&self, name: &str, spec: &Value) -> Result<()>
    where
        K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
    {
        let change = json!({"spec": spec});
        let objects: Api<K> = self.unjudged()?;
        let what = || format!("writing {spec} into {} {name} past the webhook", K::kind(&()));
        objects
            .patch(name, &PatchParams::default(), &Patch::Merge(&change))
            .await
            .with_context(what)
            .map(drop)
    }

    /// Writes `status.controlledIPPools` of a subnet, or takes it away. The state that this makes is no violation: whoever
    /// repairs it has to do so with his next write.
    pub async fn edit_accounting(&self, subnet: &str, text: Option<&Value>) -> Result<()> {
        let change = json!({"status": {"controlledIPPools": text.map(Value::to_string)}});
        let subnets = self.subnets();
        let edited = subnets
            .patch_status(subnet, &PatchParams::default(), &Patch::Merge(&change))
            .await
            .with_context(|| format!("editing the accounting of {subnet}"))?;
        let version = edited.resource_version().and_then(|text| text.parse::<u64>().ok());
        let mut edits = self.edits.lock().unwrap_or_else(PoisonError::into_inner);
        edits.extend(version);
        Ok(())
    }
}
