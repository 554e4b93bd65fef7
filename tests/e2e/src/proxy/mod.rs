//! An API server that cannot be relied on: a proxy before the real one that is slow, refuses, breaks off and tells old news.
//!
//! It speaks HTTPS with a certificate of its own and passes on whatever credentials it is given. What it does to which request comes
//! of a seed. It never lies about what is written: a request either reaches the API server unchanged or not at all, and lists and
//! watches say what was true at some time.

mod faults;
mod watch;

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use http::request::Parts;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use kube::Client;
use kube::client::Body;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tempfile::NamedTempFile;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

pub use faults::{Faults, Mix};

use crate::cluster::{Cluster, Server};
use crate::storm::random::Random;
use faults::{Fault, refusal};
use watch::Disturbed;

type BoxError = Box<dyn std::error::Error + Send + Sync>;
type Answer = Response<UnsyncBoxBody<Bytes, BoxError>>;

/// How many answers to a list are kept, to be given again.
const KEPT: usize = 6;

/// What lists are counted as, whatever becomes of them.
pub const LISTS: &str = "lists";

/// What other requests are counted as.
pub const REQUESTS: &str = "requests";

/// What watches are counted as whose position is too old.
pub const EXPIRED: &str = "expired watch";

/// A proxy that runs until it is dropped.
pub struct Proxy {
    url: String,
    ca: NamedTempFile,
    state: Arc<State>,
    _tasks: JoinSet<()>,
}

struct State {
    upstream: Client,
    faults: Faults,
    random: Mutex<Random>,
    disturbed: tokio::sync::watch::Sender<bool>,
    /// Nothing gets through.
    cut: tokio::sync::watch::Sender<bool>,
    counts: Mutex<BTreeMap<&'static str, usize>>,
    /// Former answers to lists, by path and query.
    lists: Mutex<HashMap<String, Vec<Bytes>>>,
}

/// Why no answer is given: the connection is to break.
#[derive(Debug, thiserror::Error)]
#[error("the connection breaks")]
struct Cut;

impl Proxy {
    /// Starts a proxy, which disturbs nothing yet.
    pub async fn start(cluster: &Cluster, faults: Faults, random: Random) -> Result<Self> {
        let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]);
        let rcgen::CertifiedKey { cert, signing_key } = made.context("making a certificate")?;
        let ca = NamedTempFile::new().context("making a file for a certificate")?;
        std::fs::write(ca.path(), cert.pem()).context("writing a certificate")?;
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(signing_key.serialize_der()));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .context("choosing versions of TLS")?
            .with_no_client_auth()
            .with_single_cert(vec![cert.der().clone()], key)
            .context("using a certificate")?;
        let listener = TcpListener::bind("127.0.0.1:0").await.context("listening")?;
        let url = format!("https://{}", listener.local_addr().context("the proxy's address")?);
        let state = Arc::new(State {
            upstream: cluster.anonymous()?,
            faults,
            random: Mutex::new(random),
            disturbed: tokio::sync::watch::Sender::new(false),
            cut: tokio::sync::watch::Sender::new(false),
            counts: Mutex::default(),
            lists: Mutex::default(),
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, TlsAcceptor::from(Arc::new(tls)), state.clone()));
        Ok(Self {
            url,
            ca,
            state,
            _tasks: tasks,
        })
    }

    /// What stands for the API server.
    pub fn server(&self) -> Server {
        Server {
            url: self.url.clone(),
            ca: self.ca.path().to_owned(),
        }
    }

    /// From now on it cannot be relied on.
    pub fn disturb(&self) {
        self.state.disturbed.send_replace(true);
    }

    /// From now on it is as the API server is.
    pub fn calm(&self) {
        self.state.disturbed.send_replace(false);
    }

    /// From now on nothing gets through, not even of watches that are open; or all does again.
    pub fn cut(&self, cut: bool) {
        self.state.cut.send_replace(cut);
    }

    /// What it did how often.
    pub fn counts(&self) -> BTreeMap<&'static str, usize> {
        self.state.counts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn accept(listener: TcpListener, tls: TlsAcceptor, state: Arc<State>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        while connections.try_join_next().is_some() {}
        connections.spawn(connection(stream, tls.clone(), state.clone()));
    }
}

async fn connection(stream: TcpStream, tls: TlsAcceptor, state: Arc<State>) {
    // Clients that are killed leave connections in every state.
    let Ok(stream) = tls.accept(stream).await else { return };
    let service = service_fn(|request| {
        let state = state.clone();
        async move { state.serve(request).await }
    });
    let connection = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    let _ = connection.await;
}

