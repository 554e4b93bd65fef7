//! What the decisions cost at the sizes that the largest clusters have.

use divan::{Bencher, black_box};
use spiderpool_ipam::accounting::{Entries, Entry};
use spiderpool_ipam::autopool::{Facts, Limits, PoolFact, Want, plan};
use spiderpool_ipam::text::parse_ranges;
use spiderpool_ipam::{Family, Ledger, Owner, Range, RangeSet, pool_name};

const TEN_NET: u128 = 10 << 24;
const EXCLUSIONS: u128 = 10_000;

const LIMITS: Limits = Limits {
    accounting_bytes: 1_200_000,
    ranges: 2048,
};

fn main() {
    divan::main();
}

fn span(first: u128, count: u128) -> RangeSet {
    Range::new(first, first + (count - 1)).into_iter().collect()
}

/// Small ranges all over a /8.
fn exclusions() -> Vec<Range> {
    let step = (1 << 24) / EXCLUSIONS;
    (0..EXCLUSIONS)
        .filter_map(|n| Range::new(TEN_NET + n * step, TEN_NET + n * step + n % 7))
        .collect()
}

fn owner(n: u128) -> Owner {
    Owner {
        pod: format!("retail/shop-6b9c4-{n:05}"),
        uid: format!("7c9e6679-7425-40de-944b-{n:012x}"),
        nic: Some("eth0".into()),
    }
}

#[divan::bench]
fn count_of_a_slash_8_minus_exclusions(bencher: Bencher<'_, '_>) {
    let (total, excluded) = (span(TEN_NET, 1 << 24), exclusions());
    bencher.bench(|| {
        let excluded: RangeSet = black_box(&excluded).iter().copied().collect();
        black_box(&total).difference(&excluded).count()
    });
}

#[divan::bench]
fn count_of_a_slash_8_minus_exclusions_with_parsing(bencher: Bencher<'_, '_>) {
    let total = span(TEN_NET, 1 << 24);
    let texts: Vec<String> = exclusions()
        .iter()
        .map(|range| spiderpool_ipam::text::print_range(Family::V4, range))
        .collect();
    bencher.bench(|| {
        let excluded = parse_ranges(Family::V4, black_box(&texts)).unwrap_or_default();
        total.difference(&excluded).count()
    });
}

/// Numbers below 2^20 in an order without any pattern that a processor could foresee; each comes once in 2^20.
const fn scattered(before: u128) -> u128 {
    (before * 1_664_525 + 1_013_904_223) % (1 << 20)
}

/// Measured: an address is given back and the same one taken, in a pool of which every other address is taken. The owner
/// is made before, as for a request that comes in; freeing the memory of the recorded one counts. Every round hits
/// another address, so that the caches hold no more of the ledger than they would.
#[divan::bench(sample_size = 1000)]
fn give_back_and_take_in_a_full_pool(bencher: Bencher<'_, '_>) {
    let count: u128 = 1 << 20;
    let records = (0..count).map(|n| (TEN_NET + n, owner(n)));
    let mut ledger = Ledger::with_records(span(TEN_NET, count), records);
    let none = RangeSet::new();
    let mut at = 0;
    let pods = || {
        at = scattered(at);
        (TEN_NET + at, owner(at))
    };
    bencher.with_inputs(pods).bench_local_values(|(addr, owner)| {
        assert!(ledger.give_back(addr, &owner));
        assert_eq!(ledger.take(owner, &none), Some(addr));
    });
}

