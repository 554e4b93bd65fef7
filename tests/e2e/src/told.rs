//! What a user reads about pods that get no address: in `kubectl describe pod`, and in the agent's explanation.
//!
//! What is to be read stands in golden texts, where braces name what differs from scene to scene. A golden text is filled
//! in and compared as a whole, so that nothing of what users read goes unseen.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::api::core::v1::Event;
use k8s_openapi::jiff::Timestamp;
use kube::runtime::watcher;
use serde_json::Value;
use tokio::process::Command;

use crate::node::Node;
use crate::scene::Scene;
use crate::socket::request;
use crate::wait::{self, SOON};

/// Reason of the Event on a pod that gets no address.
pub const FAILED: &str = "IPAllocationFailed";
/// Reason of the Event on a pod that waits for its application's pool.
pub const WAITING: &str = "WaitingForIPPool";

/// Begins the text of a failure.
const PREFIX: &str = "spiderpool IP allocation error: ";

/// An Event as `kubectl describe` shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// `Normal` or `Warning`, the reason, and who told it.
    pub head: [String; 3],
    /// Its text, of one or more lines.
    pub message: String,
}

/// What `kubectl describe pods` shows as the Events of each pod.
#[derive(Clone, Debug)]
pub struct Descriptions(BTreeMap<String, Vec<Told>>);

impl Descriptions {
    /// Understands kubectl's output. A text of several lines goes on at the left margin.
    pub fn parse(output: &str) -> Result<Self> {
        let mut pods: BTreeMap<String, Vec<Told>> = BTreeMap::new();
        let mut pod: Option<&mut Vec<Told>> = None;
        let mut among_events = false;
        for line in output.lines() {
            if let Some(name) = line.strip_prefix("Name:") {
                pod = Some(pods.entry(name.trim().to_owned()).or_default());
                among_events = false;
            } else if line.starts_with("Events:") {
                among_events = true;
            } else if let Some(events) = pod.as_deref_mut().filter(|_| among_events) {
                if line.starts_with("  Normal ") || line.starts_with("  Warning ") {
                    events.push(row(line)?);
                } else if let Some(told) = events.last_mut() {
                    told.message.push('\n');
                    told.message.push_str(line);
                }
            }
        }
        for told in pods.values_mut().flatten() {
            told.message.truncate(told.message.trim_end().len());
        }
        Ok(Self(pods))
    }

    /// The only Event of a reason on a pod.
    pub fn of(&self, pod: &str, reason: &str) -> Result<&Told> {
        let events = self
            .0
            .get(pod)
            .with_context(|| format!("kubectl describes no pod {pod}"))?;
        let own: Vec<&Told> = events.iter().filter(|told| told.head[1] == reason).collect();
        match own[..] {
            [told] => Ok(told),
            _ => bail!(
                "kubectl shows {} Events {reason} on pod {pod} and not one: {events:#?}",
                own.len()
            ),
        }
    }
}

/// The first line of an Event: type, reason, age, who told it, text.
fn row(line: &str) -> Result<Told> {
    let mut rest = line.trim_start();
    let mut cell = || {
        let (cell, after) = rest
            .split_once("  ")
            .with_context(|| format!("an Event of kubectl's has too few columns: {line:?}"))?;
        rest = after.trim_start();
        Ok::<String, anyhow::Error>(cell.to_owned())
    };
    let (severity, reason, _age, from) = (cell()?, cell()?, cell()?, cell()?);
    Ok(Told {
        head: [severity, reason, from],
        message: rest.to_owned(),
    })
}

/// When a pod was told why it has no address.
#[derive(Clone, Debug)]
pub struct Arrival {
    /// The text.
    pub message: String,
    /// When who tells it made it.
    pub told: Timestamp,
    /// When a watch saw it.
    pub seen: Timestamp,
}

