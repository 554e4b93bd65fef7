//! How many objects were judged, what came of it and how long it took.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use spiderpool_kit::metrics::Metrics;

use crate::review::{Operation, Told};

/// Upper bounds in seconds: from a look at the index to the longest that the API server waits.
const SECONDS: [f64; 13] = [
    0.0005, 0.001, 0.002, 0.004, 0.006, 0.008, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0,
];

/// Kinds that are told apart. Whoever reaches the port can name any.
const KINDS: [&str; 9] = [
    "SpiderSubnet",
    "SpiderIPPool",
    "SpiderReservedIP",
    "Deployment",
    "StatefulSet",
    "DaemonSet",
    "Job",
    "CronJob",
    "Pod",
];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Request {
    stage: &'static str,
    kind: &'static str,
    operation: &'static str,
    verdict: &'static str,
    rule: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Sort {
    stage: &'static str,
    kind: &'static str,
    operation: &'static str,
}

/// The metrics of admission.
#[derive(Clone, Debug)]
pub struct Admissions {
    requests: Family<Request, Counter>,
    seconds: Family<Sort, Histogram, fn() -> Histogram>,
}

impl Admissions {
    /// Registers the metrics. Once per process.
    pub fn register(metrics: &Metrics) -> Self {
        let admissions = Self {
            requests: Family::default(),
            seconds: Family::new_with_constructor(|| Histogram::new(SECONDS)),
        };
        metrics.register(|registry| {
            registry.register(
                "spiderpool_admission_requests",
                "Questions of the API server, by what was answered and the first rule that was broken",
                admissions.requests.clone(),
            );
            registry.register(
                "spiderpool_admission_seconds",
                "Time from the head of a question to the answer",
                admissions.seconds.clone(),
            );
        });
        admissions
    }

    /// A question was answered.
    pub(crate) fn answered(&self, stage: &'static str, told: &Told, after: Duration) {
        let kind = KINDS.into_iter().find(|kind| *kind == told.kind).unwrap_or("other");
        let operation = match told.operation {
            Operation::Create => "create",
            Operation::Update => "update",
            Operation::Delete => "delete",
            Operation::Connect => "connect",
        };
        self.count(stage, kind, operation, told.verdict, told.rule.unwrap_or_default());
        let sort = Sort { stage, kind, operation };
        self.seconds.get_or_create(&sort).observe(after.as_secs_f64());
    }

    /// A request came to nothing: it was no question, or took too long.
    pub(crate) fn failed(&self, stage: &'static str) {
        self.count(stage, "other", "", "failed", "");
    }

    fn count(
        &self,
        stage: &'static str,
        kind: &'static str,
        operation: &'static str,
        verdict: &'static str,
        rule: &'static str,
    ) {
        let request = Request {
            stage,
            kind,
            operation,
            verdict,
            rule,
        };
        self.requests.get_or_create(&request).inc();
    }
}
