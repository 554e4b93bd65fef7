//! `cargo xtask`: the command line of the project's task runner. What the commands do is in the library.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};
use xtask::cluster::{Cluster, ClusterName, UpOptions, status};
use xtask::demo;
use xtask::images::product::{self, Registry};
use xtask::test::{self, Which};
use xtask::ui::Ui;
use xtask::{bench, crds, fuzz, sh};

/// Builds, runs and tests Spiderpool; what is missing on the machine is said, with the remedy.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version)]
struct Cli {
    #[command(subcommand)]
    command: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Shows the main job on a real cluster: pools that follow a Deployment, pods that reach each other
    ///
    /// Does all the set-up itself: cluster with two nodes, images, chart, examples. Ends with status 0 only if every
    /// expectation held, and removes the cluster.
    Demo {
        /// Leave the cluster and the application running, and say how to use them
        #[arg(long)]
        keep: bool,
        /// Name of the cluster; the checkout's own if absent
        #[arg(long, value_name = "NAME", env = "SPIDERPOOL_CLUSTER")]
        name: Option<ClusterName>,
    },
    /// Runs all tests: formatting, lints, unit and property tests, end-to-end tests on a cluster of their own
    ///
    /// cargo xtask test              all of it, as CI does
    /// cargo xtask test unit         what needs no cluster
    /// cargo xtask test e2e NAME     the end-to-end tests whose name contains NAME
    /// cargo xtask test chart        the chart's life: uninstall, install again, uninstall without a trace
    #[command(verbatim_doc_comment)]
    Test {
        /// Which part; all of it if absent
        #[arg(value_enum)]
        part: Option<Part>,
        /// Part of the name of end-to-end tests
        #[arg(requires = "part")]
        filter: Option<String>,
        /// Leave the test cluster running
        #[arg(long)]
        keep: bool,
        /// Name of the cluster; the checkout's own test cluster if absent
        #[arg(long, value_name = "NAME")]
        name: Option<ClusterName>,
    },
    /// Runs end-to-end tests as long as they can be, on a cluster of their own
    ///
    /// cargo xtask soak              all trials of tests/README.md with five seeds each or for an hour, and what programs use
    /// cargo xtask soak f9-cut-off   one of these trials with five seeds
    /// cargo xtask soak storm        the leading operator killed at twenty points of a storm of workloads
    /// cargo xtask soak history      twenty storms of ADDs and DELs at agents that are killed at any point
    /// cargo xtask soak faults       twenty such storms at agents whose API server cannot be relied on
    /// cargo xtask soak certificates ten minutes of creates while the webhook's certificate lives for half a minute
    /// cargo xtask soak random       10,000 random objects, judged alike by the API server and by the rules in Rust
    /// cargo xtask soak fuzz         random texts for the parsers, ten minutes each; needs no cluster
    #[command(verbatim_doc_comment)]
    Soak {
        /// Part of the tests' name, or fuzz; all trials if absent
        test: Option<String>,
        /// First seed of trials and storms, printed by the run that is to be made again
        #[arg(long)]
        seed: Option<u64>,
        /// How many seeds, points, storms, or lives of a certificate, or how many times 500 objects; 5 for a trial, else 20
        #[arg(long)]
        count: Option<u32>,
        /// How long all trials take at least (60), or each parser is tried by `fuzz` (10)
        #[arg(long)]
        minutes: Option<u32>,
        /// Leave the test cluster running
        #[arg(long)]
        keep: bool,
        /// Name of the cluster; the checkout's own test cluster if absent
        #[arg(long, value_name = "NAME")]
        name: Option<ClusterName>,
    },
    /// Measures; nothing is asserted
    Bench {
        /// Which group; all if absent
        #[arg(value_enum)]
        group: Option<bench::Group>,
    },
    /// Writes the CRDs that the chart ships from the Rust types
    Crds,
    /// A real Kubernetes cluster on this machine, in namespaces of its own
    ///
    /// etcd, control plane and nodes (containerd, kubelet, kube-proxy) as on any cluster, but nothing is installed and
    /// the machine's own network is left alone. The first run builds Kubernetes, which takes minutes; later ones seconds.
    Cluster(ClusterArgs),
    /// Builds the container images as docker-archive files, without docker
    ///
    /// Import them with `ctr -n k8s.io images import FILE`, `docker load -i FILE` or `kind load image-archive FILE`.
    Images {
        /// Folder for the files
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        /// First part of the images' names; the chart's value global.imageRegistryOverride has to say the same
        #[arg(long, default_value_t)]
        registry: Registry,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// Formatting, lints, unit and property tests
    Unit,
    /// End-to-end tests
    E2e,
    /// The chart's life: uninstalled, installed again, uninstalled without a trace
    Chart,
}

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = false)]
struct ClusterArgs {
    /// Which cluster; a checkout has one of its own unless told otherwise
    #[arg(long, global = true, value_name = "NAME", env = "SPIDERPOOL_CLUSTER")]
    name: Option<ClusterName>,
    #[command(subcommand)]
    command: ClusterTask,
}

