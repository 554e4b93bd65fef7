//! As much of an API server as the operator talks to beside its watches: objects by path.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};

use http::{Method, Request, Response};
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};

#[derive(Default)]
struct State {
    objects: BTreeMap<String, Value>,
    /// Collections of kinds that nobody defined.
    undefined: BTreeSet<String>,
    failing: BTreeSet<String>,
    /// Users by token, each with what they may: verb and resource.
    users: BTreeMap<String, (String, Vec<(String, String)>)>,
    version: u64,
}

/// The server. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Cluster(Arc<Mutex<State>>);

impl Cluster {
    pub(crate) fn client(&self) -> Client {
        let own = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let own = own.clone();
            async move {
                let (head, body) = request.into_parts();
                let bytes = body.collect_bytes().await.unwrap();
                let query = head.uri.query().unwrap_or_default();
                let (code, text) = own.with(|state| state.answer(&head.method, head.uri.path(), query, &bytes));
                let response = Response::builder().status(code).body(Body::from(text.into_bytes()));
                Ok::<_, Infallible>(response.unwrap())
            }
        });
        Client::new(service, "default")
    }

    pub(crate) fn put(&self, path: &str, object: Value) -> Value {
        self.with(|state| state.store(path, object))
    }

    pub(crate) fn remove(&self, path: &str) {
        self.with(|state| state.objects.remove(path));
    }

    pub(crate) fn get(&self, path: &str) -> Option<Value> {
        self.with(|state| state.objects.get(path).cloned())
    }

    /// The objects of a collection.
    pub(crate) fn list(&self, collection: &str) -> Vec<Value> {
        let inside = format!("{collection}/");
        self.with(|state| {
            let objects = state.objects.iter().filter(|(path, _)| path.starts_with(&inside));
            objects.map(|(_, object)| object.clone()).collect()
        })
    }

    /// Nobody has defined the kind of this plural.
    pub(crate) fn undefine(&self, plural: &str) {
        self.with(|state| state.undefined.insert(plural.to_owned()));
    }

    /// Requests for this plural fail.
    pub(crate) fn fail(&self, plural: &str) {
        self.with(|state| state.failing.insert(plural.to_owned()));
    }

    /// A token is this user's, who may do that.
    pub(crate) fn allow(&self, token: &str, user: &str, rights: &[(&str, &str)]) {
        let rights = rights
            .iter()
            .map(|(verb, resource)| ((*verb).to_owned(), (*resource).to_owned()));
        let user = (user.to_owned(), rights.collect());
        self.with(|state| state.users.insert(token.to_owned(), user));
    }

    fn with<T>(&self, look: impl FnOnce(&mut State) -> T) -> T {
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl State {
    fn store(&mut self, path: &str, mut object: Value) -> Value {
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        self.objects.insert(path.to_owned(), object.clone());
        object
    }

    fn answer(&mut self, method: &Method, path: &str, query: &str, body: &[u8]) -> (u16, String) {
        if path.split('/').any(|part| self.undefined.contains(part)) {
            return (404, "404 page not found\n".to_owned());
        }
        if path.split('/').any(|part| self.failing.contains(part)) {
            return refusal(500, "InternalError");
        }
        let path = path.trim_end_matches("/status");
        if *method == Method::GET && path.ends_with("/pods") {
            return self.pods(path, query);
        }
        if *method == Method::POST && path.ends_with("reviews") {
            return (
                201,
                self.review(path, serde_json::from_slice(body).unwrap()).to_string(),
            );
        }
        if *method == Method::POST {
            return self.create(path, body);
        }
        let found = self.objects.get(path).cloned();
        match (method, found) {
            (_, None) => refusal(404, "NotFound"),
            (&Method::GET, Some(object)) => (200, object.to_string()),
            (&Method::PUT, Some(known)) => {
                let sent: Value = serde_json::from_slice(body).unwrap();
                let version = |object: &Value| object["metadata"]["resourceVersion"].clone();
                match version(&sent) == version(&known) {
                    true => (200, self.store(path, sent).to_string()),
                    false => refusal(409, "Conflict"),
                }
            }
            (&Method::DELETE, Some(object)) => {
                self.objects.remove(path);
                (200, object.to_string())
            }
            _ => refusal(405, "MethodNotAllowed"),
        }
    }

    fn create(&mut self, collection: &str, body: &[u8]) -> (u16, String) {
        let mut sent: Value = serde_json::from_slice(body).unwrap();
        let path = format!("{collection}/{}", sent["metadata"]["name"].as_str().unwrap());
        if self.objects.contains_key(&path) {
            return refusal(409, "AlreadyExists");
        }
        sent["metadata"]["uid"] = json!(path);
        (201, self.store(&path, sent).to_string())
    }

    /// Who somebody is, and what they may.
    fn review(&self, path: &str, mut asked: Value) -> Value {
        let spec = &asked["spec"];
        asked["status"] = if path.ends_with("/tokenreviews") {
            match self.users.get(spec["token"].as_str().unwrap()) {
                Some((user, _)) => {
                    json!({"authenticated": true, "audiences": spec["audiences"], "user": {"username": user}})
                }
                None => json!({"authenticated": false, "error": "never seen"}),
            }
        } else {
            let attributes = &spec["resourceAttributes"];
            assert_eq!(attributes["group"], "ipam.spidernet.io");
            let may = |(user, rights): &(String, Vec<(String, String)>)| {
                let right = |(verb, resource): &(String, String)| {
                    attributes["verb"] == **verb && attributes["resource"] == **resource
                };
                spec["user"] == **user && rights.iter().any(right)
            };
            json!({"allowed": self.users.values().any(may)})
        };
        asked
    }

    /// The pods of a namespace that a field selector lets through.
    fn pods(&self, path: &str, query: &str) -> (u16, String) {
        let query = query.replace("%21", "!").replace("%3D", "=").replace("%2C", ",");
        let selector = query.split('&').find_map(|part| part.strip_prefix("fieldSelector="));
        let terms = selector.into_iter().flat_map(|selector| selector.split(','));
        let unwanted: Vec<&str> = terms.map(|term| term.strip_prefix("status.phase!=").unwrap()).collect();
        let inside = format!("{path}/");
        let pods = self.objects.iter().filter(|(path, _)| path.starts_with(&inside));
        let wanted = |pod: &&Value| !unwanted.iter().any(|phase| pod["status"]["phase"] == **phase);
        let items: Vec<&Value> = pods.map(|(_, pod)| pod).filter(wanted).collect();
        let list = json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items});
        (200, list.to_string())
    }
}

fn refusal(code: u16, reason: &str) -> (u16, String) {
    let status = json!({"kind": "Status", "status": "Failure", "reason": reason, "message": reason, "code": code});
    (code, status.to_string())
}
