//! As much of an API server as the webhook talks to: it reads single objects, lists kinds and watches them.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{Request, Response};
use futures::stream;
use kube::Client;
use serde_json::{Value, json};

const GROUP: &str = "/apis/spiderpool.spidernet.io/v2beta1";

#[derive(Default)]
struct State {
    objects: BTreeMap<String, Value>,
    broken: bool,
    silent: bool,
    slow: Option<Duration>,
    reads: usize,
    read: BTreeSet<String>,
}

/// The server. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct ApiServer(Arc<Mutex<State>>);

#[allow(dead_code, reason = "not every test needs all of it")]
impl ApiServer {
    pub(crate) fn client(&self) -> Client {
        let own = self.clone();
        let service = tower::service_fn(move |request: Request<kube::client::Body>| {
            let (silent, slow) = own.with(|state| (state.silent, state.slow));
            let answer = own.answer(request.uri().path(), request.uri().query().unwrap_or_default());
            async move {
                if silent {
                    std::future::pending::<()>().await;
                }
                if let Some(pause) = slow {
                    tokio::time::sleep(pause).await;
                }
                Ok::<_, Infallible>(answer)
            }
        });
        Client::new(service, "default")
    }

    /// An object as it is stored. Its path is made of its kind and name.
    pub(crate) fn put(&self, object: &Value) {
        let plural = format!("{}s", object["kind"].as_str().unwrap().to_lowercase());
        let path = format!("{GROUP}/{plural}/{}", object["metadata"]["name"].as_str().unwrap());
        self.with(|state| state.objects.insert(path, object.clone()));
    }

    /// From now on every read fails.
    pub(crate) fn fail(&self) {
        self.with(|state| state.broken = true);
    }

    /// From now on nothing is answered.
    pub(crate) fn fall_silent(&self) {
        self.with(|state| state.silent = true);
    }

    /// From now on everything takes that long.
    pub(crate) fn slow_down(&self, pause: Duration) {
        self.with(|state| state.slow = Some(pause));
    }

    /// How often single objects were read.
    pub(crate) fn reads(&self) -> usize {
        self.with(|state| state.reads)
    }

    /// Names of the objects that were read one by one.
    pub(crate) fn read(&self) -> Vec<String> {
        self.with(|state| state.read.iter().cloned().collect())
    }

    fn with<T>(&self, look: impl FnOnce(&mut State) -> T) -> T {
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn answer(&self, path: &str, query: &str) -> Response<Body> {
        if query.contains("watch=") {
            return Response::new(Body::from_stream(stream::pending::<Result<Bytes, Infallible>>()));
        }
        let (code, object) = self.with(|state| match path.strip_prefix(GROUP).map(|rest| rest.matches('/').count()) {
            _ if state.broken => (500, status(500, "InternalError")),
            Some(1) => {
                let below = format!("{path}/");
                let items = state.objects.iter().filter(|(own, _)| own.starts_with(&below));
                let items: Vec<&Value> = items.map(|(_, object)| object).collect();
                (200, json!({"kind": "List", "apiVersion": "v1", "metadata": {"resourceVersion": "1"}, "items": items}))
            }
            _ => {
                state.reads += 1;
                state.read.insert(path.rsplit('/').next().unwrap_or_default().to_owned());
                match state.objects.get(path) {
                    Some(object) => (200, object.clone()),
                    None => (404, status(404, "NotFound")),
                }
            }
        });
        let response = Response::builder()
            .status(code)
            .header("content-type", "application/json");
        response.body(Body::from(object.to_string())).unwrap()
    }
}

fn status(code: u16, reason: &str) -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "code": code, "message": reason})
}
