//! Which trick is played on a request.

use std::time::Duration;

use http::{Method, StatusCode};
use hyper::body::Bytes;
use serde_json::json;

use crate::storm::random::Random;

/// How often what is done, in a hundred.
#[derive(Clone, Debug)]
pub struct Faults {
    /// Requests other than watches.
    pub requests: u64,
    /// Watches that say nothing for a while, again and again.
    pub frozen: u64,
    /// Watches that end because the position is too old.
    pub expired: u64,
    /// Lists that are as they were at some time before.
    pub stale: u64,
    /// For how long a watch is frozen at most.
    pub frozen_for: Duration,
    /// Which tricks are played on requests.
    pub mix: Mix,
}

impl Faults {
    /// Nothing at all.
    pub const NONE: Self = Self {
        requests: 0,
        frozen: 0,
        expired: 0,
        stale: 0,
        frozen_for: Duration::from_secs(6),
        mix: Mix::All,
    };
}

/// Tricks played on requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mix {
    /// All of them.
    All,
    /// What a server does that has too much to do: of a hundred, thirty are refused for now, ten fail, five break off after they were
    /// served, and the others are late by a fifth of a second.
    Overloaded,
}

/// What is done to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// It is late at the API server.
    DelayBefore(Duration),
    /// The answer is late.
    DelayAfter(Duration),
    /// It is refused, as if somebody else had been faster.
    Conflict,
    /// It is refused for now.
    TooMany,
    /// It fails, and nothing is written.
    ErrorBefore,
    /// It fails, and what it asks for is written.
    ErrorAfter,
    /// The connection breaks, and nothing is written.
    ResetBefore,
    /// The connection breaks, and what it asks for is written.
    ResetAfter,
}

/// Delays after which nobody waits any more: an agent waits five seconds for a write.
const LOST: (Duration, Duration) = (Duration::from_secs(6), Duration::from_secs(8));

/// How late the answers of a server are that has too much to do.
const OVERLOADED: Duration = Duration::from_millis(200);

const SHORT: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(500));

impl Fault {
    /// The fault for a request.
    pub(super) fn choose(mix: Mix, method: &Method, random: &mut Random) -> Self {
        if mix == Mix::Overloaded {
            return match random.below(100) {
                0..30 => Self::TooMany,
                30..40 => Self::ErrorBefore,
                40..45 => Self::ResetAfter,
                _ => Self::DelayBefore(OVERLOADED),
            };
        }
        let writes = *method != Method::GET;
        match random.below(100) {
            0..25 => Self::DelayBefore(random.between(SHORT.0, SHORT.1)),
            25..35 => Self::DelayAfter(random.between(SHORT.0, SHORT.1)),
            35..37 => Self::DelayBefore(random.between(LOST.0, LOST.1)),
            37..40 => Self::DelayAfter(random.between(LOST.0, LOST.1)),
            40..55 if writes => Self::Conflict,
            40..65 => Self::TooMany,
            65..75 => Self::ErrorBefore,
            75..83 => Self::ErrorAfter,
            83..92 => Self::ResetBefore,
            _ => Self::ResetAfter,
        }
    }

    /// What it is counted as.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::DelayBefore(_) | Self::DelayAfter(_) => "delay",
            Self::Conflict => "409",
            Self::TooMany => "429",
            Self::ErrorBefore => "500 before",
            Self::ErrorAfter => "500 after",
            Self::ResetBefore => "reset before",
            Self::ResetAfter => "reset after",
        }
    }
}

/// The answer to a request that is refused.
pub(super) fn refusal(fault: Fault, method: &Method) -> (StatusCode, Bytes) {
    let (code, reason) = match fault {
        Fault::Conflict if *method == Method::POST => (StatusCode::CONFLICT, "AlreadyExists"),
        Fault::Conflict => (StatusCode::CONFLICT, "Conflict"),
        Fault::TooMany => (StatusCode::TOO_MANY_REQUESTS, "TooManyRequests"),
        _ => (StatusCode::INTERNAL_SERVER_ERROR, "InternalError"),
    };
    (code, status(code, reason))
}

/// The line of a watch whose position is too old.
pub(super) fn expired() -> Bytes {
    let object = status(StatusCode::GONE, "Expired");
    let object = String::from_utf8_lossy(&object).into_owned();
    format!("{{\"type\":\"ERROR\",\"object\":{object}}}\n").into()
}

fn status(code: StatusCode, reason: &str) -> Bytes {
    let status = json!({
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": format!("the fault proxy says so ({reason})"),
        "reason": reason,
        "code": code.as_u16(),
    });
    status.to_string().into()
}
