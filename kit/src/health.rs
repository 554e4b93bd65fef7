//! The probes of the kubelet.
//!
//! Liveness says only that the process answers: restarting it mends nothing that is broken elsewhere. Readiness is the
//! conjunction of named gates, and its answer names those still shut.

use std::sync::{Arc, Mutex, PoisonError};

use axum::http::StatusCode;
use axum::routing::get;
use tokio::sync::watch;

/// Is what a gate stands for ready?
type Gate = (String, Arc<dyn Fn() -> bool + Send + Sync>);

/// The gates a process has to pass before it is ready. Cheap to clone.
#[derive(Clone, Default)]
pub struct Readiness {
    gates: Arc<Mutex<Vec<Gate>>>,
}

impl Readiness {
    /// No gates: ready.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a gate that is asked anew at each probe: quick, no IO.
    pub fn gate(&self, name: impl Into<String>, is_ready: impl Fn() -> bool + Send + Sync + 'static) {
        self.gates
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push((name.into(), Arc::new(is_ready)));
    }

    /// Adds a gate that is shut until the returned switch is sent `true`. Dropping the switch leaves it as it is.
    pub fn switch(&self, name: impl Into<String>) -> watch::Sender<bool> {
        let (switch, state) = watch::channel(false);
        self.gate(name, move || *state.borrow());
        switch
    }

    /// The names of the gates that are shut.
    pub fn shut(&self) -> Vec<String> {
        let gates = self.gates.lock().unwrap_or_else(PoisonError::into_inner).clone();
        gates
            .into_iter()
            .filter(|(_, is_ready)| !is_ready())
            .map(|(name, _)| name)
            .collect()
    }

    /// Are all gates open?
    pub fn is_ready(&self) -> bool {
        self.shut().is_empty()
    }

    /// Serves `GET /v1/runtime/{startup,readiness,liveness}`.
    pub fn router(&self) -> axum::Router {
        let (startup, readiness) = (self.clone(), self.clone());
        axum::Router::new()
            .route("/v1/runtime/startup", get(move || std::future::ready(startup.answer())))
            .route(
                "/v1/runtime/readiness",
                get(move || std::future::ready(readiness.answer())),
            )
            .route("/v1/runtime/liveness", get(|| std::future::ready(StatusCode::OK)))
    }

    fn answer(&self) -> (StatusCode, String) {
        let shut = self.shut();
        if shut.is_empty() {
            (StatusCode::OK, String::new())
        } else {
            (
                StatusCode::INTERNAL_SERVER_ERROR,
                format!("not ready: {}\n", shut.join(", ")),
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::http::Request;
    use tower::ServiceExt;

    use super::*;

    async fn probe(readiness: &Readiness, name: &str) -> (StatusCode, String) {
        let request = Request::get(format!("/v1/runtime/{name}")).body(Body::empty()).unwrap();
        let answer = readiness.router().oneshot(request).await.unwrap();
        let status = answer.status();
        let body = axum::body::to_bytes(answer.into_body(), 1024).await.unwrap();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn a_shut_gate_is_named_and_liveness_does_not_care() {
        let readiness = Readiness::new();
        let cache = readiness.switch("cache of pools");
        readiness.gate("certificate", || true);
        let (status, text) = probe(&readiness, "readiness").await;
        assert_eq!(
            (status, text.as_str()),
            (StatusCode::INTERNAL_SERVER_ERROR, "not ready: cache of pools\n")
        );
        assert_eq!(probe(&readiness, "startup").await.0, StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(probe(&readiness, "liveness").await.0, StatusCode::OK);
        cache.send_replace(true);
        assert_eq!(probe(&readiness, "readiness").await.0, StatusCode::OK);
    }
}
