//! Metrics about subnets, pools and waiting applications. What every queue and watch tells of itself comes from the kit.
//!
//! They are read from the caches when somebody asks, so they cannot drift from the objects. Only the leader tells: every
//! replica sees the same objects, and a sum over replicas is to be right.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kube::Resource;
use kube::core::ObjectMeta;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::MetricType;
use spiderpool_crds::{SpiderIPPool, SpiderSubnet};
use spiderpool_kit::cache::Cache;
use spiderpool_kit::metrics::Metrics;
use tokio::time::Instant;

use crate::application::{AppId, SlotId};
use crate::context::Context;
use crate::events::Reason;

/// Adds the metrics about what `context` sees. Once per process.
pub fn register(metrics: &Metrics, context: &Context) {
    let leadership = context.leadership.clone();
    let seen = Seen {
        subnets: context.caches.subnets.clone(),
        pools: context.caches.pools.clone(),
        waiting: context.waiting.clone(),
        leads: Box::new(move || leadership.is_leader()),
    };
    metrics.register(|registry| registry.register_collector(Box::new(seen)));
}

/// Which parts of applications wait for addresses, and why. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Waiting {
    known: Arc<Mutex<Known>>,
}

#[derive(Debug, Default)]
struct Known {
    slots: HashMap<SlotId, Wait>,
    next: u64,
    /// Reasons that somebody once waited for: they stay in the metrics as zero.
    reasons: BTreeSet<String>,
}

#[derive(Debug)]
struct Wait {
    /// Tells who came first.
    number: u64,
    reason: Reason,
    /// Most addresses that were seen free for it.
    free: u128,
    /// When it began, or when there were more addresses for it than before.
    hope: Instant,
}

/// For how long what is free is kept for somebody whom it does not suffice, after it last became more.
pub const KEPT: Duration = Duration::from_secs(60);

impl Waiting {
    /// Takes down that a pool that is asked for is missing or too small.
    pub fn set(&self, slot: SlotId, reason: Reason) {
        let mut known = self.lock();
        known.reasons.insert(reason.word());
        let number = known.next;
        known.next += 1;
        let begun = Wait {
            number,
            reason,
            free: 0,
            hope: Instant::now(),
        };
        known.slots.entry(slot).or_insert(begun).reason = reason;
    }

    /// Takes down how many addresses are free for a slot that waits for more.
    pub fn sees(&self, slot: &SlotId, free: u128) {
        if let Some(wait) = self.lock().slots.get_mut(slot)
            && free > wait.free
        {
            wait.free = free;
            wait.hope = Instant::now();
        }
    }

    /// For how much longer what is free is kept for a slot that it does not suffice; none if others may have it.
    pub fn kept(&self, slot: &SlotId) -> Option<Duration> {
        match self.lock().slots.get(slot) {
            None => Some(KEPT),
            Some(wait) => KEPT.checked_sub(wait.hope.elapsed()).filter(|left| !left.is_zero()),
        }
    }

    /// The place of a slot among all that wait: who began to wait earlier has the lower number.
    pub fn place(&self, slot: &SlotId) -> Option<u64> {
        self.lock().slots.get(slot).map(|wait| wait.number)
    }

    /// Takes down that an application asks for these slots only.
    pub fn keep(&self, app: &AppId, asked: &[SlotId]) {
        self.lock()
            .slots
            .retain(|slot, _| slot.app != *app || asked.contains(slot));
    }

    /// Takes down that a pool is as it is asked for, or that nobody asks for it any more.
    pub fn clear(&self, slot: &SlotId) {
        self.lock().slots.remove(slot);
    }

    /// Takes down that an application is gone.
    pub fn forget(&self, app: &AppId) {
        self.lock().slots.retain(|slot, _| slot.app != *app);
    }

    /// Starts from nothing: what an earlier leadership of this replica found is out of date.
    pub fn reset(&self) {
        self.lock().slots.clear();
    }

    /// How many applications wait, by reason.
    pub fn count(&self) -> BTreeMap<String, usize> {
        let known = self.lock();
        let mut apps: BTreeMap<String, BTreeSet<&AppId>> = known
            .reasons
            .iter()
            .map(|reason| (reason.clone(), BTreeSet::new()))
            .collect();
        for (slot, wait) in &known.slots {
            apps.entry(wait.reason.word()).or_default().insert(&slot.app);
        }
        apps.into_iter().map(|(reason, apps)| (reason, apps.len())).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Seen {
    subnets: Cache<SpiderSubnet>,
    pools: Cache<SpiderIPPool>,
    waiting: Waiting,
    leads: Box<dyn Fn() -> bool + Send + Sync>,
}

impl fmt::Debug for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Seen").finish_non_exhaustive()
    }
}

