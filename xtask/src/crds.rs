//! `cargo xtask crds`: writes the CRDs that the chart ships from the types in `crds/`.

use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::paths;
use crate::ui::Ui;

/// Where the chart has them.
pub fn folder() -> PathBuf {
    paths::checkout().join("charts/spiderpool/files/crds")
}

/// Writes one file for each kind, and says which changed.
pub fn write(ui: &Ui) -> Result<()> {
    let folder = folder();
    paths::make_folder(&folder)?;
    for (name, yaml) in spiderpool_crds::yaml_files().context("generating the CRDs")? {
        let file = folder.join(&name);
        if std::fs::read_to_string(&file).is_ok_and(|old| old == yaml) {
            ui.say(&format!("unchanged {name}"));
        } else {
            paths::write_atomically(&file, yaml.as_bytes())?;
            ui.say(&format!("written   {name}"));
        }
    }
    Ok(())
}
