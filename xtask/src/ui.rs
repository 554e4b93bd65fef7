//! Progress for people and for logs: a spinner on a terminal, one plain line per finished step otherwise.
//!
//! Progress goes to stderr; what a command was asked for goes to stdout, so that it can be piped.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use anyhow::Result;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

/// Where progress goes. Cheap to clone; clones share the terminal.
#[derive(Clone)]
pub struct Ui {
    bars: Option<MultiProgress>,
    colour: bool,
}

/// A running step: may say what it is doing at the moment.
pub struct Step {
    bar: Option<ProgressBar>,
    label: String,
}

impl Default for Ui {
    fn default() -> Self {
        Self::new()
    }
}

impl Ui {
    /// Looks at stderr: spinners and colours only on a terminal, and no colours when `NO_COLOR` is set.
    pub fn new() -> Self {
        let terminal = std::io::stderr().is_terminal() && std::env::var("TERM").is_ok_and(|term| term != "dumb");
        let colour = terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self {
            bars: terminal.then(MultiProgress::new),
            colour,
        }
    }

    /// Runs `work` as one step of the command: one line with its duration when it is over.
    pub fn step<T>(&self, label: impl Into<String>, work: impl FnOnce(&Step) -> Result<T>) -> Result<T> {
        let label = label.into();
        let bar = self.bars.as_ref().map(|bars| {
            let bar = bars.add(ProgressBar::new_spinner());
            if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} {elapsed}") {
                bar.set_style(style);
            }
            bar.set_message(label.clone());
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        let started = Instant::now();
        let step = Step { bar, label };
        let outcome = work(&step);
        if let Some(bar) = &step.bar {
            bar.finish_and_clear();
        }
        let took = duration_text(started.elapsed());
        match &outcome {
            Ok(_) => self.say(&format!("{} {} ({took})", self.paint("32", "ok  "), step.label)),
            Err(_) => self.say(&format!("{} {} ({took})", self.paint("31", "FAIL"), step.label)),
        }
        outcome
    }

    /// One line of progress that is no step.
    pub fn say(&self, line: &str) {
        match &self.bars {
            Some(bars) => {
                let _ = bars.println(line);
            }
            None => {
                let _ = writeln!(std::io::stderr(), "{line}");
            }
        }
    }

    /// One line of the command's answer, on stdout.
    pub fn answer(&self, line: &str) {
        let show = || {
            let _ = writeln!(std::io::stdout(), "{line}");
        };
        match &self.bars {
            Some(bars) => bars.suspend(show),
            None => show(),
        }
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.colour {
            format!("\u{1b}[{code}m{text}\u{1b}[0m")
        } else {
            text.to_owned()
        }
    }
}

impl Step {
    /// Shows on a terminal what the step is at; a log is spared.
    pub fn note(&self, text: &str) {
        if let Some(bar) = &self.bar {
            bar.set_message(format!("{}: {text}", self.label));
        }
    }
}

/// A duration as people say it: `850 ms`, `2.1 s`, `4 min 10 s`.
pub fn duration_text(duration: Duration) -> String {
    let millis = duration.as_millis();
    match millis {
        0..1000 => format!("{millis} ms"),
        1000..60_000 => format!("{:.1} s", duration.as_secs_f64()),
        _ => format!("{} min {} s", duration.as_secs() / 60, duration.as_secs() % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_well() {
        assert_eq!(duration_text(Duration::from_millis(7)), "7 ms");
        assert_eq!(duration_text(Duration::from_millis(2140)), "2.1 s");
        assert_eq!(duration_text(Duration::from_secs(250)), "4 min 10 s");
    }

    #[test]
    fn a_failing_step_passes_its_error_on() {
        let ui = Ui {
            bars: None,
            colour: false,
        };
        let failed: Result<()> = ui.step("x", |_| anyhow::bail!("no"));
        assert_eq!(failed.unwrap_err().to_string(), "no");
    }
}
