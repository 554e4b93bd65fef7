//! What the pools have on record for pods of this node.
//!
//! A pool may have thousands of records, and change with every pod of the cluster. So those that changed are read together, some
//! seconds later, and only if they concern this node.

use crate::context::Context;
use kube::ResourceExt;
use memchr::memmem;
use spiderpool_crds::SpiderIPPool;
use spiderpool_ipam::Owner;
use spiderpool_kit::cache::Change;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;
use tokio::time::Instant;

/// How long changes of records gather before these are read.
const CALM: Duration = Duration::from_secs(5);

/// The records of this node.
#[derive(Debug, Default)]
pub(super) struct Books {
    own: BTreeMap<String, Vec<(IpAddr, Owner)>>,
    changed: BTreeSet<String>,
    read_at: Option<Instant>,
    begun: bool,
}

impl Books {
    /// Takes in a change.
    pub(super) fn note(&mut self, context: &Context, change: &Change<SpiderIPPool>) {
        match change {
            Change::Applied { old, new } => {
                if old.as_ref().is_none_or(|old| text(old) != text(new)) {
                    self.changed(new.name_any());
                }
            }
            Change::Deleted(gone) => self.changed(gone.name_any()),
            Change::Malformed(_) => {}
            Change::Resynced => self.everything(context),
        }
    }

    fn changed(&mut self, pool: String) {
        self.changed.insert(pool);
        self.read_at.get_or_insert_with(|| Instant::now() + CALM);
    }

    /// All pools may have changed.
    pub(super) fn everything(&mut self, context: &Context) {
        let known: Vec<String> = self.own.keys().cloned().collect();
        let pools = context.pools.cache().list();
        let pools = pools.iter().map(|pool| pool.name_any()).chain(known);
        self.changed.extend(pools);
        self.read_at = Some(Instant::now());
    }

    /// When there is something to read.
    pub(super) const fn read_at(&self) -> Option<Instant> {
        self.read_at
    }

    /// Reads the pools that changed, if it is time, and tells which these were.
    pub(super) fn read(&mut self, context: &Context) -> Option<BTreeSet<String>> {
        if !self.begun {
            self.begun = true;
            self.everything(context);
        }
        self.read_at.filter(|at| *at <= Instant::now())?;
        self.read_at = None;
        let changed = std::mem::take(&mut self.changed);
        for name in &changed {
            let own = context
                .pools
                .cache()
                .get("", name)
                .map(|pool| of_node(&pool, &context.node));
            match own.filter(|own| !own.is_empty()) {
                Some(own) => drop(self.own.insert(name.clone(), own)),
                None => drop(self.own.remove(name)),
            }
        }
        Some(changed)
    }

    /// Every record, with its pool.
    pub(super) fn own(&self) -> impl Iterator<Item = (&str, IpAddr, &Owner)> {
        let all = self.own.iter();
        all.flat_map(|(pool, records)| records.iter().map(move |(ip, owner)| (pool.as_str(), *ip, owner)))
    }
}

fn text(pool: &SpiderIPPool) -> Option<&str> {
    pool.status.as_ref()?.allocated_ips.as_deref()
}

/// The records of a pool that name a node. Those that cannot be read belong to somebody we do not know.
fn of_node(pool: &SpiderIPPool, node: &str) -> Vec<(IpAddr, Owner)> {
    // As an agent writes it; a pool in which that does not stand need not be read.
    let needle = format!("\"node\":\"{node}\"");
    if text(pool).is_none_or(|text| memmem::find(text.as_bytes(), needle.as_bytes()).is_none()) {
        return Vec::new();
    }
    let records = pool.records().unwrap_or_default();
    let own = records
        .iter()
        .filter(|(_, record)| record.node.as_deref() == Some(node));
    own.map(|(ip, record)| (ip, Owner::from(record))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use spiderpool_crds::{IPPoolSpec, IPPoolStatus};

    #[test]
    fn only_records_that_name_the_node_are_its_own() {
        let mut pool = SpiderIPPool::new("p", IPPoolSpec::default());
        let record = |ip: &str, node: &str| format!(r#""{ip}":{{"pod":"ns/a","podUid":"u","nic":"eth0"{node}}}"#);
        let text = [
            record("10.0.0.1", r#","node":"n1""#),
            record("10.0.0.2", r#","node":"n10""#),
            record("10.0.0.3", ""),
        ];
        pool.status = Some(IPPoolStatus {
            allocated_ips: Some(format!("{{{}}}", text.join(","))),
            ..IPPoolStatus::default()
        });
        let own = |node: &str| {
            let own = of_node(&pool, node);
            own.into_iter().map(|(ip, _)| ip.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(own("n1"), ["10.0.0.1"]);
        assert_eq!(own("n10"), ["10.0.0.2"]);
        assert_eq!(own("n"), Vec::<String>::new());
    }
}
