//! Wires the agent together and runs it.

use crate::automatic;
use crate::config::Config;
use crate::context::Context;
use crate::endpoints;
use crate::metrics::Metrics;
use crate::owner::Owners;
use crate::pools::PoolStore;
use crate::sandboxes::{self, Memory, Sandboxes};
use crate::serial::Turns;
use crate::surroundings::Surroundings;
use crate::sweep::{Gc, Reclaim};
use crate::{journal, kill, recheck, restore, server, socket, sweep};
use anyhow::Context as _;
use k8s_openapi::api::core::v1::{Pod, PodSpec};
use spiderpool_crds::{SpiderEndpoint, SpiderIPPool, SpiderReservedIP};
use spiderpool_kit::cache::{Cache, Options};
use spiderpool_kit::events::Recorder;
use spiderpool_kit::health::Readiness;
use spiderpool_kit::shutdown::Process;
use spiderpool_kit::{client, serve, telemetry};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// How long running requests may take to end after the stop signal.
const GRACE: Duration = Duration::from_secs(10);

/// Settings of the process. Names of variables are the peer's.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The installation's configuration, key conf.yml of the ConfigMap spiderpool-conf
    #[arg(long, default_value = "/tmp/spiderpool/config-map/conf.yml")]
    pub config_path: PathBuf,
    /// Name of the node that the agent runs on
    #[arg(long, env = "SPIDERPOOL_NODE_NAME")]
    pub node_name: String,
    /// Namespace of the agent; network attachments named without a namespace are looked for there
    #[arg(long, env = "SPIDERPOOL_POD_NAMESPACE", default_value = "kube-system")]
    pub pod_namespace: String,
    /// Network attachment of the first interface of pods that name none: NAMESPACE/NAME of Multus' cluster network
    #[arg(long, env = "MULTUS_CLUSTER_NETWORK", default_value = "")]
    pub multus_cluster_network: String,
    /// Log level: error, warn, info, debug or trace
    #[arg(long, env = "SPIDERPOOL_LOG_LEVEL", default_value = "info")]
    pub log_level: String,
    /// Port of the health checks
    #[arg(long, env = "SPIDERPOOL_HEALTH_PORT", default_value_t = 5710)]
    pub health_port: u16,
    /// Port of the metrics
    #[arg(long, env = "SPIDERPOOL_METRIC_HTTP_PORT", default_value_t = 5711)]
    pub metric_http_port: u16,
    /// Serve metrics
    #[arg(long, env = "SPIDERPOOL_ENABLED_METRIC", default_value_t = false, action = clap::ArgAction::Set)]
    pub enabled_metric: bool,
    /// A pod gives up an address that somebody else on the network uses
    #[arg(long, env = "SPIDERPOOL_ENABLED_RELEASE_CONFLICT_IPS", default_value_t = true, action = clap::ArgAction::Set)]
    pub enabled_release_conflict_ips: bool,
    /// Folder in which the plugin notes what it could not hand to the agent; mounted from the host
    #[arg(long, env = "SPIDERPOOL_JOURNAL_PATH", default_value = spiderpool_wire::journal::DEFAULT_PATH)]
    pub journal_path: PathBuf,
    /// Folder in which CNI runtimes keep the results of attachments; mounted from the host
    #[arg(long, env = "SPIDERPOOL_CNI_STATE_PATH", default_value = "/var/lib/cni")]
    pub cni_state_path: PathBuf,
    /// Folder in which network namespaces have names; mounted from the host
    #[arg(long, env = "SPIDERPOOL_NETNS_PATH", default_value = "/run/netns")]
    pub netns_path: PathBuf,
    /// Seconds that a container runtime may take after an ADD until it keeps a result: the kubelet gives up well before
    #[arg(long, env = "SPIDERPOOL_RESULTS_AFTER", default_value_t = 240)]
    pub results_after: u64,
    /// What is freed that no DEL freed
    #[command(flatten)]
    pub gc: Gc,
}

