//! The socket's HTTP API: decode, serve, encode. The bodies of failures are a JSON string with the reason.

use crate::cancel::{Cancel, Reason};
use crate::command::{self, Command};
use crate::context::Context;
use crate::error::RequestError;
use crate::give_up::GivenUp;
use crate::{collect, preview, status};
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use spiderpool_crds::names;
use spiderpool_wire::{
    IpamAddArgs, IpamBatchDelArgs, IpamDelArgs, IpamGcArgs, MAX_BODY_BYTES, error_body, path, status as code,
};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How long reading an endpoint may take.
const READ_TIMEOUT: Duration = Duration::from_secs(5);

/// How long the API server may be away before an agent says that it cannot serve. Shorter outages are what retries are for.
const OUTAGE: Duration = Duration::from_secs(10);

/// How long a body may take to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// The API.
pub fn router(context: Arc<Context>) -> Router {
    Router::new()
        .route(path::HEALTHY, get(healthy))
        .route(path::IP, post(allocate))
        .route(path::IP, delete(release))
        .route(path::IPS, post(|| async { StatusCode::OK }))
        .route(path::IPS, delete(give_up))
        .route(path::GC, post(garbage))
        .route(path::WORKLOAD_ENDPOINT, get(workload_endpoint))
        .route(path::EXPLAIN, get(explain))
        .route(path::COORDINATOR_CONFIG, get(coordinator))
        .fallback(unknown)
        .method_not_allowed_fallback(unknown)
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .layer(axum::middleware::from_fn(slow_body))
        .with_state(context)
}

/// Reads the body before anything else, with a deadline: a client that stalls must not hold a request open.
async fn slow_body(request: axum::extract::Request, next: axum::middleware::Next) -> Response {
    let (head, body) = request.into_parts();
    let read = axum::body::to_bytes(body, MAX_BODY_BYTES + 1);
    match tokio::time::timeout(BODY_TIMEOUT, read).await {
        Ok(Ok(bytes)) if bytes.len() <= MAX_BODY_BYTES => {
            next.run(axum::extract::Request::from_parts(head, Body::from(bytes)))
                .await
        }
        Ok(_) => failure(
            StatusCode::PAYLOAD_TOO_LARGE,
            &format!("the request body is cut off or has more than {MAX_BODY_BYTES} bytes"),
        ),
        Err(_) => failure(StatusCode::REQUEST_TIMEOUT, "the request body did not arrive in time"),
    }
}

async fn unknown(request: axum::extract::Request) -> Response {
    let text = format!(
        "{} {} is not served by the spiderpool agent",
        request.method(),
        request.uri().path()
    );
    failure(StatusCode::NOT_IMPLEMENTED, &text)
}

async fn healthy(State(context): State<Arc<Context>>) -> Response {
    if let Err(error) = context.ready() {
        return failure(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string());
    }
    let outages = [context.pools.cache().outage(), context.pods.outage()];
    match outages.into_iter().flatten().find(|outage| outage.lasted() > OUTAGE) {
        None => StatusCode::OK.into_response(),
        Some(outage) => {
            let text = format!("the spiderpool agent of node {} cannot serve: {outage}", context.node);
            failure(StatusCode::INTERNAL_SERVER_ERROR, &text)
        }
    }
}

async fn allocate(State(context): State<Arc<Context>>, body: Result<Bytes, BytesRejection>) -> Response {
    match run::<IpamAddArgs>(context, body).await {
        Ok(answer) => json(&answer),
        Err(response) => *response,
    }
}

async fn release(State(context): State<Arc<Context>>, body: Result<Bytes, BytesRejection>) -> Response {
    match run::<IpamDelArgs>(context, body).await {
        Ok(_) => StatusCode::OK.into_response(),
        Err(response) => *response,
    }
}

async fn give_up(State(context): State<Arc<Context>>, body: Result<Bytes, BytesRejection>) -> Response {
    let refused = |status, text| {
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        failure(status, text)
    };
    match run::<IpamBatchDelArgs>(context, body).await {
        Ok(GivenUp::Done) => StatusCode::OK.into_response(),
        Ok(GivenUp::SwitchedOff) => refused(
            code::FORBIDDEN_STATELESS,
            "the pod keeps its addresses: SPIDERPOOL_ENABLED_RELEASE_CONFLICT_IPS is false",
        ),
        Ok(GivenUp::Kept) => refused(
            code::FORBIDDEN_STATEFUL,
            "the pod keeps its addresses, as its owner gives it the same ones for life",
        ),
        Err(response) => *response,
    }
}

