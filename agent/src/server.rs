//! The socket's HTTP API: decode, serve, encode. The bodies of failures are a JSON string with the reason.

use crate::command::{self, Command};
use crate::context::Context;
use crate::endpoints;
use crate::error::RequestError;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use spiderpool_crds::NicDetail;
use spiderpool_wire::{
    EndpointInterface, EndpointRoute, IpamAddArgs, IpamDelArgs, MAX_BODY_BYTES, WorkloadEndpointStatus, error_body,
    path,
};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How long reading an endpoint may take.
const READ_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a body may take to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// The API.
pub fn router(context: Arc<Context>) -> Router {
    Router::new()
        .route(path::HEALTHY, get(healthy))
        .route(path::IP, post(allocate))
        .route(path::IP, delete(release))
        .route(path::WORKLOAD_ENDPOINT, get(workload_endpoint))
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
    match context.ready() {
        Ok(()) => StatusCode::OK.into_response(),
        Err(error) => failure(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
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

/// Runs a command as a task of its own: a plugin that is killed must not stop the work between two writes.
async fn run<C: Command>(
    context: Arc<Context>,
    body: Result<Bytes, BytesRejection>,
) -> Result<C::Answer, Box<Response>> {
    let command: C = decode(body)?;
    match tokio::spawn(async move { command::serve(&context, &command).await }).await {
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
    match endpoints::read(&context, &query.pod_namespace, &query.pod_name, deadline).await {
        Ok(Some(endpoint)) => json(&WorkloadEndpointStatus {
            interfaces: endpoint.status.current.ips.iter().map(interface).collect(),
            node: endpoint.status.current.node,
            pod_name: query.pod_name,
            pod_namespace: query.pod_namespace,
            pod_uid: endpoint.status.current.uid,
        }),
        Ok(None) => {
            let text = format!("there is no SpiderEndpoint {}/{}", query.pod_namespace, query.pod_name);
            failure(StatusCode::NOT_FOUND, &text)
        }
        Err(error) => failed(&error),
    }
}

fn interface(item: &NicDetail) -> EndpointInterface {
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let routes = item.routes.iter().flatten();
    EndpointInterface {
        interface: item.interface.clone(),
        ipv4: text(&item.ipv4),
        ipv4_gateway: text(&item.ipv4_gateway),
        ipv4_pool: text(&item.ipv4_pool),
        ipv6: text(&item.ipv6),
        ipv6_gateway: text(&item.ipv6_gateway),
        ipv6_pool: text(&item.ipv6_pool),
        mac: text(&item.mac),
        routes: routes
            .map(|route| EndpointRoute {
                dst: route.dst.clone(),
                gw: route.gw.clone(),
                if_name: None,
            })
            .collect(),
        vlan: item.vlan.unwrap_or_default(),
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