/// Runs the agent until it is told to stop.
pub async fn run(args: Args) -> anyhow::Result<()> {
    telemetry::init("spiderpool-agent", &args.log_level, telemetry::Format::Auto)?;
    kill::arm()?;
    raise_descriptor_limit();
    let config = Config {
        release_conflict_ips: args.enabled_release_conflict_ips,
        ..Config::read(&args.config_path)?
    };
    let kubeconfig = client::infer().await?;
    let patient = client::patient(kubeconfig.clone())?;
    let prompt = client::prompt(kubeconfig)?;
    let process = Process::new();
    let registry = spiderpool_kit::metrics::Metrics::new();
    let metrics = Metrics::register(&registry);

    let pods = Cache::start(
        &process,
        patient.clone(),
        Options::<Pod>::default()
            .fields(format!("spec.nodeName={}", args.node_name))
            .trim(trim_pod),
    );
    let label = format!("{}={}", endpoints::LABEL_NODE, endpoints::node_label(&args.node_name));
    let own_endpoints = Cache::start(
        &process,
        patient.clone(),
        Options::<SpiderEndpoint>::default().labels(label),
    );
    let pools = Cache::start(
        &process,
        patient.clone(),
        Options::<SpiderIPPool>::default().index(automatic::index),
    );
    let reserved = Cache::start(&process, patient, Options::<SpiderReservedIP>::default());
    let store = PoolStore::new(
        pools,
        reserved,
        prompt.clone(),
        metrics.pools.clone(),
        config.quarantine_percent,
        &args.node_name,
        vec![pods.rewinds(), own_endpoints.rewinds()],
    );

    let memory = sandboxes::memory(&args.journal_path).unwrap_or_else(|error| {
        let folder = args.journal_path.display().to_string();
        tracing::warn!(folder, %error, "whether another agent ran before this one is not known");
        Memory::Own
    });
    let socket_path = config.ipam_unix_socket_path.clone();
    let surroundings = Surroundings::new(prompt.clone());
    let recorder = Recorder::start(&process, prompt.clone(), "spiderpool-agent", &args.node_name);
    let owners = Owners::new(prompt.clone(), config.workload_kinds.clone());
    let context = Arc::new(Context {
        node: args.node_name,
        namespace: args.pod_namespace,
        cluster_network: args.multus_cluster_network,
        config,
        client: prompt,
        pods,
        endpoints: own_endpoints,
        pools: store,
        owners,
        surroundings,
        recorder,
        turns: Turns::default(),
        sandboxes: Sandboxes::new(
            &args.cni_state_path,
            &args.netns_path,
            &args.journal_path.join("ended"),
            Duration::from_secs(args.results_after),
            memory,
        ),
        reclaim: Reclaim::from(&args.gc),
        rechecked: watch::Sender::new(false),
        metrics,
    });

    let readiness = Readiness::new();
    let listening = readiness.switch("unix socket");
    let ready = context.clone();
    readiness.gate("watch caches", move || ready.ready().is_ok());
    listen_http(&process, "health server", args.health_port, readiness.router()).await?;
    if args.enabled_metric {
        listen_http(&process, "metrics server", args.metric_http_port, registry.router()).await?;
    }
    let listener = socket::listen(&socket_path)?;
    listening.send_replace(true);
    let api = server::router(context.clone());
    process.spawn_infallible("CNI socket", serve::serve(listener, api, process.token()));
    // What is found out before requests are served holds them up.
    context.pools.set_starting(true);
    process.spawn_infallible("restores", process.until_stop(Box::pin(restore::run(context.clone()))));
    let pools = context.pools.clone();
    let rests = async move { pools.watch_rests().await };
    process.spawn_infallible("rests", process.until_stop(Box::pin(rests)));
    let replay = journal::run(context.clone(), args.journal_path);
    process.spawn_infallible("journal", process.until_stop(Box::pin(replay)));
    let sweep = async move {
        Box::pin(recheck::start(context.clone())).await;
        Box::pin(sweep::run(context)).await;
    };
    process.spawn_infallible("sweep", process.until_stop(sweep));
    Ok(process.run(GRACE).await?)
}

async fn listen_http(process: &Process, name: &str, port: u16, router: axum::Router) -> anyhow::Result<()> {
    // Probes come from the node itself; metrics are scraped on the node's addresses of either family.
    let listener = serve::bind(port)
        .await
        .with_context(|| format!("cannot listen on port {port} for the {name}; the agent uses the host's network"))?;
    process.spawn_infallible(name, serve::serve(listener, router, process.token()));
    Ok(())
}

/// A pod is kept for its owner, annotations, labels, node and phase. Its containers are most of its size.
fn trim_pod(pod: &mut Pod) {
    if let Some(spec) = pod.spec.take() {
        pod.spec = Some(PodSpec {
            node_name: spec.node_name,
            restart_policy: spec.restart_policy,
            host_network: spec.host_network,
            termination_grace_period_seconds: spec.termination_grace_period_seconds,
            ..PodSpec::default()
        });
    }
    // Of a pod that was called finished they tell who said so.
    let finished = |phase: &str| matches!(phase, "Succeeded" | "Failed");
    if let Some(status) = pod.status.as_mut()
        && !status.phase.as_deref().is_some_and(finished)
    {
        status.container_statuses = None;
        status.init_container_statuses = None;
        status.conditions = None;
    }
}

/// A thousand plugins may be connected at once, and the usual soft limit is a thousand descriptors.
fn raise_descriptor_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(
        Resource::Nofile,
        Rlimit {
            current: limit.maximum,
            maximum: limit.maximum,
        },
    ) {
        tracing::warn!(%error, "cannot raise the limit of open files");
    }
}
