//! Runs an election against the API server.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease as LeaseObject;
use kube::api::PostParams;
use kube::core::ObjectMeta;
use kube::{Api, Client};
use tokio::time::Instant;

use super::leadership::{Leadership, Seat};
use super::record::{Record, hold, release};
use super::{Decision, Timing, View, decide};
use crate::backoff::delay;
use crate::deadline::{Failure, within};
use crate::shutdown::Process;

/// Why an election cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The times do not fit together.
    #[error(
        "election times {0:?} do not fit: lease must be longer than renew_deadline, that longer than retry, lease at least 1 s"
    )]
    Timing(Timing),
    /// A write begun as the leader was still on its way when another replica could have taken over.
    #[error("a write did not end within {0:?} of losing the lease; stopping so that it cannot meet another leader's")]
    WriterStuck(Duration),
}

/// One replica's part in an election.
pub struct Lease {
    api: Api<LeaseObject>,
    namespace: String,
    name: String,
    me: String,
    timing: Timing,
    seat: Seat,
    object: Option<LeaseObject>,
    record: Option<Record>,
    seen_at: Instant,
    renewed_at: Option<Instant>,
    failing: bool,
}

impl Lease {
    /// Stands for election until the process stops, then gives the lease back. `client` should be the
    /// [`prompt`](crate::client::prompt) one. `me` must differ between replicas and between starts of one replica, as the
    /// pod's name plus something random does.
    pub fn start(
        process: &Process,
        client: Client,
        namespace: &str,
        name: &str,
        me: impl Into<String>,
        timing: Timing,
    ) -> Result<Leadership, Error> {
        let (mut lease, leadership) = Self::new(client, namespace, name, me.into(), timing.checked()?);
        let token = process.token();
        process.spawn("leader election", async move {
            let outcome = token.run_until_cancelled(lease.run()).await;
            match outcome {
                Some(ended) => ended,
                None => lease.give_back().await,
            }
        });
        Ok(leadership)
    }

    fn new(client: Client, namespace: &str, name: &str, me: String, timing: Timing) -> (Self, Leadership) {
        let (seat, leadership) = Leadership::new();
        let lease = Self {
            api: Api::namespaced(client, namespace),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            me,
            timing,
            seat,
            object: None,
            record: None,
            seen_at: Instant::now(),
            renewed_at: None,
            failing: false,
        };
        (lease, leadership)
    }

    async fn run(&mut self) -> Result<(), Error> {
        loop {
            if self.object.is_none() || self.renewed_at.is_none() {
                self.look().await;
            }
            let view = View {
                record: self.record.as_ref(),
                seen_at: self.seen_at,
                renewed_at: self.renewed_at,
            };
            match decide(view, &self.me, Instant::now(), self.timing) {
                Decision::Wait(pause) => tokio::time::sleep(jittered(pause, self.renewed_at.is_some())).await,
                Decision::Lost => self.step_down().await?,
                // Unreachable and never heard of: who may hold it is unknown.
                Decision::Acquire | Decision::Renew if self.failing && self.object.is_none() => self.pause().await,
                Decision::Acquire | Decision::Renew => {
                    if !self.write().await {
                        self.pause().await;
                    }
                }
            }
        }
    }

    /// Reads the lease. What is not there is made by the next write.
    async fn look(&mut self) {
        let what = format!("reading Lease {}/{}", self.namespace, self.name);
        match within(self.timing.retry, what, self.api.get_opt(&self.name)).await {
            Ok(object) => {
                self.failing = false;
                self.observe(object);
            }
            Err(failure) => {
                self.complain(&failure);
                // Without a fresh look there is nothing to base a write on.
                self.object = None;
            }
        }
    }

