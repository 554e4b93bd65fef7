//! `conf.yml` of the ConfigMap `spiderpool-conf`: the settings that all programs of an installation share, read by one rule.
//!
//! Every key of spiderpool v1.2 is known here. Some have no effect in this version; they are no mistake, so nothing is said of
//! them. A key that nobody knows is told ([`Conf::unknown`]), since it is most likely misspelt. A value that cannot be meant is
//! an error, and no program starts with it.

mod variables;

use std::collections::BTreeMap;

use serde_json::Value;
use spiderpool_ipam::Family;

use crate::WorkloadKind;
use crate::owner;
pub use variables::unknown_variables;

/// Longest path that the address of a unix socket holds.
const SOCKET_PATH: usize = 107;
/// Most characters of a value that an error shows.
const SHOWN: usize = 80;

/// Keys of spiderpool that have no effect here, with those of older versions.
const WITHOUT_EFFECT: [&str; 11] = [
    "agent",
    "clusterDefaultIPv4IPPool",
    "clusterDefaultIPv4Subnet",
    "clusterDefaultIPv6IPPool",
    "clusterDefaultIPv6Subnet",
    "clusterNetwork",
    "enableCleanOutdatedEndpoint",
    "iaasNetworkProvider",
    "networkMode",
    "podResourceInject",
    "tuneSysctlConfig",
];

/// Why the configuration cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfError {
    /// The text is no YAML, or no object.
    #[error("it is not a YAML object: {0}")]
    Text(String),
    /// A value that cannot be meant.
    #[error("key {key} has the value {value}; allowed is {allowed}")]
    Value {
        /// The key.
        key: String,
        /// The value, as JSON.
        value: String,
        /// What it may be.
        allowed: String,
    },
}

/// What becomes of a workload whose annotations are wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AnnotationPolicy {
    /// It is taken, and whoever sent it is warned.
    #[default]
    Warn,
    /// It is refused.
    Enforce,
}

/// The settings. What is absent has the default of the chart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conf {
    /// Socket of the CNI plugin.
    pub socket: String,
    /// Whether pods get IPv4 addresses.
    pub ipv4: bool,
    /// Whether pods get IPv6 addresses.
    pub ipv6: bool,
    /// Whether pods of StatefulSets keep their addresses.
    pub stateful_sets: bool,
    /// Whether virtual machines of KubeVirt keep their addresses.
    pub virtual_machines: bool,
    /// Whether there are SpiderSubnets.
    pub subnets: bool,
    /// Whether subnets and pools with addresses in use are kept from deletion.
    pub protect_used: bool,
    /// Whether applications get pools of their own; never without subnets.
    pub automatic_pools: bool,
    /// How many addresses more than pods an application gets that does not say.
    pub redundant_addresses: u32,
    /// Most addresses of one automatic pool; none means no limit but the subnet's.
    pub max_addresses: Option<u32>,
    /// Whether the network is asked if somebody else uses an address.
    pub conflict_detection: bool,
    /// Whether the network is asked if the gateway is there.
    pub gateway_detection: bool,
    /// How many of a hundred addresses of a pool may be in quarantine at once.
    pub quarantine_percent: u8,
    /// What becomes of a workload whose annotations are wrong.
    pub annotation_policy: AnnotationPolicy,
    /// Kinds of workload beside those of Kubernetes.
    pub workload_kinds: Vec<WorkloadKind>,
    /// Keys that nobody knows.
    pub unknown: Vec<String>,
}

impl Conf {
    /// Understands the text of the file.
    pub fn parse(text: &str) -> Result<Self, ConfError> {
        let mut keys = Keys::read(text)?;
        let subnets = keys.switch("enableSpiderSubnet", true)?;
        let automatic_pools = keys.switch("enableAutoPoolForApplication", true)?;
        let (ipv4, ipv6) = (keys.switch("enableIPv4", true)?, keys.switch("enableIPv6", true)?);
        if !ipv4 && !ipv6 {
            return Err(wrong(
                "enableIPv6",
                &Value::Bool(false),
                "true, as enableIPv4 is false: pods need addresses",
            ));
        }
        // The documentation has always named the first, programs have always read the second.
        let redundancy = [
            keys.number("clusterSubnetDefaultFlexibleIPNumber", u32::MAX)?,
            keys.number("clusterSubnetAutoPoolDefaultRedundantIPNumber", u32::MAX)?,
        ];
        let percent = keys
            .number("quarantineMaxPercent", 100)?
            .and_then(|percent| u8::try_from(percent).ok());
        let conf = Self {
            socket: keys.socket()?,
            ipv4,
            ipv6,
            stateful_sets: keys.switch("enableStatefulSet", true)?,
            virtual_machines: keys.switch("enableKubevirtStaticIP", true)?,
            subnets,
            protect_used: keys.switch("enableValidatingResourcesDeletedWebhook", false)?,
            automatic_pools: subnets && automatic_pools,
            redundant_addresses: redundancy.into_iter().flatten().next().unwrap_or(1),
            max_addresses: keys
                .number("autoPoolMaxAddresses", u32::MAX)?
                .filter(|limit| *limit > 0),
            conflict_detection: keys.switch("enableIPConflictDetection", false)?,
            gateway_detection: keys.switch("enableGatewayDetection", false)?,
            quarantine_percent: percent.unwrap_or(25),
            annotation_policy: keys.annotation_policy()?,
            workload_kinds: keys.kinds()?,
            unknown: Vec::new(),
        };
        // Switches that have no effect yet are switches all the same.
        for key in WITHOUT_EFFECT
            .iter()
            .filter(|key| key.starts_with("enable") || **key == "tuneSysctlConfig")
        {
            keys.switch(key, false)?;
        }
        let unknown = keys.rest();
        Ok(Self { unknown, ..conf })
    }

