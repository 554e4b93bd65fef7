//! Where the objects are that a new one meets: by network, and by address.
//!
//! Each part is fed by the changes of one cache, so it may be behind that for a moment. Names come from here, objects from the cache.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use kube::Resource;
use spiderpool_crds::{SpiderIPPool, SpiderReservedIP, SpiderSubnet};
use spiderpool_ipam::claims::{Claim, Claims, Standing};
use spiderpool_ipam::networks::Networks;
use spiderpool_ipam::{Cidr, Family, RangeSet};
use spiderpool_kit::cache::{Cache, Change, Object, WaitError};
use tokio::time::Instant;

use super::MOST;

/// How often it is said that the objects are not read yet.
const PATIENCE: Duration = Duration::from_secs(30);

/// What is indexed of one kind.
pub(super) trait Part<K>: Default {
    /// Takes in an object, in place of an earlier version of it.
    fn put(&mut self, name: &str, object: &K);
    /// Forgets an object.
    fn remove(&mut self, name: &str);
}

/// An index that follows a cache.
#[derive(Debug, Default)]
pub(super) struct Index<P> {
    part: RwLock<P>,
    filled: AtomicBool,
}

impl<P> Index<P> {
    /// Whether everything that there was at the beginning is in it.
    pub(super) fn is_filled(&self) -> bool {
        self.filled.load(Ordering::Acquire)
    }

    /// Looks at the index at one moment.
    pub(super) fn read<T>(&self, look: impl FnOnce(&P) -> T) -> T {
        look(&self.part.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Follows the cache for as long as that is fed.
    pub(super) async fn follow<K: Object>(&self, cache: &Cache<K>)
    where
        P: Part<K>,
    {
        let mut changes = cache.subscribe();
        while let Err(error) = cache.synced(Instant::now() + PATIENCE).await {
            if matches!(error, WaitError::Stopping) {
                return;
            }
            tracing::info!(%error, "not ready yet");
        }
        self.fill(cache);
        while let Some(change) = changes.next().await {
            match &change {
                Change::Applied { new, .. } => self.change(|part| part.put(name_of(&**new), new)),
                Change::Deleted(gone) => self.change(|part| part.remove(name_of(&**gone))),
                Change::Malformed(bad) => self.change(|part| part.remove(&bad.key.name)),
                Change::Resynced => self.fill(cache),
            }
        }
    }

    /// Takes in all of a cache, in place of what was known.
    pub(super) fn fill<K: Object>(&self, cache: &Cache<K>)
    where
        P: Part<K>,
    {
        let mut fresh = P::default();
        for object in cache.list() {
            fresh.put(name_of(&*object), &object);
        }
        self.change(|part| *part = fresh);
        self.filled.store(true, Ordering::Release);
    }

    fn change(&self, apply: impl FnOnce(&mut P)) {
        apply(&mut self.part.write().unwrap_or_else(PoisonError::into_inner));
    }
}

fn name_of<K: Resource>(object: &K) -> &str {
    object.meta().name.as_deref().unwrap_or_default()
}

impl Part<SpiderSubnet> for Networks {
    fn put(&mut self, name: &str, subnet: &SpiderSubnet) {
        match subnet.cidr() {
            Ok(cidr) => Self::put(self, name, cidr),
            Err(_) => Self::remove(self, name),
        }
    }

    fn remove(&mut self, name: &str) {
        Self::remove(self, name);
    }
}

/// Pools by network and by address.
#[derive(Debug, Default)]
pub(super) struct Pools {
    pub(super) networks: Networks,
    pub(super) addresses: Claims,
}

impl Pools {
    /// Pools of a network with some of these addresses; the first of them if there are many.
    pub(super) fn sharing(&self, network: Cidr, ranges: &RangeSet) -> Vec<String> {
        let within = self.addresses.within(network.family(), ranges).into_keys();
        let same = within.filter(|name| self.networks.get(name) == Some(network));
        // One of them may be the very pool that is judged.
        same.take(MOST + 1).map(|name| name.to_string()).collect()
    }
}

impl Part<SpiderIPPool> for Pools {
    fn put(&mut self, name: &str, pool: &SpiderIPPool) {
        let (Ok(cidr), Ok(total)) = (pool.cidr(), pool.total()) else {
            return self.remove(name);
        };
        self.networks.put(name, cidr);
        self.addresses.put(name, claim(cidr.family(), total));
    }

    fn remove(&mut self, name: &str) {
        self.networks.remove(name);
        self.addresses.remove(name);
    }
}

/// Reservations by address.
#[derive(Debug, Default)]
pub(super) struct Reserved {
    pub(super) addresses: Claims,
}

impl Part<SpiderReservedIP> for Reserved {
    fn put(&mut self, name: &str, reserved: &SpiderReservedIP) {
        match reserved.family() {
            Ok(family) => drop(self.addresses.put(name, claim(family, reserved.kept_back(family)))),
            Err(_) => self.remove(name),
        }
    }

    fn remove(&mut self, name: &str) {
        self.addresses.remove(name);
    }
}

/// Only the addresses count here, not who comes first.
const fn claim(family: Family, offered: RangeSet) -> Claim {
    Claim {
        family,
        offered,
        held: RangeSet::new(),
        standing: Standing::New,
        made: 0,
    }
}
