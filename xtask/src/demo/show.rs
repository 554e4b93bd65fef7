//! The tables that a user would look at.

use anyhow::Result;

use crate::cluster::Cluster;
use crate::ui::Ui;

/// Prints subnets, pools, endpoints and pods as `kubectl get` does.
pub(super) fn tables(cluster: &Cluster, ui: &Ui) -> Result<()> {
    for words in ["get ss,sp", "get se -A", "get pods -o wide"] {
        let args: Vec<&str> = words.split(' ').collect();
        let table = cluster.kubectl(&args)?;
        ui.answer(&format!("\n$ kubectl {words}"));
        ui.answer(if table.trim().is_empty() {
            "No resources found"
        } else {
            table.trim_end()
        });
    }
    ui.answer("");
    Ok(())
}