impl Collector for Seen {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        if !(self.leads)() {
            return Ok(());
        }
        let (subnets, pools) = (self.subnets.list(), self.pools.list());
        let out = &mut encoder;
        one(out, "spiderpool_total_subnet_counts", "Subnets", subnets.len())?;
        one(out, "spiderpool_total_ippool_counts", "Pools", pools.len())?;
        let help = "Pools that give out nothing until agents have told what their nodes use, after a restore of the API server's storage";
        let restoring = pools.iter().filter(|pool| pool.is_restoring()).count();
        one(out, "spiderpool_restoring_ippools", help, restoring)?;

        let mut pools_of: HashMap<&str, i64> = HashMap::new();
        for pool in &pools {
            *pools_of.entry(&pool.spec.subnet).or_default() += 1;
        }
        let (key, of) = ("SpiderSubnet", "of a subnet, by its name");
        let values = subnets.iter().map(|subnet| {
            let pools = pools_of.get(subnet.spec.subnet.as_str());
            (name(subnet.meta()), pools.copied().unwrap_or(0))
        });
        each(
            out,
            "spiderpool_debug_subnet_ippool_counts",
            &format!("Pools {of}"),
            key,
            values,
        )?;
        let counts = subnets.iter().filter_map(|subnet| {
            let status = subnet.status.as_ref()?;
            Counts::of(subnet.meta(), status.total_ip_count, status.allocated_ip_count)
        });
        counts_of(out, "spiderpool_debug_subnet", of, key, &counts.collect::<Vec<_>>())?;

        let counts = pools.iter().filter_map(|pool| {
            let status = pool.status.as_ref()?;
            Counts::of(pool.meta(), status.total_ip_count, status.allocated_ip_count)
        });
        let of = "of a pool, by its name";
        counts_of(
            out,
            "spiderpool_debug_ippool",
            of,
            "SpiderIPPool",
            &counts.collect::<Vec<_>>(),
        )?;

        let help = "Applications without all the addresses they ask for, by the reason of the Event";
        let waiting = self.waiting.count();
        let waiting = waiting.iter().map(|(reason, count)| (reason.as_str(), clamped(*count)));
        each(out, "spiderpool_autopool_waiting_applications", help, "reason", waiting)
    }
}

/// The counts in the status of an object.
struct Counts<'a> {
    name: &'a str,
    total: i64,
    available: i64,
}

impl<'a> Counts<'a> {
    fn of(meta: &'a ObjectMeta, total: Option<i64>, allocated: Option<i64>) -> Option<Self> {
        Some(Self {
            name: name(meta),
            total: total?,
            available: total?.saturating_sub(allocated.unwrap_or(0)).max(0),
        })
    }
}

fn name(meta: &ObjectMeta) -> &str {
    meta.name.as_deref().unwrap_or_default()
}

fn clamped(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn counts_of(out: &mut DescriptorEncoder<'_>, prefix: &str, of: &str, key: &str, counts: &[Counts<'_>]) -> fmt::Result {
    let totals = counts.iter().map(|counts| (counts.name, counts.total));
    let title = format!("{prefix}_total_ip_counts");
    each(out, &title, &format!("Addresses {of}"), key, totals)?;
    let available = counts.iter().map(|counts| (counts.name, counts.available));
    let title = format!("{prefix}_available_ip_counts");
    each(out, &title, &format!("Addresses not given out {of}"), key, available)
}

fn one(out: &mut DescriptorEncoder<'_>, title: &str, help: &str, value: usize) -> fmt::Result {
    out.encode_descriptor(title, help, None, MetricType::Gauge)?
        .encode_gauge(&clamped(value))
}

