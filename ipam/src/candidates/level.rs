//! What a NIC asks for: the levels, in order, and the one that decides.

use super::pattern::{Pattern, is_pattern};
use crate::addr::Family;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// Where the wish for certain pools was written, the strongest first. There is no falling through: when the pools of the
/// first level that is present cannot serve, the request fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// Annotation of the pod: subnets, out of which the operator makes pools for its application.
    Subnets,
    /// Annotation of the pod: pools for each of several NICs.
    IPPools,
    /// Annotation of the pod: pools for any NIC.
    IPPool,
    /// Annotation of the namespace.
    Namespace,
    /// CNI configuration of the network.
    Network,
    /// Pools with `spec.default`.
    Default,
}

/// A word for each level that stays.
impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Subnets => "Subnets",
            Self::IPPools => "IPPools",
            Self::IPPool => "IPPool",
            Self::Namespace => "NamespaceDefault",
            Self::Network => "CNIDefault",
            Self::Default => "ClusterDefault",
        })
    }
}

/// What one level asks for on the NIC of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The level.
    pub level: Level,
    /// Names or patterns by family, in the user's order: of subnets at the first level, of pools at the others. A family
    /// that is not asked for is absent. The default level names nothing.
    pub names: BTreeMap<Family, Vec<String>>,
    /// Leave out the default route.
    pub clean_gateway: bool,
}

impl Asked {
    /// Names of both families; a family without names is not asked for.
    pub fn new(level: Level, ipv4: Vec<String>, ipv6: Vec<String>, clean_gateway: bool) -> Self {
        let lists = [(Family::V4, ipv4), (Family::V6, ipv6)];
        Self {
            level,
            names: lists.into_iter().filter(|(_, names)| !names.is_empty()).collect(),
            clean_gateway,
        }
    }

    /// The default pools, of the families that have some.
    pub fn defaults(families: impl IntoIterator<Item = Family>, clean_gateway: bool) -> Self {
        Self {
            level: Level::Default,
            names: families.into_iter().map(|family| (family, Vec::new())).collect(),
            clean_gateway,
        }
    }

    /// Names of a family.
    pub fn names(&self, family: Family) -> &[String] {
        self.names.get(&family).map(Vec::as_slice).unwrap_or_default()
    }

    /// The names to look up, where looking up is enough: none if all pools have to be looked at.
    pub fn plain_names(&self) -> Option<impl Iterator<Item = &String>> {
        let names = || self.names.values().flatten();
        let plain = self.level != Level::Default && !names().any(|name| is_pattern(name));
        plain.then(names)
    }

    /// Tells by its name and by `spec.default` whether a pool is one of those that are asked for. At the first level these
    /// are subnets' names.
    pub fn concerned(&self) -> impl Fn(&str, bool) -> bool {
        let wanted = || self.names.values().flatten();
        let plain: BTreeSet<&str> = wanted().map(String::as_str).collect();
        let patterns = wanted().filter(|name| is_pattern(name));
        let patterns: Vec<Pattern> = patterns.filter_map(|text| Pattern::parse(text).ok()).collect();
        let level = self.level;
        move |name, default| match level {
            Level::Default => default,
            _ => plain.contains(name) || patterns.iter().any(|pattern| pattern.matches(name)),
        }
    }
}

/// Why nothing is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unasked {
    /// No level is present.
    NoLevel,
    /// The families that this level asks for are switched off.
    Families(Level),
}

/// The level that decides: the strongest that is present. Families that are switched off are dropped from it.
pub fn deciding(levels: impl IntoIterator<Item = Asked>, enabled: &[Family]) -> Result<Asked, Unasked> {
    let present = levels.into_iter().filter(|asked| !asked.names.is_empty());
    let mut asked = present.min_by_key(|asked| asked.level).ok_or(Unasked::NoLevel)?;
    asked.names.retain(|family, _| enabled.contains(family));
    if asked.names.is_empty() {
        return Err(Unasked::Families(asked.level));
    }
    Ok(asked)
}
