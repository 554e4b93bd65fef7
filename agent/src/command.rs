//! The commands of the CNI plugin, and what serving one means whichever it is: one line in the log, one count.

use crate::add;
use crate::cancel::Cancel;
use crate::context::Context;
use crate::del::{self, Released};
use crate::error::RequestError;
use crate::give_up::{self, GivenUp};
use crate::metrics::Metrics;
use serde::de::DeserializeOwned;
use spiderpool_wire::{IpamAddArgs, IpamAddResponse, IpamBatchDelArgs, IpamDelArgs};
use std::time::Duration;
use tokio::time::Instant;

/// A command, as its arguments.
pub trait Command: DeserializeOwned + Send + Sync + 'static {
    /// Name in the log.
    const NAME: &'static str;

    /// What it gives.
    type Answer: Send + 'static;

    /// Whom it is about.
    fn sandbox(&self) -> Sandbox<'_>;

    /// Does it. What waits ends when it is cancelled.
    fn run(
        &self,
        context: &Context,
        cancel: &Cancel,
    ) -> impl Future<Output = Result<Self::Answer, RequestError>> + Send;

    /// The result for the log.
    fn told(answer: &Self::Answer) -> String;

    /// Counts it.
    fn count(metrics: &Metrics, result: &'static str, took: Duration);
}

/// Whom a command is about.
#[derive(Clone, Copy, Debug)]
pub struct Sandbox<'a> {
    /// Namespace of the pod.
    pub namespace: &'a str,
    /// Name of the pod.
    pub pod: &'a str,
    /// UID of the pod.
    pub uid: &'a str,
    /// The interface.
    pub nic: &'a str,
    /// The sandbox.
    pub container: &'a str,
}

/// Does a command, writes its line to the log and counts it.
pub async fn serve<C: Command>(context: &Context, command: &C, cancel: &Cancel) -> Result<C::Answer, RequestError> {
    let started = Instant::now();
    let result = command.run(context, cancel).await;
    let took = started.elapsed();
    let Sandbox {
        namespace,
        pod,
        uid,
        nic,
        container,
    } = command.sandbox();
    let pod = format!("{namespace}/{pod}");
    // As a number: the log has integers of more bits as text.
    let ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    let counted = match &result {
        Ok(answer) => {
            let told = C::told(answer);
            tracing::info!(pod, uid, nic, container, result = told, ms, "{}", C::NAME);
            "ok"
        }
        Err(error) => {
            tracing::warn!(pod, uid, nic, container, %error, ms, "{} failed", C::NAME);
            error.class()
        }
    };
    C::count(&context.metrics, counted, took);
    result
}

/// All arguments name the sandbox alike.
macro_rules! sandbox {
    () => {
        fn sandbox(&self) -> Sandbox<'_> {
            Sandbox {
                namespace: &self.pod_namespace,
                pod: &self.pod_name,
                uid: &self.pod_uid,
                nic: &self.if_name,
                container: &self.container_id,
            }
        }
    };
}

impl Command for IpamAddArgs {
    const NAME: &'static str = "ADD";
    type Answer = IpamAddResponse;

    sandbox!();

    async fn run(&self, context: &Context, cancel: &Cancel) -> Result<IpamAddResponse, RequestError> {
        add::add(context, self, cancel).await
    }

    fn told(answer: &IpamAddResponse) -> String {
        let addresses: Vec<&str> = answer.ips.iter().map(|ip| ip.address.as_str()).collect();
        addresses.join(" ")
    }

    fn count(metrics: &Metrics, result: &'static str, took: Duration) {
        metrics.added(result, took);
    }
}

impl Command for IpamDelArgs {
    const NAME: &'static str = "DEL";
    type Answer = Released;

    sandbox!();

    async fn run(&self, context: &Context, _: &Cancel) -> Result<Released, RequestError> {
        del::del(context, self).await
    }

    fn told(answer: &Released) -> String {
        format!("{answer:?}")
    }

    fn count(metrics: &Metrics, result: &'static str, took: Duration) {
        metrics.deleted(result, took);
    }
}

impl Command for IpamBatchDelArgs {
    const NAME: &'static str = "addresses given up";
    type Answer = GivenUp;

    sandbox!();

    async fn run(&self, context: &Context, _: &Cancel) -> Result<GivenUp, RequestError> {
        give_up::give_up(context, self).await
    }

    fn told(answer: &GivenUp) -> String {
        format!("{answer:?}")
    }

    fn count(metrics: &Metrics, result: &'static str, took: Duration) {
        metrics.deleted(result, took);
    }
}