async fn garbage(State(context): State<Arc<Context>>, body: Result<Bytes, BytesRejection>) -> Response {
    let args: IpamGcArgs = match decode(body) {
        Ok(args) => args,
        Err(response) => return *response,
    };
    match tokio::spawn(async move { collect::collect(&context, &args).await }).await {
        Ok(Ok(_)) => StatusCode::OK.into_response(),
        Ok(Err(error)) => failed(&error),
        Err(error) => {
            let text = format!("the agent failed: {error}; see its log");
            failure(StatusCode::INTERNAL_SERVER_ERROR, &text)
        }
    }
}

/// Dropped when the request was answered, or earlier when its connection was closed.
struct Asking(Cancel);

impl Drop for Asking {
    fn drop(&mut self) {
        self.0.cancel(Reason::ClientGone);
    }
}

/// Runs a command as a task of its own: a plugin that is killed must not stop the work between two writes. The task learns of it,
/// and does not wait any longer for what nobody would use.
async fn run<C: Command>(
    context: Arc<Context>,
    body: Result<Bytes, BytesRejection>,
) -> Result<C::Answer, Box<Response>> {
    let command: C = decode(body)?;
    let asking = Asking(Cancel::default());
    let cancel = asking.0.clone();
    match tokio::spawn(async move { command::serve(&context, &command, &cancel).await }).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(Box::new(failed(&error))),
        Err(error) => {
            let text = format!("the agent failed: {error}; see its log");
            Err(Box::new(failure(StatusCode::INTERNAL_SERVER_ERROR, &text)))
        }
    }
}

/// Query of the workload endpoint path.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PodQuery {
    #[serde(default)]
    pod_namespace: String,
    #[serde(default)]
    pod_name: String,
}

async fn workload_endpoint(State(context): State<Arc<Context>>, Query(query): Query<PodQuery>) -> Response {
    if query.pod_namespace.is_empty() || query.pod_name.is_empty() {
        return failure(StatusCode::BAD_REQUEST, "podNamespace and podName are required");
    }
    let deadline = Instant::now() + READ_TIMEOUT;
    match status::status(&context, &query.pod_namespace, &query.pod_name, deadline).await {
        Ok(Some(found)) => json(&found),
        Ok(None) => {
            let text = format!("there is no SpiderEndpoint {}/{}", query.pod_namespace, query.pod_name);
            failure(StatusCode::NOT_FOUND, &text)
        }
        Err(error) => failed(&error),
    }
}

/// What the peer answers where there is no SpiderCoordinator, which this version does not have.
async fn coordinator() -> Response {
    failure(
        StatusCode::INTERNAL_SERVER_ERROR,
        "there is no SpiderCoordinator: this version of spiderpool has no coordinator; take the plugin coordinator out of the CNI \
         configuration",
    )
}

/// Query of the explain path.
#[derive(Debug, Deserialize)]
struct ExplainQuery {
    #[serde(default)]
    pod: String,
    #[serde(default)]
    nic: String,
}

async fn explain(State(context): State<Arc<Context>>, Query(query): Query<ExplainQuery>) -> Response {
    let parts: Vec<&str> = query.pod.split('/').collect();
    let (namespace, name) = match parts[..] {
        [namespace, name] if !namespace.is_empty() && !name.is_empty() => (namespace, name),
        _ => {
            let text = format!("pod={:?} is not NAMESPACE/NAME", query.pod);
            return failure(StatusCode::BAD_REQUEST, &text);
        }
    };
    let nic = Some(query.nic.as_str()).filter(|nic| !nic.is_empty());
    match preview::preview(&context, namespace, name, nic.unwrap_or(names::DEFAULT_NIC)).await {
        Ok(Some(explanation)) => json(&explanation),
        Ok(None) => failure(StatusCode::NOT_FOUND, &format!("there is no Pod {namespace}/{name}")),
        Err(error) => failed(&error),
    }
}

fn decode<T: DeserializeOwned>(body: Result<Bytes, BytesRejection>) -> Result<T, Box<Response>> {
    let bytes = body.map_err(|error| Box::new(failure(StatusCode::BAD_REQUEST, &error.to_string())))?;
    serde_json::from_slice(&bytes).map_err(|error| {
        Box::new(failure(
            StatusCode::BAD_REQUEST,
            &format!("the request body is not understood: {error}"),
        ))
    })
}

fn json(value: &impl serde::Serialize) -> Response {
    match serde_json::to_vec(value) {
        Ok(body) => ([(header::CONTENT_TYPE, "application/json")], body).into_response(),
        Err(error) => failure(
            StatusCode::INTERNAL_SERVER_ERROR,
            &format!("cannot encode the answer: {error}"),
        ),
    }
}

fn failed(error: &RequestError) -> Response {
    failure(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string())
}

fn failure(status: StatusCode, text: &str) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], error_body(text)).into_response()
}
