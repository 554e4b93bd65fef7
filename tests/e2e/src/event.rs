//! Events: where users read why something does not go on.

use std::time::Duration;

use anyhow::Result;
use k8s_openapi::api::core::v1::Event;
use kube::Api;
use kube::runtime::watcher;

use crate::scene::Scene;
use crate::wait;

impl Scene {
    /// Waits for an Event about an object with this reason whose message contains all of these texts.
    pub async fn event(
        &self,
        kind: &str,
        name: &str,
        reason: &str,
        texts: &[&str],
        deadline: Duration,
    ) -> Result<Event> {
        event_of(&self.api(), (kind, name), reason, texts, deadline).await
    }

    /// As [`Self::event`], about a pool.
    pub async fn pool_event(&self, pool: &str, reason: &str, texts: &[&str], deadline: Duration) -> Result<Event> {
        self.cluster_event("SpiderIPPool", pool, reason, texts, deadline).await
    }

    /// As [`Self::event`], about what has no namespace: such Events are in a namespace that is none of the scene's.
    pub async fn cluster_event(
        &self,
        kind: &str,
        name: &str,
        reason: &str,
        texts: &[&str],
        deadline: Duration,
    ) -> Result<Event> {
        let events = Api::all(self.cluster.client.clone());
        event_of(&events, (kind, name), reason, texts, deadline).await
    }

    /// Waits until the kubelet says about one of the pods of a workload why it has no address.
    pub async fn sandbox_failure(&self, workload: &str, texts: &[&str], deadline: Duration) -> Result<Event> {
        let what = format!("an Event FailedCreatePodSandBox about a pod of {workload} with {texts:?}");
        let config = watcher::Config::default().fields("involvedObject.kind=Pod,reason=FailedCreatePodSandBox");
        let pods = format!("{workload}-");
        wait::objects(&self.api(), config, &what, deadline, |events| {
            let fits = |event: &&Event| {
                let name = event.involved_object.name.as_deref().unwrap_or_default();
                let message = event.message.as_deref().unwrap_or_default();
                name.starts_with(&pods) && texts.iter().all(|text| message.contains(text))
            };
            Ok(events.values().find(fits).cloned())
        })
        .await
    }
}

async fn event_of(
    events: &Api<Event>,
    (kind, name): (&str, &str),
    reason: &str,
    texts: &[&str],
    deadline: Duration,
) -> Result<Event> {
    let fields = format!("involvedObject.kind={kind},involvedObject.name={name},reason={reason}");
    let what = format!("an Event {reason} about {kind} {name} with {texts:?}");
    let config = watcher::Config::default().fields(&fields);
    wait::objects(events, config, &what, deadline, |events| {
        let fits = |event: &&Event| {
            let message = event.message.as_deref().unwrap_or_default();
            texts.iter().all(|text| message.contains(text))
        };
        Ok(events.values().find(fits).cloned())
    })
    .await
}
