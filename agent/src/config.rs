//! Switches of the installation: `conf.yml` of the ConfigMap `spiderpool-conf`.

use serde::Deserialize;
use spiderpool_crds::WorkloadKind;
use spiderpool_ipam::Family;
use std::path::{Path, PathBuf};

/// What the agent reads of `conf.yml`. Other keys are for other parts.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase", default)]
pub struct Config {
    /// Socket of the CNI plugin.
    pub ipam_unix_socket_path: PathBuf,
    /// Whether IPv4 addresses are given out.
    #[serde(rename = "enableIPv4")]
    pub enable_ipv4: bool,
    /// Whether IPv6 addresses are given out.
    #[serde(rename = "enableIPv6")]
    pub enable_ipv6: bool,
    /// Whether annotations of subnets count.
    pub enable_spider_subnet: bool,
    /// Whether applications get pools of their own.
    pub enable_auto_pool_for_application: bool,
    /// Whether the plugin asks the network if somebody else uses an address, before a pod gets it.
    #[serde(rename = "enableIPConflictDetection")]
    pub enable_ip_conflict_detection: bool,
    /// Whether the plugin makes sure that the gateway answers, before a pod gets an address.
    pub enable_gateway_detection: bool,
    /// Whether a pod gives up an address that somebody else uses. Set by the environment.
    #[serde(skip)]
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
            enable_spider_subnet: true,
            enable_auto_pool_for_application: true,
            enable_ip_conflict_detection: false,
            enable_gateway_detection: false,
            release_conflict_ips: true,
            workload_kinds: Vec::new(),
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
    /// The file does not parse.
    #[error(
        "the configuration {path} does not parse: {message}; correct key conf.yml of the ConfigMap spiderpool-conf"
    )]
    Parse {
        /// Path of the file.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
}

impl Config {
    /// Reads the file.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
            path: path.to_owned(),
            source,
        })?;
        serde_saphyr::from_str(&text).map_err(|error| ConfigError::Parse {
            path: path.to_owned(),
            message: error.to_string(),
        })
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

    #[test]
    fn keys_of_other_parts_are_ignored_and_missing_ones_have_defaults() {
        let config: Config =
            serde_saphyr::from_str("enableIPv6: false\nenableGatewayDetection: true\nclusterNetwork: x\n").unwrap();
        assert_eq!(
            config,
            Config {
                enable_ipv6: false,
                enable_gateway_detection: true,
                ..Config::default()
            }
        );
        assert!(config.enables(Family::V4) && !config.enables(Family::V6));
    }

    #[test]
    fn kinds_of_workloads_are_read() {
        let text = "workloadKinds:\n  - group: argoproj.io\n    kind: Rollout\n  - {group: example.org, kind: Fleet, replicasPath: .spec.size}\n";
        let config: Config = serde_saphyr::from_str(text).unwrap();
        let kinds: Vec<&str> = config
            .workload_kinds
            .iter()
            .map(|listed| listed.kind.as_str())
            .collect();
        assert_eq!(kinds, ["Rollout", "Fleet"]);
        assert_eq!(
            serde_saphyr::from_str::<Config>("workloadKinds: []").unwrap(),
            Config::default()
        );
    }
}
