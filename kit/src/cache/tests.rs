//! The watch loop against an API server that answers from a script: what a real one does only when it fails.

use axum::body::Body as Answer;
use http::{Request, Response};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::*;
use crate::shutdown::Process;

mod dynamic;
mod refused;

const DEADLINE: Duration = Duration::from_secs(600);

fn soon() -> Instant {
    Instant::now() + DEADLINE
}

fn map(name: &str, uid: &str, revision: u64) -> Value {
    json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata":
        { "namespace": "ns", "name": name, "uid": uid, "resourceVersion": revision.to_string(),
          "managedFields": [{ "manager": "somebody" }] } })
}

fn object(name: &str, uid: &str, revision: u64) -> ConfigMap {
    serde_json::from_value(map(name, uid, revision)).unwrap()
}

fn event(type_: &str, object: &Value) -> Value {
    json!({ "type": type_, "object": object })
}

fn list(revision: u64, items: &[Value]) -> Value {
    json!({ "kind": "ConfigMapList", "apiVersion": "v1", "metadata": { "resourceVersion": revision.to_string() },
            "items": items })
}

/// What the server does with the next request.
enum Reply {
    Json(Value),
    Status(u16),
    /// A watch with these events, then open until the sender is dropped.
    Watch(mpsc::UnboundedReceiver<Value>),
    Refuse,
}

struct Server<K = ConfigMap> {
    cache: Cache<K>,
    script: mpsc::UnboundedSender<Reply>,
    asked: mpsc::UnboundedReceiver<String>,
    process: Process,
}

impl<K: Held> Server<K> {
    fn serve(start: impl FnOnce(&Process, Client) -> Cache<K>) -> Self {
        let (script, replies) = mpsc::unbounded_channel::<Reply>();
        let (asking, asked) = mpsc::unbounded_channel();
        let replies = Arc::new(tokio::sync::Mutex::new(replies));
        let service = tower::service_fn(move |request: Request<Body>| {
            let (replies, asking) = (replies.clone(), asking.clone());
            async move {
                let _ = asking.send(request.uri().to_string());
                match replies.lock().await.recv().await {
                    Some(Reply::Json(value)) => Ok(Response::new(Answer::from(value.to_string()))),
                    Some(Reply::Status(code)) => {
                        let status = json!({ "kind": "Status", "status": "Failure", "code": code, "reason": "Expired",
                                             "message": "too old" });
                        Ok(Response::builder()
                            .status(code)
                            .body(Answer::from(status.to_string()))
                            .unwrap())
                    }
                    Some(Reply::Watch(events)) => {
                        let lines = futures::stream::unfold(events, |mut events| async {
                            let line = format!("{}\n", events.recv().await?);
                            Some((Ok::<_, std::io::Error>(line), events))
                        });
                        Ok(Response::new(Answer::from_stream(lines)))
                    }
                    Some(Reply::Refuse) => Err(std::io::Error::from(std::io::ErrorKind::ConnectionRefused)),
                    None => std::future::pending().await,
                }
            }
        });
        let process = Process::new();
        let cache = start(&process, Client::new(service, "ns"));
        Self {
            cache,
            script,
            asked,
            process,
        }
    }

    fn reply(&self, reply: Reply) {
        assert!(self.script.send(reply).is_ok());
    }

    fn watch(&self) -> mpsc::UnboundedSender<Value> {
        let (events, stream) = mpsc::unbounded_channel();
        self.reply(Reply::Watch(stream));
        events
    }

    async fn asked(&mut self) -> String {
        self.asked.recv().await.unwrap()
    }
}

impl Server {
    fn start(options: Options<ConfigMap>) -> Self {
        Self::serve(|process, client| Cache::start(process, client, options))
    }

