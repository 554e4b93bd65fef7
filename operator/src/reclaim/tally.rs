//! Counts what was reclaimed and found. Names are those of the peer where it has one.

use std::sync::Arc;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use spiderpool_ipam::check::Kind;
use spiderpool_ipam::reclaim::Reason;
use spiderpool_kit::metrics::Metrics;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Label {
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabel {
    kind: &'static str,
}

/// The counts. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    freed: Family<Label, Counter>,
    failed: Counter,
    suspects: Gauge,
    findings: Family<KindLabel, Gauge>,
}

impl Tally {
    /// Adds the counts to the metrics of the process. Reasons that never came up are there as zero.
    pub fn register(metrics: &Metrics) -> Arc<Self> {
        let tally = Self::default();
        for reason in Reason::ALL {
            drop(tally.freed.get_or_create(&Label { reason: reason.word() }));
        }
        for kind in Kind::ALL {
            tally.set_findings(kind, 0);
        }
        metrics.register(|registry| {
            let help = "Addresses that were freed because nobody had them any more, by reason";
            registry.register("spiderpool_ip_gc_counts", help, tally.freed.clone());
            let help = "Writes that should have freed addresses and failed";
            registry.register("spiderpool_ip_gc_failure_counts", help, tally.failed.clone());
            let help =
                "Pods whose addresses nobody was found to use, and that wait for a second look or for their node";
            registry.register("spiderpool_ip_gc_suspects", help, tally.suspects.clone());
            let help = "Findings of the last regular check of pools, endpoints, pods and subnets, by kind";
            registry.register("spiderpool_ip_check_findings", help, tally.findings.clone());
        });
        Arc::new(tally)
    }

    pub(super) fn freed(&self, reason: Reason) {
        self.freed.get_or_create(&Label { reason: reason.word() }).inc();
    }

    pub(super) fn failed(&self) {
        self.failed.inc();
    }

    pub(super) fn set_findings(&self, kind: Kind, count: usize) {
        let gauge = self.findings.get_or_create(&KindLabel { kind: kind.word() });
        gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    pub(super) fn set_suspects(&self, count: usize) {
        self.suspects.set(i64::try_from(count).unwrap_or(i64::MAX));
    }
}
