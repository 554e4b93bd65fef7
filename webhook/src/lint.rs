//! What is wrong with the annotations of a workload, said when it is stored and not when its pods have no address.
//!
//! Values are read by the parsers that the operator and the agents use. A mistake is something that cannot work; whether it is
//! refused is for the installation to say. What may be meant, and probably is not, is only warned of. Nothing is said of what a
//! controller made: its template was looked at already, and a pod must not be kept from starting by a rule that its workload
//! was stored without.

pub mod handler;
mod mistakes;
mod pods;
mod together;

use std::collections::BTreeMap;
use std::fmt;

use serde_json::Value;
use spiderpool_crds::names::{ANNOTATION_CONFIG_MIRROR, PREFIX};

use crate::review::shortened;
use pods::Pods;

/// Most characters that are said of one annotation.
const MOST_SAID: usize = 500;

/// Annotations of ours.
type Annotations = BTreeMap<String, String>;

/// An annotation that cannot work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// Name of the rule, for metrics.
    pub rule: &'static str,
    /// Path of the annotation, `spec.template.metadata.annotations[ipam.spidernet.io/subnet]`.
    pub field: String,
    /// Its value.
    pub value: String,
    /// What is wrong, and what to write instead.
    pub message: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.message)
    }
}

/// What is to be said of a workload.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lint {
    /// Mistakes that were made just now. An annotation that was so before is warned of.
    pub errors: Vec<Mistake>,
    /// What its author should look at.
    pub warnings: Vec<String>,
}

/// Looks at an object of a kind that makes pods, or a pod, and at the one that it replaces. Of other kinds nothing is said.
pub fn lint(kind: &str, object: &Value, old: Option<&Value>) -> Lint {
    let Some(pods) = Pods::of(kind) else {
        return Lint::default();
    };
    let metadata = &object["metadata"];
    if !metadata["deletionTimestamp"].is_null() || is_made_by_others(metadata) {
        return Lint::default();
    }
    let own = pods.annotations(object);
    if !own.is_empty() && pods.host_network(object) {
        let message = format!(
            "{}: annotations that begin with {PREFIX} have no effect, as the pods use the network of their node",
            pods.field()
        );
        return Lint {
            warnings: vec![message],
            ..Lint::default()
        };
    }
    let before = old.map(|old| pods.annotations(old)).unwrap_or_default();
    let mut lint = Lint::default();
    for mistake in mistakes::of(pods, object, &own) {
        let key = mistake.key;
        let value = own.get(key).cloned().unwrap_or_default();
        let told = Mistake {
            rule: mistake.rule,
            field: format!("{}[{key}]", pods.field()),
            // It quotes what is wrong.
            message: shortened(&mistake.message, MOST_SAID).into_owned(),
            value,
        };
        // Who changes something else did not make the mistake.
        match before.get(key) == Some(&told.value) {
            true => lint.warnings.push(told.to_string()),
            false => lint.errors.push(told),
        }
    }
    lint.warnings.extend(together::advice(pods, object, &own));
    lint.warnings.extend(pods.misplaced(object, &own));
    lint
}

/// Whether an object was made by a controller, or by a kubelet for a pod that runs already.
fn is_made_by_others(metadata: &Value) -> bool {
    let mut owners = metadata["ownerReferences"].as_array().into_iter().flatten();
    let mirror = metadata["annotations"].get(ANNOTATION_CONFIG_MIRROR);
    mirror.is_some() || owners.any(|owner| owner["controller"] == Value::Bool(true))
}

#[cfg(test)]
mod tests;
