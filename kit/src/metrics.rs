//! The metrics of a process: one registry, no globals, labels from closed sets only.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
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

/// Upper bounds in seconds, from a look at the caches without a write to many writes against a slow API server.
const SECONDS: [f64; 12] = [0.0005, 0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 2.5, 10.0, 30.0];

/// The metrics of all work queues of a process.
#[derive(Clone, Debug)]
pub struct QueueMetrics {
    depth: Family<QueueLabel, Gauge>,
    adds: Family<QueueLabel, Counter>,
    retries: Family<QueueLabel, Counter>,
    seconds: Family<QueueLabel, Histogram, fn() -> Histogram>,
}

impl Default for QueueMetrics {
    fn default() -> Self {
        Self {
            depth: Family::default(),
            adds: Family::default(),
            retries: Family::default(),
            seconds: Family::new_with_constructor(|| Histogram::new(SECONDS)),
        }
    }
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
            registry.register(
                "spiderpool_reconcile_seconds",
                "Time of the work on one key, whatever came of it",
                queues.seconds.clone(),
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

    pub(crate) fn worked(&self, queue: &'static str, time: Duration) {
        self.seconds
            .get_or_create(&QueueLabel { queue })
            .observe(time.as_secs_f64());
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
        queues.worked("pools", Duration::from_millis(3));
        let mut text = String::new();
        metrics
            .register(|registry| prometheus_client::encoding::text::encode(&mut text, registry))
            .unwrap();
        assert_eq!(text.matches("# TYPE workqueue_adds counter").count(), 1, "{text}");
        for line in [
            "workqueue_adds_total{queue=\"pools\"} 1",
            "spiderpool_reconcile_seconds_bucket{le=\"0.001\",queue=\"pools\"} 0",
            "spiderpool_reconcile_seconds_bucket{le=\"0.005\",queue=\"pools\"} 1",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }
}
