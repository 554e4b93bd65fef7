//! Events on objects, for people who ask `kubectl describe` why.
//!
//! Telling is never allowed to fail or slow down the work it tells about: events go through a bounded queue to one task, and
//! what does not fit is counted and dropped. The same text about the same object is one Event object; when it is said again,
//! its series is counted up, at most once a minute, so that a retry loop does not become a write loop.

use std::collections::HashMap;
use std::time::Duration;

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

const QUEUE: usize = 1024;
const REMEMBERED: usize = 4096;
const REPEAT: Duration = Duration::from_secs(60);
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

/// What is to be written about a telling.
#[derive(Debug, PartialEq, Eq)]
enum Write {
    Create,
    CountUp { name: String, count: i32 },
    Nothing,
}

#[derive(Debug)]
struct Told {
    name: String,
    count: i32,
    written_at: Instant,
}

/// The tellings of late.
#[derive(Debug, Default)]
struct Memory {
    told: HashMap<What, Told>,
}

impl Memory {
    fn decide(&mut self, what: &What, now: Instant) -> Write {
        let Some(told) = self.told.get_mut(what) else {
            return Write::Create;
        };
        told.count = told.count.saturating_add(1);
        if now.saturating_duration_since(told.written_at) < REPEAT {
            return Write::Nothing;
        }
        told.written_at = now;
        Write::CountUp {
            name: told.name.clone(),
            count: told.count,
        }
    }

    fn remember(&mut self, what: What, name: String, now: Instant) {
        if self.told.len() >= REMEMBERED {
            // Rare, so a scan is cheap enough: forget the older half.
            let mut ages: Vec<Instant> = self.told.values().map(|told| told.written_at).collect();
            ages.sort_unstable();
            let middle = ages.get(ages.len() / 2).copied().unwrap_or(now);
            self.told.retain(|_, told| told.written_at > middle);
        }
        self.told.insert(
            what,
            Told {
                name,
                count: 1,
                written_at: now,
            },
        );
    }
}

struct Sender {
    client: Client,
    controller: String,
    instance: String,
    memory: Memory,
}

impl Sender {
    async fn run(&mut self, mut tellings: mpsc::Receiver<Telling>, stop: tokio_util::sync::CancellationToken) {
        while let Some(next) = stop.run_until_cancelled(tellings.recv()).await {
            // Recorders may all be gone while the process lives on.
            let Some(telling) = next else {
                return stop.cancelled().await;
            };
            self.send(telling).await;
        }
        // What was told last often says why the process ends.
        while let Ok(telling) = tellings.try_recv() {
            if !self.send(telling).await {
                return;
            }
        }
    }

    async fn send(&mut self, telling: Telling) -> bool {
        let namespace = telling.about.namespace.clone().unwrap_or_else(|| "default".to_owned());
        let api = Api::<Event>::namespaced(self.client.clone(), &namespace);
        let written = match self.memory.decide(&telling.what, Instant::now()) {
            Write::Nothing => Ok(()),
            Write::Create => self.create(&api, telling).await,
            Write::CountUp { name, count } => match count_up(&api, &name, count).await {
                // Events live for an hour by default.
                Err(failure) if failure.is_not_found() => self.create(&api, telling).await,
                other => other,
            },
        };
        if let Err(error) = &written {
            tracing::warn!(%error, "event lost");
        }
        written.is_ok()
    }

    async fn create(&mut self, api: &Api<Event>, telling: Telling) -> Result<(), Failure<kube::Error>> {
        let event = self.event(&telling, Timestamp::now());
        let name = event.metadata.name.clone().unwrap_or_default();
        let what = format!("creating Event {name} ({})", telling.what.note);
        within(REQUEST, what, api.create(&PostParams::default(), &event)).await?;
        self.memory.remember(telling.what, name, Instant::now());
        Ok(())
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

async fn count_up(api: &Api<Event>, name: &str, count: i32) -> Result<(), Failure<kube::Error>> {
    let series = EventSeries {
        count,
        last_observed_time: MicroTime(Timestamp::now()),
    };
    let patch = Patch::Merge(json!({ "series": series }));
    within(
        REQUEST,
        format!("counting up Event {name}"),
        api.patch(name, &PatchParams::default(), &patch),
    )
    .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn what(note: &str) -> What {
        What {
            uid: "u".to_owned(),
            reason: "PoolExhausted".to_owned(),
            note: note.to_owned(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_same_text_is_written_once_a_minute_and_another_text_at_once() {
        let mut memory = Memory::default();
        assert_eq!(memory.decide(&what("a"), Instant::now()), Write::Create);
        memory.remember(what("a"), "e1".to_owned(), Instant::now());
        assert_eq!(memory.decide(&what("a"), Instant::now()), Write::Nothing);
        assert_eq!(memory.decide(&what("b"), Instant::now()), Write::Create);
        tokio::time::advance(REPEAT).await;
        assert_eq!(
            memory.decide(&what("a"), Instant::now()),
            Write::CountUp {
                name: "e1".to_owned(),
                count: 3
            }
        );
        assert_eq!(memory.decide(&what("a"), Instant::now()), Write::Nothing);
    }

    #[tokio::test(start_paused = true)]
    async fn memory_is_bounded() {
        let mut memory = Memory::default();
        for number in 0..3 * REMEMBERED {
            memory.remember(what(&number.to_string()), "e".to_owned(), Instant::now());
            tokio::time::advance(Duration::from_millis(1)).await;
        }
        assert!(memory.told.len() <= REMEMBERED);
        assert_eq!(
            memory.decide(&what(&(3 * REMEMBERED - 1).to_string()), Instant::now()),
            Write::Nothing
        );
    }

    #[test]
    fn long_notes_are_cut_between_characters() {
        assert_eq!(cut("aé", 2), "a");
        assert_eq!(cut(&"x".repeat(5000), LONGEST_NOTE).len(), LONGEST_NOTE);
    }

    #[tokio::test]
    async fn telling_nobody_neither_fails_nor_waits() {
        for _ in 0..10 {
            Recorder::silent().tell(ObjectReference::default(), Severity::Normal, "Reason", "Act", "note");
        }
    }
}
