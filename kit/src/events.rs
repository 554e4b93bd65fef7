//! Events on objects, for people who ask `kubectl describe` why.
//!
//! Telling is never allowed to fail or slow down the work it tells about: events go through a bounded queue to one task, and
//! what does not fit is dropped. The task writes several at once, so that users are told soon also by a slow API server. The same text about the same object is one Event object; when it is said again,
//! its series is counted up, at most once a minute, so that a retry loop does not become a write loop.

mod memory;

use std::time::Duration;

use futures::future::{BoxFuture, FutureExt};
use futures::stream::{FuturesUnordered, StreamExt};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::{Event, EventSeries};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{Patch, PatchParams, PostParams};
use kube::core::ObjectMeta;
use kube::{Api, Client};
use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::deadline::{Failure, within};
use crate::shutdown::Process;
use memory::{Memory, Write};

const QUEUE: usize = 1024;
/// Writes that are on their way at once, at most.
const AT_ONCE: usize = 8;
const REQUEST: Duration = Duration::from_secs(5);
/// What the API server accepts.
const LONGEST_NOTE: usize = 1024;
const LONGEST_REASON: usize = 128;

/// Is an event part of the normal course of things?
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Severity {
    /// Something happened.
    Normal,
    /// Somebody should look.
    Warning,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct What {
    uid: String,
    reason: String,
    note: String,
}

#[derive(Debug)]
struct Telling {
    about: ObjectReference,
    severity: Severity,
    action: String,
    what: What,
}

/// Sends events. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Recorder {
    queue: mpsc::Sender<Telling>,
}

impl Recorder {
    /// Starts the task that sends. `controller` names the program (`spiderpool-controller`), `instance` this replica (the
    /// pod's name).
    pub fn start(process: &Process, client: Client, controller: &str, instance: &str) -> Self {
        let (queue, tellings) = mpsc::channel(QUEUE);
        let mut sender = Sender {
            client,
            controller: controller.to_owned(),
            instance: instance.to_owned(),
            memory: Memory::default(),
        };
        let token = process.token();
        process.spawn_infallible("event recorder", async move { sender.run(tellings, token).await });
        Self { queue }
    }

    /// A recorder that tells nobody, for tests and tools.
    pub fn silent() -> Self {
        Self {
            queue: mpsc::channel(1).0,
        }
    }

    /// Tells `note` about an object (see `Resource::object_ref`, which must carry the UID for `kubectl describe` to find
    /// it). `reason` is a stable CamelCase word, `action` what was being done. Returns at once and cannot fail.
    pub fn tell(&self, about: ObjectReference, severity: Severity, reason: &str, action: &str, note: &str) {
        let what = What {
            uid: about.uid.clone().unwrap_or_default(),
            reason: cut(reason, LONGEST_REASON),
            note: cut(note, LONGEST_NOTE),
        };
        let telling = Telling {
            about,
            severity,
            action: cut(action, LONGEST_REASON),
            what,
        };
        if let Err(mpsc::error::TrySendError::Full(lost)) = self.queue.try_send(telling) {
            tracing::warn!(
                reason = lost.what.reason,
                note = lost.what.note,
                "too many events at once, dropped one"
            );
        }
    }
}

/// The longest start of `text` that has at most `limit` bytes.
fn cut(text: &str, limit: usize) -> String {
    let end = (0..=limit.min(text.len()))
        .rev()
        .find(|end| text.is_char_boundary(*end));
    text[..end.unwrap_or(0)].to_owned()
}

struct Sender {
    client: Client,
    controller: String,
    instance: String,
    memory: Memory,
}

/// Writes that are on their way.
type Writes = FuturesUnordered<BoxFuture<'static, Written>>;

/// Which write it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Create,
    CountUp,
}

/// How a write ended.
struct Written {
    telling: Telling,
    /// Name of the Event.
    name: String,
    kind: Kind,
    outcome: Result<(), Failure<kube::Error>>,
}

