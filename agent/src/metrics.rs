//! Metrics of the agent. Names that spiderpool v1.2 documents are those of its documentation.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use spiderpool_ipam::reclaim::Reason;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Writes of pool records.
#[derive(Clone, Debug, Default)]
pub struct PoolMetrics {
    /// Writes sent.
    pub writes: Counter,
    /// Writes that another writer beat.
    pub conflicts: Counter,
}

/// Outcome of a request: `ok`, or the class of its error.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    result: &'static str,
}

/// Why addresses were freed.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Why {
    reason: &'static str,
}

/// Addresses that the agent freed, recorded again or found lost without being asked.
#[derive(Clone, Debug, Default)]
struct Books {
    freed: Family<Why, Counter>,
    restored: Counter,
    lost: Counter,
}

/// Requests of the plugin.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// Writes of pool records.
    pub pools: PoolMetrics,
    adds: Requests,
    dels: Requests,
    books: Books,
    no_pool: Counter,
    used_out: Counter,
}

/// Requests of one kind.
#[derive(Clone, Debug)]
struct Requests {
    by_result: Family<Outcome, Counter>,
    all: Counter,
    failed: Counter,
    /// Failed for another reason than those that have a counter of their own.
    internal: Counter,
    seconds: Histogram,
    summary: Arc<Mutex<Summary>>,
    average: Seconds,
    max: Seconds,
    min: Seconds,
    latest: Seconds,
}

type Seconds = Gauge<f64, AtomicU64>;

/// What the gauges of durations are made of.
#[derive(Debug, Default)]
struct Summary {
    count: f64,
    sum: f64,
    max: f64,
    min: Option<f64>,
}

/// Upper bounds in seconds, from one round trip to the whole budget of a request; those of the peer are among them.
const SECONDS: [f64; 18] = [
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.3, 0.5, 1.0, 2.5, 3.0, 5.0, 7.0, 10.0, 15.0, 30.0, 60.0, 95.0,
];

impl Requests {
    fn new() -> Self {
        Self {
            by_result: Family::default(),
            all: Counter::default(),
            failed: Counter::default(),
            internal: Counter::default(),
            seconds: Histogram::new(SECONDS),
            summary: Arc::default(),
            average: Seconds::default(),
            max: Seconds::default(),
            min: Seconds::default(),
            latest: Seconds::default(),
        }
    }

    /// `what` is `allocation` or `release`, `command` the word of CNI.
    fn register(&self, registry: &mut Registry, what: &str, command: &str) {
        let name = |rest: &str| format!("spiderpool_ipam_{what}_{rest}");
        let of = |rest: &str| format!("{command} requests{rest}");
        registry.register(name("counts"), of(""), self.all.clone());
        registry.register(name("failure_counts"), of(" that failed"), self.failed.clone());
        registry.register(
            name("err_internal_counts"),
            of(" that failed through no fault of pools and pods"),
            self.internal.clone(),
        );
        registry.register(name("results"), of(" by result"), self.by_result.clone());
        let seconds = |of: &str| format!("{of} seconds of {command} requests");
        registry.register(name("duration_seconds"), seconds("The"), self.seconds.clone());
        for (rest, of, gauge) in [
            ("average", "Average", &self.average),
            ("max", "Most", &self.max),
            ("min", "Least", &self.min),
            ("latest", "Latest", &self.latest),
        ] {
            registry.register(name(&format!("{rest}_duration_seconds")), seconds(of), gauge.clone());
        }
    }

    fn count(&self, result: &'static str, took: Duration) {
        self.by_result.get_or_create(&Outcome { result }).inc();
        self.all.inc();
        let took = took.as_secs_f64();
        self.seconds.observe(took);
        // Held over the gauges, so that they tell of the same requests.
        let mut summary = self.summary.lock().unwrap_or_else(PoisonError::into_inner);
        summary.count += 1.0;
        summary.sum += took;
        summary.max = summary.max.max(took);
        let min = summary.min.map_or(took, |min| min.min(took));
        summary.min = Some(min);
        self.average.set(summary.sum / summary.count);
        self.max.set(summary.max);
        self.min.set(min);
        self.latest.set(took);
        if result != OK {
            self.failed.inc();
        }
    }
}

/// The result of a request that did not fail.
const OK: &str = "ok";

impl Books {
    fn register(&self, registry: &mut Registry) {
        registry.register(
            "spiderpool_ip_gc_counts",
            "Addresses of pods of this node that were freed because nobody had them any more, by reason",
            self.freed.clone(),
        );
        registry.register(
            "spiderpool_ip_restored_counts",
            "Addresses that sandboxes of this node use and that were put on record again",
            self.restored.clone(),
        );
        registry.register(
            "spiderpool_ip_lost_counts",
            "Times that an address which a sandbox of this node uses was found to be another pod's",
            self.lost.clone(),
        );
    }
}

