//! What every daemon needs around its decisions: API clients, watch caches, a work queue, leader election, TLS, probes,
//! metrics, logs, and an orderly end. No rule of the domain lives here.
//!
//! A daemon is wired like this:
//!
//! ```no_run
//! use std::time::Duration;
//!
//! use k8s_openapi::api::core::v1::ConfigMap;
//! use spiderpool_kit::cache::{Cache, Change, Key, Options};
//! use spiderpool_kit::health::Readiness;
//! use spiderpool_kit::lease::{Lease, Timing};
//! use spiderpool_kit::metrics::{Metrics, QueueMetrics};
//! use spiderpool_kit::queue::{Outcome, Queue};
//! use spiderpool_kit::shutdown::Process;
//! use spiderpool_kit::{client, serve, telemetry};
//!
//! # async fn daemon() -> Result<(), Box<dyn std::error::Error>> {
//! telemetry::init("operator", "info", telemetry::Format::Auto)?;
//! let (process, readiness, metrics) = (Process::new(), Readiness::new(), Metrics::new());
//! let config = client::infer().await?;
//! let (patient, prompt) = (client::patient(config.clone())?, client::prompt(config)?);
//!
//! // Every replica watches, so that a new leader starts with warm caches; only the leader writes.
//! let maps: Cache<ConfigMap> = Cache::start(&process, patient, Options::default());
//! readiness.gate("cache of ConfigMaps", { let maps = maps.clone(); move || maps.is_synced() });
//! let leadership = Lease::start(&process, prompt, "kube-system", "operator", "pod-1_x7", Timing::default())?;
//!
//! let queue = Queue::new("maps", &QueueMetrics::register(&metrics));
//! let (mut changes, feeder, source) = (maps.subscribe(), queue.clone(), maps.clone());
//! process.spawn_infallible("feed of maps", process.until_stop(async move {
//!     while let Some(change) = changes.next().await {
//!         match change {
//!             Change::Applied { new, .. } => feeder.add(Key::of(&*new)),
//!             Change::Deleted(gone) => feeder.add(Key::of(&*gone)),
//!             Change::Malformed(bad) => feeder.add(bad.key.clone()),
//!             Change::Resynced => source.list().iter().for_each(|map| feeder.add(Key::of(&**map))),
//!         }
//!     }
//! }));
//! let (stop, lead) = (process.token(), leadership.clone());
//! process.spawn_infallible("workers", async move {
//!     queue.run(4, stop, move |key| {
//!         let (lead, maps) = (lead.clone(), maps.clone());
//!         async move {
//!             let Some(_permit) = lead.write_permit() else { return Outcome::After(Duration::from_secs(5)) };
//!             match maps.get_key(&key) {
//!                 Some(_map) => Outcome::Done, // parse, observe, plan, apply; then maps.learn(what the API server returned)
//!                 None => Outcome::Done,
//!             }
//!         }
//!     })
//!     .await;
//! });
//!
//! let listener = serve::bind(5720).await?;
//! process.spawn_infallible("probes", serve::serve(listener, readiness.router().merge(metrics.router()), process.token()));
//! process.run(Duration::from_secs(20)).await?; // until SIGTERM, or a long task ends that should not
//! # Ok(())
//! # }
//! ```
//!
//! Four habits go with it. Whatever talks to another process is wrapped in [`deadline::within`]. Every long task is started
//! by [`shutdown::Process::spawn`], which ends the process when the task ends. What a write returned is handed to
//! [`cache::Cache::learn`]. And retries come from [`backoff::Backoff`] or [`queue::Queue`], never from a loop that sleeps.

pub mod backoff;
pub mod cache;
pub mod client;
pub mod clock;
pub mod deadline;
pub mod discovery;
pub mod events;
pub mod health;
pub mod lease;
pub mod metrics;
pub mod queue;
pub mod serve;
pub mod shutdown;
pub mod store;
pub mod telemetry;
pub mod tls;
