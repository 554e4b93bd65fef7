//! Writes the CRD YAML into the folder given as argument, or into the chart: what `cargo xtask crds` does.

use std::path::PathBuf;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let chart = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../charts/spiderpool/files/crds");
    let folder = std::env::args_os().nth(1).map_or(chart, PathBuf::from);
    std::fs::create_dir_all(&folder)?;
    for (name, yaml) in spiderpool_crds::yaml_files()? {
        std::fs::write(folder.join(name), yaml)?;
    }
    Ok(())
}
