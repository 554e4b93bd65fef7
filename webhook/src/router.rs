//! What the API server can ask, at which paths, and how much of it at once.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use spiderpool_crds::admission::Settings;
use spiderpool_crds::conf::AnnotationPolicy;
use spiderpool_crds::{SpiderIPPool, SpiderReservedIP, SpiderSubnet};
use tokio::sync::Semaphore;

use crate::judge::{Judged, completed, judged};
use crate::lint;
use crate::metrics::Admissions;
use crate::review::{Review, Told};
use crate::world::World;

/// Path of the health check that the API server's side can ask.
pub const HEALTH_PATH: &str = "/webhook-health-check";

/// What a request may have: two versions of the largest object that is stored, 1.5 MiB each, with room for escapes.
const MOST_BYTES: usize = 8 << 20;
/// Requests at once; more have to wait. It bounds the memory that they take.
const MOST_AT_ONCE: usize = 48;
/// The API server waits for 5 s. An answer says more than its silence.
const DEADLINE: Duration = Duration::from_secs(4);
/// It sends a question in one go. Whoever is slower is not the API server.
const BODY: Duration = Duration::from_secs(2);

/// What answers questions.
pub struct Webhook {
    /// The objects that are there.
    pub world: Arc<World>,
    /// What the rules depend on.
    pub settings: Settings,
    /// What becomes of a workload whose annotations are wrong.
    pub annotations: AnnotationPolicy,
    /// What is counted.
    pub metrics: Admissions,
}

struct Limits {
    metrics: Admissions,
    objects: Semaphore,
    /// Workloads do not wait for pools, which may wait for the API server.
    workloads: Semaphore,
}

/// All paths.
pub fn router(webhook: Webhook) -> Router {
    let limits = Arc::new(Limits {
        metrics: webhook.metrics.clone(),
        objects: Semaphore::new(MOST_AT_ONCE),
        workloads: Semaphore::new(MOST_AT_ONCE),
    });
    let workloads = lint::handler::router(webhook.annotations);
    let webhook = Arc::new(webhook);
    let questions = Router::new()
        .merge(kind::<SpiderSubnet>())
        .merge(kind::<SpiderIPPool>())
        .merge(kind::<SpiderReservedIP>())
        .with_state(webhook)
        .merge(workloads);
    let questions = questions
        .route_layer(DefaultBodyLimit::max(MOST_BYTES))
        .route_layer(from_fn_with_state(limits, bounded));
    questions.route(HEALTH_PATH, get(|| std::future::ready(StatusCode::OK)))
}

fn kind<K: Judged>() -> Router<Arc<Webhook>> {
    let path = |what| {
        let (group, version) = (K::group(&()).replace('.', "-"), K::version(&()));
        format!("/{what}-{group}-{version}-{}", K::kind(&()).to_lowercase())
    };
    Router::new()
        .route(&path("mutate"), post(complete::<K>))
        .route(&path("validate"), post(judge::<K>))
}

async fn complete<K: Judged>(State(webhook): State<Arc<Webhook>>, review: Review) -> Response {
    if let Some(no) = unfit::<K>(&webhook, &review) {
        return no;
    }
    review.reply(completed::<K>(&review, &webhook.world, webhook.settings).await)
}

async fn judge<K: Judged>(State(webhook): State<Arc<Webhook>>, review: Review) -> Response {
    if let Some(no) = unfit::<K>(&webhook, &review) {
        return no;
    }
    review.reply(judged::<K>(&review, &webhook.world, webhook.settings).await)
}

/// Why a question cannot be answered here or now.
fn unfit<K: Judged>(webhook: &Webhook, review: &Review) -> Option<Response> {
    let (kind, group) = (K::kind(&()), K::group(&()));
    if review.kind.kind != kind || review.kind.group != group {
        let text = format!(
            "this path judges {kind}.{group} and not {}.{}; correct the webhook configuration\n",
            review.kind.kind, review.kind.group
        );
        return Some((StatusCode::BAD_REQUEST, text).into_response());
    }
    let text = "the other objects are not read yet; ask again in some seconds\n";
    (!webhook.world.is_filled()).then(|| (StatusCode::SERVICE_UNAVAILABLE, text).into_response())
}

/// Keeps each request to its time and its share, and counts it.
async fn bounded(State(limits): State<Arc<Limits>>, request: Request, next: Next) -> Response {
    let begun = Instant::now();
    let stage = stage(request.uri().path());
    let slots = match request.uri().path() {
        lint::handler::PATH => &limits.workloads,
        _ => &limits.objects,
    };
    let answered = async {
        // Who has not sent all of a question takes nobody's place.
        let request = match whole(request).await {
            Ok(request) => request,
            Err(no) => return no,
        };
        // The semaphore is never closed.
        let _slot = slots.acquire().await;
        next.run(request).await
    };
    let response = match tokio::time::timeout(DEADLINE, answered).await {
        Ok(response) => response,
        Err(_) => {
            let text =
                format!("no answer within {DEADLINE:?}: too many questions, or the API server does not answer ours\n");
            (StatusCode::GATEWAY_TIMEOUT, text).into_response()
        }
    };
    match response.extensions().get::<Told>() {
        Some(told) => limits.metrics.answered(stage, told, begun.elapsed()),
        None => {
            tracing::warn!(stage, status = %response.status(), "a request of the API server came to nothing");
            limits.metrics.failed(stage);
        }
    }
    response
}

/// Reads all of a request.
async fn whole(request: Request) -> Result<Request, Response> {
    let (head, body) = request.into_parts();
    match tokio::time::timeout(BODY, to_bytes(body, MOST_BYTES)).await {
        Ok(Ok(bytes)) => Ok(Request::from_parts(head, Body::from(bytes))),
        Ok(Err(error)) => {
            let text = format!("failed to read the body: {error}; it may have {MOST_BYTES} bytes\n");
            Err((StatusCode::PAYLOAD_TOO_LARGE, text).into_response())
        }
        Err(_) => {
            let text = format!("the body did not come within {BODY:?}\n");
            Err((StatusCode::REQUEST_TIMEOUT, text).into_response())
        }
    }
}

fn stage(path: &str) -> &'static str {
    if path.starts_with("/mutate-") {
        "mutate"
    } else {
        "validate"
    }
}
