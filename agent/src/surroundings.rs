//! Labels and annotations of namespaces and nodes.
//!
//! Few requests need them, so they are read and not watched: a watch of all namespaces on every node costs the API server
//! more than a read now and then.

use crate::error::RequestError;
use crate::tries;
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
        let what = || format!("read labels and annotations of {kind} {name}");
        let slot = memory.slot(name, Instant::now());
        // Who comes while the answer is on its way waits for it instead of asking too: bursts are of one namespace.
        let turn = tokio::time::timeout_at(deadline, slot.lock()).await;
        let mut slot = turn.map_err(|_| RequestError::Api {
            what: what(),
            reason: "the API server did not answer earlier requests in time".to_owned(),
        })?;
        // The age of an answer counts from before the question.
        let asked = Instant::now();
        if let Some(known) = slot.as_ref().filter(|known| known.is_fresh(asked)) {
            return Ok(known.found.clone());
        }
        let api: Api<K> = Api::all(self.client.clone());
        let object = tries::read(what(), deadline, || api.get_metadata(name)).await?;
        let found = Arc::new(Found {
            labels: object.labels().clone(),
            annotations: object.annotations().clone(),
        });
        *slot = Some(Answer {
            asked,
            found: found.clone(),
        });
        Ok(found)
    }
}

/// An answer of late.
#[derive(Debug)]
struct Answer {
    asked: Instant,
    found: Arc<Found>,
}

impl Answer {
    fn is_fresh(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.asked) < LASTING
    }
}

/// Held by whoever asks.
type Slot = Arc<tokio::sync::Mutex<Option<Answer>>>;

/// Answers by name.
#[derive(Default)]
struct Memory(Mutex<HashMap<String, Slot>>);

impl Memory {
    /// The slot of a name. When there are too many, those go that nobody asks for and whose answer is old; while there are none
    /// such, the answer is not kept.
    fn slot(&self, name: &str, now: Instant) -> Slot {
        let mut slots = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = slots.get(name) {
            return known.clone();
        }
        if slots.len() >= REMEMBERED {
            slots.retain(|_, slot| {
                slot.try_lock().map_or(true, |answer| {
                    answer.as_ref().is_some_and(|answer| answer.is_fresh(now))
                })
            });
        }
        let slot = Slot::default();
        if slots.len() < REMEMBERED {
            slots.insert(name.to_owned(), slot.clone());
        }
        slot
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(memory: &Memory, name: &str, asked: Instant) {
        let found = Arc::default();
        *memory.slot(name, asked).try_lock().unwrap() = Some(Answer { asked, found });
    }

    fn is_known(memory: &Memory, name: &str, now: Instant) -> bool {
        let slot = memory.slot(name, now);
        slot.try_lock()
            .unwrap()
            .as_ref()
            .is_some_and(|answer| answer.is_fresh(now))
    }

    #[test]
    fn an_answer_serves_a_burst_and_is_then_asked_for_again() {
        let memory = Memory::default();
        let start = Instant::now();
        assert!(!is_known(&memory, "a", start));
        answer(&memory, "a", start);
        assert!(is_known(&memory, "a", start + LASTING / 2));
        assert!(!is_known(&memory, "a", start + LASTING));
        assert!(!is_known(&memory, "b", start));
    }

    #[test]
    fn answers_are_bounded_and_old_ones_give_way() {
        let memory = Memory::default();
        let start = Instant::now();
        for number in 0..2 * REMEMBERED {
            answer(&memory, &number.to_string(), start);
        }
        assert_eq!(memory.0.lock().unwrap().len(), REMEMBERED);
        answer(&memory, "later", start + LASTING);
        assert!(is_known(&memory, "later", start + LASTING));
        assert_eq!(memory.0.lock().unwrap().len(), 1);
    }
}
