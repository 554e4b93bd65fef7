//! Labels and annotations of namespaces and nodes.
//!
//! Few requests need them, so they are read and not watched: a watch of all namespaces on every node costs the API server
//! more than a read now and then.

use crate::context::call;
use crate::error::RequestError;
use k8s_openapi::api::core::v1::{Namespace, Node};
use k8s_openapi::serde::de::DeserializeOwned;
use kube::{Api, Client, Resource, ResourceExt};
use std::collections::{BTreeMap, HashMap};
use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// How long an answer serves other requests. Long enough for the pods of one burst; short enough for somebody who changes an
/// annotation and then makes a pod, whose way to a node takes about as long.
const LASTING: Duration = Duration::from_secs(2);

/// Answers kept at most.
const REMEMBERED: usize = 1024;

const READ_TIMEOUT: Duration = Duration::from_secs(5);

/// What is read of an object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
}

/// Reads namespaces and nodes.
pub struct Surroundings {
    client: Client,
    namespaces: Memory,
    nodes: Memory,
}

impl Surroundings {
    /// Reads through this client.
    pub fn new(client: Client) -> Self {
        Self {
            client,
            namespaces: Memory::default(),
            nodes: Memory::default(),
        }
    }

    /// A namespace.
    pub async fn namespace(&self, name: &str, deadline: Instant) -> Result<Arc<Found>, RequestError> {
        self.find::<Namespace>("Namespace", &self.namespaces, name, deadline)
            .await
    }

    /// A node.
    pub async fn node(&self, name: &str, deadline: Instant) -> Result<Arc<Found>, RequestError> {
        self.find::<Node>("Node", &self.nodes, name, deadline).await
    }

    async fn find<K>(
        &self,
        kind: &str,
        memory: &Memory,
        name: &str,
        deadline: Instant,
    ) -> Result<Arc<Found>, RequestError>
    where
        K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug,
    {
        if let Some(known) = memory.recall(name, Instant::now()) {
            return Ok(known);
        }
        // The age of an answer counts from before the question.
        let asked = Instant::now();
        let limit = deadline.min(asked + READ_TIMEOUT);
        let api: Api<K> = Api::all(self.client.clone());
        let what = || format!("read labels and annotations of {kind} {name}");
        let object = call(limit, what, api.get_metadata(name)).await?;
        let found = Arc::new(Found {
            labels: object.labels().clone(),
            annotations: object.annotations().clone(),
        });
        memory.remember(name, found.clone(), asked);
        Ok(found)
    }
}

/// Answers of late.
#[derive(Default)]
struct Memory(Mutex<HashMap<String, (Instant, Arc<Found>)>>);

impl Memory {
    fn recall(&self, name: &str, now: Instant) -> Option<Arc<Found>> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (asked, found) = known.get(name)?;
        (now.saturating_duration_since(*asked) < LASTING).then(|| found.clone())
    }

    fn remember(&self, name: &str, found: Arc<Found>, asked: Instant) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= REMEMBERED {
            known.retain(|_, (earlier, _)| asked.saturating_duration_since(*earlier) < LASTING);
        }
        if known.len() < REMEMBERED {
            known.insert(name.to_owned(), (asked, found));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_serves_a_burst_and_is_then_asked_for_again() {
        let memory = Memory::default();
        let start = Instant::now();
        assert_eq!(memory.recall("a", start), None);
        memory.remember("a", Arc::default(), start);
        assert!(memory.recall("a", start + LASTING / 2).is_some());
        assert_eq!(memory.recall("a", start + LASTING), None);
        assert_eq!(memory.recall("b", start), None);
    }

    #[test]
    fn answers_are_bounded_and_old_ones_give_way() {
        let memory = Memory::default();
        let start = Instant::now();
        for number in 0..2 * REMEMBERED {
            memory.remember(&number.to_string(), Arc::default(), start);
        }
        assert_eq!(memory.0.lock().unwrap().len(), REMEMBERED);
        memory.remember("later", Arc::default(), start + LASTING);
        assert!(memory.recall("later", start + LASTING).is_some());
        assert_eq!(memory.0.lock().unwrap().len(), 1);
    }
}
