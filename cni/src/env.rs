//! What the runtime says through environment variables.

use std::{collections::BTreeMap, ffi::OsString, net::IpAddr};

use thiserror::Error;

use crate::error::{Code, Failure};

/// The variables of the CNI protocol.
const NAMES: [&str; 6] = [
    "CNI_COMMAND",
    "CNI_CONTAINERID",
    "CNI_NETNS",
    "CNI_IFNAME",
    "CNI_ARGS",
    "CNI_PATH",
];

/// Longest name the kernel gives to a network device.
const MAX_IF_NAME: usize = 15;

/// A bad environment.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum Error {
    /// Variables the command needs are unset or empty.
    #[error("required environment variables are missing: {}", .0.join(", "))]
    Missing(Vec<&'static str>),
    /// A variable holds bytes that are no text.
    #[error("environment variable {0} is not valid UTF-8")]
    NotText(&'static str),
    /// The command is none of the protocol's.
    #[error("unknown CNI_COMMAND {0:?}: expected ADD, DEL, CHECK, GC, STATUS or VERSION")]
    Command(String),
    /// The container ID has characters that are not allowed.
    #[error("CNI_CONTAINERID {0:?} must begin with a letter or digit and go on with those and _ . -")]
    ContainerId(String),
    /// The kernel would refuse the interface name.
    #[error("CNI_IFNAME {name:?} {reason}")]
    IfName {
        /// The name.
        name: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A part of `CNI_ARGS` is no `KEY=VALUE`.
    #[error("CNI_ARGS: {0:?} is not of the form KEY=VALUE")]
    Pair(String),
    /// A value in `CNI_ARGS` cannot be read.
    #[error("CNI_ARGS: {key} has the value {value:?}: expected {expected}")]
    Value {
        /// The key.
        key: &'static str,
        /// Its value.
        value: String,
        /// What it should be.
        expected: &'static str,
    },
    /// Unknown keys in `CNI_ARGS` although they are not to be ignored.
    #[error("CNI_ARGS has unknown keys and no IgnoreUnknown=1: {}", .0.join(", "))]
    Unknown(Vec<String>),
    /// An ADD for something that is no pod.
    #[error("CNI_ARGS lacks {0}: addresses are given to Kubernetes pods only")]
    NoPod(&'static str),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::new(Code::InvalidEnvironment, error.to_string())
    }
}

/// What the runtime wants done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Give the NIC its addresses.
    Add,
    /// Take them back.
    Del,
    /// Compare with what was given.
    Check,
    /// Tell whether an ADD could be served.
    Status,
    /// Drop what belongs to no known attachment.
    Gc,
    /// Print the supported versions.
    Version,
}

impl Command {
    /// The command as the protocol writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Add => "ADD",
            Self::Del => "DEL",
            Self::Check => "CHECK",
            Self::Status => "STATUS",
            Self::Gc => "GC",
            Self::Version => "VERSION",
        }
    }

    fn parse(text: &str) -> Result<Self, Error> {
        [Self::Add, Self::Del, Self::Check, Self::Status, Self::Gc, Self::Version]
            .into_iter()
            .find(|command| command.as_str() == text)
            .ok_or_else(|| Error::Command(text.to_owned()))
    }

    /// Variables that must not be empty.
    fn needs(self) -> &'static [&'static str] {
        match self {
            Self::Add | Self::Check => &["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_PATH"],
            Self::Del => &["CNI_CONTAINERID", "CNI_IFNAME", "CNI_PATH"],
            Self::Gc => &["CNI_PATH"],
            Self::Status | Self::Version => &[],
        }
    }

    /// Whether the command is about one NIC of one sandbox.
    pub fn has_attachment(self) -> bool {
        matches!(self, Self::Add | Self::Del | Self::Check)
    }
}

