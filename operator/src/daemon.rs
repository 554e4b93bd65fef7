//! Wires the parts together: caches, election, controllers, probes.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use kube::core::PartialObjectMeta;
use spiderpool_kit::cache::{Cache, Object, Options};
use spiderpool_kit::events::Recorder;
use spiderpool_kit::health::Readiness;
use spiderpool_kit::lease::{Leadership, Lease};
use spiderpool_kit::metrics::{Metrics, QueueMetrics};
use spiderpool_kit::queue::{Outcome, Queue};
use spiderpool_kit::shutdown::Process;
use spiderpool_kit::{client, serve};
use tokio::net::TcpListener;
use tokio::time::Instant;

use crate::application::{Applications, deployment};
use crate::cli::Daemon;
use crate::config::Config;
use crate::context::{Caches, Context, Queues};
use crate::metrics::Waiting;
use crate::pool::shrink::Marks;
use crate::subnet::placement::Placements;
use crate::write::Writer;
use crate::{pool, reclaim, subnet, triggers};

/// Name of the lease that replicas compete for.
const LEASE: &str = "spiderpool-controller-leases";
/// How long work at hand may take to end after a stop signal. Less than the grace period of a pod.
const GRACE: Duration = Duration::from_secs(20);
/// How often it is said that the caches are not filled yet.
const PATIENCE: Duration = Duration::from_secs(30);

/// Works until stopped.
pub async fn run(options: &Daemon) -> anyhow::Result<()> {
    let config = Config::load(&options.config_path)?;
    let cluster = client::infer().await?;
    let patient = client::patient(cluster.clone())?;
    let prompt = client::prompt(cluster)?;

    let process = Process::new();
    let (readiness, metrics) = (Readiness::new(), Metrics::new());
    serve_probes(&process, options, &readiness, &metrics).await?;

    let caches = caches(&process, &patient, &readiness);
    let me = options.identity();
    let leadership = Lease::start(&process, prompt, &options.namespace, LEASE, &*me, options.timing())?;
    let context = Arc::new(context(&process, &me, config, patient, leadership, caches, &metrics));
    crate::metrics::register(&metrics, &context);
    start(&process, options, context);
    process.run(GRACE).await?;
    Ok(())
}

fn caches(process: &Process, client: &Client, readiness: &Readiness) -> Caches {
    fn cache<K: Object>(process: &Process, client: &Client, readiness: &Readiness, options: Options<K>) -> Cache<K> {
        let cache = Cache::start(process, client.clone(), options);
        let gate = cache.clone();
        readiness.gate(format!("cache of {}", cache.kind()), move || gate.is_synced());
        cache
    }
    Caches {
        subnets: cache(
            process,
            client,
            readiness,
            Options::default().index(pool::index::keys_of_subnet),
        ),
        pools: cache(process, client, readiness, Options::default().index(pool::index::keys)),
        reserved: cache(process, client, readiness, Options::default()),
        endpoints: cache(process, client, readiness, Options::default()),
        pods: cache(
            process,
            client,
            readiness,
            Options::default().trim(|pod: &mut PartialObjectMeta<Pod>| {
                // Which pods exist is all that is asked.
                let meta = std::mem::take(&mut pod.metadata);
                pod.metadata.name = meta.name;
                pod.metadata.namespace = meta.namespace;
                pod.metadata.uid = meta.uid;
                pod.metadata.resource_version = meta.resource_version;
            }),
        ),
        deployments: cache(process, client, readiness, Options::default().trim(deployment::trim)),
    }
}

fn context(
    process: &Process,
    me: &str,
    config: Config,
    client: Client,
    leadership: Leadership,
    caches: Caches,
    metrics: &Metrics,
) -> Context {
    let queue_metrics = QueueMetrics::register(metrics);
    Context {
        config,
        recorder: Recorder::start(process, client.clone(), "spiderpool-controller", me),
        subnets: Writer::new(client.clone(), caches.subnets.clone(), leadership.clone()),
        pools: Writer::new(client.clone(), caches.pools.clone(), leadership.clone()),
        client,
        leadership,
        caches,
        applications: Applications::default(),
        queues: Queues {
            subnets: Queue::new("subnets", &queue_metrics),
            pools: Queue::new("pools", &queue_metrics),
        },
        placements: Placements::default(),
        waiting: Waiting::default(),
        shrinking: Marks::default(),
    }
}