impl Scene {
    /// Waits until each of these pods, given by name, has an Event of this reason. The watch has to run before the pods are
    /// made if the times are to count.
    pub async fn told(&self, reason: &str, pods: &[&str], deadline: Duration) -> Result<BTreeMap<String, Arrival>> {
        let what = format!("an Event {reason} on each of {pods:?}");
        let config = watcher::Config::default().fields(&format!("involvedObject.kind=Pod,reason={reason}"));
        let mut arrived: BTreeMap<String, Arrival> = BTreeMap::new();
        wait::objects(&self.api::<Event>(), config, &what, deadline, |events| {
            let seen = Timestamp::now();
            for event in events.values() {
                let pod = event.involved_object.name.clone().unwrap_or_default();
                arrived.entry(pod).or_insert_with(|| Arrival {
                    message: event.message.clone().unwrap_or_default(),
                    told: event.event_time.as_ref().map_or(seen, |time| time.0),
                    seen,
                });
            }
            let all = pods.iter().all(|pod| arrived.contains_key(*pod));
            Ok(all.then(|| arrived.clone()))
        })
        .await
    }

    /// What `kubectl describe` shows of the scene's pods.
    pub async fn described(&self) -> Result<Descriptions> {
        let mut kubectl = Command::new("kubectl");
        kubectl
            .args(["--namespace", &self.namespace, "describe", "pods"])
            .kill_on_drop(true);
        let output = tokio::time::timeout(SOON, kubectl.output()).await;
        let output = output.context("`kubectl describe pods` does not end")?;
        let output = output.context("running kubectl, which has to be on PATH")?;
        ensure!(
            output.status.success(),
            "`kubectl describe pods` failed: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Descriptions::parse(&String::from_utf8_lossy(&output.stdout))
    }

    /// What an agent explains about a pod's first interface.
    pub async fn explained(&self, node: &Node, pod: &str) -> Result<Value> {
        let path = format!("/v1/ipam/explain?pod={}/{pod}", self.namespace);
        let answer = request(node, "GET", &path, b"").await?;
        ensure!(answer.status == 200, "explaining pod {pod} failed: {answer:?}");
        answer.json()
    }
}

/// Checks that an explanation says of a failing pod what its Event says. The Event has those pools last that turned out to have
/// no address only when one was to be taken.
pub fn same(explanation: &Value, message: &str) -> Result<()> {
    let expected = foretold(explanation)?;
    let lines = |text: &str| {
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        if let Some(after_headline) = lines.get_mut(1..) {
            after_headline.sort_unstable();
        }
        lines
    };
    ensure!(
        lines(&expected) == lines(message),
        "the agent explains\n{expected}\nand the Event is\n{message}"
    );
    Ok(())
}

/// The Event that an explanation foretells.
pub fn foretold(explanation: &Value) -> Result<String> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let problem = text(&explanation["problem"]);
    if !problem.is_empty() {
        return Ok(format!("{PREFIX}{problem}"));
    }
    let families = explanation["families"].as_array().context("no families")?;
    let failing: Vec<&Value> = families.iter().filter(|family| family["wouldGet"].is_null()).collect();
    let first = failing
        .first()
        .with_context(|| format!("by the agent's explanation the pod would get addresses: {explanation:#}"))?;
    let mut event = format!(
        "{PREFIX}no IPPool available for Pod {}/{} NIC {} IPv{}:",
        text(&explanation["podNamespace"]),
        text(&explanation["podName"]),
        text(&explanation["nic"]),
        first["version"],
    );
    let mut line = |line: &str| {
        event.push('\n');
        event.push_str(line);
    };
    if families.len() > failing.len() {
        let version = &first["version"];
        line(&format!(
            "only IPv{version} is missing, and a pod gets the addresses of both families or none"
        ));
    }
    line(&format!("asked for by {}", text(&explanation["origin"])));
    for (place, family) in failing.iter().enumerate() {
        if place > 0 {
            line(&format!("IPv{} has no address either", family["version"]));
        }
        for pool in family["pools"].as_array().into_iter().flatten() {
            line(&text(&pool["reason"]));
        }
    }
    Ok(event)
}
