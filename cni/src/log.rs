//! The log file on the node: JSON lines, one for each command that changes something.
//!
//! A plugin has no other place for its side of the story, since standard output carries the result only. A log that cannot be
//! written never fails a command; what went wrong with it goes to standard error.

use std::time::Instant;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::{
    conf::LogConf,
    env::{Attachment, Command},
    rotate,
};

/// Importance of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// For finding faults.
    Debug,
    /// What was done.
    Info,
    /// What may need attention.
    Warn,
    /// A failed command.
    Error,
    /// Above everything that is written here, hence silence. `panic` means the same.
    Off,
}

impl Level {
    /// The level of that name, in any case.
    pub fn parse(text: &str) -> Option<Self> {
        match text.to_ascii_lowercase().as_str() {
            "debug" => Some(Self::Debug),
            "info" => Some(Self::Info),
            "warn" => Some(Self::Warn),
            "error" => Some(Self::Error),
            "fatal" | "panic" => Some(Self::Off),
            _ => None,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Debug => "DEBUG",
            Self::Info => "INFO",
            Self::Warn => "WARN",
            Self::Error => "ERROR",
            Self::Off => "OFF",
        }
    }
}

/// The log of one command.
#[derive(Debug)]
pub struct Log<'a> {
    conf: &'a LogConf,
    context: Map<String, Value>,
    started: Instant,
    trouble: Option<String>,
}

impl<'a> Log<'a> {
    /// A log whose lines all carry what the command is about.
    pub fn new(conf: &'a LogConf, command: Command, attachment: Option<&Attachment>) -> Self {
        let mut context = Map::new();
        context.insert("Action".to_owned(), command.as_str().into());
        if let Some(nic) = attachment {
            for (key, value) in [
                ("ContainerID", &nic.container_id),
                ("Netns", &nic.netns),
                ("IfName", &nic.if_name),
                ("PodName", &nic.pod.name),
                ("PodNamespace", &nic.pod.namespace),
                ("PodUID", &nic.pod.uid),
            ] {
                context.insert(key.to_owned(), value.as_str().into());
            }
        }
        Self {
            conf,
            context,
            started: Instant::now(),
            trouble: None,
        }
    }

    /// Writes a line if its level is asked for.
    pub fn write(&mut self, level: Level, msg: &str, more: &[(&str, Value)]) {
        if level < self.conf.level {
            return;
        }
        let now = Timestamp::now();
        let mut line = json!({"level": level.as_str(), "ts": format!("{now:.3}"), "logger": "spiderpool", "msg": msg});
        if let Value::Object(members) = &mut line {
            members.extend(self.context.clone());
            members.insert(
                "Milliseconds".to_owned(),
                (self.started.elapsed().as_micros() as f64 / 1000.0).into(),
            );
            members.extend(more.iter().map(|(key, value)| ((*key).to_owned(), value.clone())));
        }
        let mut text = line.to_string();
        text.push('\n');
        if let Err(error) = rotate::append(self.conf, text.as_bytes(), now) {
            self.trouble = Some(format!("cannot write the log {}: {error}", self.conf.path.display()));
        }
    }

    /// What went wrong with the log, if anything did.
    pub fn trouble(self) -> Option<String> {
        self.trouble
    }
}
