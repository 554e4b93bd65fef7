//! `cargo xtask soak fuzz`: libFuzzer looks for texts that the parsers cannot cope with, guided by the branches that they reach.
//!
//! The stable compiler can count branches for it; libFuzzer itself comes with a crate, as C++ that the machine's compiler builds.

use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use anyhow::{Context, Result, bail, ensure};

use crate::paths;
use crate::ui::Ui;

/// What has the compiler count branches and note what is compared, in the form that libFuzzer reads.
const FLAGS: [&str; 9] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Ccodegen-units=1",
    "-Cdebug-assertions",
    "-Coverflow-checks",
    // Else the linker throws the counters away.
    "-Clink-dead-code",
];

/// Longest text that is tried, as the targets have it.
const LONGEST: usize = 64 << 10;
/// Seconds after which a text that does not end is a fault. What takes long is found by the targets themselves, much earlier.
const HANGS: u32 = 20;
/// Mebibytes that a target may need.
const MEMORY: u32 = 1024;

/// Lets every target run for so many minutes, as many at a time as there are processors.
pub fn soak(minutes: u32, ui: &Ui) -> Result<()> {
    let program = ui.step("fuzz targets built", |_| build())?;
    let corpora = paths::checkout().join("tests/fuzz/corpora");
    let mut targets = folders(&corpora)?;
    targets.sort();
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    for some in targets.chunks(processors) {
        ui.step(format!("{} for {minutes} min", some.join(" and ")), |_| {
            let started: Result<Vec<(&String, Child)>> = some
                .iter()
                .map(|target| Ok((target, start(&program, &corpora, target, minutes)?)))
                .collect();
            let mut faults = Vec::new();
            for (target, mut child) in started? {
                let status = child.wait().context("waiting for a fuzz target")?;
                if !status.success() {
                    faults.push(format!("{target} ({status})"));
                }
            }
            ensure!(
                faults.is_empty(),
                "a text makes trouble: {}; the end of {}/TARGET.log says which; mend it, and add the text to {}",
                faults.join(", "),
                folder().display(),
                corpora.display()
            );
            Ok(())
        })?;
    }
    ui.answer("no text makes trouble");
    Ok(())
}

/// Where programs, logs and what is found are.
fn folder() -> PathBuf {
    paths::checkout().join("target/fuzz")
}

fn build() -> Result<PathBuf> {
    // With an explicit target the flags stay away from build scripts and procedural macros.
    let target = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let status = Command::new(env!("CARGO"))
        .args(["build", "--release", "--locked", "--quiet", "-p", "spiderpool-fuzz"])
        .args(["--features", "libfuzzer", "--target", &target, "--target-dir"])
        .arg(folder())
        .env("RUSTFLAGS", FLAGS.join(" "))
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .current_dir(paths::checkout())
        .status()
        .context("starting cargo")?;
    if !status.success() {
        bail!("building the fuzz targets failed ({status}); a C++ compiler is needed, `apt-get install g++`");
    }
    Ok(folder().join(target).join("release/fuzz"))
}

fn folders(parent: &Path) -> Result<Vec<String>> {
    let entries = std::fs::read_dir(parent).with_context(|| format!("looking for corpora in {}", parent.display()))?;
    entries
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect()
}

fn start(program: &Path, corpora: &Path, target: &str, minutes: u32) -> Result<Child> {
    let found = folder().join("corpora").join(target);
    paths::make_folder(&found)?;
    let file = |suffix: &str| folder().join(format!("{target}{suffix}"));
    let log = std::fs::File::create(file(".log")).with_context(|| format!("making the log of {target}"))?;
    Command::new(program)
        .env("FUZZ_TARGET", target)
        .arg(format!("-max_total_time={}", 60 * minutes))
        .arg(format!("-max_len={LONGEST}"))
        .arg(format!("-timeout={HANGS}"))
        .arg(format!("-rss_limit_mb={MEMORY}"))
        .arg(format!("-artifact_prefix={}", file("-").display()))
        .arg("-print_final_stats=1")
        // What is new goes into the first folder.
        .args([found, corpora.join(target)])
        .stderr(log)
        .spawn()
        .with_context(|| format!("starting {}", program.display()))
}
