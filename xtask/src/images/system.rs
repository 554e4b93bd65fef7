//! The images that a cluster itself needs: the pods' sandbox, and a small one with a shell and `ping` for tests.
//!
//! Both are the static busybox. The sandbox only sleeps: the runtime ends it with SIGKILL, and nothing is reaped in it
//! unless pods share their process namespace.

use std::path::PathBuf;

use anyhow::{Context, Result};

use super::archive::{Image, write_if_changed};
use crate::cache::Cache;
use crate::cluster::node_files::PAUSE_IMAGE;
use crate::toolchain::Toolchain;
use crate::{paths, sh};

/// Image with busybox, for pods of tests and examples.
pub const TEST_IMAGE: &str = "localhost/spiderpool-test:1";

/// Raised when the content changes though busybox does not.
const FORMAT: u32 = 1;

/// The archives of both images, made if the cache does not have them.
pub fn prepare(cache: &Cache, tools: &Toolchain) -> Result<Vec<PathBuf>> {
    let busybox = tools.busybox()?;
    let content = std::fs::read(&busybox).with_context(|| format!("reading {}", busybox.display()))?;
    let key = format!("{FORMAT}-{}", &paths::hash(&content)[..12]);
    let folder = cache.folder("system-images", &key, |into| {
        let mut pause = Image::new();
        pause.file("bin/busybox", 0o755, content.clone());
        pause.entrypoint(&["/bin/busybox", "sleep", "2147483647"]);
        write_if_changed(&into.join("pause.tar"), &pause.archive(PAUSE_IMAGE)?)?;

        let mut test = Image::new();
        test.file("bin/busybox", 0o755, content.clone());
        for applet in sh::output(&mut sh::command(&busybox, ["--list"]), sh::SHORT)?.lines() {
            if applet != "busybox" {
                test.link(&format!("bin/{applet}"), "busybox");
            }
        }
        write_if_changed(&into.join("test.tar"), &test.archive(TEST_IMAGE)?)?;
        Ok(())
    })?;
    Ok(["pause.tar", "test.tar"].map(|file| folder.join(file)).to_vec())
}
