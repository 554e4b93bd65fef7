//! What administrators ask this program over HTTPS: a check of everything, and the repair of what it found.
//!
//! | request | right, of group `ipam.spidernet.io` |
//! |---|---|
//! | `GET /v1/ipam/check` | `get` of `checks` |
//! | `POST /v1/ipam/repair` with a report of that | `create` of `repairs` |
//!
//! Both need a bearer token of audience [`AUDIENCE`], since whoever repairs releases addresses. Only the leader answers: a report is
//! known to the replica that made it, and only the leader writes.

mod auth;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use axum::extract::{DefaultBodyLimit, FromRequest, Json, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use clap::Args;
use serde::{Deserialize, Serialize};
use serde_json::json;
use spiderpool_ipam::Owner;
use spiderpool_ipam::check::{Fault, Repair};
use spiderpool_kit::serve::{self, Limits, Server};
use spiderpool_kit::shutdown::Process;
use spiderpool_kit::tls::{Certificates, POLL};
use tokio::time::Instant;

use crate::context::Context;
use crate::reclaim::audit::{self, Repaired, Report};
use auth::Right;
pub use auth::{AUDIENCE, Denied};

/// How long a request may take. A client that waits for longer asks too much at once.
const BUDGET: Duration = Duration::from_secs(120);
/// What a repair leaves of that, for its answer to be written.
const SPARE: Duration = Duration::from_secs(2);
/// How long the body of a request may take. The repair is to have the rest.
const BODY: Duration = Duration::from_secs(20);
/// Length of the longest body: some times that of a report with as many findings as there may be.
const MOST_BYTES: usize = 4 << 20;
/// Open connections. Administrators are few, and each connection may make this program ask the API server.
const CONNECTIONS: usize = 32;
/// When somebody who came to the wrong replica, or too early, should come again.
const AGAIN: &str = "5";

/// Options about requests of administrators.
#[derive(Clone, Debug, Args)]
pub struct ApiOptions {
    /// Port of /v1/ipam/check and /v1/ipam/repair, with TLS.
    #[arg(long, env = "SPIDERPOOL_API_PORT", default_value_t = 5724)]
    pub api_port: u16,

