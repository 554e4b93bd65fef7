//! Wires the parts together: caches, election, controllers, probes.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use futures::future::BoxFuture;
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment};
use k8s_openapi::api::batch::v1::CronJob;
use kube::Client;
use spiderpool_kit::cache::{Cache, Object, Options};
use spiderpool_kit::events::Recorder;
use spiderpool_kit::health::Readiness;
use spiderpool_kit::lease::Lease;
use spiderpool_kit::metrics::{Metrics, QueueMetrics};
use spiderpool_kit::queue::{Outcome, Queue};
use spiderpool_kit::shutdown::Process;
use spiderpool_kit::{client, serve};
use tokio::net::TcpListener;

use crate::application::Applications;
use crate::application::native::{self, Native};
use crate::cli::Daemon;
use crate::config::Config;
use crate::context::{Caches, Context, Queues, filled};
use crate::kinds::crd::Crd;
use crate::kinds::namespace::NamespaceSketch;
use crate::kinds::node::NodeSketch;
use crate::kinds::owner::Led;
use crate::kinds::pod::PodSketch;
use crate::kinds::watched::index;
use crate::kinds::{Kinds, Watched, Workloads, discover, foreign};
use crate::metrics::Waiting;
use crate::pool::admit::Unaccounted;
use crate::pool::board::Board;
use crate::pool::restore::Pauses;
use crate::pool::shrink::Marks;
use crate::reclaim::audit::{self, Audits};
use crate::reclaim::settings::Settings;
use crate::reclaim::tally::Tally;
use crate::subnet::hold::Awaited;
use crate::subnet::pace::Pace;
use crate::subnet::placement::Placements;
use crate::write::Writer;
use crate::{api, certificates, pool, reclaim, subnet, triggers};

/// Name of the lease that replicas compete for.
pub(crate) const LEASE: &str = "spiderpool-controller-leases";
/// How long work at hand may take to end after a stop signal. Less than the grace period of a pod.
const GRACE: Duration = Duration::from_secs(20);
/// How many definitions of kinds one page of their list has: some have a megabyte.
const LARGE: u32 = 20;
/// Applications of unknown kinds looked at at once.
const KIND_WORKERS: usize = 2;

/// Works until stopped.
pub async fn run(options: &Daemon) -> anyhow::Result<()> {
    let config = Config::load(&options.config_path)?;
    let cluster = client::infer().await?;
    let patient = client::patient(cluster.clone())?;
    let prompt = client::prompt(cluster)?;

    let process = Process::new();
    let (readiness, metrics) = (Readiness::new(), Metrics::new());
    serve_probes(&process, options, &readiness, &metrics).await?;

    let starter = Starter {
        process: &process,
        client: &patient,
        readiness: &readiness,
    };
    let caches = starter.caches();
    let native = [
        native_kind(starter.workloads::<Deployment>()),
        native_kind(caches.stateful_sets.clone()),
        native_kind(starter.workloads::<DaemonSet>()),
        native_kind(starter.workloads::<CronJob>()),
        native_kind(caches.replica_sets.clone()),
        native_kind(caches.jobs.clone()),
    ];
    let me = options.identity();
    let leadership = Lease::start(&process, prompt, &options.namespace, LEASE, &*me, options.timing())?;
    if let Some(settings) = options.certificates.settings(&options.namespace) {
        certificates::start(&process, &patient, leadership.clone(), &metrics, settings);
    }
    let (kinds, feeds): (Vec<_>, Vec<_>) = native.into_iter().unzip();
    let kinds = Kinds::new(kinds, config.workload_kinds.clone(), caches.crds.clone());
    let queue_metrics = QueueMetrics::register(&metrics);
    let context = Arc::new(Context {
        config,
        recorder: Recorder::start(&process, patient.clone(), "spiderpool-controller", &me),
        subnets: Writer::new(patient.clone(), caches.subnets.clone(), leadership.clone()),
        pools: Writer::new(patient.clone(), caches.pools.clone(), leadership.clone()),
        client: patient.clone(),
        leadership,
        caches,
        applications: Applications::default(),
        kinds,
        workloads_role: options.workloads_cluster_role.clone(),
        queues: Queues {
            subnets: Queue::new("subnets", &queue_metrics),
            pools: Queue::new("pools", &queue_metrics),
            kinds: Queue::new("kinds", &queue_metrics),
        },
        placements: Placements::default(),
        waiting: Waiting::default(),
        neighbours: tokio::sync::Mutex::default(),
        board: Board::default(),
        unaccounted: Unaccounted::default(),
        shrinking: Marks::default(),
        pace: Pace::default(),
        awaited: Awaited::default(),
        pauses: Pauses::default(),
        reclaim: Settings::from(&options.gc),
        tally: Tally::register(&metrics),
        audits: Audits::default(),
    });
    crate::metrics::register(&metrics, &context);
    let watched = context.clone();
    let filled = async move { synced(&watched).await };
    api::start(&process, &options.api, &options.namespace, &context, filled).await?;
    start(&process, options, context, feeds);
    process.run(GRACE).await?;
    Ok(())
}

/// Starts caches, each of which has to be filled before this replica is ready.
struct Starter<'a> {
    process: &'a Process,
    client: &'a Client,
    readiness: &'a Readiness,
}