impl State {
    async fn serve(self: Arc<Self>, request: Request<Incoming>) -> Result<Answer, Cut> {
        let (head, body) = request.into_parts();
        let body = body.collect().await.map_err(|_| Cut)?.to_bytes();
        let query = head.uri.query().unwrap_or_default();
        let disturbed = *self.disturbed.borrow();
        if *self.cut.borrow() {
            return Err(Cut);
        }
        if query.contains("watch=") {
            return self.watch(head, body, disturbed).await;
        }
        let listed = query.contains("limit=").then(|| head.uri.to_string());
        self.count(if listed.is_some() { LISTS } else { REQUESTS });
        if let Some(old) = listed.as_ref().and_then(|list| self.stale(list, disturbed)) {
            self.count("stale list");
            return Ok(answer(StatusCode::OK, old));
        }
        let fault = disturbed.then(|| self.choose(&head.method)).flatten();
        let Some(fault) = fault else {
            return self.forward(head, body, listed).await;
        };
        self.count(fault.name());
        match fault {
            Fault::Conflict | Fault::TooMany | Fault::ErrorBefore => {
                let (code, body) = refusal(fault, &head.method);
                Ok(answer(code, body))
            }
            Fault::ResetBefore => Err(Cut),
            Fault::DelayBefore(time) => {
                tokio::time::sleep(time).await;
                self.forward(head, body, listed).await
            }
            Fault::DelayAfter(time) => {
                let answer = self.forward(head, body, listed).await;
                tokio::time::sleep(time).await;
                answer
            }
            Fault::ErrorAfter => {
                let (code, text) = refusal(fault, &head.method);
                self.forward(head, body, listed).await?;
                Ok(answer(code, text))
            }
            Fault::ResetAfter => {
                self.forward(head, body, listed).await?;
                Err(Cut)
            }
        }
    }

    async fn watch(&self, head: Parts, body: Bytes, disturbed: bool) -> Result<Answer, Cut> {
        let response = self.send(head, body).await?;
        let (mut random, freezes, ends) = {
            let mut random = self.random.lock().unwrap_or_else(PoisonError::into_inner);
            let freezes = disturbed && random.percent(self.faults.frozen);
            let ends = disturbed && random.percent(self.faults.expired);
            (Random::of(random.next(), 0), freezes, ends)
        };
        if freezes {
            self.count("frozen watch");
        }
        if ends {
            self.count(EXPIRED);
        }
        random.next();
        let (mut head, body) = response.into_parts();
        head.headers.remove(header::TRANSFER_ENCODING);
        let frozen_for = freezes.then_some(self.faults.frozen_for);
        let body = Disturbed::new(
            body,
            random,
            frozen_for,
            ends,
            self.disturbed.subscribe(),
            self.cut.subscribe(),
        );
        Ok(Response::from_parts(
            head,
            StreamBody::new(body.frames()).boxed_unsync(),
        ))
    }

    /// Passes a request on, whatever becomes of the client meanwhile: what is on its way to the API server arrives.
    async fn forward(self: &Arc<Self>, head: Parts, body: Bytes, listed: Option<String>) -> Result<Answer, Cut> {
        let state = self.clone();
        let sent = tokio::spawn(async move {
            let (head, body) = state.send(head, body).await?.into_parts();
            let body = body.collect().await.map_err(|_| Cut)?.to_bytes();
            if let Some(list) = listed
                && head.status == StatusCode::OK
            {
                state.keep(list, body.clone());
            }
            Ok::<_, Cut>((head, body))
        });
        let (mut head, body) = sent.await.map_err(|_| Cut)??;
        head.headers.remove(header::TRANSFER_ENCODING);
        Ok(Response::from_parts(head, whole(body)))
    }

    async fn send(&self, mut head: Parts, body: Bytes) -> Result<Response<Body>, Cut> {
        // The client puts the API server's in.
        head.headers.remove(header::HOST);
        let request = Request::from_parts(head, Body::from(body));
        self.upstream.send(request).await.map_err(|_| Cut)
    }

    fn choose(&self, method: &Method) -> Option<Fault> {
        let mut random = self.random.lock().unwrap_or_else(PoisonError::into_inner);
        random
            .percent(self.faults.requests)
            .then(|| Fault::choose(self.faults.mix, method, &mut random))
    }

    /// A former answer to a list.
    fn stale(&self, list: &str, disturbed: bool) -> Option<Bytes> {
        let mut random = self.random.lock().unwrap_or_else(PoisonError::into_inner);
        if !disturbed || !random.percent(self.faults.stale) {
            return None;
        }
        let lists = self.lists.lock().unwrap_or_else(PoisonError::into_inner);
        let former = lists.get(list).filter(|former| !former.is_empty())?;
        former.get(random.below(former.len() as u64) as usize).cloned()
    }

    fn keep(&self, list: String, answer: Bytes) {
        let mut lists = self.lists.lock().unwrap_or_else(PoisonError::into_inner);
        let former = lists.entry(list).or_default();
        if former.len() == KEPT {
            // The first one stays: the older the better.
            former.remove(1);
        }
        former.push(answer);
    }

    fn count(&self, fault: &'static str) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.entry(fault).or_default() += 1;
    }
}

fn whole(body: Bytes) -> UnsyncBoxBody<Bytes, BoxError> {
    let never = |error: Infallible| -> BoxError { match error {} };
    Full::new(body).map_err(never).boxed_unsync()
}

fn answer(code: StatusCode, body: Bytes) -> Answer {
    let mut answer = Response::new(whole(body));
    *answer.status_mut() = code;
    let headers = answer.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        header::HeaderValue::from_static("application/json"),
    );
    if code == StatusCode::TOO_MANY_REQUESTS {
        headers.insert(header::RETRY_AFTER, header::HeaderValue::from_static("1"));
    }
    answer
}
