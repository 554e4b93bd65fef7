//! Every pool that is asked for, judged.

use super::check::check;
use super::facts::{PodFacts, PodRule, PoolFacts};
use super::level::{Asked, Level};
use super::pattern::{Pattern, is_pattern};
use super::rejection::Rejection;
use crate::addr::Family;
use std::collections::BTreeSet;

/// A pool that may not serve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Name of the pool, or the pattern that found none.
    pub pool: String,
    /// Why.
    pub rejection: Rejection,
}

impl Verdict {
    /// The reason as one line.
    pub fn line(&self) -> String {
        self.rejection.line(&self.pool)
    }
}

/// The pools that were asked for in a family: each is in one of both lists, once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdicts {
    /// Names of those that may serve, in the order in which they are tried: a pool that turns out to have no address is a
    /// reason to try the next.
    pub chosen: Vec<String>,
    /// The others, in the order in which they were asked for.
    pub rejected: Vec<Verdict>,
}

/// Judges the pools that a level asks for in a family.
///
/// At the first level, of subnets, `pools` are those of the application, in the order in which they are to be tried. At the
/// others, `pools` are at least those that [`Asked::concerned`] tells, in any order: narrower ones come first, and the user's order
/// decides between equals.
pub fn verdicts(asked: &Asked, family: Family, pod: &PodFacts, pools: &[PoolFacts]) -> Verdicts {
    let mut verdicts = Verdicts::default();
    let mut fit: Vec<&PoolFacts> = Vec::new();
    for found in considered(asked, family, pools) {
        match found {
            Err(verdict) => verdicts.rejected.push(verdict),
            Ok(pool) => match check(pool, family, pod) {
                Ok(()) => fit.push(pool),
                Err(rejection) => verdicts.rejected.push(Verdict {
                    pool: pool.name.clone(),
                    rejection,
                }),
            },
        }
    }
    if asked.level != Level::Subnets {
        order(&mut fit);
    }
    verdicts.chosen = fit.into_iter().map(|pool| pool.name.clone()).collect();
    verdicts
}

/// The pools that are asked for, each once, in the user's order; pools of one pattern and default pools by name.
fn considered<'a>(asked: &Asked, family: Family, pools: &'a [PoolFacts]) -> Vec<Result<&'a PoolFacts, Verdict>> {
    match asked.level {
        Level::Subnets => pools.iter().map(Ok).collect(),
        Level::Default => {
            let default = |pool: &&PoolFacts| pool.default && pool.family().is_none_or(|own| own == family);
            by_name(pools.iter().filter(default)).into_iter().map(Ok).collect()
        }
        Level::IPPools | Level::IPPool | Level::Namespace | Level::Network => {
            // Overlapping patterns, or a pattern and a name, are no reason to try a pool twice.
            let mut seen = BTreeSet::new();
            let mut found = asked
                .names(family)
                .iter()
                .flat_map(|name| named(name, family, pools))
                .collect::<Vec<_>>();
            found.retain(|item| match item {
                Ok(pool) => seen.insert(pool.name.clone()),
                Err(verdict) => seen.insert(verdict.pool.clone()),
            });
            found
        }
    }
}

/// The pools of one name or pattern. A pattern finds pools of the family only; a name is a pool's, whatever it holds.
fn named<'a>(name: &str, family: Family, pools: &'a [PoolFacts]) -> Vec<Result<&'a PoolFacts, Verdict>> {
    let nothing = |rejection| {
        let pool = name.to_owned();
        vec![Err(Verdict { pool, rejection })]
    };
    if !is_pattern(name) {
        let found = pools.iter().find(|pool| pool.name == name);
        return found.map_or_else(|| nothing(Rejection::NotFound), |pool| vec![Ok(pool)]);
    }
    let pattern = match Pattern::parse(name) {
        Ok(pattern) => pattern,
        Err(bad) => return nothing(Rejection::WrongPattern(bad.problem)),
    };
    let matching = |pool: &&PoolFacts| pool.family() == Some(family) && pattern.matches(&pool.name);
    let found = by_name(pools.iter().filter(matching));
    if found.is_empty() {
        return nothing(Rejection::NoMatch);
    }
    found.into_iter().map(Ok).collect()
}

fn by_name<'a>(pools: impl Iterator<Item = &'a PoolFacts>) -> Vec<&'a PoolFacts> {
    let mut pools: Vec<&PoolFacts> = pools.collect();
    pools.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    pools
}

/// Puts pools in the order in which they are tried: those made for few pods come before those for many, so that the
/// latter stay for pods that have no choice. The order of the list decides between equals.
pub fn order(pools: &mut [&PoolFacts]) {
    pools.sort_by_key(|pool| {
        [
            pool.pods == PodRule::Any,
            pool.node_names.is_empty(),
            pool.nodes.is_none(),
            pool.namespace_names.is_empty(),
            pool.namespaces.is_none(),
            pool.multus_names.is_empty(),
        ]
    });
}
