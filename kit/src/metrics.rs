//! The metrics of a process: one registry, no globals, labels from closed sets only.

use std::sync::{Arc, Mutex, PoisonError};

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// All metrics of this process. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    registry: Arc<Mutex<Registry>>,
}

impl Metrics {
    /// No metrics yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds metrics: `metrics.register(|registry| registry.register("name", "help.", metric.clone()))`.
    pub fn register<T>(&self, add: impl FnOnce(&mut Registry) -> T) -> T {
        add(&mut self.registry.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Serves `GET /metrics` in the OpenMetrics text format.
    pub fn router(&self) -> axum::Router {
        let metrics = self.clone();
        axum::Router::new().route("/metrics", get(move || std::future::ready(metrics.render())))
    }

    fn render(&self) -> Response {
        let mut text = String::new();
        let registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        match prometheus_client::encoding::text::encode(&mut text, &registry) {
            Ok(()) => {
                let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
                ([(header::CONTENT_TYPE, kind)], text).into_response()
            }
            Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct QueueLabel {
    queue: &'static str,
}

/// The metrics of all work queues of a process.
#[derive(Clone, Debug, Default)]
pub struct QueueMetrics {
    depth: Family<QueueLabel, Gauge>,
    adds: Family<QueueLabel, Counter>,
    retries: Family<QueueLabel, Counter>,
}

impl QueueMetrics {
    /// Registers the metrics. Once per process.
    pub fn register(metrics: &Metrics) -> Self {
        let queues = Self::default();
        metrics.register(|registry| {
            registry.register("workqueue_depth", "Keys that wait for a worker", queues.depth.clone());
            registry.register("workqueue_adds", "Keys added", queues.adds.clone());
            registry.register(
                "workqueue_retries",
                "Keys put back after a failure",
                queues.retries.clone(),
            );
        });
        queues
    }

    pub(crate) fn depth(&self, queue: &'static str, depth: usize) {
        self.depth
            .get_or_create(&QueueLabel { queue })
            .set(i64::try_from(depth).unwrap_or(i64::MAX));
    }

    pub(crate) fn adds(&self, queue: &'static str) {
        self.adds.get_or_create(&QueueLabel { queue }).inc();
    }

    pub(crate) fn retries(&self, queue: &'static str) {
        self.retries.get_or_create(&QueueLabel { queue }).inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_rendered_once_per_name() {
        let metrics = Metrics::new();
        let queues = QueueMetrics::register(&metrics);
        queues.adds("deployments");
        queues.adds("pools");
        let mut text = String::new();
        metrics
            .register(|registry| prometheus_client::encoding::text::encode(&mut text, registry))
            .unwrap();
        assert_eq!(text.matches("# TYPE workqueue_adds counter").count(), 1, "{text}");
        assert!(text.contains("workqueue_adds_total{queue=\"pools\"} 1"), "{text}");
    }
}
