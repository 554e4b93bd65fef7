//! Sending ADDs and DELs, and what became of them.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use spiderpool_e2e::agents::{Agent, add_args, del_args};
use spiderpool_e2e::figures::show;
use spiderpool_e2e::socket::IP;

use crate::line::{Line, Request};

/// What is sent for each pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    Add,
    Del,
}

impl Verb {
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Add => "ADD",
            Self::Del => "DEL",
        }
    }

    fn request(self, pod: &Pod) -> Result<Request> {
        let add = add_args(pod, &format!("sandbox-of-{}", pod.name_any()));
        match self {
            Self::Add => Request::new("POST", IP, &add),
            Self::Del => Request::new("DELETE", IP, &del_args(&add)),
        }
    }
}

/// What became of requests.
#[derive(Clone, Debug, Default)]
pub(crate) struct Run {
    /// From the first request to the last answer.
    pub(crate) took: Duration,
    /// How long each request took that succeeded.
    pub(crate) times: Vec<Duration>,
    /// What was answered to those that did not.
    pub(crate) failures: Vec<String>,
}

impl Run {
    pub(crate) fn a_second(&self) -> f64 {
        self.times.len() as f64 / self.took.as_secs_f64()
    }

    pub(crate) fn percentile(&self, part: usize) -> Duration {
        let mut times = self.times.clone();
        times.sort_unstable();
        let at = (times.len() * part / 100).min(times.len().saturating_sub(1));
        times.get(at).copied().unwrap_or_default()
    }

    /// Prints rate, percentiles and failures.
    pub(crate) fn show(&self, what: &str, verb: Verb) -> Result<()> {
        let ms = |part| self.percentile(part).as_secs_f64() * 1000.0;
        let figure = format!(
            "{:.0} {}/s, p50 {:.1} ms, p90 {:.1} ms, p99 {:.1} ms, {} of {} failed (wanted 0)",
            self.a_second(),
            verb.word(),
            ms(50),
            ms(90),
            ms(99),
            self.failures.len(),
            self.times.len() + self.failures.len()
        );
        show(what, figure)?;
        match self.failures.first() {
            Some(first) => show("  one of the failures", first),
            None => Ok(()),
        }
    }
}

/// Sends a request for each pod to the agent of its Node, so many at once to each agent.
pub(crate) async fn drive(verb: Verb, agents: &[Agent], pods: &[Vec<Pod>], at_once: usize) -> Result<Run> {
    // Everything is made before the first request: this program's own work is to cost as little as it can meanwhile.
    let mut workers = Vec::new();
    for (agent, own) in agents.iter().zip(pods) {
        let requests: Result<Vec<Request>> = own.iter().map(|pod| verb.request(pod)).collect();
        let queue = std::rc::Rc::new(RefCell::new(requests?.into_iter()));
        for _ in 0..at_once.min(own.len()) {
            workers.push((Line::open(&agent.socket()).await?, queue.clone()));
        }
    }
    let run = RefCell::new(Run::default());
    let began = Instant::now();
    let working = workers.into_iter().map(async |(mut line, queue)| {
        loop {
            let Some(request) = queue.borrow_mut().next() else {
                return anyhow::Ok(());
            };
            let sent = Instant::now();
            let (status, body) = line.exchange(&request).await?;
            let mut run = run.borrow_mut();
            if status == 200 {
                run.times.push(sent.elapsed());
            } else {
                run.failures.push(String::from_utf8_lossy(&body).into_owned());
            }
        }
    });
    futures::future::try_join_all(working)
        .await
        .with_context(|| format!("sending {}s", verb.word()))?;
    let took = began.elapsed();
    Ok(Run {
        took,
        ..run.into_inner()
    })
}