impl Metrics {
    /// Registers the metrics. Once per process.
    pub fn register(metrics: &spiderpool_kit::metrics::Metrics) -> Self {
        let own = Self {
            pools: PoolMetrics::default(),
            adds: Requests::new(),
            dels: Requests::new(),
            books: Books::default(),
            no_pool: Counter::default(),
            used_out: Counter::default(),
        };
        for reason in Reason::ALL {
            drop(own.books.freed.get_or_create(&Why { reason: reason.word() }));
        }
        metrics.register(|registry| {
            own.books.register(registry);
            own.adds.register(registry, "allocation", "ADD");
            own.dels.register(registry, "release", "DEL");
            registry.register(
                "spiderpool_ipam_allocation_err_no_available_pool_counts",
                "ADD requests that no pool could serve",
                own.no_pool.clone(),
            );
            registry.register(
                "spiderpool_ipam_allocation_err_ip_used_out_counts",
                "ADD requests that failed since a pool had no address left",
                own.used_out.clone(),
            );
            registry.register(
                "spiderpool_ipam_allocation_update_ippool_conflict_counts",
                "Writes of IPPool records that met another writer",
                own.pools.conflicts.clone(),
            );
            registry.register(
                "spiderpool_ipam_ippool_write_counts",
                "Writes of IPPool records",
                own.pools.writes.clone(),
            );
        });
        own
    }

    /// Counts addresses of pods of this node that were freed because nobody had them any more.
    pub fn freed(&self, reason: Reason, addresses: usize) {
        let addresses = u64::try_from(addresses).unwrap_or(u64::MAX);
        let reason = reason.word();
        self.books.freed.get_or_create(&Why { reason }).inc_by(addresses);
    }

    /// Counts an address that a sandbox uses and that was on record for nobody until now.
    pub fn restored(&self) {
        self.books.restored.inc();
    }

    /// Counts an address that a sandbox uses and that is somebody else's by now.
    pub fn lost(&self) {
        self.books.lost.inc();
    }

    /// Counts an ADD.
    pub fn added(&self, result: &'static str, took: Duration) {
        self.adds.count(result, took);
        let why = match result {
            OK => return,
            "no_available_pool" => &self.no_pool,
            "ip_used_out" => &self.used_out,
            _ => &self.adds.internal,
        };
        why.inc();
    }

    /// Counts a DEL.
    pub fn deleted(&self, result: &'static str, took: Duration) {
        self.dels.count(result, took);
        if result != OK {
            self.dels.internal.inc();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn names_are_those_of_the_peer_s_documentation() {
        use axum::body::{Body, to_bytes};
        use tower::ServiceExt;

        let registry = spiderpool_kit::metrics::Metrics::new();
        let metrics = Metrics::register(&registry);
        metrics.added(OK, Duration::from_millis(250));
        metrics.added("no_available_pool", Duration::from_millis(750));
        metrics.added("api", Duration::from_millis(500));
        metrics.deleted(OK, Duration::from_millis(500));
        metrics.freed(Reason::PodGone, 2);
        metrics.lost();
        let request = axum::http::Request::get("/metrics").body(Body::empty()).unwrap();
        let answer = registry.router().oneshot(request).await.unwrap();
        let text = to_bytes(answer.into_body(), 1 << 20).await.unwrap();
        let text = String::from_utf8(text.to_vec()).unwrap();
        for line in [
            "spiderpool_ipam_allocation_counts_total 3",
            "spiderpool_ipam_allocation_failure_counts_total 2",
            "spiderpool_ipam_allocation_err_no_available_pool_counts_total 1",
            "spiderpool_ipam_allocation_err_internal_counts_total 1",
            "spiderpool_ipam_allocation_err_ip_used_out_counts_total 0",
            "spiderpool_ipam_allocation_update_ippool_conflict_counts_total 0",
            "spiderpool_ipam_allocation_average_duration_seconds 0.5",
            "spiderpool_ipam_allocation_max_duration_seconds 0.75",
            "spiderpool_ipam_allocation_min_duration_seconds 0.25",
            "spiderpool_ipam_allocation_latest_duration_seconds 0.5",
            "spiderpool_ipam_allocation_duration_seconds_count 3",
            "spiderpool_ipam_allocation_results_total{result=\"ok\"} 1",
            "spiderpool_ipam_release_counts_total 1",
            "spiderpool_ip_gc_counts_total{reason=\"PodGone\"} 2",
            "spiderpool_ip_gc_counts_total{reason=\"PodFinished\"} 0",
            "spiderpool_ip_restored_counts_total 0",
            "spiderpool_ip_lost_counts_total 1",
            "spiderpool_ipam_release_failure_counts_total 0",
            "spiderpool_ipam_release_latest_duration_seconds 0.5",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
    }
}