fn each<'a>(
    out: &mut DescriptorEncoder<'_>,
    title: &str,
    help: &str,
    key: &str,
    values: impl Iterator<Item = (&'a str, i64)>,
) -> fmt::Result {
    let mut metric = out.encode_descriptor(title, help, None, MetricType::Gauge)?;
    for (name, value) in values {
        metric.encode_family(&[(key, name)])?.encode_gauge(&value)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::application::AppId;
    use serde_json::json;
    use spiderpool_ipam::Family;
    use spiderpool_kit::cache::Options;

    fn slot(app: &str, nic: &str) -> SlotId {
        SlotId {
            app: AppId {
                group: "apps".to_owned(),
                kind: "Deployment".to_owned(),
                namespace: "ns".to_owned(),
                name: app.to_owned(),
            },
            nic: nic.to_owned(),
            family: Family::V4,
        }
    }

    fn seen(leads: bool) -> Seen {
        let seen = Seen {
            subnets: Cache::detached(Options::default()),
            pools: Cache::detached(Options::default()),
            waiting: Waiting::default(),
            leads: Box::new(move || leads),
        };
        let object = |kind: &str, name: &str, total: i64, allocated: i64| {
            json!({
                "apiVersion": "spiderpool.spidernet.io/v2beta1", "kind": kind,
                "metadata": {"name": name, "uid": name, "resourceVersion": "1"}, "spec": {"subnet": "10.77.0.0/20"},
                "status": {"totalIPCount": total, "allocatedIPCount": allocated},
            })
        };
        let subnet = object("SpiderSubnet", "rack7", 30, 12);
        seen.subnets.learn(serde_json::from_value(subnet).unwrap());
        for (name, allocated) in [("a", 2), ("b", 0)] {
            let mut pool = object("SpiderIPPool", name, 6, allocated);
            if name == "b" {
                pool["status"]["restoring"] = json!({"since": "2026-01-01T00:00:00Z"});
            }
            seen.pools.learn(serde_json::from_value(pool).unwrap());
        }
        seen
    }

    fn rendered(seen: Seen) -> String {
        let metrics = Metrics::new();
        let mut text = String::new();
        metrics.register(|registry| {
            registry.register_collector(Box::new(seen));
            prometheus_client::encoding::text::encode(&mut text, registry).unwrap();
        });
        text
    }

    #[test]
    fn the_leader_tells_what_the_caches_hold() {
        let seen = seen(true);
        seen.waiting.set(slot("shop", "eth0"), Reason::SubnetExhausted);
        let text = rendered(seen);
        for line in [
            "# TYPE spiderpool_debug_ippool_available_ip_counts gauge",
            "spiderpool_total_subnet_counts 1",
            "spiderpool_total_ippool_counts 2",
            "spiderpool_restoring_ippools 1",
            r#"spiderpool_debug_subnet_ippool_counts{SpiderSubnet="rack7"} 2"#,
            r#"spiderpool_debug_subnet_total_ip_counts{SpiderSubnet="rack7"} 30"#,
            r#"spiderpool_debug_subnet_available_ip_counts{SpiderSubnet="rack7"} 18"#,
            r#"spiderpool_debug_ippool_total_ip_counts{SpiderIPPool="a"} 6"#,
            r#"spiderpool_debug_ippool_available_ip_counts{SpiderIPPool="a"} 4"#,
            r#"spiderpool_debug_ippool_available_ip_counts{SpiderIPPool="b"} 6"#,
            r#"spiderpool_autopool_waiting_applications{reason="SubnetExhausted"} 1"#,
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn who_does_not_lead_leaves_it_to_the_leader() {
        assert_eq!(rendered(seen(false)), "# EOF\n");
    }

    #[test]
    fn applications_are_counted_once_and_reasons_stay() {
        let waiting = Waiting::default();
        for nic in ["eth0", "net1"] {
            waiting.set(slot("shop", nic), Reason::SubnetExhausted);
        }
        waiting.set(slot("web", "eth0"), Reason::SubnetExhausted);
        let exhausted = |count| BTreeMap::from([("SubnetExhausted".to_owned(), count)]);
        assert_eq!(waiting.count(), exhausted(2));
        waiting.clear(&slot("shop", "eth0"));
        assert_eq!(waiting.count(), exhausted(2));
        waiting.forget(&slot("shop", "net1").app);
        assert_eq!(waiting.count(), exhausted(1));
        waiting.reset();
        assert_eq!(waiting.count(), exhausted(0));
    }

    #[tokio::test(start_paused = true)]
    async fn hope_lasts_as_long_as_there_is_more_and_more() {
        let waiting = Waiting::default();
        let shop = slot("shop", "eth0");
        assert_eq!(waiting.kept(&shop), Some(KEPT));
        waiting.set(shop.clone(), Reason::SubnetExhausted);
        waiting.sees(&shop, 2);
        tokio::time::advance(KEPT / 2).await;
        waiting.sees(&shop, 2);
        assert_eq!(waiting.kept(&shop), Some(KEPT / 2));
        waiting.sees(&shop, 3);
        assert_eq!(waiting.kept(&shop), Some(KEPT));
        tokio::time::advance(KEPT).await;
        assert_eq!(waiting.kept(&shop), None);
    }
}
