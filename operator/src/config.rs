//! The settings of the installation that the operator needs, out of `conf.yml` of the ConfigMap `spiderpool-conf`.

use std::path::Path;

use spiderpool_crds::WorkloadKind;
use spiderpool_crds::admission::Settings;
use spiderpool_crds::conf::{Conf, ConfError, unknown_variables};
use spiderpool_crds::sticky::StickyKinds;
use spiderpool_ipam::Family;

/// Why the configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error(
        "failed to read the configuration {path}: {source}; mount the ConfigMap spiderpool-conf there or pass --config-path"
    )]
    Read {
        /// Where it was looked for.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// A value cannot be used.
    #[error("failed to use the configuration {path}: {source}; correct key conf.yml of the ConfigMap spiderpool-conf")]
    Conf {
        /// Where it was read from.
        path: String,
        /// What is wrong.
        source: ConfError,
    },
}

/// What the operator needs of the settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Whether pods get IPv4 addresses.
    pub ipv4: bool,
    /// Whether pods get IPv6 addresses.
    pub ipv6: bool,
    /// Whether pools become parts of the subnet that has their network.
    pub subnets: bool,
    /// Whether applications get pools of their own. Where not, those that exist are left as they are.
    pub automatic_pools: bool,
    /// How many addresses more than pods an application gets that does not say.
    pub redundant_addresses: u32,
    /// Most addresses of one automatic pool; none means no limit but the subnet's.
    pub max_addresses: Option<u32>,
    /// Whose pods keep their addresses.
    pub sticky: StickyKinds,
    /// Kinds of workload beside those of Kubernetes that are watched from the start.
    pub workload_kinds: Vec<WorkloadKind>,
}

impl From<Conf> for Config {
    fn from(conf: Conf) -> Self {
        Self {
            ipv4: conf.ipv4,
            ipv6: conf.ipv6,
            subnets: conf.subnets,
            automatic_pools: conf.automatic_pools,
            redundant_addresses: conf.redundant_addresses,
            max_addresses: conf.max_addresses,
            sticky: StickyKinds {
                sets: conf.stateful_sets,
                machines: conf.virtual_machines,
            },
            workload_kinds: conf.workload_kinds,
        }
    }
}

impl Config {
    /// What the rules for objects need to know.
    pub const fn settings(&self) -> Settings {
        Settings {
            ipv4: self.ipv4,
            ipv6: self.ipv6,
            subnets: self.subnets,
            // What is deleted is gone: nobody asks here.
            protect_used: false,
        }
    }

    /// Reads the file, and says in the log which settings nobody knows.
    pub fn load(path: &Path) -> Result<Self, Error> {
        let shown = || path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|source| Error::Read { path: shown(), source })?;
        let conf = Conf::parse(&text).map_err(|source| Error::Conf { path: shown(), source })?;
        for key in &conf.unknown {
            tracing::warn!(
                key,
                path = shown(),
                "nobody knows this key of the configuration: is it misspelt?"
            );
        }
        let set = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
        for variable in unknown_variables(set) {
            tracing::warn!(variable, "nobody knows this environment variable: is it misspelt?");
        }
        Ok(conf.into())
    }

    /// Whether pods get addresses of this family.
    pub const fn enables(&self, family: Family) -> bool {
        match family {
            Family::V4 => self.ipv4,
            Family::V6 => self.ipv6,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_that_cannot_be_used_is_told_with_the_file_and_the_key() {
        let folder = std::env::temp_dir().join(format!("spiderpool-operator-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("conf.yml");
        let missing = Config::load(&path).unwrap_err().to_string();
        assert!(
            missing.contains("conf.yml") && missing.contains("--config-path"),
            "{missing}"
        );
        std::fs::write(&path, "enableSpiderSubnet: on please").unwrap();
        let wrong = Config::load(&path).unwrap_err().to_string();
        std::fs::write(&path, "enableIPv6: false\nsurplus: 1").unwrap();
        let fine = Config::load(&path).unwrap();
        std::fs::remove_dir_all(&folder).unwrap();
        assert!(
            wrong.contains("conf.yml: key enableSpiderSubnet has the value \"on please\""),
            "{wrong}"
        );
        assert!(fine.enables(Family::V4) && !fine.enables(Family::V6));
    }
}
