//! The command line. Names of environment variables are those that charts and users know.

use std::hash::{BuildHasher, RandomState};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use spiderpool_kit::lease::Timing;

use crate::certificates::Options;
use crate::reclaim::settings::Gc;

/// Makes, sizes and removes the address pools of applications, and keeps subnets and pools true.
///
/// An application asks for its own pool by an annotation of its pod template:
///
///   ipam.spidernet.io/subnet: '{"ipv4":["my-subnet"]}'
///   ipam.spidernet.io/ippool-ip-number: "+1"
///
/// Look at what came of it with `kubectl describe deployment NAME` and `kubectl get spiderippools,spidersubnets`.
#[derive(Debug, Parser)]
#[command(name = "spiderpool-controller", version, verbatim_doc_comment)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,

    /// Lines of this level and above are logged: error, warn, info, debug, trace, or a filter such as info,kube=debug.
    #[arg(long, env = "SPIDERPOOL_LOG_LEVEL", default_value = "info", global = true)]
    pub log_level: String,
}

/// What the program can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Work until stopped. Replicas elect a leader; the others stand by with warm caches.
    Daemon(Box<Daemon>),
    /// Delete the custom resource definitions of Spiderpool with every object of theirs, whoever still uses them; or only take the
    /// finalizers off endpoints.
    Clean(Clean),
}

/// Options of `daemon`.
#[derive(Debug, Args)]
pub struct Daemon {
    /// File with the settings that all programs of Spiderpool share.
    #[arg(long, default_value = "/tmp/spiderpool/config-map/conf.yml")]
    pub config_path: PathBuf,

    /// Namespace of this pod; the lease of the election is there.
    #[arg(long, env = "SPIDERPOOL_POD_NAMESPACE", default_value = "kube-system")]
    pub namespace: String,

    /// Name of this pod; tells replicas apart. A restarted container of a pod goes on leading at once where it led before.
    #[arg(long, env = "SPIDERPOOL_POD_NAME")]
    pub pod: Option<String>,

    /// Port of the probes /v1/runtime/startup, readiness and liveness.
    #[arg(long, env = "SPIDERPOOL_HEALTH_PORT", default_value_t = 5720)]
    pub health_port: u16,

    /// Whether metrics are served.
    #[arg(
        long, env = "SPIDERPOOL_ENABLED_METRIC", default_value_t = false, action = clap::ArgAction::Set,
        num_args = 0..=1, default_missing_value = "true"
    )]
    pub enable_metrics: bool,

    /// Port of /metrics.
    #[arg(long, env = "SPIDERPOOL_METRIC_HTTP_PORT", default_value_t = 5721)]
    pub metrics_port: u16,

    /// Seconds after which another replica takes over from a leader that went silent.
    #[arg(long, env = "SPIDERPOOL_LEADER_DURATION", default_value_t = 15)]
    pub lease_seconds: u64,

    /// Seconds without renewal after which a leader stops leading. Less than the lease.
    #[arg(long, env = "SPIDERPOOL_LEADER_RENEW_DEADLINE", default_value_t = 10)]
    pub renew_deadline_seconds: u64,

    /// Seconds between renewals.
    #[arg(long, env = "SPIDERPOOL_LEADER_RETRY_PERIOD", default_value_t = 2)]
    pub retry_seconds: u64,

    /// Name of the ClusterRole that rights to read workloads are gathered in; named to users when one is missing.
    #[arg(
        long,
        env = "SPIDERPOOL_WORKLOADS_ROLE",
        default_value = "spiderpool-controller-workloads"
    )]
    pub workloads_cluster_role: String,

    /// Subnets worked on at once.
    #[arg(long, env = "SPIDERPOOL_SUBNET_INFORMER_WORKERS", default_value_t = 5)]
    pub subnet_workers: usize,

    /// Pools worked on at once.
    #[arg(long, env = "SPIDERPOOL_IPPOOL_INFORMER_WORKERS", default_value_t = 3)]
    pub pool_workers: usize,

    /// The webhook's certificate.
    #[command(flatten)]
    pub certificates: Options,

    /// About addresses of pods that nobody gives back.
    #[command(flatten)]
    pub gc: Gc,

    /// About requests of administrators.
    #[command(flatten)]
    pub api: crate::api::ApiOptions,
}

impl Daemon {
    /// Who this replica is in the election.
    ///
    /// A pod's name is enough: its container is only started again when the process before is dead, so nobody else ever
    /// goes by that name. Outside of a pod any number of processes may run, and each needs a name of its own.
    pub fn identity(&self) -> String {
        match &self.pod {
            Some(pod) => pod.clone(),
            None => format!("outside_{:016x}", RandomState::new().hash_one(0)),
        }
    }

    /// The times of the election.
    pub const fn timing(&self) -> Timing {
        Timing {
            lease: Duration::from_secs(self.lease_seconds),
            renew_deadline: Duration::from_secs(self.renew_deadline_seconds),
            retry: Duration::from_secs(self.retry_seconds),
        }
    }
}

/// Options of `clean`.
#[derive(Debug, Args)]
pub struct Clean {
    /// Delete nothing that users made: only take the finalizers off endpoints, which nobody does when no agent and no controller runs
    /// any more, and delete the Lease of the controllers.
    #[arg(long)]
    pub leftovers: bool,

    /// Namespace of the controllers; their Lease is there.
    #[arg(long, env = "SPIDERPOOL_POD_NAMESPACE", default_value = "kube-system")]
    pub namespace: String,

    /// Seconds after which to give up.
    #[arg(long, default_value_t = 120)]
    pub timeout_seconds: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn what_is_read_from_the_environment_is_known() {
        let command = Cli::command();
        let commands = command.get_subcommands().chain([&command]);
        let read: Vec<String> = commands
            .flat_map(clap::Command::get_arguments)
            .filter_map(|argument| argument.get_env()?.to_str().map(str::to_owned))
            .collect();
        assert!(read.len() > 8, "{read:?}");
        assert_eq!(spiderpool_crds::conf::unknown_variables(read), Vec::<String>::new());
    }

    #[test]
    fn the_chart_s_command_is_understood() {
        let cli = Cli::try_parse_from([
            "spiderpool-controller",
            "daemon",
            "--config-path=/tmp/spiderpool/config-map/conf.yml",
        ])
        .unwrap();
        let Command::Daemon(daemon) = cli.command else {
            panic!("{:?}", cli.command);
        };
        assert_eq!(daemon.timing(), Timing::default());
        assert_eq!((daemon.health_port, daemon.metrics_port), (5720, 5721));
    }

    #[test]
    fn a_pod_keeps_its_place_over_a_restart_and_others_never_share_one() {
        let parse = |extra: &[&str]| {
            let args = ["spiderpool-controller", "daemon"]
                .into_iter()
                .chain(extra.iter().copied());
            match Cli::try_parse_from(args).unwrap().command {
                Command::Daemon(daemon) => daemon,
                Command::Clean(clean) => panic!("{clean:?}"),
            }
        };
        assert_eq!(parse(&["--pod=a-1"]).identity(), "a-1");
        assert_ne!(parse(&[]).identity(), parse(&[]).identity());
    }
}
