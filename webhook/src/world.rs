//! The objects that are there already: kept by watch, found without looking at all of them, and read afresh before one of them is
//! the reason of a refusal.

mod fresh;
mod index;

use std::collections::BTreeSet;
use std::sync::Arc;

use kube::Client;
use spiderpool_crds::admission::complete::{self, Tie};
use spiderpool_crds::admission::{self, Outcome, PoolWorld, Settings, SubnetWorld};
use spiderpool_crds::{SpiderIPPool, SpiderReservedIP, SpiderSubnet, SubnetStatus};
use spiderpool_ipam::networks::Networks;
use spiderpool_ipam::{Cidr, RangeSet};
use spiderpool_kit::cache::{Cache, Object, Options};
use spiderpool_kit::health::Readiness;
use spiderpool_kit::shutdown::Process;

use fresh::Fresh;
use index::{Index, Pools, Reserved};

/// How many objects of a kind are told of one sort of trouble. Each is read before, and whoever makes a hundred pools of one address at
/// once shall not ask the API server for each of them a hundred times.
const MOST: usize = 4;
/// How often the others are looked at, while what is in the way turns out to be gone.
const LOOKS: usize = 3;

/// What is watched.
#[derive(Clone)]
pub struct Caches {
    /// Subnets.
    pub subnets: Cache<SpiderSubnet>,
    /// Pools.
    pub pools: Cache<SpiderIPPool>,
    /// Reservations.
    pub reserved: Cache<SpiderReservedIP>,
}

impl Caches {
    /// Caches that nothing feeds but their `learn` and `forget`: for tests.
    pub fn detached() -> Self {
        Self {
            subnets: Cache::detached(subnets()),
            pools: Cache::detached(pools()),
            reserved: Cache::detached(Options::default()),
        }
    }
}

/// Of other pools only the network and the addresses matter, and there may be many thousands.
fn pools() -> Options<SpiderIPPool> {
    Options::default().trim(|pool: &mut SpiderIPPool| {
        pool.status = None;
        pool.metadata.labels = None;
        pool.metadata.annotations = None;
        pool.spec.routes = None;
        pool.spec.pod_affinity = None;
        pool.spec.namespace_affinity = None;
        pool.spec.node_affinity = None;
        pool.spec.namespace_name = None;
        pool.spec.node_name = None;
        pool.spec.multus_name = None;
    })
}

/// Of the status of subnets only the accounting matters.
fn subnets() -> Options<SpiderSubnet> {
    Options::default().trim(|subnet: &mut SpiderSubnet| {
        subnet.metadata.labels = None;
        subnet.metadata.annotations = None;
        subnet.status = subnet.status.take().map(|status| SubnetStatus {
            controlled_ippools: status.controlled_ippools,
            ..SubnetStatus::default()
        });
    })
}

/// The objects that are there.
pub struct World {
    caches: Caches,
    subnets: Index<Networks>,
    pools: Index<Pools>,
    reserved: Index<Reserved>,
    fresh_subnets: Fresh<SpiderSubnet>,
    fresh_pools: Fresh<SpiderIPPool>,
}

impl World {
    /// Watches by the first client, and reads single objects by the second. Until everything is known, the process is not ready.
    pub fn start(process: &Process, readiness: &Readiness, patient: &Client, prompt: Client) -> Arc<Self> {
        let caches = Caches {
            subnets: Cache::start(process, patient.clone(), subnets()),
            pools: Cache::start(process, patient.clone(), pools()),
            reserved: Cache::start(process, patient.clone(), Options::default()),
        };
        let world = Arc::new(Self::of(caches, prompt));
        for (kind, filled) in [
            ("SpiderSubnet", Self::knows_subnets as fn(&Self) -> bool),
            ("SpiderIPPool", Self::knows_pools),
            ("SpiderReservedIP", Self::knows_reserved),
        ] {
            let gate = world.clone();
            readiness.gate(format!("cache of {kind}"), move || filled(&gate));
        }
        let follow = world.clone();
        let followed = process.until_stop(async move { follow.follow().await });
        process.spawn_infallible("index of addresses", followed);
        world
    }

    /// What these caches hold, which are not followed yet, see [`Self::follow`].
    pub fn of(caches: Caches, client: Client) -> Self {
        Self {
            subnets: Index::default(),
            pools: Index::default(),
            reserved: Index::default(),
            fresh_subnets: Fresh::new(client.clone(), caches.subnets.clone()),
            fresh_pools: Fresh::new(client, caches.pools.clone()),
            caches,
        }
    }

    /// Follows the caches for as long as they are fed.
    pub async fn follow(&self) {
        tokio::join!(
            self.subnets.follow(&self.caches.subnets),
            self.pools.follow(&self.caches.pools),
            self.reserved.follow(&self.caches.reserved),
        );
    }

