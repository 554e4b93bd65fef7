//! What users should not do, done by tests on purpose.

use std::sync::PoisonError;

use anyhow::{Context, Result};
use kube::ResourceExt;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use crate::scene::Scene;

impl Scene {
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
