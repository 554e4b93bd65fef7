//! As much of an API server as an agent talks to: objects by path, versions, conflicts and watches, in this process.

use axum::body::Body;
use http::{Method, Request, Response, StatusCode};
use kube::Client;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

pub(crate) const POOLS: &str = "/apis/spiderpool.spidernet.io/v2beta1/spiderippools";

/// What happens to a request instead of an answer.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    /// It is refused with this code and text, and after how many seconds to try again.
    Refuse(u16, &'static str, u32),
    /// It is refused with this code and a text that is no Status.
    Plain(u16, &'static str),
    /// The connection breaks after it was served.
    Cut,
    /// No answer comes. It is served when [`Server::land`] is called.
    Late,
}

/// Objects as they are stored, and who watches.
#[derive(Default)]
struct State {
    objects: BTreeMap<String, Value>,
    version: u64,
    watches: Vec<(String, UnboundedSender<Value>)>,
    asked: Vec<String>,
    /// Every object that was ever stored, with its path.
    history: Vec<(String, Value)>,
    lost: Lost,
    /// What requests are met with, and how often.
    faults: Vec<(String, Fault, usize)>,
}

/// Writes that are on their way for longer than those who sent them wait.
#[derive(Default)]
struct Lost {
    /// Paths of objects whose writes are lost from now on.
    paths: Vec<String>,
    writes: Vec<(Method, String, Value)>,
}

/// The server. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Server(Arc<Mutex<State>>);

impl Server {
    pub(crate) fn client(&self) -> Client {
        let own = self.clone();
        let service = tower::service_fn(move |request: Request<kube::client::Body>| {
            let own = own.clone();
            async move {
                let (head, body) = request.into_parts();
                let bytes = body.collect_bytes().await.map_err(io::Error::other)?;
                let path = head.uri.path().to_owned();
                let query = head.uri.query().unwrap_or_default().to_owned();
                let watch = query.contains("watch=true");
                if watch && own.lock().is_ahead(&query) {
                    return Ok(refuse_for_now(504, "Too large resource version", 1));
                }
                if head.method == Method::PUT && own.lock().lose(&path, &bytes) {
                    return std::future::pending().await;
                }
                let fault = own.lock().fault(&format!("{} {path}", head.method));
                match fault {
                    None => Ok::<_, io::Error>(own.lock().answer(&head.method, &path, watch, &bytes)),
                    Some(Fault::Refuse(code, text, after)) => Ok(refuse_for_now(code, text, after)),
                    Some(Fault::Plain(code, text)) => {
                        let mut response = Response::new(Body::from(text));
                        *response.status_mut() = StatusCode::from_u16(code).unwrap_or_default();
                        Ok(response)
                    }
                    Some(Fault::Cut) => {
                        own.lock().answer(&head.method, &path, watch, &bytes);
                        Err(io::Error::from(io::ErrorKind::ConnectionReset))
                    }
                    Some(Fault::Late) => {
                        let body = serde_json::from_slice(&bytes).unwrap_or_default();
                        own.lock().lost.writes.push((head.method, path, body));
                        std::future::pending().await
                    }
                }
            }
        });
        Client::new(service, "default")
    }

    /// Stores an object under its path and tells those who watch.
    pub(crate) fn put(&self, path: &str, object: Value) {
        self.lock().store(path, object);
    }

    /// Removes an object and tells those who watch.
    pub(crate) fn remove(&self, path: &str) {
        let mut state = self.lock();
        if let Some(object) = state.objects.remove(path) {
            state.tell(path, "DELETED", &object);
        }
    }

    /// Meets the next requests of a method and path with a fault.
    pub(crate) fn meet(&self, request: &str, fault: Fault, times: usize) {
        self.lock().faults.push((request.to_owned(), fault, times));
    }

    /// Stores an object of which watches do not tell, as one that is behind does not yet.
    pub(crate) fn replace_silently(&self, path: &str, object: Value) {
        self.lock().objects.insert(path.to_owned(), object);
    }

    /// Removes an object of which watches do not tell yet.
    pub(crate) fn remove_silently(&self, path: &str) {
        self.lock().objects.remove(path);
    }

    /// All objects with the version of now.
    pub(crate) fn snapshot(&self) -> (BTreeMap<String, Value>, u64) {
        let state = self.lock();
        (state.objects.clone(), state.version)
    }

    /// Starts anew with the objects and the version of before. All watches end.
    pub(crate) fn restore(&self, (objects, version): &(BTreeMap<String, Value>, u64)) {
        let mut state = self.lock();
        state.objects.clone_from(objects);
        state.version = *version;
        state.watches.clear();
    }

    /// An object as it is now.
    pub(crate) fn get(&self, path: &str) -> Option<Value> {
        self.lock().objects.get(path).cloned()
    }

    /// Lets writes of an object be on their way until [`Self::land`].
    pub(crate) fn lose(&self, path: &str) {
        self.lock().lost.paths.push(path.to_owned());
    }

    /// Lets all writes that were lost arrive, and loses none from now on. Gives the status codes that nobody waits for.
    pub(crate) fn land(&self) -> Vec<u16> {
        let mut state = self.lock();
        let lost = std::mem::take(&mut state.lost);
        let writes = lost.writes.into_iter();
        writes
            .map(|(method, path, object)| {
                let bytes = object.to_string().into_bytes();
                state.answer(&method, &path, false, &bytes).status().as_u16()
            })
            .collect()
    }

    /// Writes are not lost any more; what was lost is still on its way.
    pub(crate) fn lose_no_more(&self) {
        self.lock().lost.paths.clear();
    }

    /// What an object was over time.
    pub(crate) fn history(&self, path: &str) -> Vec<Value> {
        let state = self.lock();
        let own = state.history.iter().filter(|(other, _)| other == path);
        own.map(|(_, object)| object.clone()).collect()
    }

    /// Changes an object as it is now.
    pub(crate) fn edit(&self, path: &str, edit: impl FnOnce(&mut Value)) {
        let mut object = self.get(path).unwrap_or_default();
        edit(&mut object);
        self.put(path, object);
    }

    /// The texts of the Events, with their reasons.
    pub(crate) fn events(&self) -> Vec<(String, String)> {
        let state = self.lock();
        let events = state.objects.iter().filter(|(path, _)| path.contains("/events/"));
        let text = |event: &Value, key: &str| event[key].as_str().unwrap_or_default().to_owned();
        events
            .map(|(_, event)| (text(event, "reason"), text(event, "note")))
            .collect()
    }

    /// What was asked since the last call, but for lists and watches.
    pub(crate) fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.lock().asked)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn lose(&mut self, path: &str, body: &[u8]) -> bool {
        let lost = self.lost.paths.iter().any(|lost| path.starts_with(lost.as_str()));
        if lost && let Ok(object) = serde_json::from_slice(body) {
            self.lost.writes.push((Method::PUT, path.to_owned(), object));
        }
        lost
    }

    /// Whether a watch is to begin at a version that is still to come.
    fn is_ahead(&self, query: &str) -> bool {
        let mut parts = query.split('&');
        let from = parts.find_map(|part| part.strip_prefix("resourceVersion="));
        from.and_then(|from| from.parse().ok())
            .is_some_and(|from: u64| from > self.version)
    }

    fn store(&mut self, path: &str, mut object: Value) -> Value {
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        let known = self.objects.insert(path.to_owned(), object.clone()).is_some();
        self.history.push((path.to_owned(), object.clone()));
        self.tell(path, if known { "MODIFIED" } else { "ADDED" }, &object);
        object
    }

    /// The fault that a request meets.
    fn fault(&mut self, request: &str) -> Option<Fault> {
        let at = self.faults.iter().position(|(wanted, _, _)| wanted == request)?;
        let (_, fault, times) = self.faults.get_mut(at)?;
        let fault = *fault;
        *times -= 1;
        if *times == 0 {
            self.faults.remove(at);
        }
        if !matches!(fault, Fault::Cut) {
            self.asked.push(request.to_owned());
        }
        Some(fault)
    }

    fn tell(&mut self, path: &str, event: &str, object: &Value) {
        let event = json!({"type": event, "object": object});
        // Whoever watches all namespaces is told of each.
        self.watches.retain(|(collection, sender)| {
            let plural = collection.rsplit('/').next().unwrap_or_default();
            let concerns =
                path.starts_with(collection.trim_end_matches(plural)) && path.contains(&format!("/{plural}/"));
            !concerns || sender.send(event.clone()).is_ok()
        });
    }

    fn answer(&mut self, method: &Method, path: &str, watch: bool, body: &[u8]) -> Response<Body> {
        let plural = path.rsplit('/').next().unwrap_or_default();
        if method == Method::GET && ["pods", "spiderendpoints", "spiderippools", "spiderreservedips"].contains(&plural)
        {
            return if watch {
                self.watch(path)
            } else {
                self.list(path, plural)
            };
        }
        self.asked.push(format!("{method} {path}"));
        let sent: Value = serde_json::from_slice(body).unwrap_or_default();
        match *method {
            Method::GET => match self.objects.get(path) {
                Some(object) => reply(StatusCode::OK, object),
                None => refuse(StatusCode::NOT_FOUND, "NotFound"),
            },
            Method::POST => {
                let name = sent["metadata"]["name"].as_str().unwrap_or_default();
                let path = format!("{path}/{name}");
                if self.objects.contains_key(&path) {
                    return refuse(StatusCode::CONFLICT, "AlreadyExists");
                }
                let stored = self.store(&path, sent);
                reply(StatusCode::CREATED, &stored)
            }
            Method::PUT => {
                let path = path.trim_end_matches("/status");
                let version = |object: &Value| object["metadata"]["resourceVersion"].clone();
                match self.objects.get(path).map(version) {
                    Some(known) if known == version(&sent) => {
                        let stored = self.store(path, sent);
                        reply(StatusCode::OK, &stored)
                    }
                    Some(_) => refuse(StatusCode::CONFLICT, "Conflict"),
                    None => refuse(StatusCode::NOT_FOUND, "NotFound"),
                }
            }
            // Who deletes here has taken the finalizers off.
            Method::DELETE => match self.objects.remove(path) {
                Some(object) => {
                    self.tell(path, "DELETED", &object);
                    reply(StatusCode::OK, &object)
                }
                None => refuse(StatusCode::NOT_FOUND, "NotFound"),
            },
            _ => refuse(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed"),
        }
    }

    fn list(&self, path: &str, plural: &str) -> Response<Body> {
        let inside =
            |other: &str| other.starts_with(path.trim_end_matches(plural)) && other.contains(&format!("/{plural}/"));
        let items: Vec<&Value> = self
            .objects
            .iter()
            .filter(|(path, _)| inside(path))
            .map(|(_, object)| object)
            .collect();
        let list = json!({"kind": "List", "apiVersion": "v1", "metadata": {"resourceVersion": self.version.to_string()},
            "items": items});
        reply(StatusCode::OK, &list)
    }

    fn watch(&mut self, path: &str) -> Response<Body> {
        let (sender, events) = unbounded_channel();
        self.watches.push((path.to_owned(), sender));
        let lines = futures::stream::unfold(events, |mut events| async {
            let event: Value = events.recv().await?;
            Some((Ok::<_, io::Error>(format!("{event}\n")), events))
        });
        Response::new(Body::from_stream(lines))
    }
}

fn reply(code: StatusCode, body: &Value) -> Response<Body> {
    let mut response = Response::new(Body::from(body.to_string()));
    *response.status_mut() = code;
    response
}

fn refuse_for_now(code: u16, text: &str, after: u32) -> Response<Body> {
    let status = json!({"kind": "Status", "status": "Failure", "message": text, "code": code,
        "details": {"retryAfterSeconds": after}});
    reply(StatusCode::from_u16(code).unwrap_or_default(), &status)
}

fn refuse(code: StatusCode, reason: &str) -> Response<Body> {
    let status =
        json!({"kind": "Status", "status": "Failure", "reason": reason, "message": reason, "code": code.as_u16()});
    reply(code, &status)
}