    /// Secret with the certificate (tls.crt) and key (tls.key) of that port. Without it nobody listens there.
    #[arg(long, value_name = "NAME")]
    pub api_certificate_secret: Option<String>,
}

/// Serves, if there is to be a certificate, once `filled` has come: half of a picture is full of findings.
pub async fn start(
    process: &Process,
    options: &ApiOptions,
    namespace: &str,
    context: &Arc<Context>,
    filled: impl Future<Output = ()> + Send + 'static,
) -> anyhow::Result<()> {
    let Some(secret) = &options.api_certificate_secret else {
        return Ok(());
    };
    let certificates = Certificates::of_secret(process, context.client.clone(), namespace, secret);
    let config = certificates.server_config().context("failed to set up TLS")?;
    let port = options.api_port;
    let listener = serve::bind(port).await;
    let listener =
        listener.with_context(|| format!("failed to listen on port {port}; is another program using it?"))?;
    let limits = Limits {
        connections: CONNECTIONS,
        ..Limits::default()
    };
    let server = Server::new(router(context.clone())).limits(limits).tls(config);
    let stop = process.token();
    process.spawn_infallible("API", async move {
        if stop.run_until_cancelled(filled).await.is_some() {
            server.run(listener, stop).await;
        }
    });
    let current = async move { certificates.keep_current(POLL).await };
    process.spawn_infallible("certificate of the API", process.until_stop(Box::pin(current)));
    Ok(())
}

/// The paths.
pub fn router(context: Arc<Context>) -> axum::Router {
    axum::Router::new()
        .route("/v1/ipam/check", get(check))
        .route("/v1/ipam/repair", post(repair))
        .route_layer(DefaultBodyLimit::max(MOST_BYTES))
        .with_state(context)
}

async fn check(State(context): State<Arc<Context>>, headers: HeaderMap) -> Response {
    answer(&context, &headers, Right::Check, async |user, _| {
        let report = audit::take(&context, &user).await;
        Json(told(&report)).into_response()
    })
    .await
}

async fn repair(State(context): State<Arc<Context>>, headers: HeaderMap, request: Request) -> Response {
    answer(&context, &headers, Right::Repair, async |user, until| {
        let order = match order(request).await {
            Ok(order) => order,
            Err(problem) => return problem,
        };
        let Some(report) = context.audits.find(&order.id) else {
            let text = format!(
                "this controller made no report {} within the last hour, or too many since; ask for a new one",
                order.id
            );
            return problem(StatusCode::CONFLICT, &text);
        };
        let ids: BTreeSet<String> = order.findings.into_iter().map(|finding| finding.id).collect();
        tracing::warn!(user, report = report.id, findings = ids.len(), "repair asked for");
        let results = audit::repair(&context, &report, &ids, until).await;
        let results: Vec<Mended> = results.into_iter().map(Mended::from).collect();
        Json(json!({"report": report.id, "results": results})).into_response()
    })
    .await
}

/// Reads the body. Not before it is known that the sender may send one: whoever reaches the port could have memory taken for it.
async fn order(request: Request) -> Result<Order, Response> {
    match tokio::time::timeout(BODY, Json::from_request(request, &())).await {
        Ok(Ok(Json(order))) => Ok(order),
        Ok(Err(error)) => {
            let text = format!("send a report as it was given: {error}");
            Err(problem(error.status(), &text))
        }
        Err(_) => {
            let text = format!("the report did not come within {BODY:?}");
            Err(problem(StatusCode::REQUEST_TIMEOUT, &text))
        }
    }
}

/// Asks who that is and what they may, whether this replica leads, and does the work within its time. The work is told who asks,
/// and when it has to be done.
async fn answer(
    context: &Context,
    headers: &HeaderMap,
    right: Right,
    work: impl AsyncFnOnce(String, Instant) -> Response,
) -> Response {
    let until = Instant::now() + BUDGET;
    let bounded = async {
        let user = match auth::allowed(&context.client, headers, right).await {
            Ok(user) => user,
            Err(denied) => return refuse(&denied),
        };
        if !context.leadership.is_leader() {
            let text = "this controller does not lead; ask the one that the Lease spiderpool-controller-leases names";
            let answer = problem(StatusCode::SERVICE_UNAVAILABLE, text);
            return ([(header::RETRY_AFTER, AGAIN)], answer).into_response();
        }
        work(user, until - SPARE).await
    };
    let bounded = tokio::time::timeout_at(until, bounded).await;
    bounded.unwrap_or_else(|_| problem(StatusCode::GATEWAY_TIMEOUT, "the API server took too long; try again"))
}

fn refuse(denied: &Denied) -> Response {
    let status = match denied {
        Denied::NoToken | Denied::Unknown(_) => StatusCode::UNAUTHORIZED,
        Denied::Forbidden { .. } => StatusCode::FORBIDDEN,
        Denied::Unasked(_) => StatusCode::SERVICE_UNAVAILABLE,
    };
    let answer = problem(status, &denied.to_string());
    match status {
        StatusCode::UNAUTHORIZED => ([(header::WWW_AUTHENTICATE, "Bearer")], answer).into_response(),
        _ => answer,
    }
}

fn problem(status: StatusCode, text: &str) -> Response {
    (status, Json(json!({"error": text}))).into_response()
}

/// A report as it is written.
#[derive(Serialize)]
struct Told<'a> {
    id: &'a str,
    taken: String,
    #[serde(rename = "lookedAt")]
    looked_at: audit::LookedAt,
    findings: Vec<Finding<'a>>,
    /// Suspicions that were not looked at.
    open: usize,
}

#[derive(Serialize)]
struct Finding<'a> {
    id: &'a str,
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pods: Vec<Pod<'a>>,
    message: String,
    /// What a repair would do; without it only a person can mend it.
    repair: Option<&'static str>,
}

#[derive(Serialize)]
struct Pod<'a> {
    pod: &'a str,
    uid: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    interface: Option<&'a str>,
}

fn told(report: &Report) -> Told<'_> {
    Told {
        id: &report.id,
        taken: report.taken.to_string(),
        looked_at: report.looked_at,
        findings: report.findings.iter().map(|(id, fault)| finding(id, fault)).collect(),
        open: report.open,
    }
}

fn finding<'a>(id: &'a str, fault: &'a Fault) -> Finding<'a> {
    let pod = |owner: &'a Owner| Pod {
        pod: &owner.pod,
        uid: &owner.uid,
        interface: owner.nic.as_deref(),
    };
    Finding {
        id,
        kind: fault.kind().word(),
        address: fault.address().map(|address| address.to_string()),
        pods: fault.owners().into_iter().map(pod).collect(),
        message: fault.to_string(),
        repair: fault.repair().map(Repair::word),
    }
}

/// A report as it comes back. What somebody took out of it is not repaired.
#[derive(Deserialize)]
struct Order {
    id: String,
    findings: Vec<Ordered>,
}

#[derive(Deserialize)]
struct Ordered {
    id: String,
}

#[derive(Serialize)]
struct Mended {
    id: String,
    outcome: audit::Outcome,
    message: String,
}

impl From<Repaired> for Mended {
    fn from(repaired: Repaired) -> Self {
        let Repaired { id, outcome, message } = repaired;
        Self { id, outcome, message }
    }
}

#[cfg(test)]
mod tests;
