//! The network configuration that arrives on standard input.
//!
//! Keys match in any case, `null` leaves a member unset, the last of several equal keys wins and unknown members are ignored, because
//! configurations were written for a reader that behaves so. Numbers may be written as text: the documentation of the log
//! settings has always shown them in quotes.

use std::{fmt, path::PathBuf, time::Duration};

use serde::{
    Deserialize, Deserializer,
    de::{self, IgnoredAny, MapAccess, Visitor},
};
use serde_json::Value;
use spiderpool_wire::{DEFAULT_SOCKET_PATH, ValidAttachment, journal};
use thiserror::Error;

use crate::{
    env::is_identifier,
    error::{Code, Failure},
    log::Level,
};

const DEFAULT_LOG_FILE: &str = "/var/log/spidernet/spiderpool.log";
const DEFAULT_LOG_MEGABYTES: u64 = 100;
const DEFAULT_LOG_DAYS: u64 = 30;
const DEFAULT_LOG_BACKUPS: usize = 7;

/// A configuration that cannot be used.
#[derive(Debug, Error)]
pub enum Error {
    /// Not the JSON it should be.
    #[error("cannot read the network configuration on standard input")]
    Json(#[source] serde_json::Error),
    /// No name, or one with other characters than allowed.
    #[error(
        "network configuration: name {0:?} must not be empty, begin with a letter or digit and go on with those and _ . -"
    )]
    Name(String),
    /// Not one of the log levels.
    #[error(
        "network configuration: unsupported log level {0:?} in ipam.log_level: expected debug, info, warn, error, fatal or panic"
    )]
    LogLevel(String),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let code = match error {
            Error::Json(_) => Code::Decoding,
            Error::Name(_) | Error::LogLevel(_) => Code::InvalidConfig,
        };
        Self::new(code, crate::error::chain(&error))
    }
}

/// The members of the network configuration that matter here.
#[derive(Clone, Debug, PartialEq)]
pub struct NetConf {
    /// Version of the protocol, not yet checked.
    pub cni_version: String,
    /// Name of the network.
    pub name: String,
    /// Socket of the agent.
    pub socket: PathBuf,
    /// IPv4 pools to prefer.
    pub default_ipv4_ippool: Vec<String>,
    /// IPv6 pools to prefer.
    pub default_ipv6_ippool: Vec<String>,
    /// Leave the default route out.
    pub clean_gateway: bool,
    /// Use only pools in the subnet of the master NIC.
    pub match_master_subnet: bool,
    /// Log file.
    pub log: LogConf,
    /// Where a DEL is left that the agent cannot serve.
    pub journal: PathBuf,
    /// Result of the ADD that CHECK is about.
    pub prev_result: Option<Value>,
    /// Attachments of the network that the runtime knows, for GC.
    pub valid_attachments: Option<Vec<ValidAttachment>>,
}

/// Log file settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogConf {
    /// Least level written.
    pub level: Level,
    /// File.
    pub path: PathBuf,
    /// Size from which the file is rotated.
    pub max_bytes: u64,
    /// Age from which a rotated file is removed; `None`: never.
    pub max_age: Option<Duration>,
    /// How many rotated files are kept; `None`: all.
    pub max_backups: Option<usize>,
}

impl NetConf {
    /// Reads and checks a configuration; only the protocol version is left to the caller, who knows the command.
    pub fn parse(text: &[u8]) -> Result<Self, Error> {
        let raw: Raw = serde_json::from_slice(text).map_err(Error::Json)?;
        if !is_identifier(&raw.name) {
            return Err(Error::Name(raw.name));
        }
        let log = LogConf {
            level: match raw.ipam.log_level.as_str() {
                "" => Level::Info,
                text => Level::parse(text).ok_or_else(|| Error::LogLevel(text.to_owned()))?,
            },
            path: non_empty_or(raw.ipam.log_file_path, DEFAULT_LOG_FILE),
            max_bytes: raw
                .ipam
                .log_file_max_size
                .or(DEFAULT_LOG_MEGABYTES, DEFAULT_LOG_MEGABYTES)
                .saturating_mul(1 << 20),
            max_age: Some(raw.ipam.log_file_max_age.or(DEFAULT_LOG_DAYS, 0))
                .filter(|days| *days > 0)
                .map(|days| Duration::from_secs(days.saturating_mul(24 * 60 * 60))),
            max_backups: Some(raw.ipam.log_file_max_count.or(DEFAULT_LOG_BACKUPS as u64, 0))
                .filter(|count| *count > 0)
                .map(|count| usize::try_from(count).unwrap_or(usize::MAX)),
        };
        Ok(Self {
            cni_version: raw.cni_version,
            name: raw.name,
            socket: non_empty_or(raw.ipam.socket, DEFAULT_SOCKET_PATH),
            default_ipv4_ippool: raw.ipam.default_ipv4_ippool,
            default_ipv6_ippool: raw.ipam.default_ipv6_ippool,
            clean_gateway: raw.ipam.clean_gateway,
            match_master_subnet: raw.ipam.match_master_subnet,
            log,
            journal: non_empty_or(raw.ipam.journal, journal::DEFAULT_PATH),
            prev_result: raw.prev_result,
            valid_attachments: raw.valid_attachments.or(raw.attachments),
        })
    }
}