/// Measured: an address is picked in the pool of a /64 with many records, of which every other address of the lower part
/// is taken, and given back. The addresses below some place are reserved, every round other ones, so that the pick is
/// anywhere among the records. The owners and the reserved set are made before.
#[divan::bench(sample_size = 1000)]
fn pick_in_a_slash_64_with_records(bencher: Bencher<'_, '_>) {
    let (base, count) = (0xfd00_u128 << 112, 100_000);
    let records = (0..count).map(|n| (base + n * 2, owner(n)));
    let mut ledger = Ledger::with_records(span(base, 1 << 64), records);
    let mut at = 0;
    let requests = || {
        at = scattered(at);
        let below = (at % count) * 2;
        (owner(count + at), owner(count + at), span(base, below + 1))
    };
    bencher
        .with_inputs(requests)
        .bench_local_values(|(newcomer, leaver, reserved)| {
            if let Some(addr) = ledger.take(newcomer, black_box(&reserved)) {
                assert!(ledger.give_back(addr, &leaver));
            }
        });
}

#[divan::bench(sample_size = 1000)]
fn name_of_a_pool() -> String {
    let uid = black_box("7c9e6679-7425-40de-944b-e07fc1f90ae7");
    pool_name(black_box("shop"), Family::V4, "eth0", uid)
}

/// A subnet with pools of four addresses, gaps between them, and a few in use.
fn subnet(pools: u128) -> Facts {
    let mut facts = Facts {
        total: span(TEN_NET, 1 << 16),
        reserved: span(TEN_NET + 60_000, 16),
        ..Facts::default()
    };
    let mut entries = Entries::new();
    for n in 0..pools {
        let ranges = span(TEN_NET + n * 6, 4);
        let (name, application) = (
            format!("auto4-app{n}-eth0-e07fc"),
            format!("apps_v1_Deployment_retail_app{n}"),
        );
        let entry = Entry {
            ranges: ranges.clone(),
            application: Some(application.clone()),
        };
        entries.insert(name.clone(), entry);
        facts.pools.push(PoolFact {
            name: name.clone(),
            application: Some(application.clone()),
            used: ranges.first_n(2),
            ranges,
            terminating: false,
        });
        facts.wants.push(Want {
            application,
            pool: name,
            size: 4,
        });
    }
    facts.entries = entries;
    facts
}

#[divan::bench]
fn plan_of_1000_settled_pools(bencher: Bencher<'_, '_>) {
    let facts = subnet(1000);
    bencher.bench(|| plan(black_box(&facts)));
}

#[divan::bench]
fn plan_of_1000_pools_that_all_grow(bencher: Bencher<'_, '_>) {
    let mut facts = subnet(1000);
    for want in &mut facts.wants {
        want.size = 6;
    }
    bencher.bench(|| plan(black_box(&facts)));
}

/// Measured: 1000 new applications in a subnet with 1000 pools and as many gaps, at once, limits on.
#[divan::bench]
fn plan_of_1000_pools_to_be_made(bencher: Bencher<'_, '_>) {
    let mut facts = subnet(1000);
    facts.limits = LIMITS;
    for n in 0..1000 {
        facts.wants.push(Want {
            application: format!("apps_v1_Deployment_retail_new{n}"),
            pool: format!("auto4-new{n}-eth0-e07fc"),
            size: 11,
        });
    }
    bencher.bench(|| plan(black_box(&facts)));
}

/// Measured: the accounting of 1000 pools was lost.
#[divan::bench]
fn plan_of_1000_pools_without_accounting(bencher: Bencher<'_, '_>) {
    let mut facts = subnet(1000);
    facts.limits = LIMITS;
    facts.entries.clear();
    bencher.bench(|| plan(black_box(&facts)));
}

/// Measured: one pool grows beside 1000 others, in a small subnet and in a large one. Both cost the same.
#[divan::bench(args = [16, 24, 100])]
fn plan_of_a_resize_by_subnet_bits(bencher: Bencher<'_, '_>, bits: u32) {
    let mut facts = subnet(1000);
    facts.limits = LIMITS;
    facts.total = span(TEN_NET, 1 << bits);
    if let Some(want) = facts.wants.first_mut() {
        want.size = 100;
    }
    bencher.bench(|| plan(black_box(&facts)));
}