    async fn has(&self, name: &str, revision: u64) {
        let key = Key::new("ns", name);
        let revision = revision.to_string();
        let look = |store: &Store<ConfigMap>| {
            (store.get(&key)?.metadata.resource_version.as_deref() == Some(&revision)).then_some(())
        };
        self.cache.wait(soon(), look).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn it_lists_in_pages_then_watches_from_the_lists_revision() {
    let mut server = Server::start(Options::default().fields("metadata.name!=x"));
    let mut first = list(7, &[map("a", "u", 5)]);
    first["metadata"]["continue"] = json!("token");
    server.reply(Reply::Json(first));
    server.reply(Reply::Json(list(7, &[map("b", "v", 6)])));
    let events = server.watch();
    server.cache.synced(soon()).await.unwrap();
    assert_eq!(server.cache.list().len(), 2);
    assert!(server.cache.get("ns", "a").unwrap().metadata.managed_fields.is_none());
    for wanted in ["limit=500", "continue=token", "resourceVersion=7"] {
        let asked = server.asked().await;
        assert!(
            asked.contains(wanted) && asked.contains("fieldSelector=metadata.name%21%3Dx"),
            "{asked}"
        );
    }
    let mut changes = server.cache.subscribe();
    events.send(event("MODIFIED", &map("a", "u", 8))).unwrap();
    events.send(event("DELETED", &map("b", "v", 9))).unwrap();
    assert!(matches!(
        changes.next().await,
        Some(Change::Applied { old: Some(_), .. })
    ));
    assert!(matches!(changes.next().await, Some(Change::Deleted(_))));
    server.process.finish(DEADLINE).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_ends_goes_on_where_it_was() {
    let mut server = Server::start(Options::default());
    server.reply(Reply::Json(list(7, &[])));
    let events = server.watch();
    events.send(event("ADDED", &map("a", "u", 8))).unwrap();
    events
        .send(event(
            "BOOKMARK",
            &json!({ "kind": "ConfigMap", "apiVersion": "v1", "metadata": { "resourceVersion": "20" } }),
        ))
        .unwrap();
    server.has("a", 8).await;
    drop(events);
    // It ended before its time, so the server is asked where it is.
    server.reply(Reply::Json(list(20, &[])));
    let _events = server.watch();
    let (_, _) = (server.asked().await, server.asked().await);
    assert!(server.asked().await.contains("limit=1"));
    assert!(server.asked().await.contains("resourceVersion=20"));
    assert!(server.cache.is_healthy());
}

#[tokio::test(start_paused = true)]
async fn a_server_that_comes_back_at_an_older_revision_is_listed_anew() {
    let server = Server::start(Options::default());
    server.reply(Reply::Json(list(70, &[map("a", "u", 60)])));
    let events = server.watch();
    server.has("a", 60).await;
    let rewinds = server.cache.rewinds();
    drop(events);
    server.reply(Reply::Refuse);
    server.reply(Reply::Json(list(50, &[])));
    server.reply(Reply::Json(list(50, &[map("a", "u", 40)])));
    // Revision 70 is in its future.
    server.reply(Reply::Status(504));
    server.reply(Reply::Json(list(51, &[map("a", "u", 40)])));
    let _events = server.watch();
    server.has("a", 40).await;
    assert!(rewinds.has_changed().unwrap());
}

#[tokio::test(start_paused = true)]
async fn an_expired_position_is_followed_by_a_list() {
    let server = Server::start(Options::default());
    server.reply(Reply::Json(list(7, &[map("a", "u", 5), map("b", "v", 6)])));
    server.reply(Reply::Status(410));
    server.reply(Reply::Json(list(90, &[map("a", "u", 80)])));
    let _events = server.watch();
    server.has("a", 80).await;
    assert!(server.cache.get("ns", "b").is_none());
}

#[tokio::test(start_paused = true)]
async fn a_restored_storage_is_told_once_and_a_renewed_cache_is_that_of_its_list() {
    let server = Server::start(Options::default());
    server.reply(Reply::Json(list(7, &[map("a", "u", 5)])));
    let mut rewinds = server.cache.rewinds();
    server.cache.synced(soon()).await.unwrap();
    server.reply(Reply::Status(410));
    server.reply(Reply::Json(list(90, &[map("a", "u", 3)])));
    server.reply(Reply::Json(list(91, &[map("a", "u", 3)])));
    server.has("a", 3).await;
    assert!(rewinds.has_changed().unwrap());
    assert_eq!(*rewinds.borrow_and_update(), 1);
    // A watch is open when somebody asks.
    let _open = server.watch();
    let renewed = async {
        tokio::task::yield_now().await;
        server.cache.renew(soon()).await
    };
    let answer = async { server.reply(Reply::Json(list(95, &[map("a", "u", 2)]))) };
    let (renewed, ()) = tokio::join!(renewed, answer);
    renewed.unwrap();
    server.has("a", 2).await;
    assert!(!rewinds.has_changed().unwrap(), "it was asked for");
}

#[tokio::test(start_paused = true)]
async fn an_older_list_is_believed_when_it_comes_twice_and_nothing_disproves_it() {
    let mut server = Server::start(Options::default());
    server.reply(Reply::Json(list(7, &[map("a", "u", 5), map("b", "v", 6)])));
    let rewinds = server.cache.rewinds();
    server.reply(Reply::Status(410));
    server.reply(Reply::Json(list(5, &[map("a", "u", 5)])));
    server.reply(Reply::Status(504));
    server.reply(Reply::Json(list(90, &[map("a", "u", 80), map("b", "v", 6)])));
    server.has("a", 80).await;
    assert!(
        server.cache.get("ns", "b").is_some(),
        "one stale list took an object away"
    );
    server.reply(Reply::Status(410));
    server.reply(Reply::Json(list(4, &[map("a", "u", 3)])));
    // A server that does not know what it was asked for.
    server.reply(Reply::Json(list(4, &[])));
    server.reply(Reply::Json(list(4, &[map("a", "u", 3)])));
    let _events = server.watch();
    server.has("a", 3).await;
    assert!(server.cache.get("ns", "b").is_none());
    assert!(rewinds.has_changed().unwrap());
    let mut asked = Vec::new();
    for _ in 0..9 {
        asked.push(server.asked().await);
    }
    let proof = |asked: &String| asked.contains("resourceVersionMatch=NotOlderThan");
    assert!(asked[3].contains("resourceVersion=7&") && proof(&asked[3]), "{asked:?}");
    assert!(
        asked[7].contains("resourceVersion=90&") && proof(&asked[7]),
        "{asked:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn old_lists_of_a_server_that_is_further_are_watched_from() {
    let server = Server::start(Options::default());
    let mut health = server.cache.health_changes();
    server.reply(Reply::Json(list(7, &[map("a", "u", 5), map("b", "v", 6)])));
    let rewinds = server.cache.rewinds();
    for revision in [5, 6, 4] {
        server.reply(Reply::Status(410));
        let late = list(revision, &[map("a", "u", 3), map("old", "w", 2)]);
        server.reply(Reply::Json(late.clone()));
        // Whether it is further may not be told at once.
        server.reply(Reply::Refuse);
        server.reply(Reply::Json(late.clone()));
        server.reply(Reply::Json(list(20, &[])));
        server.reply(Reply::Json(late));
    }
    let events = server.watch();
    events.send(event("DELETED", &map("old", "w", 6))).unwrap();
    events.send(event("MODIFIED", &map("a", "u", 9))).unwrap();
    server.has("a", 9).await;
    assert!(server.cache.get("ns", "b").is_some() && server.cache.get("ns", "old").is_none());
    assert!(!rewinds.has_changed().unwrap());
    assert!(health.borrow_and_update().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_restored_storage_that_is_written_to_until_it_is_as_far_as_before_is_told_by_its_objects() {
    let server = Server::start(Options::default());
    server.reply(Reply::Json(list(7, &[map("a", "u", 5), map("gone", "v", 6)])));
    let rewinds = server.cache.rewinds();
    server.reply(Reply::Status(410));
    server.reply(Reply::Json(list(4, &[map("a", "u", 3)])));
    server.reply(Reply::Json(list(8, &[])));
    server.reply(Reply::Json(list(9, &[map("a", "u", 3), map("b", "w", 6)])));
    let _events = server.watch();
    server.has("b", 6).await;
    server.has("a", 3).await;
    assert!(server.cache.get("ns", "gone").is_none());
    assert!(rewinds.has_changed().unwrap());
    assert!(server.cache.is_healthy());
}

#[tokio::test(start_paused = true)]
async fn an_outage_is_told_and_ends_within_seconds_of_the_return() {
    let server = Server::start(Options::default());
    let started = server.cache.outage().unwrap();
    assert!(started.to_string().contains("not connected yet"), "{started}");
    server.reply(Reply::Json(list(7, &[map("a", "u", 5)])));
    let events = server.watch();
    server.cache.synced(soon()).await.unwrap();
    assert!(server.cache.is_healthy());

    const TRIES: usize = 200;
    drop(events);
    for _ in 0..TRIES {
        server.reply(Reply::Refuse);
    }
    server.reply(Reply::Json(list(7, &[])));
    let events = server.watch();
    let begin = Instant::now();
    while server.cache.is_healthy() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let error = server.cache.wait(begin + Duration::from_secs(5), |store| {
        store.get(&Key::new("ns", "b")).cloned()
    });
    let error = error.await.unwrap_err().to_string();
    assert!(
        error.contains("the API server has not answered for 4 s") && error.contains("refused"),
        "{error}"
    );
    assert!(server.cache.get("ns", "a").is_some(), "what was known stays readable");
    while !server.cache.is_healthy() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // No pause is longer than 3 s, so no return goes unnoticed for longer.
    assert!(begin.elapsed() < Duration::from_secs(3) * u32::try_from(TRIES).unwrap());
    events.send(event("ADDED", &map("b", "v", 8))).unwrap();
    server.has("b", 8).await;
}

#[tokio::test(start_paused = true)]
async fn silence_on_a_watch_ends_it() {
    let mut server = Server::start(Options::default());
    server.reply(Reply::Json(list(7, &[])));
    let _silent = server.watch();
    let _events = server.watch();
    let (_, _) = (server.asked().await, server.asked().await);
    let begin = Instant::now();
    assert!(server.asked().await.contains("resourceVersion=7"));
    assert!(begin.elapsed() <= Duration::from_secs(130));
}

#[tokio::test(start_paused = true)]
async fn a_malformed_object_does_not_stop_the_others() {
    let server = Server::start(Options::default());
    let mut bad = map("bad", "x", 6);
    bad["data"] = json!("not a map");
    server.reply(Reply::Json(list(7, &[bad.clone(), map("a", "u", 5)])));
    let events = server.watch();
    server.has("a", 5).await;
    let told = server.cache.malformed(&Key::new("ns", "bad")).unwrap();
    assert!(
        told.error.contains("Expected a map") && told.metadata.uid.as_deref() == Some("x"),
        "{}",
        told.error
    );
    bad["metadata"]["resourceVersion"] = json!("8");
    events.send(event("MODIFIED", &bad)).unwrap();
    events.send(event("ADDED", &map("b", "v", 9))).unwrap();
    server.has("b", 9).await;
}

#[tokio::test(start_paused = true)]
async fn a_wait_sees_what_was_learnt_at_once() {
    let cache = Cache::<ConfigMap>::detached(Options::default());
    let waiting = tokio::spawn({
        let cache = cache.clone();
        async move {
            cache
                .wait(soon(), |store| store.get(&Key::new("ns", "a")).cloned())
                .await
        }
    });
    tokio::task::yield_now().await;
    cache.learn(object("other", "o", 3));
    cache.learn(object("a", "u", 4));
    assert_eq!(waiting.await.unwrap().unwrap().metadata.uid.as_deref(), Some("u"));
    cache.forget(&object("a", "u", 4));
    assert!(cache.get("ns", "a").is_none());
}

#[tokio::test(start_paused = true)]
async fn a_receiver_that_is_too_slow_is_told_to_look_at_everything() {
    let cache = Cache::<ConfigMap>::detached(Options::default());
    let mut changes = cache.subscribe();
    for revision in 1..=FEED as u64 + 1 {
        cache.learn(object("a", "u", revision));
    }
    assert!(matches!(changes.next().await, Some(Change::Resynced)));
    assert!(matches!(changes.next().await, Some(Change::Applied { .. })));
}