fn non_empty_or(text: String, default: &str) -> PathBuf {
    if text.is_empty() { default.into() } else { text.into() }
}

/// A whole number written as number or text.
#[derive(Clone, Copy, Default)]
struct Whole(Option<i64>);

impl Whole {
    /// The number; a negative or absent one means the default, and zero what the second argument says.
    fn or(self, default: u64, zero: u64) -> u64 {
        match self.0.map(u64::try_from) {
            Some(Ok(0)) => zero,
            Some(Ok(number)) => number,
            Some(Err(_)) | None => default,
        }
    }
}

impl<'de> Deserialize<'de> for Whole {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NumberOrText;
        impl Visitor<'_> for NumberOrText {
            type Value = Whole;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a whole number")
            }
            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Whole, E> {
                Ok(Whole(Some(number)))
            }
            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Whole, E> {
                Ok(Whole(Some(i64::try_from(number).unwrap_or(i64::MAX))))
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Whole, E> {
                let number = text.trim();
                if number.is_empty() {
                    return Ok(Whole(None));
                }
                number
                    .parse()
                    .map(|number| Whole(Some(number)))
                    .map_err(|_| E::invalid_value(de::Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_any(NumberOrText)
    }
}

#[derive(Default)]
struct Raw {
    cni_version: String,
    name: String,
    ipam: RawIpam,
    prev_result: Option<Value>,
    valid_attachments: Option<Vec<ValidAttachment>>,
    attachments: Option<Vec<ValidAttachment>>,
}

#[derive(Default)]
struct RawIpam {
    log_level: String,
    log_file_path: String,
    log_file_max_size: Whole,
    log_file_max_age: Whole,
    log_file_max_count: Whole,
    default_ipv4_ippool: Vec<String>,
    default_ipv6_ippool: Vec<String>,
    clean_gateway: bool,
    match_master_subnet: bool,
    socket: String,
    journal: String,
}

/// A JSON object whose members are looked up in any case.
trait Members: Default {
    /// Reads the member of that lower-case name, or skips it.
    fn member<'de, A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<(), A::Error>;
}

impl Members for Raw {
    fn member<'de, A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<(), A::Error> {
        match name {
            "cniversion" => set(&mut self.cni_version, name, map),
            "name" => set(&mut self.name, name, map),
            "ipam" => set(&mut self.ipam, name, map),
            "cni.dev/valid-attachments" => map.next_value().map(|list| self.valid_attachments = list),
            // what runtimes called it before the specification was settled
            "cni.dev/attachments" => map.next_value().map(|list| self.attachments = list),
            "prevresult" => map.next_value().map(|value| self.prev_result = value),
            _ => map.next_value::<IgnoredAny>().map(drop),
        }
    }
}

impl Members for RawIpam {
    fn member<'de, A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<(), A::Error> {
        match name {
            "log_level" => set(&mut self.log_level, name, map),
            "log_file_path" => set(&mut self.log_file_path, name, map),
            "log_file_max_size" => set(&mut self.log_file_max_size, name, map),
            "log_file_max_age" => set(&mut self.log_file_max_age, name, map),
            "log_file_max_count" => set(&mut self.log_file_max_count, name, map),
            "default_ipv4_ippool" => set(&mut self.default_ipv4_ippool, name, map),
            "default_ipv6_ippool" => set(&mut self.default_ipv6_ippool, name, map),
            "clean_gateway" => set(&mut self.clean_gateway, name, map),
            "match_master_subnet" => set(&mut self.match_master_subnet, name, map),
            "ipam_unix_socket_path" => set(&mut self.socket, name, map),
            "journal_path" => set(&mut self.journal, name, map),
            _ => map.next_value::<IgnoredAny>().map(drop),
        }
    }
}

/// Sets the field unless the member is `null`.
fn set<'de, A: MapAccess<'de>, T: Deserialize<'de>>(field: &mut T, name: &str, map: &mut A) -> Result<(), A::Error> {
    match map.next_value::<Option<T>>() {
        Ok(None) => Ok(()),
        Ok(Some(value)) => {
            *field = value;
            Ok(())
        }
        Err(error) => Err(de::Error::custom(format_args!("{name}: {error}"))),
    }
}

fn object<'de, D: Deserializer<'de>, T: Members>(deserializer: D) -> Result<T, D::Error> {
    struct Object<T>(T);
    impl<'de, T: Members> Visitor<'de> for Object<T> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a JSON object")
        }
        fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<T, A::Error> {
            while let Some(key) = map.next_key::<String>()? {
                self.0.member(&key.to_ascii_lowercase(), &mut map)?;
            }
            Ok(self.0)
        }
    }
    deserializer.deserialize_map(Object(T::default()))
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        object(deserializer)
    }
}

impl<'de> Deserialize<'de> for RawIpam {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        object(deserializer)
    }
}

#[cfg(test)]
mod tests;
