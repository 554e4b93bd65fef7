//! Switches of the installation: `conf.yml` of the ConfigMap `spiderpool-conf`.

use spiderpool_crds::WorkloadKind;
use spiderpool_crds::conf::{Conf, ConfError, unknown_variables};
use spiderpool_ipam::Family;
use std::path::{Path, PathBuf};

/// What the agent needs of `conf.yml`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Socket of the CNI plugin.
    pub ipam_unix_socket_path: PathBuf,
    /// Whether IPv4 addresses are given out.
    pub enable_ipv4: bool,
    /// Whether IPv6 addresses are given out.
    pub enable_ipv6: bool,
    /// Whether pods of StatefulSets keep their addresses.
    pub enable_stateful_set: bool,
    /// Whether virtual machines of KubeVirt keep their addresses.
    pub enable_kubevirt_static_ip: bool,
    /// Whether annotations of subnets count.
    pub enable_spider_subnet: bool,
    /// Whether applications get pools of their own.
    pub enable_auto_pool_for_application: bool,
    /// Whether the plugin asks the network if somebody else uses an address, before a pod gets it.
    pub enable_ip_conflict_detection: bool,
    /// Whether the plugin makes sure that the gateway answers, before a pod gets an address.
    pub enable_gateway_detection: bool,
    /// How many of a hundred addresses of a pool may be in quarantine at once.
    pub quarantine_percent: u8,
    /// Whether a pod gives up an address that somebody else uses. Set by the environment.
    pub release_conflict_ips: bool,
    /// Kinds of workloads beside those of Kubernetes: their pods belong to them, also where they have no scale subresource.
    pub workload_kinds: Vec<WorkloadKind>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            ipam_unix_socket_path: PathBuf::from(spiderpool_wire::DEFAULT_SOCKET_PATH),
            enable_ipv4: true,
            enable_ipv6: true,
            enable_stateful_set: true,
            enable_kubevirt_static_ip: true,
            enable_spider_subnet: true,
            enable_auto_pool_for_application: true,
            enable_ip_conflict_detection: false,
            enable_gateway_detection: false,
            quarantine_percent: 25,
            release_conflict_ips: true,
            workload_kinds: Vec::new(),
        }
    }
}

impl From<Conf> for Config {
    fn from(conf: Conf) -> Self {
        Self {
            ipam_unix_socket_path: PathBuf::from(conf.socket),
            enable_ipv4: conf.ipv4,
            enable_ipv6: conf.ipv6,
            enable_stateful_set: conf.stateful_sets,
            enable_kubevirt_static_ip: conf.virtual_machines,
            enable_spider_subnet: conf.subnets,
            enable_auto_pool_for_application: conf.automatic_pools,
            enable_ip_conflict_detection: conf.conflict_detection,
            enable_gateway_detection: conf.gateway_detection,
            quarantine_percent: conf.quarantine_percent,
            release_conflict_ips: true,
            workload_kinds: conf.workload_kinds,
        }
    }
}

/// Why the configuration could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration {path}: {source}; the chart mounts it from the ConfigMap spiderpool-conf")]
    Read {
        /// Path of the file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A value cannot be used.
    #[error("cannot use the configuration {path}: {source}; correct key conf.yml of the ConfigMap spiderpool-conf")]
    Conf {
        /// Path of the file.
        path: PathBuf,
        /// What is wrong.
        source: ConfError,
    },
}

impl Config {
    /// Reads the file, and says in the log which settings nobody knows.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
            path: path.to_owned(),
            source,
        })?;
        let conf = Conf::parse(&text).map_err(|source| ConfigError::Conf {
            path: path.to_owned(),
            source,
        })?;
        for key in &conf.unknown {
            tracing::warn!(key, path = %path.display(), "nobody knows this key of the configuration: is it misspelt?");
        }
        let set = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
        for variable in unknown_variables(set) {
            tracing::warn!(variable, "nobody knows this environment variable: is it misspelt?");
        }
        Ok(conf.into())
    }

    /// Whether addresses of a family are given out.
    pub const fn enables(&self, family: Family) -> bool {
        match family {
            Family::V4 => self.enable_ipv4,
            Family::V6 => self.enable_ipv6,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{Args as _, Command};

    #[test]
    fn an_empty_file_has_the_defaults() {
        assert_eq!(Config::from(Conf::parse("").unwrap()), Config::default());
        let config: Config = Conf::parse("enableIPv6: false\nquarantineMaxPercent: 5")
            .unwrap()
            .into();
        assert!(config.enables(Family::V4) && !config.enables(Family::V6));
        assert_eq!(config.quarantine_percent, 5);
    }

    #[test]
    fn what_is_read_from_the_environment_is_known() {
        let command = crate::daemon::Args::augment_args(Command::new("daemon"));
        let names = command
            .get_arguments()
            .filter_map(|argument| argument.get_env()?.to_str());
        let read: Vec<String> = names.map(str::to_owned).collect();
        assert!(read.len() > 6, "{read:?}");
        assert_eq!(unknown_variables(read), Vec::<String>::new());
    }
}