impl Sender {
    async fn run(&mut self, mut tellings: mpsc::Receiver<Telling>, stop: tokio_util::sync::CancellationToken) {
        let mut writes = Writes::new();
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some(written) = writes.next(), if !writes.is_empty() => {
                    self.finish(written, &mut writes);
                }
                next = tellings.recv(), if writes.len() < AT_ONCE => match next {
                    Some(telling) => self.begin(telling, &mut writes),
                    // Recorders may all be gone while the process lives on.
                    None => break,
                },
            }
        }
        // What was told last often says why the process ends.
        loop {
            while writes.len() < AT_ONCE
                && let Ok(telling) = tellings.try_recv()
            {
                self.begin(telling, &mut writes);
            }
            let Some(written) = writes.next().await else { break };
            if !self.finish(written, &mut writes) {
                break;
            }
        }
        stop.cancelled().await;
    }

    /// Starts what a telling needs. The same text is not written twice while the first is on its way.
    fn begin(&mut self, telling: Telling, writes: &mut Writes) {
        let now = Instant::now();
        let namespace = telling.about.namespace.clone().unwrap_or_else(|| "default".to_owned());
        let api = Api::<Event>::namespaced(self.client.clone(), &namespace);
        match self.memory.decide(&telling.what, now) {
            Write::Nothing => {}
            Write::Create => {
                let event = self.event(&telling, Timestamp::now());
                let name = event.metadata.name.clone().unwrap_or_default();
                self.memory.remember(telling.what.clone(), name.clone(), now);
                writes.push(create(api, event, name, telling).boxed());
            }
            Write::CountUp { name, count } => writes.push(count_up(api, name, count, telling).boxed()),
        }
    }

    /// Takes in how a write ended; whether it was written.
    fn finish(&mut self, written: Written, writes: &mut Writes) -> bool {
        let Written {
            telling,
            name,
            kind,
            outcome,
        } = written;
        let Err(error) = outcome else { return true };
        // Events live for an hour by default.
        let expired = kind == Kind::CountUp && error.is_not_found();
        if expired || kind == Kind::Create {
            self.memory.forget(&telling.what, &name);
        }
        if expired {
            self.begin(telling, writes);
            return true;
        }
        tracing::warn!(%error, "event lost");
        false
    }

    fn event(&self, telling: &Telling, now: Timestamp) -> Event {
        let about = &telling.about;
        // Object names have up to 253 bytes and so may an Event's name have.
        let stem = cut(about.name.as_deref().unwrap_or("object"), 230);
        Event {
            action: Some(telling.action.clone()),
            event_time: Some(MicroTime(now)),
            metadata: ObjectMeta {
                name: Some(format!(
                    "{}.{:x}",
                    stem.trim_end_matches(['.', '-']),
                    now.as_nanosecond()
                )),
                namespace: Some(about.namespace.clone().unwrap_or_else(|| "default".to_owned())),
                ..ObjectMeta::default()
            },
            note: Some(telling.what.note.clone()),
            reason: Some(telling.what.reason.clone()),
            regarding: Some(about.clone()),
            reporting_controller: Some(self.controller.clone()),
            reporting_instance: Some(self.instance.clone()),
            type_: Some(
                match telling.severity {
                    Severity::Normal => "Normal",
                    Severity::Warning => "Warning",
                }
                .to_owned(),
            ),
            ..Event::default()
        }
    }
}

async fn create(api: Api<Event>, event: Event, name: String, telling: Telling) -> Written {
    let what = format!("creating Event {name} ({})", telling.what.note);
    let created = within(REQUEST, what, api.create(&PostParams::default(), &event)).await;
    Written {
        telling,
        name,
        kind: Kind::Create,
        outcome: created.map(drop),
    }
}

async fn count_up(api: Api<Event>, name: String, count: i32, telling: Telling) -> Written {
    let series = EventSeries {
        count,
        last_observed_time: MicroTime(Timestamp::now()),
    };
    let patch = Patch::Merge(json!({ "series": series }));
    let what = format!("counting up Event {name}");
    let counted = within(REQUEST, what, api.patch(&name, &PatchParams::default(), &patch)).await;
    Written {
        telling,
        name,
        kind: Kind::CountUp,
        outcome: counted.map(drop),
    }
}

#[cfg(test)]
mod tests;