/// The protocol's variables as they were found.
#[derive(Clone, Debug, Default)]
pub struct Vars(BTreeMap<&'static str, OsString>);

impl Vars {
    /// Those of this process.
    pub fn of_process() -> Self {
        Self(
            NAMES
                .into_iter()
                .filter_map(|name| Some((name, std::env::var_os(name)?)))
                .collect(),
        )
    }

    /// Those given; names outside the protocol are dropped.
    pub fn from_pairs<V: Into<OsString>>(pairs: impl IntoIterator<Item = (&'static str, V)>) -> Self {
        Self(
            pairs
                .into_iter()
                .filter(|(name, _)| NAMES.contains(name))
                .map(|(name, v)| (name, v.into()))
                .collect(),
        )
    }

    fn text(&self, name: &'static str) -> Result<&str, Error> {
        self.0
            .get(name)
            .map_or(Ok(""), |value| value.to_str().ok_or(Error::NotText(name)))
    }

    /// The command, `None` when there is none, with everything it needs present.
    pub fn command(&self) -> Result<Option<Command>, Error> {
        let text = self.text("CNI_COMMAND")?;
        if text.is_empty() {
            return Ok(None);
        }
        let command = Command::parse(text)?;
        let mut missing = Vec::new();
        for name in command.needs() {
            if self.text(name)?.is_empty() {
                missing.push(*name);
            }
        }
        if missing.is_empty() {
            Ok(Some(command))
        } else {
            Err(Error::Missing(missing))
        }
    }

    /// The NIC and sandbox that the command is about.
    pub fn attachment(&self) -> Result<Attachment, Error> {
        let container_id = self.text("CNI_CONTAINERID")?;
        if !is_identifier(container_id) {
            return Err(Error::ContainerId(container_id.to_owned()));
        }
        let if_name = self.text("CNI_IFNAME")?;
        if let Some(reason) = if_name_fault(if_name) {
            return Err(Error::IfName {
                name: if_name.to_owned(),
                reason,
            });
        }
        Ok(Attachment {
            container_id: container_id.to_owned(),
            netns: self.text("CNI_NETNS")?.to_owned(),
            if_name: if_name.to_owned(),
            pod: Pod::parse(self.text("CNI_ARGS")?)?,
        })
    }
}

/// One NIC of one sandbox.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attachment {
    /// Sandbox.
    pub container_id: String,
    /// Path of its network namespace; may be empty on DEL.
    pub netns: String,
    /// NIC inside.
    pub if_name: String,
    /// The pod it is for.
    pub pod: Pod,
}

/// What `CNI_ARGS` says about the pod; any of it may be empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pod {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// UID.
    pub uid: String,
}

impl Pod {
    /// The variable that is missing for this to be a pod.
    pub fn missing(&self) -> Option<&'static str> {
        if self.namespace.is_empty() {
            Some("K8S_POD_NAMESPACE")
        } else if self.name.is_empty() {
            Some("K8S_POD_NAME")
        } else {
            None
        }
    }

    fn parse(args: &str) -> Result<Self, Error> {
        let mut pod = Self::default();
        let mut ignore_unknown = false;
        let mut unknown = Vec::new();
        for pair in args.split(';').filter(|_| !args.is_empty()) {
            let (key, value) = match pair.split_once('=') {
                Some((key, value)) if !value.contains('=') => (key, value),
                _ => return Err(Error::Pair(pair.to_owned())),
            };
            match key {
                "IgnoreUnknown" => ignore_unknown = parse_bool(value)?,
                "K8S_POD_NAMESPACE" => value.clone_into(&mut pod.namespace),
                "K8S_POD_NAME" => value.clone_into(&mut pod.name),
                "K8S_POD_UID" => value.clone_into(&mut pod.uid),
                "K8S_POD_INFRA_CONTAINER_ID" => {}
                // checked as the protocol's common library does; addresses are asked for by annotation, not here
                "IP" => check_ip(value)?,
                _ => unknown.push(key.to_owned()),
            }
        }
        if unknown.is_empty() || ignore_unknown {
            Ok(pod)
        } else {
            Err(Error::Unknown(unknown))
        }
    }
}

fn parse_bool(value: &str) -> Result<bool, Error> {
    match value.to_ascii_lowercase().as_str() {
        "1" | "true" => Ok(true),
        "0" | "false" => Ok(false),
        _ => Err(Error::Value {
            key: "IgnoreUnknown",
            value: value.to_owned(),
            expected: "1, true, 0 or false",
        }),
    }
}

fn check_ip(value: &str) -> Result<(), Error> {
    if value.is_empty() || value.parse::<IpAddr>().is_ok() {
        return Ok(());
    }
    Err(Error::Value {
        key: "IP",
        value: value.to_owned(),
        expected: "an address",
    })
}

/// Rule of container IDs and network names.
pub(crate) fn is_identifier(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b))
}

fn if_name_fault(name: &str) -> Option<&'static str> {
    if name.is_empty() || name.len() > MAX_IF_NAME {
        Some("must have 1 to 15 characters")
    } else if name == "." || name == ".." {
        Some("must not be . or ..")
    } else if name.contains(|c: char| c == '/' || c == ':' || c.is_whitespace()) {
        Some("must not contain / or : or white space")
    } else {
        None
    }
}

#[cfg(test)]
mod tests;