    /// Whether pods get addresses of this family.
    pub const fn enables(&self, family: Family) -> bool {
        match family {
            Family::V4 => self.ipv4,
            Family::V6 => self.ipv6,
        }
    }
}

/// The keys that were not looked at yet.
struct Keys(BTreeMap<String, Value>);

impl Keys {
    fn read(text: &str) -> Result<Self, ConfError> {
        if text.trim().is_empty() {
            return Ok(Self(BTreeMap::new()));
        }
        let value: Value = serde_saphyr::from_str(text).map_err(|error| ConfError::Text(error.to_string()))?;
        match value {
            Value::Null => Ok(Self(BTreeMap::new())),
            Value::Object(members) => Ok(Self(members.into_iter().collect())),
            other => Err(ConfError::Text(format!("it is {}", shown(&other)))),
        }
    }

    /// A value that is set; null is not.
    fn take(&mut self, key: &str) -> Option<Value> {
        self.0.remove(key).filter(|value| !value.is_null())
    }

    fn switch(&mut self, key: &str, default: bool) -> Result<bool, ConfError> {
        match self.take(key) {
            None => Ok(default),
            Some(Value::Bool(on)) => Ok(on),
            Some(other) => Err(wrong(key, &other, "true or false")),
        }
    }

    fn number(&mut self, key: &str, most: u32) -> Result<Option<u32>, ConfError> {
        let Some(value) = self.take(key) else { return Ok(None) };
        let number = value.as_u64().and_then(|number| u32::try_from(number).ok());
        match number.filter(|number| *number <= most) {
            Some(number) => Ok(Some(number)),
            None => Err(wrong(key, &value, &format!("a whole number from 0 to {most}"))),
        }
    }

    fn socket(&mut self) -> Result<String, ConfError> {
        let key = "ipamUnixSocketPath";
        match self.take(key) {
            None => Ok("/var/run/spidernet/spiderpool.sock".to_owned()),
            Some(Value::String(path)) if path.is_empty() => Ok("/var/run/spidernet/spiderpool.sock".to_owned()),
            Some(Value::String(path)) if path.starts_with('/') && path.len() <= SOCKET_PATH => Ok(path),
            Some(other) => {
                let allowed = format!("an absolute path of at most {SOCKET_PATH} bytes");
                Err(wrong(key, &other, &allowed))
            }
        }
    }

    fn annotation_policy(&mut self) -> Result<AnnotationPolicy, ConfError> {
        let key = "annotationPolicy";
        match self.take(key) {
            None => Ok(AnnotationPolicy::default()),
            Some(Value::String(text)) if text == "Warn" => Ok(AnnotationPolicy::Warn),
            Some(Value::String(text)) if text == "Enforce" => Ok(AnnotationPolicy::Enforce),
            Some(other) => Err(wrong(key, &other, "Warn or Enforce")),
        }
    }

    fn kinds(&mut self) -> Result<Vec<WorkloadKind>, ConfError> {
        let key = "workloadKinds";
        let items = match self.take(key) {
            None => return Ok(Vec::new()),
            Some(Value::Array(items)) => items,
            Some(other) => {
                return Err(wrong(
                    key,
                    &other,
                    "a list of {group, kind, replicasPath, templatePath}",
                ));
            }
        };
        let read = |(at, item): (usize, Value)| {
            let of = |allowed: &str| wrong(&format!("{key}[{at}]"), &item, allowed);
            let kind: WorkloadKind = serde_json::from_value(item.clone()).map_err(|error| {
                of(&format!(
                    "an object {{group, kind, replicasPath, templatePath}}: {error}"
                ))
            })?;
            usable(&kind).map_err(|allowed| of(&allowed))?;
            Ok(kind)
        };
        items.into_iter().enumerate().map(read).collect()
    }

    fn rest(self) -> Vec<String> {
        let known = |key: &String| WITHOUT_EFFECT.contains(&key.as_str());
        self.0.into_keys().filter(|key| !known(key)).collect()
    }
}

fn usable(kind: &WorkloadKind) -> Result<(), String> {
    if owner::is_core(&kind.group) || owner::is_native(&kind.group, &kind.kind) || kind.kind.is_empty() {
        return Err("a kind of another group than Kubernetes' own, which need not be listed".to_owned());
    }
    kind.replicas()
        .map_err(|error| format!("a replicasPath that can be read: {error}"))?;
    kind.template()
        .map_err(|error| format!("a templatePath that can be read: {error}"))?;
    Ok(())
}

fn wrong(key: &str, value: &Value, allowed: &str) -> ConfError {
    ConfError::Value {
        key: key.to_owned(),
        value: shown(value),
        allowed: allowed.to_owned(),
    }
}

fn shown(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}...", text.get(..end).unwrap_or_default()),
        None => text,
    }
}

#[cfg(test)]
mod tests;