    /// Takes in what the caches hold now: for tests, whose caches nobody follows.
    pub fn fill(&self) {
        self.subnets.fill(&self.caches.subnets);
        self.pools.fill(&self.caches.pools);
        self.reserved.fill(&self.caches.reserved);
    }

    /// Whether everything is known that there was at the beginning.
    pub fn is_filled(&self) -> bool {
        self.knows_subnets() && self.knows_pools() && self.knows_reserved()
    }

    fn knows_subnets(&self) -> bool {
        self.subnets.is_filled()
    }

    fn knows_pools(&self) -> bool {
        self.pools.is_filled()
    }

    fn knows_reserved(&self) -> bool {
        self.reserved.is_filled()
    }

    /// The subnet that a pool is to become a part of, as it is now: with an owner that is gone the pool would go, too. None if there
    /// is nothing to do, or that cannot be known; the operator looks again.
    pub async fn adopting(&self, pool: &SpiderIPPool, settings: Settings) -> Option<Arc<SpiderSubnet>> {
        if !settings.subnets || pool.is_terminating() {
            return None;
        }
        let known = self.home(pool)?;
        if complete::tie(pool, &known) == Tie::Settled {
            return None;
        }
        match self.fresh_subnets.now(&known).await {
            Ok(live) => live.filter(|live| live.spec.subnet == pool.spec.subnet),
            Err(error) => {
                tracing::warn!(%error, "leaving it to the operator to make the pool a part of its subnet");
                None
            }
        }
    }

    /// The subnets with a pool's network.
    fn subnets_with(&self, pool: &SpiderIPPool) -> Vec<Arc<SpiderSubnet>> {
        let Ok(cidr) = pool.cidr() else { return Vec::new() };
        let names = self.subnets.read(|networks| owned(networks.with(cidr)));
        let mut subnets = self.get(&self.caches.subnets, names);
        subnets.retain(|subnet| subnet.spec.subnet == pool.spec.subnet);
        subnets
    }

    /// Judges a pool beside the others. A refusal rests on no other object that is not so any more; and if what was in the way is gone,
    /// there may be something else that was not looked at because of it.
    pub async fn judge_pool(&self, new: &SpiderIPPool, old: Option<&SpiderIPPool>, settings: Settings) -> Outcome {
        let mut outcome = Outcome::default();
        for _ in 0..LOOKS {
            let mut around = self.around_pool(new, settings);
            outcome = around.judge(new, old, settings);
            if !rests_on_others(&outcome) {
                break;
            }
            let mut home;
            (around.pools, around.subnets, home) = tokio::join!(
                self.fresh_pools.all(around.pools),
                self.fresh_subnets.all(around.subnets),
                self.fresh_subnets.all(around.home.into_iter().collect()),
            );
            around.home = home.pop();
            outcome = around.judge(new, old, settings);
            if rests_on_others(&outcome) {
                break;
            }
            // The index follows the cache.
            tokio::task::yield_now().await;
        }
        outcome
    }

    /// Judges a subnet beside the others, as a pool.
    pub async fn judge_subnet(&self, new: &SpiderSubnet, old: Option<&SpiderSubnet>, settings: Settings) -> Outcome {
        let mut outcome = Outcome::default();
        for _ in 0..LOOKS {
            let mut around = self.around_subnet(new);
            outcome = around.judge(new, old, settings);
            if !rests_on_others(&outcome) {
                break;
            }
            (around.subnets, around.pools) = tokio::join!(
                self.fresh_subnets.all(around.subnets),
                self.fresh_pools.all(around.pools),
            );
            outcome = around.judge(new, old, settings);
            if rests_on_others(&outcome) {
                break;
            }
            tokio::task::yield_now().await;
        }
        outcome
    }

    /// Judges a reservation beside the pools of which it reserves something.
    pub fn judge_reserved(
        &self,
        new: &SpiderReservedIP,
        old: Option<&SpiderReservedIP>,
        settings: Settings,
    ) -> Outcome {
        let covered = new.family().ok().map(|family| {
            let reserved = new.kept_back(family);
            self.pools.read(|pools| {
                let within = pools.addresses.within(family, &reserved).into_keys();
                let whole = within.filter(|name| {
                    let claim = pools.addresses.get(name);
                    claim.is_some_and(|claim| claim.offered.is_subset_of(&reserved))
                });
                whole.take(MOST).map(|name| name.to_string()).collect::<Vec<_>>()
            })
        });
        let pools = self.get(&self.caches.pools, covered.unwrap_or_default());
        admission::reserved(new, old, &refs(&pools), settings)
    }

