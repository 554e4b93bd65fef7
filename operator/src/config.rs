//! `conf.yml` of the ConfigMap `spiderpool-conf`: the settings that operator, webhook and agent share.

use std::path::Path;

use serde::Deserialize;
use spiderpool_crds::WorkloadKind;
use spiderpool_crds::owner;
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
    /// The text is not the YAML that is expected.
    #[error("failed to understand the configuration {path}: {problem}")]
    Parse {
        /// Where it was read from.
        path: String,
        /// What is wrong, with line and column.
        problem: String,
    },
    /// A kind of workload cannot be used.
    #[error("failed to use {kind} in workloadKinds of the configuration {path}: {problem}")]
    Kind {
        /// Where it was read from.
        path: String,
        /// Group and kind.
        kind: String,
        /// What is wrong.
        problem: String,
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
    /// Kinds of workload beside those of Kubernetes that are watched from the start.
    pub workload_kinds: Vec<WorkloadKind>,
}

#[derive(Default, Deserialize)]
struct Text {
    #[serde(rename = "enableIPv4")]
    ipv4: Option<bool>,
    #[serde(rename = "enableIPv6")]
    ipv6: Option<bool>,
    #[serde(rename = "enableSpiderSubnet")]
    subnets: Option<bool>,
    #[serde(rename = "enableAutoPoolForApplication")]
    automatic_pools: Option<bool>,
    // The documentation has always named the first, programs have always read the second.
    #[serde(rename = "clusterSubnetDefaultFlexibleIPNumber")]
    documented_redundancy: Option<u32>,
    #[serde(rename = "clusterSubnetAutoPoolDefaultRedundantIPNumber")]
    redundancy: Option<u32>,
    #[serde(rename = "autoPoolMaxAddresses")]
    max_addresses: Option<u32>,
    #[serde(rename = "workloadKinds")]
    workload_kinds: Option<Vec<WorkloadKind>>,
}

impl Config {
    /// Reads the file.
    pub fn load(path: &Path) -> Result<Self, Error> {
        let shown = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|source| Error::Read {
            path: shown.clone(),
            source,
        })?;
        let config = Self::parse(&text).map_err(|problem| Error::Parse {
            path: shown.clone(),
            problem,
        })?;
        for kind in &config.workload_kinds {
            usable(kind).map_err(|problem| Error::Kind {
                path: shown.clone(),
                kind: format!("{:?} of group {:?}", kind.kind, kind.group),
                problem,
            })?;
        }
        Ok(config)
    }

    /// Understands the text of the file. Keys that are not there have the defaults of the chart; unknown ones are other
    /// programs' business.
    fn parse(text: &str) -> Result<Self, String> {
        let text = match text.trim() {
            "" => Text::default(),
            some => serde_saphyr::from_str::<Text>(some).map_err(|error| error.to_string())?,
        };
        let subnets = text.subnets.unwrap_or(true);
        Ok(Self {
            ipv4: text.ipv4.unwrap_or(true),
            ipv6: text.ipv6.unwrap_or(true),
            subnets,
            automatic_pools: subnets && text.automatic_pools.unwrap_or(true),
            redundant_addresses: text.documented_redundancy.or(text.redundancy).unwrap_or(1),
            max_addresses: text.max_addresses.filter(|limit| *limit > 0),
            workload_kinds: text.workload_kinds.unwrap_or_default(),
        })
    }

    /// Whether pods get addresses of this family.
    pub const fn enables(&self, family: Family) -> bool {
        match family {
            Family::V4 => self.ipv4,
            Family::V6 => self.ipv6,
        }
    }
}

fn usable(kind: &WorkloadKind) -> Result<(), String> {
    if owner::is_core(&kind.group) || owner::is_native(&kind.group, &kind.kind) || kind.kind.is_empty() {
        return Err("only kinds of other groups than Kubernetes' own are listed; take it out".to_owned());
    }
    kind.replicas().map_err(|error| error.to_string())?;
    kind.template().map_err(|error| error.to_string())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_listed_with_paths() {
        let text = "workloadKinds:\n- group: apps.kruise.io\n  kind: DaemonSet\n  replicasPath: .status.desiredNumberScheduled";
        let kinds = Config::parse(text).unwrap().workload_kinds;
        assert_eq!((kinds[0].kind.as_str(), usable(&kinds[0])), ("DaemonSet", Ok(())));
        let wrong = [
            ("", "Pod", None),
            ("apps", "Deployment", None),
            ("x.io", "Set", Some("replicas")),
        ];
        for (group, kind, path) in wrong {
            let kind = WorkloadKind {
                group: group.to_owned(),
                kind: kind.to_owned(),
                replicas_path: path.map(str::to_owned),
                template_path: None,
            };
            assert!(usable(&kind).is_err(), "{kind:?}");
        }
    }

    #[test]
    fn a_limit_of_zero_is_none() {
        assert_eq!(Config::parse("autoPoolMaxAddresses: 0").unwrap().max_addresses, None);
        assert_eq!(Config::parse("autoPoolMaxAddresses: 9").unwrap().max_addresses, Some(9));
    }

    #[test]
    fn absent_keys_have_the_defaults_of_the_chart() {
        let defaults = Config {
            ipv4: true,
            ipv6: true,
            subnets: true,
            automatic_pools: true,
            redundant_addresses: 1,
            max_addresses: None,
            workload_kinds: Vec::new(),
        };
        assert_eq!(Config::parse("").unwrap(), defaults);
        assert_eq!(
            Config::parse("ipamUnixSocketPath: /x\nenableIPv4: true").unwrap(),
            defaults
        );
    }

    #[test]
    fn both_names_of_the_redundancy_are_read() {
        let documented = "clusterSubnetDefaultFlexibleIPNumber: 3";
        let programmed = "clusterSubnetAutoPoolDefaultRedundantIPNumber: 2";
        assert_eq!(Config::parse(documented).unwrap().redundant_addresses, 3);
        assert_eq!(Config::parse(programmed).unwrap().redundant_addresses, 2);
        let both = format!("{programmed}\n{documented}");
        assert_eq!(Config::parse(&both).unwrap().redundant_addresses, 3);
    }

    #[test]
    fn automatic_pools_need_subnets() {
        let without = Config::parse("enableSpiderSubnet: false").unwrap();
        assert!(!without.automatic_pools && !without.subnets);
        assert!(
            !Config::parse("enableAutoPoolForApplication: false")
                .unwrap()
                .automatic_pools
        );
    }

    #[test]
    fn nonsense_is_an_error_that_says_where() {
        let error = Config::parse("enableIPv4: maybe").unwrap_err();
        assert!(error.contains('1'), "{error}");
    }
}
