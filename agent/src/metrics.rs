//! Counters of the agent.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
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

/// Requests of the plugin.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// Writes of pool records.
    pub pools: PoolMetrics,
    adds: Family<Outcome, Counter>,
    dels: Family<Outcome, Counter>,
    add_seconds: Histogram,
    del_seconds: Histogram,
}

/// Upper bounds in seconds, from one round trip to the whole budget of a request.
const SECONDS: [f64; 12] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

impl Metrics {
    /// Registers the metrics. Once per process.
    pub fn register(metrics: &spiderpool_kit::metrics::Metrics) -> Self {
        let own = Self {
            pools: PoolMetrics::default(),
            adds: Family::default(),
            dels: Family::default(),
            add_seconds: Histogram::new(SECONDS),
            del_seconds: Histogram::new(SECONDS),
        };
        metrics.register(|registry| {
            registry.register("ipam_allocation", "ADD requests by result", own.adds.clone());
            registry.register("ipam_release", "DEL requests by result", own.dels.clone());
            registry.register(
                "ipam_allocation_duration_seconds",
                "Time of ADD requests",
                own.add_seconds.clone(),
            );
            registry.register(
                "ipam_release_duration_seconds",
                "Time of DEL requests",
                own.del_seconds.clone(),
            );
            registry.register("ipam_pool_writes", "Writes of IPPool records", own.pools.writes.clone());
            registry.register(
                "ipam_pool_write_conflicts",
                "Writes that met another writer",
                own.pools.conflicts.clone(),
            );
        });
        own
    }

    /// Counts an ADD.
    pub fn added(&self, result: &'static str, took: Duration) {
        self.adds.get_or_create(&Outcome { result }).inc();
        self.add_seconds.observe(took.as_secs_f64());
    }

    /// Counts a DEL.
    pub fn deleted(&self, result: &'static str, took: Duration) {
        self.dels.get_or_create(&Outcome { result }).inc();
        self.del_seconds.observe(took.as_secs_f64());
    }
}