    fn observe(&mut self, object: Option<LeaseObject>) {
        let record = object.as_ref().map(Record::of);
        if record != self.record {
            self.seen_at = Instant::now();
            if let Some(record) = &record
                && self.record.as_ref().map(|before| &before.holder) != Some(&record.holder)
            {
                tracing::info!(
                    lease = self.name,
                    holder = record.holder,
                    me = self.me,
                    "leader changed"
                );
            }
            self.record = record;
        }
        self.object = object;
    }

    /// Writes us in as the holder. Says whether the next decision can be made at once.
    async fn write(&mut self) -> bool {
        let sent_at = Instant::now();
        let fresh = LeaseObject {
            metadata: ObjectMeta {
                name: Some(self.name.clone()),
                ..ObjectMeta::default()
            },
            spec: None,
        };
        let known = self.object.clone();
        let mut object = known.clone().unwrap_or(fresh);
        hold(&mut object, &self.me, self.timing.lease, Timestamp::now());
        let what = format!("taking Lease {}/{}", self.namespace, self.name);
        let params = PostParams::default();
        let answer = match known {
            Some(_) => within(self.timing.retry, what, self.api.replace(&self.name, &params, &object)).await,
            None => within(self.timing.retry, what, self.api.create(&params, &object)).await,
        };
        match answer {
            Ok(written) => {
                self.failing = false;
                let first = self.renewed_at.is_none();
                self.renewed_at = Some(sent_at);
                self.observe(Some(written));
                self.seat.take(sent_at + self.timing.renew_deadline);
                if first {
                    tracing::info!(lease = self.name, me = self.me, "leading");
                }
                true
            }
            Err(failure) => {
                // Somebody was faster, or our own write arrived although its answer did not: look again before anything.
                self.object = None;
                if failure.is_conflict() || failure.is_already_exists() || failure.is_not_found() {
                    return true;
                }
                self.complain(&failure);
                false
            }
        }
    }

    async fn step_down(&mut self) -> Result<(), Error> {
        tracing::warn!(lease = self.name, me = self.me, "not leading any more");
        self.seat.leave();
        let since = self.renewed_at.take().unwrap_or_else(Instant::now);
        let limit = (since + self.timing.lease).saturating_duration_since(Instant::now());
        if self.seat.writers_done(limit).await {
            Ok(())
        } else {
            Err(Error::WriterStuck(limit))
        }
    }

    /// Ends our leadership in order: writers first, then the lease, so that a successor need not wait for its expiry.
    async fn give_back(&mut self) -> Result<(), Error> {
        self.seat.leave();
        let Some(renewed_at) = self.renewed_at.take() else {
            return Ok(());
        };
        let limit = (renewed_at + self.timing.lease).saturating_duration_since(Instant::now());
        if !self.seat.writers_done(limit).await {
            return Err(Error::WriterStuck(limit));
        }
        if self.object.is_none() {
            self.look().await;
        }
        if let Some(mut object) = self.object.take()
            && Record::of(&object).holder() == Some(self.me.as_str())
        {
            release(&mut object, Timestamp::now());
            let what = format!("giving back Lease {}/{}", self.namespace, self.name);
            let params = PostParams::default();
            match within(self.timing.retry, what, self.api.replace(&self.name, &params, &object)).await {
                Ok(_) => tracing::info!(lease = self.name, "lease given back"),
                Err(error) => tracing::warn!(lease = self.name, %error, "lease not given back; it will expire"),
            }
        }
        Ok(())
    }

    async fn pause(&self) {
        let pause = delay(self.timing.retry / 2, self.timing.retry / 2, 0, rand::random());
        tokio::time::sleep(pause).await;
    }

    fn complain(&mut self, failure: &Failure<kube::Error>) {
        if !std::mem::replace(&mut self.failing, true) {
            tracing::warn!(lease = self.name, error = %failure, "election cannot reach the API server, trying on");
        }
    }
}

/// Candidates look at different moments; a leader renews on time.
fn jittered(pause: Duration, leads: bool) -> Duration {
    if leads {
        pause
    } else {
        delay(pause, pause, 0, rand::random())
    }
}