/// Starts what follows changes, and what works on them.
fn start(process: &Process, options: &Daemon, context: Arc<Context>) {
    let (tasks, workers) = (process.clone(), (options.subnet_workers, options.pool_workers));
    process.spawn_infallible(
        "controllers",
        process.until_stop(async move {
            synced(&context.caches).await;
            let deployments = context.caches.deployments.subscribe();
            triggers::index_deployments(&context);
            let until = |task| tasks.until_stop(task);
            tasks.spawn_infallible(
                "feed of Deployments",
                until(Box::pin(triggers::follow_deployments(context.clone(), deployments)) as BoxedTask),
            );
            tasks.spawn_infallible(
                "feed of subnets",
                until(Box::pin(triggers::follow_subnets(context.clone()))),
            );
            tasks.spawn_infallible(
                "feed of pools",
                until(Box::pin(triggers::follow_pools(context.clone()))),
            );
            tasks.spawn_infallible(
                "feed of reservations",
                until(Box::pin(triggers::follow_reserved(context.clone()))),
            );
            tasks.spawn_infallible("reclaim", until(Box::pin(reclaim::run(context.clone()))));
            work(&tasks, workers, &context);
            lead(&context).await;
        }),
    );
}

type BoxedTask = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;

/// Waits until every cache is filled. Decisions on half a picture would take pools away.
async fn synced(caches: &Caches) {
    async fn one<K: Object>(cache: &Cache<K>) {
        while let Err(error) = cache.synced(Instant::now() + PATIENCE).await {
            tracing::warn!(%error, "not started yet");
        }
    }
    tokio::join!(
        one(&caches.subnets),
        one(&caches.pools),
        one(&caches.reserved),
        one(&caches.endpoints),
        one(&caches.pods),
        one(&caches.deployments),
    );
}

fn work(process: &Process, (subnets, pools): (usize, usize), context: &Arc<Context>) {
    let (queue, shared, stop) = (context.queues.subnets.clone(), context.clone(), process.token());
    process.spawn_infallible("subnet workers", async move {
        let handle = move |name: String| {
            let context = shared.clone();
            async move {
                match context.leadership.is_leader() {
                    true => Box::pin(subnet::reconcile(&context, &name)).await,
                    false => Outcome::Done,
                }
            }
        };
        queue.run(subnets, stop, handle).await;
    });
    let (queue, shared, stop) = (context.queues.pools.clone(), context.clone(), process.token());
    process.spawn_infallible("pool workers", async move {
        let handle = move |name: String| {
            let context = shared.clone();
            async move {
                match context.leadership.is_leader() {
                    true => Box::pin(pool::reconcile(&context, &name)).await,
                    false => Outcome::Done,
                }
            }
        };
        queue.run(pools, stop, handle).await;
    });
}

/// Looks at everything each time this replica becomes the leader: whoever led before may have left work undone.
async fn lead(context: &Context) {
    while context.leadership.wait_until_leader().await {
        context.waiting.reset();
        triggers::index_deployments(context);
        triggers::everything(context);
        context.leadership.wait_until_follower().await;
    }
    // The election has ended with the process.
    std::future::pending().await
}

async fn serve_probes(
    process: &Process,
    options: &Daemon,
    readiness: &Readiness,
    metrics: &Metrics,
) -> anyhow::Result<()> {
    let probes = listen(options.health_port).await?;
    process.spawn_infallible("probes", serve::serve(probes, readiness.router(), process.token()));
    if options.enable_metrics {
        let listener = listen(options.metrics_port).await?;
        process.spawn_infallible("metrics", serve::serve(listener, metrics.router(), process.token()));
    }
    Ok(())
}

async fn listen(port: u16) -> anyhow::Result<TcpListener> {
    let listener = serve::bind(port).await;
    listener.with_context(|| format!("failed to listen on port {port}; is another program using it?"))
}