#[derive(Debug, Subcommand)]
enum ClusterTask {
    /// Starts the cluster, or what does not run of it
    ///
    /// May be repeated: a running cluster is kept, nodes that are asked for are added, and what a killed run left is
    /// cleared away.
    Up {
        /// How many nodes at least; 0 is a control plane alone
        #[arg(long, default_value_t = 2)]
        nodes: usize,
        /// Also builds the images and installs the chart
        #[arg(long)]
        install: bool,
        /// Also runs the controller of Argo Rollouts; the first time it is built, which takes minutes
        #[arg(long)]
        rollouts: bool,
        /// Also runs OpenKruise's manager that KRUISE_MANAGER names, or else a stand-in for CloneSets only
        #[arg(long)]
        kruise: bool,
        /// etcd writes through to the disk, for benchmarks
        #[arg(long)]
        fsync: bool,
    },
    /// Ends the cluster and removes all of it
    Down,
    /// Shows what runs and how to use it; fails if something does not run
    Status,
    /// Runs kubectl on the cluster: cargo xtask cluster kubectl get pods -A
    #[command(disable_help_flag = true)]
    Kubectl {
        /// Arguments for kubectl
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Runs a command inside a node: cargo xtask cluster exec n1 ip addr
    Exec {
        /// The node: n1, n2, ...
        node: String,
        /// The command and its arguments
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
        command: Vec<String>,
    },
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let ui = Ui::new();
    match run(cli.command, &ui) {
        Ok(()) => ExitCode::SUCCESS,
        Err(err) => {
            ui.say(&format!("error: {err:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task, ui: &Ui) -> Result<()> {
    match task {
        Task::Cluster(args) => cluster(args, ui),
        Task::Demo { keep, name } => demo::run(&demo::Options { name, keep }, ui),
        Task::Test {
            part,
            filter,
            keep,
            name,
        } => {
            let which = match part {
                None => Which::All,
                Some(Part::Unit) => Which::Unit,
                Some(Part::E2e) => Which::EndToEnd(filter),
                Some(Part::Chart) => Which::Chart,
            };
            test::run(&test::Options { which, name, keep }, ui)
        }
        Task::Soak { test, minutes, .. } if test.as_deref() == Some("fuzz") => fuzz::soak(minutes.unwrap_or(10), ui),
        Task::Soak {
            test,
            seed,
            count,
            minutes,
            keep,
            name,
        } => {
            let which = Which::Soak {
                test,
                seed,
                count,
                minutes: minutes.unwrap_or(60),
            };
            test::run(&test::Options { which, name, keep }, ui)
        }
        Task::Bench { group } => bench::run(group, ui),
        Task::Crds => crds::write(ui),
        Task::Images { out, registry } => product::build(&out, &registry, ui).map(|_| ()),
    }
}

fn cluster(args: ClusterArgs, ui: &Ui) -> Result<()> {
    let name = args.name;
    match args.command {
        ClusterTask::Up {
            nodes,
            install,
            rollouts,
            kruise,
            fsync,
        } => {
            let options = UpOptions {
                name,
                nodes,
                fsync,
                chained: None,
            };
            let cluster = Cluster::up(&options, ui)?;
            if install {
                cluster.install(&[])?;
            }
            if rollouts {
                cluster.start_rollouts()?;
            }
            if kruise {
                cluster.start_kruise()?;
            }
            ui.answer(&status::how_to_use(&cluster));
            Ok(())
        }
        ClusterTask::Down => Cluster::remove(name, ui),
        ClusterTask::Status => status::show(&Cluster::open(name, ui)?),
        ClusterTask::Kubectl { args } => {
            sh::replace_with(Cluster::open(name, ui)?.command_in_fabric("kubectl")?.args(args))
        }
        ClusterTask::Exec { node, command } => {
            let (program, rest) = command
                .split_first()
                .map_or(("sh", &[][..]), |(first, rest)| (first.as_str(), rest));
            sh::replace_with(Cluster::open(name, ui)?.command_in_node(&node, program)?.args(rest))
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn trailing_arguments_pass_through() {
        let words = [
            "x", "cluster", "--name", "b", "kubectl", "get", "pods", "-A", "--name", "c", "-o=yaml", "--help",
        ];
        let Task::Cluster(ClusterArgs {
            name,
            command: ClusterTask::Kubectl { args },
        }) = Cli::parse_from(words).command
        else {
            panic!("not kubectl");
        };
        assert_eq!(name.unwrap().to_string(), "b");
        assert_eq!(args, ["get", "pods", "-A", "--name", "c", "-o=yaml", "--help"]);
    }

    #[test]
    fn commands_for_nodes_pass_through() {
        let words = ["x", "cluster", "exec", "n1", "ls", "--help", "-l"];
        let Task::Cluster(ClusterArgs {
            command: ClusterTask::Exec { node, command },
            ..
        }) = Cli::parse_from(words).command
        else {
            panic!("not exec");
        };
        assert_eq!((node.as_str(), command.join(" ")), ("n1", "ls --help -l".to_owned()));
    }

    #[test]
    fn bad_names_are_refused() {
        assert!(Cli::try_parse_from(["x", "cluster", "--name", "A_b", "down"]).is_err());
    }
}