impl Starter<'_> {
    fn cache<K: Object>(&self, options: Options<K>) -> Cache<K> {
        let cache = Cache::start(self.process, self.client.clone(), options);
        let gate = cache.clone();
        self.readiness
            .gate(format!("cache of {}", cache.kind()), move || gate.is_synced());
        cache
    }

    fn caches(&self) -> Caches {
        Caches {
            subnets: self.cache(Options::default().index(pool::index::keys_of_subnet)),
            pools: self.cache(Options::default().index(pool::index::keys)),
            reserved: self.cache(Options::default()),
            endpoints: self.cache(Options::default().index(reclaim::by_node)),
            nodes: self.cache(Options::default().trim(NodeSketch::trim)),
            namespaces: self.cache(Options::default().trim(NamespaceSketch::trim)),
            pods: self.cache(Options::default().trim(PodSketch::trim).index(PodSketch::index)),
            crds: self.cache(Options::default().index(Crd::index).page(LARGE)),
            replica_sets: self.workloads(),
            jobs: self.workloads(),
            stateful_sets: self.workloads(),
        }
    }

    fn workloads<K: Native>(&self) -> Cache<K> {
        let controller = |object: &K| {
            native::controller(object.meta())
                .map(|owner| owner.uid.clone())
                .into_iter()
                .collect()
        };
        self.cache(Options::default().trim(native::trim::<K>).index(controller))
    }
}

/// A kind of Kubernetes itself, and what follows its objects.
type NativeKind = (
    Arc<dyn Workloads>,
    Box<dyn FnOnce(Arc<Context>) -> BoxFuture<'static, ()> + Send>,
);

fn native_kind<K: Native>(cache: Cache<K>) -> NativeKind {
    let watched = Watched::native(cache);
    (
        watched.clone(),
        Box::new(move |context| Box::pin(watched.follow(context))),
    )
}

type Feed = Box<dyn FnOnce(Arc<Context>) -> BoxFuture<'static, ()> + Send>;

/// Starts what follows changes, and what works on them.
fn start(process: &Process, options: &Daemon, context: Arc<Context>, kinds: Vec<Feed>) {
    let (tasks, workers) = (process.clone(), (options.subnet_workers, options.pool_workers));
    process.spawn_infallible(
        "controllers",
        process.until_stop(async move {
            synced(&context).await;
            let feed = |name: &str, task: BoxFuture<'static, ()>| {
                tasks.spawn_infallible(format!("feed of {name}"), tasks.until_stop(task));
            };
            for kind in kinds {
                feed("a kind of workload", kind(context.clone()));
            }
            feed("pods", Box::pin(triggers::workloads::follow_pods(context.clone())));
            feed("subnets", Box::pin(triggers::follow_subnets(context.clone())));
            feed("pools", Box::pin(triggers::follow_pools(context.clone())));
            feed("reservations", Box::pin(triggers::follow_reserved(context.clone())));
            feed("restores", Box::pin(pool::restore::watch(context.clone())));
            feed("other kinds", Box::pin(foreign::manage(context.clone(), tasks.clone())));
            tasks.spawn_infallible("reclaim", tasks.until_stop(Box::pin(reclaim::run(context.clone()))));
            tasks.spawn_infallible("regular check", tasks.until_stop(Box::pin(audit::run(context.clone()))));
            work(&tasks, workers, &context);
            lead(&context).await;
        }),
    );
}

/// What is said while caches are not filled.
const LATE: &str = "not started yet";

/// Waits until every cache is filled. Decisions on half a picture would take pools away.
async fn synced(context: &Context) {
    let caches = &context.caches;
    tokio::join!(
        filled(LATE, |deadline| caches.subnets.synced(deadline)),
        filled(LATE, |deadline| caches.pools.synced(deadline)),
        filled(LATE, |deadline| caches.reserved.synced(deadline)),
        filled(LATE, |deadline| caches.endpoints.synced(deadline)),
        filled(LATE, |deadline| caches.pods.synced(deadline)),
        filled(LATE, |deadline| caches.nodes.synced(deadline)),
        filled(LATE, |deadline| caches.namespaces.synced(deadline)),
        filled(LATE, |deadline| caches.crds.synced(deadline)),
    );
    for kind in context.kinds.all() {
        filled(LATE, |deadline| kind.synced(deadline)).await;
    }
}

fn work(process: &Process, (subnets, pools): (usize, usize), context: &Arc<Context>) {
    let (queue, shared, stop) = (context.queues.subnets.clone(), context.clone(), process.token());
    process.spawn_infallible("subnet workers", async move {
        let handle = move |name: String| {
            let context = shared.clone();
            async move {
                match (
                    context.leadership.is_leader(),
                    context.pauses.left(&context.caches.pools),
                ) {
                    (true, Some(left)) => Outcome::After(left),
                    (true, None) => Box::pin(subnet::reconcile(&context, &name)).await,
                    (false, _) => Outcome::Done,
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
    let (queue, shared, stop) = (context.queues.kinds.clone(), context.clone(), process.token());
    process.spawn_infallible("kind workers", async move {
        let handle = move |app: Led| {
            let context = shared.clone();
            async move { Box::pin(discover::consider(&context, &app)).await }
        };
        queue.run(KIND_WORKERS, stop, handle).await;
    });
}

/// Looks at everything each time this replica becomes the leader: whoever led before may have left work undone, and what
/// came up while this replica's own renewal was late was dropped.
async fn lead(context: &Context) {
    let mut terms = context.leadership.terms();
    while terms.next().await {
        context.waiting.reset();
        context.placements.reset();
        for kind in context.kinds.all() {
            index(context, &*kind);
        }
        triggers::everything(context);
        triggers::workloads::all_pods(context);
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
