//! Cargo, started by a program that cargo started.

use std::process::Command;

use crate::paths;

/// Variables by which cargo tells a program about its own package. Build scripts that read them run again when they change, so cargo
/// started with ours would build anew what was built without them, and the other way round.
const OF_THIS_PACKAGE: [&str; 3] = ["CARGO_PKG_", "CARGO_MANIFEST_", "OUT_DIR"];

/// Cargo in this checkout, with the surroundings that it has when users start it; the arguments are still to be added.
pub fn command() -> Command {
    let mut command = Command::new(env!("CARGO"));
    command.current_dir(paths::checkout());
    for (name, _) in std::env::vars_os() {
        let is_ours = |name: &str| OF_THIS_PACKAGE.iter().any(|ours| name.starts_with(ours));
        if name.to_str().is_some_and(is_ours) {
            command.env_remove(name);
        }
    }
    command
}
