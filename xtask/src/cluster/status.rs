//! What a person wants to know about a cluster: what runs, and how to use it.

use std::fmt::Write;

use anyhow::{Result, ensure};

use super::process::Daemon;
use super::{Cluster, control_plane, node};

/// Shows all components; fails if one does not run.
pub fn show(cluster: &Cluster) -> Result<()> {
    let state = cluster.state();
    let ui = cluster.ui();
    ui.answer(&format!("cluster {} in {}", state.name, state.folder().display()));
    let mut dead = Vec::new();
    let mut line = |place: &str, daemon: &Daemon, component: &str| {
        let text = match daemon.running(state) {
            Some(record) => format!("pid {}", record.pid),
            None => {
                dead.push(daemon.name.clone());
                format!("not running, see {}", daemon.log(state).display())
            }
        };
        ui.answer(&format!("  {place:<14} {component:<24} {text}"));
    };
    for component in control_plane::COMPONENTS {
        line("control plane", &Daemon::of_control_plane(component), component);
    }
    for node in &state.nodes {
        for component in node::DAEMONS {
            line(&node.name, &Daemon::of_node(component, &node.name), component);
        }
    }
    ui.answer(&how_to_use(cluster));
    ensure!(
        dead.is_empty(),
        "not running: {}; `cargo xtask cluster up` starts them",
        dead.join(", ")
    );
    Ok(())
}

/// How to go on with a cluster that is up.
pub fn how_to_use(cluster: &Cluster) -> String {
    let state = cluster.state();
    let own = Cluster::name_or_default(None);
    let name = if state.name == own {
        String::new()
    } else {
        format!(" --name {}", state.name)
    };
    let mut text = format!("cluster {} is at {}\n", state.name, state.folder().display());
    let _ = writeln!(text, "  cargo xtask cluster{name} kubectl get nodes -o wide");
    if let Some(node) = state.nodes.first() {
        let _ = writeln!(text, "  cargo xtask cluster{name} exec {} ip addr", node.name);
    }
    let _ = writeln!(
        text,
        "  nsenter --net=/run/netns/{} env KUBECONFIG={} COMMAND",
        state.fabric,
        state.kubeconfig.display()
    );
    let _ = write!(text, "  cargo xtask cluster{name} down");
    text
}