    fn around_pool(&self, new: &SpiderIPPool, settings: Settings) -> AroundPool {
        let name = new.metadata.name.clone().unwrap_or_default();
        let mut around = AroundPool::default();
        let mut pools = BTreeSet::from([name]);
        if let Ok(cidr) = new.cidr() {
            let total = new.total().unwrap_or_default();
            let with = self.pools.read(|index| {
                pools.extend(others(&index.networks, cidr));
                index.sharing(cidr, &total)
            });
            pools.extend(with);
            around.reserved = self.reserved.read(|reserved| {
                let within = reserved.addresses.within(cidr.family(), &total).into_values();
                within.fold(RangeSet::new(), |all, ranges| all.union(&ranges))
            });
            let subnets = self.subnets.read(|networks| others(networks, cidr));
            around.subnets = self.get(&self.caches.subnets, subnets);
            around.home = self.home(new).filter(|_| settings.subnets);
        }
        around.pools = self.get(&self.caches.pools, pools);
        around
    }

    /// The subnet that a pool is a part of, or is to become a part of.
    fn home(&self, pool: &SpiderIPPool) -> Option<Arc<SpiderSubnet>> {
        let subnets = self.subnets_with(pool);
        let home = complete::home(refs(&subnets), pool)?;
        // What something else controls has nothing to do with it.
        let own = !matches!(complete::tie(pool, home), Tie::Foreign { .. });
        let name = home.metadata.name.clone();
        subnets.into_iter().find(|subnet| own && subnet.metadata.name == name)
    }

    fn around_subnet(&self, new: &SpiderSubnet) -> AroundSubnet {
        let name = new.metadata.name.clone().unwrap_or_default();
        let (mut subnets, mut pools) = (BTreeSet::from([name]), BTreeSet::new());
        if let Ok(cidr) = new.cidr() {
            self.subnets.read(|networks| {
                subnets.extend(owned(networks.with(cidr).take(MOST)));
                subnets.extend(others(networks, cidr));
            });
            let all: RangeSet = [cidr.range()].into_iter().collect();
            let left_out = all.difference(&new.total().unwrap_or_default());
            self.pools.read(|index| {
                pools.extend(others(&index.networks, cidr));
                pools.extend(index.sharing(cidr, &left_out));
            });
        }
        AroundSubnet {
            subnets: self.get(&self.caches.subnets, subnets),
            pools: self.get(&self.caches.pools, pools),
        }
    }

    /// Those of these objects that are there still.
    fn get<K: Object>(&self, cache: &Cache<K>, names: impl IntoIterator<Item = String>) -> Vec<Arc<K>> {
        let names = names.into_iter();
        names.filter_map(|name| cache.get("", &name)).collect()
    }
}

fn rests_on_others(outcome: &Outcome) -> bool {
    outcome.broken().any(admission::Rule::rests_on_others)
}

/// One object of each other network that has an address in common with this one: of all that share a network the first is as good
/// as any.
fn others(networks: &Networks, cidr: Cidr) -> Vec<String> {
    let first = networks.overlapping(cidr).filter_map(BTreeSet::first);
    owned(first.take(MOST))
}

fn owned<'a>(names: impl Iterator<Item = &'a Arc<str>>) -> Vec<String> {
    names.map(|name| name.to_string()).collect()
}

fn refs<K>(objects: &[Arc<K>]) -> Vec<&K> {
    objects.iter().map(|object| &**object).collect()
}

/// What decides about a pool.
#[derive(Default)]
struct AroundPool {
    pools: Vec<Arc<SpiderIPPool>>,
    subnets: Vec<Arc<SpiderSubnet>>,
    home: Option<Arc<SpiderSubnet>>,
    reserved: RangeSet,
}

impl AroundPool {
    fn judge(&self, new: &SpiderIPPool, old: Option<&SpiderIPPool>, settings: Settings) -> Outcome {
        let world = PoolWorld {
            pools: &refs(&self.pools),
            subnet: self.home.as_deref(),
            subnets: &refs(&self.subnets),
            reserved: Some(&self.reserved),
        };
        admission::pool(new, old, world, settings)
    }
}

/// What decides about a subnet.
struct AroundSubnet {
    subnets: Vec<Arc<SpiderSubnet>>,
    pools: Vec<Arc<SpiderIPPool>>,
}

impl AroundSubnet {
    fn judge(&self, new: &SpiderSubnet, old: Option<&SpiderSubnet>, settings: Settings) -> Outcome {
        let world = SubnetWorld {
            subnets: &refs(&self.subnets),
            pools: &refs(&self.pools),
        };
        admission::subnet(new, old, world, settings)
    }
}
