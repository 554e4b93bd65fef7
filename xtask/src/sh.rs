//! Other programs: every run has a deadline, and a failure says which command, how it ended and what it wrote last.

use std::ffi::OsStr;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::AsFd;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// Long enough for what answers at once on a busy machine.
pub const SHORT: Duration = Duration::from_secs(30);

/// Lines of a failed command's stderr, or of a log, that an error shows.
const TAIL_LINES: usize = 15;

/// What a finished command left behind.
#[derive(Debug)]
pub struct Finished {
    /// How it ended.
    pub status: ExitStatus,
    /// What it wrote to stdout.
    pub stdout: String,
    /// What it wrote to stderr.
    pub stderr: String,
}

/// A command from a program and its arguments.
pub fn command<S: AsRef<OsStr>>(program: impl AsRef<OsStr>, args: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(program);
    command.args(args);
    command
}

/// Runs to the end and returns stdout; not ending well is an error.
pub fn output(command: &mut Command, deadline: Duration) -> Result<String> {
    output_with_input(command, "", deadline)
}

/// As [`output`], with text on the command's stdin.
pub fn output_with_input(command: &mut Command, input: &str, deadline: Duration) -> Result<String> {
    let finished = finish(command, input, deadline)?;
    if finished.status.success() {
        return Ok(finished.stdout);
    }
    let said = if finished.stderr.trim().is_empty() {
        &finished.stdout
    } else {
        &finished.stderr
    };
    bail!("`{}` failed ({}):\n{}", line_of(command), finished.status, tail(said));
}

/// Runs to the end, however it ends; only not starting and not ending in time are errors.
///
/// Its output goes to files and not to pipes: a daemon that inherits a pipe would keep the reader waiting.
pub fn finish(command: &mut Command, input: &str, deadline: Duration) -> Result<Finished> {
    let shown = line_of(command);
    let scratch = || tempfile::tempfile().context("making a file for a command's output");
    let (mut stdin, mut stdout, mut stderr) = (scratch()?, scratch()?, scratch()?);
    stdin.write_all(input.as_bytes()).context("writing a command's input")?;
    stdin.seek(SeekFrom::Start(0)).context("writing a command's input")?;
    let mut child = command
        .stdin(Stdio::from(stdin))
        .stdout(Stdio::from(stdout.try_clone()?))
        .stderr(Stdio::from(stderr.try_clone()?))
        .spawn()
        .with_context(|| format!("starting `{shown}`"))?;
    let pidfd = pidfd_open(Pid::from_child(&child), PidfdFlags::empty()).context("opening a handle on a process")?;
    let in_time = ends_within(&pidfd, deadline)?;
    if !in_time {
        // Already gone is fine.
        let _ = pidfd_send_signal(&pidfd, Signal::KILL);
    }
    let status = child.wait().with_context(|| format!("waiting for `{shown}`"))?;
    let stdout = read_back(&mut stdout)?;
    let stderr = read_back(&mut stderr)?;
    if !in_time {
        bail!(
            "`{shown}` did not end within {deadline:?} and was stopped:\n{}",
            tail(&stderr)
        );
    }
    Ok(Finished { status, stdout, stderr })
}

/// Whether a process ends within the time given.
pub fn ends_within(pidfd: &impl AsFd, deadline: Duration) -> Result<bool> {
    let end = Instant::now() + deadline;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let timeout = Timespec::try_from(left).context("a deadline too long for the kernel")?;
        match poll(&mut [PollFd::new(pidfd, PollFlags::IN)], Some(&timeout)) {
            Ok(ready) => return Ok(ready > 0),
            Err(rustix::io::Errno::INTR) => {}
            Err(err) => return Err(err).context("waiting for a process"),
        }
    }
}

/// Becomes the command: its streams and exit status are those of this process. Returns only when it cannot start.
pub fn replace_with(command: &mut Command) -> Result<()> {
    let shown = line_of(command);
    Err(command.exec()).with_context(|| format!("starting `{shown}`"))
}

/// Asks `ready` again until it is, or the deadline is over; the last reason why not becomes the error.
pub fn wait_until<T>(what: &str, deadline: Duration, mut ready: impl FnMut() -> Result<Readiness<T>>) -> Result<T> {
    let end = Instant::now() + deadline;
    loop {
        let reason = match ready()? {
            Readiness::Ready(value) => return Ok(value),
            Readiness::NotYet(reason) => reason,
        };
        if Instant::now() >= end {
            bail!("{what}: not so after {deadline:?}: {reason}");
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Answer of a condition that is waited for.
pub enum Readiness<T> {
    /// It holds.
    Ready(T),
    /// It does not hold yet, with the reason.
    NotYet(String),
}

/// Whether a program is on `PATH`, and where.
pub fn which(program: &str, path: &OsStr) -> Option<std::path::PathBuf> {
    std::env::split_paths(path)
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
}

/// The last lines of a text.
pub fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.trim_end().lines().collect();
    lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
}

/// The last lines of a log file, or that there is none.
pub fn tail_of(file: &Path) -> String {
    match std::fs::read(file) {
        Ok(bytes) => format!(
            "last lines of {}:\n{}",
            file.display(),
            tail(&String::from_utf8_lossy(&bytes))
        ),
        Err(err) => format!("{}: {err}", file.display()),
    }
}

fn read_back(file: &mut std::fs::File) -> Result<String> {
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(0)).context("reading a command's output")?;
    file.read_to_end(&mut bytes).context("reading a command's output")?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn line_of(command: &Command) -> String {
    let mut line = command.get_program().to_string_lossy().into_owned();
    for arg in command.get_args() {
        line.push(' ');
        line.push_str(&arg.to_string_lossy());
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_names_command_status_and_stderr() {
        let err = output(&mut command("sh", ["-c", "echo why >&2; exit 3"]), SHORT)
            .unwrap_err()
            .to_string();
        assert!(
            err.contains("sh -c") && err.contains("exit status: 3") && err.contains("why"),
            "{err}"
        );
    }

    #[test]
    fn a_command_that_hangs_is_stopped() {
        let err = output(&mut command("sleep", ["60"]), Duration::from_millis(50))
            .unwrap_err()
            .to_string();
        assert!(err.contains("did not end within"), "{err}");
    }

    #[test]
    fn input_reaches_the_command() {
        assert_eq!(
            output_with_input(&mut command("cat", [""; 0]), "abc", SHORT).unwrap(),
            "abc"
        );
    }

    #[test]
    fn waiting_reports_the_last_reason() {
        let err = wait_until::<()>("x", Duration::ZERO, || Ok(Readiness::NotYet("still off".into()))).unwrap_err();
        assert!(err.to_string().contains("still off"));
    }

    #[test]
    fn tails_are_short() {
        let text: String = (0..100).map(|n| format!("{n}\n")).collect();
        assert_eq!(tail(&text).lines().count(), TAIL_LINES);
        assert!(tail(&text).ends_with("99"));
    }
}
